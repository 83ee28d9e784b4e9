package tcp

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/internal/clock"
)

// socket is a TCP connection whose reader sleeps in the kernel on this connection alone:
// the thread that is woken is the one that reads. With the runtime's poller another is
// woken first, and finds out for whom (ADR 0045). One reader at a time; all else by
// anybody.
type socket struct {
	fd            int
	refs          atomic.Int32 // who uses fd; whoever takes the last one away closes it
	closed        atomic.Bool
	readBy, sayBy atomic.Int64 // deadlines, ns of clock.Mono; 0 = none
	local, remote net.Addr

	flows bool // the reader's last read was a large one

	say sync.Mutex // guards what follows: who writes
	iov []unix.Iovec
}

// newSocket takes a connection over.
func newSocket(c *net.TCPConn) (*socket, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{local: c.LocalAddr(), remote: c.RemoteAddr()}
	s.refs.Store(1)
	var dup error
	if err := raw.Control(func(fd uintptr) { s.fd, dup = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	return s, os.NewSyscallError("dup", dup)
}

// enter keeps the descriptor open until leave; false if the socket is closed.
func (s *socket) enter() bool {
	for {
		n := s.refs.Load()
		if n == 0 || s.closed.Load() {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *socket) leave() {
	if s.refs.Add(-1) == 0 {
		_ = unix.Close(s.fd)
	}
}

// Close ends whatever Read and Write are doing.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.leave()
	return nil
}

func (s *socket) Read(b []byte) (int, error) {
	if !s.enter() {
		return 0, net.ErrClosed
	}
	defer s.leave()
	for first := int64(0); ; {
		n, err := unix.Read(s.fd, b)
		switch {
		case n > 0:
			s.flows = n >= flowBytes
			return n, nil
		case err == nil && len(b) > 0:
			return 0, io.EOF
		case err == unix.EINTR:
			continue
		case err != unix.EAGAIN:
			return 0, os.NewSyscallError("read", err)
		case s.closed.Load():
			return 0, net.ErrClosed
		}
		now, by := clock.Mono(), s.readBy.Load()
		if by != 0 && now >= by {
			return 0, os.ErrDeadlineExceeded
		}
		if first == 0 {
			first = now
		}
		if s.flows && now-first < flowYields {
			yieldCore()
			continue
		}
		await(s.fd, unix.POLLIN, now, by)
	}
}

// While much comes, the next will be there soon: a reader that gives way for a while costs
// nobody a core, and its writer no wake-up in the middle of a write.
const (
	flowBytes  = 32 << 10
	flowYields = int64(150 * time.Microsecond)
)

// yieldCore lets another thread have the core. The runtime need not know: it is back at
// once if there is none.
func yieldCore() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// await sleeps until a descriptor is ready, or until a time; 0 = without end.
func await(fd int, what int16, now, until int64) {
	var ts *unix.Timespec
	if until != 0 {
		t := unix.NsecToTimespec(max(until-now, 0))
		ts = &t
	}
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(fd), Events: what}}, ts, nil)
}

func (s *socket) Write(b []byte) (int, error) {
	if err := s.writeAll(net.Buffers{b}); err != nil {
		return 0, err
	}
	return len(b), nil
}

const maxIovecs = 1024 // of the kernel

// writeAll sends pieces as if they were one.
func (s *socket) writeAll(bufs [][]byte) error {
	if !s.enter() {
		return net.ErrClosed
	}
	defer s.leave()
	s.say.Lock()
	defer s.say.Unlock()
	all := s.iov[:0]
	for _, b := range bufs {
		if len(b) > 0 {
			v := unix.Iovec{Base: unsafe.SliceData(b)}
			v.SetLen(len(b))
			all = append(all, v)
		}
	}
	s.iov = all
	defer func() { clear(s.iov[:cap(s.iov)][:len(s.iov)]) }()
	for len(all) > 0 {
		n, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(&all[0])), uintptr(min(len(all), maxIovecs)))
		switch e {
		case 0:
			all = advance(all, uint64(n))
		case unix.EINTR:
		case unix.EAGAIN:
			if s.closed.Load() {
				return net.ErrClosed
			}
			now, by := clock.Mono(), s.sayBy.Load()
			if by != 0 && now >= by {
				return os.ErrDeadlineExceeded
			}
			await(s.fd, unix.POLLOUT, now, by)
		default:
			return os.NewSyscallError("writev", e)
		}
	}
	return nil
}

// advance takes n bytes off the front.
func advance(all []unix.Iovec, n uint64) []unix.Iovec {
	for n > 0 {
		v := &all[0]
		if n < uint64(v.Len) {
			v.Base = (*byte)(unsafe.Add(unsafe.Pointer(v.Base), n))
			v.SetLen(int(uint64(v.Len) - n))
			break
		}
		n -= uint64(v.Len)
		all = all[1:]
	}
	return all
}

func (s *socket) LocalAddr() net.Addr  { return s.local }
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// A deadline counts for what begins to wait after it was set.
func (s *socket) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

func (s *socket) SetReadDeadline(t time.Time) error  { s.readBy.Store(mono(t)); return nil }
func (s *socket) SetWriteDeadline(t time.Time) error { s.sayBy.Store(mono(t)); return nil }

// mono is a deadline on clock.Mono, 0 if there is none.
func mono(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(clock.Mono()+int64(time.Until(t)), 1)
}
