package torqbridge

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// descriptor is what a writer needs of a connection: syscall.RawConn without its Read.
type descriptor interface {
	Control(f func(fd uintptr)) error
	Write(step func(fd uintptr) bool) error // calls step when there is room, until it is done
}

// writer writes batches to a peer's socket without ever blocking a thread. It is
// for one goroutine.
type writer struct {
	to   descriptor
	join int // unread bytes from which on messages are joined; 0 = never
	step func(fd uintptr) bool

	b    *batch
	from int // first byte of b.buf that is not written
	next int // message that holds it, or that ended before it
	ask  int // messages until it is asked what is unread
	err  error
}

func newWriter(to descriptor, join int) *writer {
	w := &writer{to: to, join: join}
	w.step = w.write
	return w
}

// askEvery is after how many messages it is asked what a peer has unread: less than
// join's default is worth, and asking costs half as much as writing.
const askEvery = 16

// send writes a batch: each message by one call while the peer keeps up.
func (w *writer) send(b *batch) error {
	w.b, w.from, w.next, w.err = b, 0, 0, nil
	if err := w.to.Write(w.step); err != nil {
		return err
	}
	return w.err
}

// write goes on until all is written; false = the socket takes no more for now.
func (w *writer) write(fd uintptr) bool {
	for w.next < len(w.b.ends) {
		n, err := unix.SendmsgN(int(fd), w.b.buf[w.from:w.upTo(fd)], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			w.err = err
			return true
		}
		w.from += n
		for w.next < len(w.b.ends) && w.b.ends[w.next] <= w.from {
			w.next++
		}
	}
	return true
}

// upTo is where the next write ends: behind one message, or all for a peer that is
// behind.
func (w *writer) upTo(fd uintptr) int {
	last := len(w.b.ends) - 1
	if w.ask--; w.ask < 0 && w.next < last && w.join > 0 {
		if unread(fd) >= w.join {
			return w.b.ends[last]
		}
		w.ask = askEvery - 1
	}
	return w.b.ends[w.next]
}

// unread is how many bytes, their bookkeeping included, the peer has in its socket.
func unread(fd uintptr) int {
	n, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// unreadBytes is unread for a connection.
func (w *writer) unreadBytes() (n int) {
	_ = w.to.Control(func(fd uintptr) { n = unread(fd) })
	return n
}

// socketPair is a connection within this process, of the kind that peers have.
func socketPair() (a, b *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	a, err0 := unixConn(fds[0])
	b, err1 := unixConn(fds[1])
	return a, b, errors.Join(err0, err1) // the collector closes one that is left
}

// unixConn takes a descriptor over.
func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "pair")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// gone reports whether a peer whose writing end is closed has gone altogether.
func gone(d descriptor) bool {
	hup := false
	if err := d.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		if n, err := unix.Poll(p, 0); err == nil && n == 1 {
			hup = p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
		}
	}); err != nil {
		return true
	}
	return hup
}

// peer is the process at the other end; 0 = in another process namespace.
func peer(d descriptor) (pid int) {
	_ = d.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// startedAt is when a process started, since boot, in clock ticks of 10 ms; false =
// it cannot be told.
func startedAt(pid int) (ticks int64, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	const startTime = 22 - 3 // field 22 of proc_pid_stat(5), counted after the name
	if len(fields) <= startTime {
		return 0, false
	}
	ticks, err = strconv.ParseInt(fields[startTime], 10, 64)
	return ticks, err == nil
}

// sinceBoot is the time now, in the unit of startedAt.
func sinceBoot() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return ts.Nano() / int64(10*time.Millisecond)
}

// connections are the inodes of the connections that a listening socket has accepted or
// will, by the path that it was bound to, as /proc/net/unix tells; false = it cannot.
func connections(path string) (inodes map[string]bool, ok bool) {
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, false
	}
	inodes = map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		const flags, state, inode, name = 3, 5, 6, 7
		if len(f) <= name || f[name] != path {
			continue
		}
		if f[flags] == "00010000" { // it listens
			ok = true
		} else if f[state] == "03" { // connected
			inodes[f[inode]] = true
		}
	}
	return inodes, ok
}

// arrived counts the connections that were not there before. Those whose peers have
// gone may stay, or go, without anybody coming.
func arrived(path string, before map[string]bool) (n int) {
	now, _ := connections(path)
	for inode := range now {
		if !before[inode] {
			n++
		}
	}
	return n
}

// nap gives the core away for some 100 us.
func nap() {
	t := unix.Timespec{Nsec: int64(60 * time.Microsecond)}
	_ = unix.Nanosleep(&t, nil) // cut short by a signal is no harm
}
