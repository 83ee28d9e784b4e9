package registry

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"golang.org/x/sys/unix"
)

const (
	ownDescriptors = 24 // what the registry needs besides connections
	usersAtLimit   = 16 // users that can have all their connections at once
	hardLimit      = 1 << 16
	refusals       = 16                     // connections that are told at one time why they are refused
	refuseTimeout  = 250 * time.Millisecond // for the hello of a client that is refused

	firstPause = 5 * time.Millisecond // after a failed accept, doubled up to
	lastPause  = time.Second
)

// connectionLimit is how many connections the registry serves at one time.
// Each may need a second descriptor, for the segment that it is being sent.
func connectionLimit(perUID int) int64 {
	limit := min(int64(usersAtLimit)*int64(perUID), hardLimit)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < 1<<32 {
		limit = min(limit, (int64(files.Cur)-ownDescriptors)/2)
	}
	return max(limit, 1)
}

// acceptor takes connections from the socket.
type acceptor struct {
	socket interface {
		AcceptUnix() (*net.UnixConn, error)
		SetDeadline(time.Time) error
	}
	dir   *directory.Server
	log   *slog.Logger
	limit *atomic.Int64

	open     atomic.Int64   // connections served
	serving  sync.WaitGroup // their goroutines
	refusing chan struct{}  // one token per connection that is told
	reserve  *os.File       // its descriptor is given up to refuse one more client; nil while there is none
}

func newAcceptor(s *server) *acceptor {
	return &acceptor{socket: s.socket, dir: s.dir, log: s.log, limit: &s.limit, refusing: make(chan struct{}, refusals)}
}

// run accepts until the socket is closed, and then waits for the connections.
func (a *acceptor) run() {
	defer a.serving.Wait()
	a.restore()
	defer a.release()
	pause, failures := time.Duration(0), 0
	for {
		c, err := a.socket.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			if failures > 0 {
				a.log.Info("accepting again", "failures", failures)
			}
			pause, failures = 0, 0
			a.take(c)
			continue
		}
		a.dir.Count("accept_failures")
		if failures++; failures == 1 {
			a.log.Error("cannot accept a client: retrying", "error", err)
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			a.turnAway()
		}
		pause = min(max(2*pause, firstPause), lastPause)
		time.Sleep(pause)
	}
}

// take serves a connection, or refuses it.
func (a *acceptor) take(c *net.UnixConn) {
	if a.open.Add(1) <= a.limit.Load() {
		a.serving.Go(func() {
			defer a.open.Add(-1)
			a.dir.ServeConn(control.NewConn(c))
		})
		return
	}
	a.open.Add(-1)
	select {
	case a.refusing <- struct{}{}:
		a.serving.Go(func() {
			defer func() { <-a.refusing }()
			a.refuse(c, "the registry serves %d connections, the most it can", a.limit.Load())
		})
	default:
		_ = c.Close()
	}
}

// turnAway takes one client with the descriptor that is kept for it, and tells
// it that there is none left.
func (a *acceptor) turnAway() {
	if !a.release() {
		a.restore()
		return
	}
	_ = a.socket.SetDeadline(time.Now().Add(firstPause))
	c, err := a.socket.AcceptUnix()
	_ = a.socket.SetDeadline(time.Time{})
	if err == nil {
		a.refuse(c, "the registry is out of file descriptors")
	}
	a.restore()
}

func (a *acceptor) restore() { a.reserve, _ = os.Open(os.DevNull) }

// release gives the reserve up; false if there is none.
func (a *acceptor) release() bool {
	if a.reserve == nil {
		return false
	}
	_ = a.reserve.Close()
	a.reserve = nil
	return true
}

// refuse answers a hello with why there is no room.
func (a *acceptor) refuse(c *net.UnixConn, format string, args ...any) {
	conn := control.NewConn(c)
	defer conn.Close()
	a.dir.Count("connections_refused")
	_ = conn.SetDeadline(time.Now().Add(refuseTimeout))
	m, f, err := conn.Recv()
	if f != nil {
		_ = f.Close()
	}
	if err != nil {
		return
	}
	e := control.Errorf(control.CodeQuota, format, args...)
	e.Hint = "share one client per process, or raise the registry's limit on open files (LimitNOFILE=)"
	_ = conn.Send(&control.Message{Op: control.OpError, ID: m.ID, Error: e}, nil)
}
