package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/shm"
)

func TestEveryKindOfErrorHasItsExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{&stdoutError{syscall.EPIPE}, exitOK},
		{fmt.Errorf("wrapped: %w", &stdoutError{syscall.EPIPE}), exitOK},
		{&stdoutError{syscall.ENOSPC}, exitFailure},
		{syscall.EPIPE, exitFailure},
		{errors.New("boom"), exitFailure},
		{usagef("no"), exitUsage},
		{fmt.Errorf("x: %w", shm.ErrInvalid), exitUsage},
		{shm.ErrNotFound, exitNotFound},
		{fs.ErrNotExist, exitNotFound},
		{shm.ErrPermission, exitPermission},
		{fmt.Errorf("%w: %w", shm.ErrRegistryDown, syscall.EACCES), exitPermission},
		{directory.ErrUnsafe, exitPermission},
		{fmt.Errorf("%w: %w", shm.ErrRegistryDown, syscall.ENOENT), exitUnreachable},
		{fmt.Errorf("%w: %w", shm.ErrRegistryDown, context.DeadlineExceeded), exitUnreachable},
		{shm.ErrExists, exitConflict},
		{shm.ErrSourceBusy, exitConflict},
		{&directory.BusyError{}, exitConflict},
		{syscall.EADDRINUSE, exitConflict},
		{&config.Error{}, exitConfig},
		{fmt.Errorf("attach: %w", shm.ErrVersion), exitVersion},
		{fmt.Errorf("%w: %w", errLoss, &shm.GapError{}), exitLoss},
		{errors.Join(errLoss, &signalError{syscall.SIGINT}), exitLoss},
		{errTimeout, exitTimeout},
		{context.DeadlineExceeded, exitTimeout},
		{&shm.BackpressureError{}, exitTimeout},
		{shm.ErrNoSpace, exitNoSpace},
		{shm.ErrQuota, exitNoSpace},
		{&signalError{syscall.SIGINT}, 130},
		{&signalError{syscall.SIGTERM}, 143},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if name := codeNames[c.want]; name == "" && c.want != exitOK && c.want < exitSignal {
			t.Errorf("exit code %d has no name", c.want)
		}
	}
}

func TestAnErrorIsOneLineWithTheWayOutOnce(t *testing.T) {
	a := &app{color: "never"}
	for want, err := range map[string]error{
		"error: a; b\n":     errors.New("a\nb\n"),
		"error: a (do b)\n": withHint(errors.New("a"), "do b"),
		"error: registry is down: hello: context deadline exceeded (who listens on the socket does not answer: see what its process does, and its log)\n":                         fmt.Errorf("%w: hello: %w", shm.ErrRegistryDown, context.DeadlineExceeded),
		"error: dial: permission denied (registry.access and the mode of the socket's directory say who may connect: ask the owner of the bus for access, or run as that user)\n": fmt.Errorf("%w: dial: %w (registry.access)", shm.ErrRegistryDown, fs.ErrPermission),
		"error: x: it (do c)\n": fmt.Errorf("x: %w", &control.Error{Message: "it", Hint: "do c"}),
	} {
		var b strings.Builder
		if a.report(&b, err); b.String() != want {
			t.Errorf("%q, want %q", b.String(), want)
		}
	}
	var b strings.Builder
	if code := a.report(&b, &signalError{syscall.SIGINT}); code != 130 || b.Len() > 0 {
		t.Errorf("interrupted: %d, %q", code, b.String())
	}
}

func TestBytesFromOthersCannotMoveTheCursor(t *testing.T) {
	for in, want := range map[string]string{
		"plain \t ü €":   "plain \t ü €",
		"\x1b[2Jx\r\n\a": `\x1b[2Jx\r\n\x07`,
		"\xff\x00":       `\xff\x00`,
		"\u202eabc":      `\u202eabc`,
		"\u009b":         `\u009b`,
	} {
		if got := string(printable(nil, []byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestALineThatATerminalWouldWrapIsCutOrCountedAsWhatItIs(t *testing.T) {
	for _, c := range []struct {
		text    string
		columns int
		fit     string
		rows    int
	}{
		{"12345\n", 0, "12345", 1}, {"12345\n", 5, "1234", 1}, {"12345\n", 6, "12345", 1}, {"12345\n", 4, "123", 2}, {"12345\n", 1, "12345", 5},
		{"\x1b[1m12345\x1b[0m\n", 5, "", 1}, {"\x1b[1m123456\x1b[0m\n", 5, "", 2}, {"a\n\nb\n", 5, "", 3}, {"", 5, "", 0},
	} {
		if line := strings.TrimSuffix(c.text, "\n"); c.fit != "" && fit(line, c.columns) != c.fit {
			t.Errorf("%q in %d columns: %q", line, c.columns, fit(line, c.columns))
		}
		if n := rows(c.text, c.columns); n != c.rows {
			t.Errorf("%q in %d columns takes %d lines, want %d", c.text, c.columns, n, c.rows)
		}
	}
}

func TestFiguresReadWell(t *testing.T) {
	for got, want := range map[string]string{
		humanCount(0): "0", humanCount(999): "999", humanCount(1234): "1.2k", humanCount(412000): "412k", humanCount(3.44e6): "3.4M",
		humanBytes(0): "0 B", humanBytes(1024): "1 KiB", humanBytes(1.5 * 1024): "1.5 KiB", humanBytes(38.2 * 1024 * 1024): "38 MiB",
		humanDuration(1234567): "1.23ms", humanDuration(999): "999ns", humanDuration(0): "0s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRatesAndSpeedsRefuseNonsense(t *testing.T) {
	for in, want := range map[string]float64{"": 0, "10": 10, "1000/s": 1000, "400k/s": 400e3, "1.5M": 1.5e6} {
		if got, err := parseRate(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for in, want := range map[string]float64{"realtime": 1, "max": 0, "10x": 10, "0.5x": 0.5} {
		if got, err := parseSpeed(in); err != nil || got != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"0", "-1", "x", "NaN", "Inf", "1k/m", "2e9", "k", "/s"} {
		if v, err := parseRate(in); exitCode(err) != exitUsage {
			t.Errorf("rate %q: %v, %v", in, v, err)
		}
	}
	for _, in := range []string{"", "10", "0x", "-1x", "NaNx", "Infx", "fast"} {
		if v, err := parseSpeed(in); exitCode(err) != exitUsage {
			t.Errorf("speed %q: %v, %v", in, v, err)
		}
	}
}
