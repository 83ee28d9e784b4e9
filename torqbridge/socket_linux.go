package torqbridge

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a client's connection. How its reader and its writer wait depends on what
// comes:
//
//	          toBusy reads of some messages, and there is a place
//	quiet --------------------------------------------------------> busy
//	      <--------------------------------------------------------
//	          no such among toQuiet reads, nothing for quietTime,
//	          or reading has ended
//
//	quiet   in the runtime's poller
//	busy    in read(2) and in poll(2), each on a thread: the peer's write wakes nobody
//	        while the reader has something to do. After a read of few messages it naps,
//	        so that the next finds more
//
// Some are more than one, which the poller would do for as well, or after a nap what made
// it worth while; and fewer than a read holds: where all reads are full, nobody waits.
//
// read, found and rest are for the reader's goroutine, Write for the writer's; the others
// are safe for concurrent use.
type socket struct {
	now    atomic.Pointer[end] // replaced by the reader, then closed
	ended  atomic.Bool
	score  int           // what speaks for the other state
	places chan struct{} // as many sockets may be busy

	step func(fd uintptr) bool // the writer's
	done bool                  // what it said last
	try  func(fd uintptr)
}

// end is this side of the connection, in one of the two states.
type end struct {
	io.ReadCloser
	raw  syscall.RawConn
	busy bool
}

const (
	toBusy     = 4
	someWeight = 8 // a read of some messages counts as much as so many others
	toQuiet    = 64
	napTime    = 80 * time.Microsecond
	napPays    = 8 // messages, one every 10 us
	quietTime  = 100 * time.Millisecond
	maxBusy    = 32                     // clients of a bridge; two threads each
	roomLook   = 100 * time.Millisecond // so often a busy writer that waits looks whether it still is one
)

// newSocket takes a connection over. There is a place for each value that places takes.
func newSocket(c *net.UnixConn, places chan struct{}) (*socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{places: places}
	s.try = func(fd uintptr) {
		if s.done = s.step(fd); !s.done {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			_, _ = unix.Poll(p, int(roomLook.Milliseconds()))
		}
	}
	s.now.Store(&end{c, raw, false})
	return s, nil
}

// on calls f with the state of the moment, again if that has ended under it.
func (s *socket) on(f func(e *end) error) error {
	for {
		e := s.now.Load()
		if err := f(e); err == nil || s.now.Load() == e {
			return err
		}
	}
}

// Control calls f with the descriptor.
func (s *socket) Control(f func(fd uintptr)) error {
	return s.on(func(e *end) error { return e.raw.Control(f) })
}

// Write calls step until it says that it is done, each time when there is room.
func (s *socket) Write(step func(fd uintptr) bool) error {
	s.step = step
	return s.on(func(e *end) error {
		if !e.busy {
			return e.raw.Write(step)
		}
		err := e.raw.Control(s.try)
		for err == nil && !s.done {
			err = e.raw.Control(s.try)
		}
		return err
	})
}

// read waits for bytes.
func (s *socket) read(b []byte) (n int, err error) {
	for !s.ended.Load() {
		n, err = s.now.Load().Read(b)
		if !errors.Is(err, unix.EAGAIN) {
			return n, err
		}
		s.rest() // nothing came for quietTime
	}
	return 0, net.ErrClosed
}

// found notes how many messages a read found, and naps where the next is to find more.
func (s *socket) found(messages int) {
	busy := s.now.Load().busy
	least := 2
	if busy {
		least = napPays
	}
	some := messages >= least && messages < enoughMessages
	switch {
	case !busy && some:
		if s.score += someWeight; s.score >= toBusy*someWeight {
			s.score = 0
			s.work()
		}
	case !busy:
		s.score = max(s.score-1, 0)
	case some:
		s.score = 0
	default:
		if s.score++; s.score >= toQuiet {
			s.rest()
			return
		}
	}
	if busy && messages < enoughMessages {
		nap := unix.NsecToTimespec(int64(napTime))
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &nap, nil) // an error: a signal came
	}
}

// work makes a quiet socket busy, if there is a place. The goroutine stays on its thread
// meanwhile: else any other may carry on what it reads, on another core. The thread's
// timers are exact meanwhile, as the kernel's usual 50 us of slack are longer than a nap.
func (s *socket) work() {
	select {
	case s.places <- struct{}{}:
	default:
		return
	}
	old := s.now.Load()
	var f *os.File
	_ = old.raw.Control(func(fd uintptr) {
		own, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return // out of descriptors: it stays as it is
		}
		wait := unix.NsecToTimeval(int64(quietTime))
		_ = unix.SetsockoptTimeval(own, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
		_ = unix.SetNonblock(own, false)
		f = os.NewFile(uintptr(own), "client")
	})
	if f == nil {
		<-s.places
		return
	}
	raw, _ := f.SyscallConn() // no error: it is open
	s.now.Store(&end{f, raw, true})
	runtime.LockOSThread()
	setTimerSlack(1)
	_ = old.Close()
}

// rest makes a busy socket quiet.
func (s *socket) rest() {
	old := s.now.Load()
	if !old.busy {
		return
	}
	c, err := net.FileConn(old.ReadCloser.(*os.File))
	if err != nil { // out of descriptors, or of places in the poller: it goes on as it is
		_ = old.raw.Control(func(fd uintptr) { _ = unix.SetNonblock(int(fd), false) })
		return
	}
	raw, _ := c.(*net.UnixConn).SyscallConn() // no error: it is open
	s.now.Store(&end{c, raw, false})
	s.score = 0
	setTimerSlack(0) // the usual
	runtime.UnlockOSThread()
	_ = old.Close()
	<-s.places
}

func setTimerSlack(ns uintptr) { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, ns, 0, 0, 0) } // an error: longer naps

// stopReading tells the peer that nothing is read any more: its next write fails,
// and what it wrote before can still be read, to the end. No message is cut but one
// that the peer knows it has not written whole.
func (s *socket) stopReading() { s.shutdown(unix.SHUT_RD) }

// cutOff ends reading and writing at once.
func (s *socket) cutOff() {
	s.ended.Store(true)
	s.shutdown(unix.SHUT_RDWR)
}

func (s *socket) shutdown(how int) {
	_ = s.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), how) }) // an error: the peer has gone
}

// Close gives the descriptor up, after reading and writing have ended.
func (s *socket) Close() error {
	e := s.now.Load()
	if e.busy { // rest found no descriptor
		<-s.places
	}
	return e.Close()
}
