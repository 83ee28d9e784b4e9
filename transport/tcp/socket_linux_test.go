package tcp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair is a socket, and the other end of its connection.
func socketPair(t *testing.T) (*socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	other, err := l.Accept()
	must(t, err)
	s, err := newSocket(c.(*net.TCPConn))
	must(t, err)
	t.Cleanup(func() { _ = s.Close(); _ = other.Close() })
	return s, other.(*net.TCPConn)
}

// Fear: a write that the kernel takes in parts loses, doubles or swaps some of them.
func TestSocketWritesEverythingToASlowReader(t *testing.T) {
	watch(t, time.Minute)
	s, other := socketPair(t)
	must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10))
	var bufs [][]byte
	want := sha256.New()
	for i := range 3000 { // more pieces than one system call takes
		b := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, i%700)
		want.Write(b)
		bufs = append(bufs, b)
	}
	said := aside(t, func() error {
		must(t, s.SetDeadline(time.Now().Add(20*time.Second)))
		err := s.writeAll(bufs)
		_ = s.Close()
		return err
	})
	got, b := sha256.New(), make([]byte, 1500)
	for k := 0; ; k++ {
		n, err := other.Read(b)
		got.Write(b[:n])
		if err != nil {
			break
		}
		if k%500 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	said()
	if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		t.Error("other bytes came than were written")
	}
}

func TestSocketKeepsItsDeadlines(t *testing.T) {
	watch(t, time.Minute)
	s, _ := socketPair(t)
	if s.LocalAddr() == nil || s.RemoteAddr() == nil {
		t.Error("no address")
	}
	must(t, s.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := s.Read(make([]byte, 8)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	must(t, s.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := s.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // nobody reads
		t.Errorf("write: %v", err)
	}
}

// Fear: a reader or writer that waits is not ended by Close, or uses the descriptor of
// somebody else after it.
func TestSocketIsClosedUnderItsUsers(t *testing.T) {
	watch(t, time.Minute)
	for round := range 200 {
		s, _ := socketPair(t)
		must(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10))
		var users sync.WaitGroup
		users.Go(func() {
			if _, err := s.Read(make([]byte, 8)); err == nil {
				t.Error("read something that nobody sent")
			}
		})
		users.Go(func() {
			if _, err := s.Write(make([]byte, 64<<20)); err == nil {
				t.Error("wrote what nobody reads")
			}
		})
		for range round % 20 {
			runtime.Gosched()
		}
		time.Sleep(time.Duration(round%7) * 50 * time.Microsecond)
		must(t, s.Close())
		users.Wait()
		if n := s.refs.Load(); n != 0 {
			t.Fatalf("%d users are left", n)
		}
		if err := s.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
		if _, err := s.Read(make([]byte, 8)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if _, err := s.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
	}
}

func TestSocketTellsOfTheOtherSidesEnd(t *testing.T) {
	watch(t, time.Minute)
	s, other := socketPair(t)
	must(t, other.Close())
	if _, err := s.Read(make([]byte, 8)); err != io.EOF {
		t.Error(err)
	}
	s, other = socketPair(t)
	must(t, other.SetLinger(0)) // a reset
	must(t, other.Close())
	if _, err := s.Read(make([]byte, 8)); !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	if _, err := s.Write([]byte{1}); err == nil {
		t.Error("a write to nobody")
	}
}
