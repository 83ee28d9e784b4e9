package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/torqbridge"
	"github.com/torq/mycelium/transport/tcp"
)

// Exit codes; the help of the root command lists them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitPermission  = 4
	exitUnreachable = 5
	exitConflict    = 6
	exitConfig      = 7
	exitVersion     = 8
	exitLoss        = 9
	exitTimeout     = 10
	exitNoSpace     = 11
	exitSignal      = 128 // plus the number of the signal
)

// codeNames are the exit codes as the "code" of an error under -o json.
var codeNames = map[int]string{
	exitFailure: "failure", exitUsage: "usage", exitNotFound: "not_found", exitPermission: "permission",
	exitUnreachable: "registry_unreachable", exitConflict: "conflict", exitConfig: "config_invalid",
	exitVersion: "incompatible_version", exitLoss: "loss", exitTimeout: "timeout", exitNoSpace: "out_of_shared_memory",
}

var (
	errLoss    = errors.New("messages were lost")
	errTimeout = errors.New("timeout")
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// hintError is an error with the way out.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func withHint(err error, hint string) error { return &hintError{err, hint} }

// signalError ends a command that was interrupted, after its summary.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return "interrupted by " + e.signal.String() }

// exitCode classes an error. The order matters where an error is of two kinds:
// a socket that may not be opened is a matter of permission, one that does not
// exist of an unreachable registry.
func exitCode(err error) int {
	var (
		interrupted *signalError
		usage       *usageError
		conf        *config.Error
		out         *stdoutError
		topology    *topologyError
	)
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &out):
		if is(syscall.EPIPE) {
			return exitOK
		}
		return exitFailure
	case is(errLoss):
		return exitLoss
	case errors.As(err, &interrupted):
		return exitSignal + int(interrupted.signal)
	case errors.As(err, &conf), errors.As(err, &topology):
		return exitConfig
	case errors.As(err, &usage), is(shm.ErrInvalid):
		return exitUsage
	case is(shm.ErrPermission, fs.ErrPermission, directory.ErrUnsafe):
		return exitPermission
	case is(shm.ErrVersion):
		return exitVersion
	case is(shm.ErrNoSpace, shm.ErrQuota, syscall.ENOSPC):
		return exitNoSpace
	case is(shm.ErrRegistryDown, torqbridge.ErrBridgeDown, tcp.ErrNoForwarder):
		return exitUnreachable
	case is(shm.ErrExists, shm.ErrSourceBusy, fs.ErrExist, directory.ErrBusy, syscall.EADDRINUSE,
		torqbridge.ErrLive, torqbridge.ErrAccess, torqbridge.ErrNoRelay, torqbridge.ErrNotProven, torqbridge.ErrTooFar):
		return exitConflict
	case is(errTimeout, context.DeadlineExceeded, shm.ErrBackpressure):
		return exitTimeout
	case is(shm.ErrNotFound, fs.ErrNotExist, torqbridge.ErrUnknownDomain):
		return exitNotFound
	}
	return exitFailure
}

// explain splits an error into what went wrong and the way out.
func explain(err error) (text, hint string) {
	text = err.Error()
	var (
		own    *hintError
		remote *control.Error
	)
	switch {
	case errors.As(err, &own):
		return text, own.hint
	case errors.As(err, &remote) && remote.Hint != "":
		return strings.Replace(text, remote.Error(), remote.Message, 1), remote.Hint
	}
	switch code := exitCode(err); {
	case errors.Is(err, torqbridge.ErrBridgeDown):
		hint = "start it with: myceliumctl torq serve --config FILE, or name its socket with --control"
	case code == exitUnreachable && errors.Is(err, context.DeadlineExceeded):
		hint = "who listens on the socket does not answer: see what its process does, and its log"
	case code == exitUnreachable:
		text, _, _ = strings.Cut(text, " (is the registry running?")
		hint = "start a registry with: myceliumctl registry serve, or name its socket with --registry"
	case code == exitPermission && errors.Is(err, shm.ErrRegistryDown): // it is not, as far as anybody knows
		text, _, _ = strings.Cut(strings.TrimPrefix(text, shm.ErrRegistryDown.Error()+": "), " (registry.access")
		hint = "registry.access and the mode of the socket's directory say who may connect: ask the owner of the bus for access, or run as that user"
	case code == exitNoSpace:
		hint = "free shared memory, or give the bus directory's file system more"
	case errors.Is(err, shm.ErrBackpressure):
		hint = "myceliumctl inspect TOPIC shows who is behind; the topic's policy says what a publisher does about it"
	case code == exitPermission:
		hint = "ask the owner of the bus for access, or run as that user"
	}
	return text, hint
}

// report prints an error on stderr and returns the exit code. Interruptions and
// a reader of stdout that has gone are no news.
func (a *app) report(w io.Writer, err error) int {
	code := exitCode(err)
	if code == exitOK || code > exitSignal {
		return code
	}
	text, hint := explain(err)
	if a.output == "json" {
		o := struct {
			Schema   string  `json:"schema"`
			Error    string  `json:"error"`
			Code     string  `json:"code"`
			ExitCode int     `json:"exit_code"`
			Hint     string  `json:"hint"`
			Reason   string  `json:"reason,omitempty"` // of a refusal
			Offset   *uint64 `json:"offset,omitempty"` // likewise
		}{schemaName("error"), text, codeNames[code], code, hint, "", nil}
		var bad *refusal
		if errors.As(err, &bad) {
			o.Reason, o.Offset = bad.reason, &bad.offset
		}
		b, _ := marshal(o)
		fmt.Fprintf(w, "%s\n", b)
		return code
	}
	var conf *config.Error
	if errors.As(err, &conf) { // one line each, as a compiler would
		fmt.Fprintln(w, conf.Error())
		return code
	}
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	if hint != "" {
		text += " (" + hint + ")"
	}
	fmt.Fprintf(w, "%s %s\n", a.paint(red, "error:", a.stderrTTY), text)
	return code
}
