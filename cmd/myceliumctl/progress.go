package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const (
	progressAfter = time.Second // what is done sooner shows none
	progressEvery = 200 * time.Millisecond
)

const clearLine = "\r\x1b[K"

// progress shows, on a terminal only, one line on stderr that is rewritten until
// stop is called, once or more, which clears it. text is called from another
// goroutine; "" shows nothing.
func (a *app) progress(cmd *cobra.Command, text func() string) (stop func()) {
	if a.quiet || !a.stderrTTY || os.Getenv("TERM") == "dumb" {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		shown := false
		show := func(s string) {
			if s != "" || shown {
				fmt.Fprint(cmd.ErrOrStderr(), clearLine+fit(s, columns(a.errFD)))
			}
			shown = s != ""
			a.live.Store(shown)
		}
		defer show("")
		for wait := time.After(progressAfter); ; wait = time.After(progressEvery) {
			select {
			case <-quit:
				return
			case <-wait:
				show(text())
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-done
	})
}

// columns is the width of a terminal; 0 = unknown.
func columns(fd int) int {
	n, _, err := term.GetSize(fd)
	if err != nil {
		return 0
	}
	return n
}

// fit cuts a line that a terminal would wrap, and that could not be cleared then.
func fit(s string, columns int) string {
	if columns < 2 || text.StringWidthWithoutEscSequences(s) < columns {
		return s
	}
	return text.Trim(s, columns-1)
}

// rows is how many lines of a terminal a text takes that ends with a newline.
func rows(s string, columns int) (n int) {
	for line := range strings.Lines(s) {
		n++
		if w := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); columns > 0 && w > 0 {
			n += (w - 1) / columns
		}
	}
	return n
}
