package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// stdout remembers that it failed, so that printing needs no checks of its own
// and a command that runs on can stop.
type stdout struct {
	w   io.Writer
	err error
}

func (s *stdout) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(b)
	if err != nil {
		s.err = &stdoutError{err}
		return n, s.err
	}
	return n, nil
}

// stdoutError says that stdout takes no more.
type stdoutError struct{ err error }

func (e *stdoutError) Error() string { return "stdout: " + e.err.Error() }
func (e *stdoutError) Unwrap() error { return e.err }

func schemaName(thing string) string { return "mycelium." + thing + "/v1" }

// marshal is JSON with < > & as they are: patterns end with >, and scripts look for them.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// withSchema is v, which must become a JSON object, with its schema's name as
// the first member, on one line.
func withSchema(thing string, v any) ([]byte, error) {
	b, err := marshal(v)
	if err != nil {
		return nil, err
	}
	head := `{"schema":"` + schemaName(thing) + `"`
	if len(b) > 2 {
		head += ","
	}
	return append([]byte(head), b[1:]...), nil
}

// print is how every command shows a result: under -o json v as one object of
// that schema on one line, else what human writes.
func (a *app) print(cmd *cobra.Command, thing string, v any, human func(w io.Writer)) error {
	if a.output != "json" {
		human(cmd.OutOrStdout())
		return a.stdout.err
	}
	b, err := withSchema(thing, v)
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(append(b, '\n'))
	return err
}

// note writes a line for people on stderr, unless they want quiet.
func (a *app) note(cmd *cobra.Command, format string, args ...any) {
	if a.quiet {
		return
	}
	line := fmt.Sprintf(format, args...) + "\n"
	if a.live.Load() {
		line = clearLine + line
	}
	_, _ = io.WriteString(cmd.ErrOrStderr(), line)
}

// warn is a note that something is not as it should be.
func (a *app) warn(cmd *cobra.Command, format string, args ...any) {
	a.note(cmd, "%s %s", a.paint(yellow, "warning:", a.stderrTTY), fmt.Sprintf(format, args...))
}

// Colours, as the parameter of SGR.
const (
	red    = "31"
	yellow = "33"
	bold   = "1"
)

// paint colours s for a stream that is a terminal or not.
func (a *app) paint(color, s string, tty bool) string {
	if !a.colored(tty) {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

func (a *app) colored(tty bool) bool {
	switch {
	case a.color == "always":
		return true
	case a.color == "never", os.Getenv("NO_COLOR") != "":
		return false
	case os.Getenv("CLICOLOR_FORCE") != "" && os.Getenv("CLICOLOR_FORCE") != "0":
		return true
	}
	return tty && os.Getenv("TERM") != "dumb"
}

// humanCount is 999, 1.2k, 412k, 3.4M.
func humanCount(v float64) string { return scaled(v, 1000, []string{"", "k", "M", "G", "T"}, "") }

// humanBytes is 999 B, 1.2 KiB, 38 MiB.
func humanBytes(v float64) string {
	return scaled(v, 1024, []string{"B", "KiB", "MiB", "GiB", "TiB"}, " ")
}

func scaled(v, base float64, units []string, space string) string {
	i := 0
	for v >= base && i < len(units)-1 {
		v /= base
		i++
	}
	switch {
	case v == float64(int64(v)), v >= 100:
		return fmt.Sprintf("%.0f%s%s", v, space, units[i])
	case v >= 10 && i > 0:
		return fmt.Sprintf("%.0f%s%s", v, space, units[i])
	}
	return fmt.Sprintf("%.1f%s%s", v, space, units[i])
}

// humanDuration rounds to three digits: 1.23ms, 45.6s.
func humanDuration(d time.Duration) string {
	unit := time.Duration(1)
	for d.Abs() >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit).String()
}

// rfc3339 is a time as JSON output has it: UTC, always nine decimals.
func rfc3339(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }

// printable is bytes as text on one line: what is not printable UTF-8, and what
// would move a terminal's cursor, is written as Go writes it in a string.
func printable(dst, b []byte) []byte {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n <= 1:
			dst = fmt.Appendf(dst, `\x%02x`, b[0])
		case r == '\t' || unicode.IsPrint(r):
			dst = append(dst, b[:n]...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r < 0x80:
			dst = fmt.Appendf(dst, `\x%02x`, r)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		b = b[n:]
	}
	return dst
}

// safe is a name from another process, fit for a terminal.
func safe(s string) string { return string(printable(nil, []byte(strings.ReplaceAll(s, "\t", `\t`)))) }
