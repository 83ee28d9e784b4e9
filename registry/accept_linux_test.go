package registry

import (
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
)

// scarce is a socket on which accept fails as it is told.
type scarce struct {
	*net.UnixListener
	fail atomic.Int64 // so many times from now
	with error
}

func (s *scarce) AcceptUnix() (*net.UnixConn, error) {
	if s.fail.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: s.with}
	}
	return s.UnixListener.AcceptUnix()
}

func newScarce(t *testing.T, with error) (*scarce, *acceptor, *bus) {
	b := newBus(t, "", "")
	s, err := start(Options{Load: loadFile(b.file), Log: discard()})
	must(t, err)
	sock := &scarce{UnixListener: s.socket.UnixListener, with: with}
	a := newAcceptor(s)
	a.socket = sock
	s.limit.Store(100)
	done := make(chan struct{})
	t.Cleanup(func() {
		s.close()
		select {
		case <-done:
		case <-time.After(limit):
			t.Error("accept goes on after the end of the socket")
		}
	})
	go func() {
		defer close(done)
		a.run()
	}()
	return sock, a, b
}

func TestAcceptThatFailsIsRetried(t *testing.T) {
	for with, failures := range map[error]uint64{
		syscall.EMFILE:       2, // the third met the reserve
		syscall.ECONNABORTED: 3,
	} {
		sock, a, b := newScarce(t, with)
		b.dial()
		sock.fail.Store(3)
		for range 6 { // whom the reserve takes are told why
			c, err := Dial(testContext(t), b.socket, nil)
			if err == nil {
				must(t, c.Close())
			} else if !strings.Contains(err.Error(), "out of file descriptors") {
				t.Error(err)
			}
		}
		if n := a.dir.Stats().Counters["accept_failures"]; n != failures {
			t.Errorf("%v: %d failures counted, want %d", with, n, failures)
		}
		exchange(t, b.dial(), "a.b")
	}
}

func TestOneClientMoreThanTheLimitIsToldSo(t *testing.T) {
	_, a, b := newScarce(t, nil)
	a.limit.Store(1)
	first := b.dial()
	_, err := Dial(testContext(t), b.socket, nil)
	if err == nil || !strings.Contains(err.Error(), "the registry serves 1 connections, the most it can; share one client") {
		t.Errorf("second client: %v", err)
	}
	// Those who ask for nothing are let go after a while, and beyond some at once.
	var silent []*control.Conn
	for range 2 * refusals {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: b.socket, Net: "unixpacket"})
		must(t, err)
		silent = append(silent, control.NewConn(c))
	}
	for _, c := range silent {
		if _, _, err := c.Recv(); !control.Gone(err) {
			t.Errorf("silent client: %v", err)
		}
		_ = c.Close()
	}
	exchange(t, first, "a.b")
	must(t, first.Close())
	eventually(t, "room again", func() bool {
		c, err := Dial(testContext(t), b.socket, nil)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func TestReserveIsTakenBackWhenNobodyCame(t *testing.T) {
	b := newBus(t, "", "")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(b.dir, "s"), Net: "unixpacket"})
	must(t, err)
	defer l.Close()
	alone := &acceptor{socket: l}
	alone.turnAway() // there was none
	if alone.reserve == nil {
		t.Fatal("no reserve")
	}
	alone.turnAway() // nobody came
	if alone.reserve == nil {
		t.Fatal("the reserve is gone")
	}
	alone.release()
}
