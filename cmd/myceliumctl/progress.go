package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
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
				fmt.Fprint(cmd.ErrOrStderr(), clearLine+s)
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
