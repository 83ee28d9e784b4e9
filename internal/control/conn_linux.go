package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Conn carries messages over a SOCK_SEQPACKET socket. Send is safe for
// concurrent use; Recv is for one goroutine.
type Conn struct {
	c    *net.UnixConn
	send sync.Mutex
	buf  []byte // Recv's
	oob  []byte
}

// NewConn takes over c.
func NewConn(c *net.UnixConn) *Conn {
	return &Conn{c: c, buf: make([]byte, MaxMessageBytes+1), oob: make([]byte, unix.CmsgSpace(4*8))}
}

// Pair is two connected Conns, for a directory in this process.
func Pair() (*Conn, *Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	var conns [2]*Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "control")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			if i == 0 {
				_ = unix.Close(fds[1])
			} else {
				_ = conns[0].Close()
			}
			return nil, nil, err
		}
		conns[i] = NewConn(c.(*net.UnixConn))
	}
	return conns[0], conns[1], nil
}

// Send writes one message, with f's descriptor if f is not nil. The caller
// keeps f and closes it: the packet holds its own reference.
func (c *Conn) Send(m *Message, f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > MaxMessageBytes {
		return fmt.Errorf("%w: %s of %d bytes, the most is %d", ErrTooBig, m.Op, len(b), MaxMessageBytes)
	}
	var oob []byte
	if f != nil {
		oob = unix.UnixRights(int(f.Fd()))
	}
	c.send.Lock()
	defer c.send.Unlock()
	_, _, err = c.c.WriteMsgUnix(b, oob, nil)
	return err
}

// Recv reads one message and the descriptor that came with it, nil if none;
// the caller closes it. Descriptors beyond the first are closed. io.EOF says
// that the peer is gone.
func (c *Conn) Recv() (*Message, *os.File, error) {
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf, c.oob)
	var f *os.File
	if oobn > 0 {
		f = rights(c.oob[:oobn])
	}
	fail := func(err error) (*Message, *os.File, error) {
		if f != nil {
			_ = f.Close()
		}
		return nil, nil, err
	}
	switch {
	case err != nil:
		return fail(err)
	case n == 0:
		return fail(io.EOF)
	case n > MaxMessageBytes || flags&unix.MSG_TRUNC != 0:
		return fail(ErrTooBig)
	}
	m := new(Message)
	if err := json.Unmarshal(c.buf[:n], m); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrMalformed, err))
	}
	return m, f, nil
}

// rights takes the descriptors out of a control buffer, keeps the first and
// closes the rest.
func rights(oob []byte) *os.File {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var first *os.File
	for i := range cmsgs {
		fds, err := unix.ParseUnixRights(&cmsgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if first == nil {
				first = os.NewFile(uintptr(fd), "segment")
			} else {
				_ = unix.Close(fd)
			}
		}
	}
	return first
}

// SetDeadline bounds Send and Recv; the zero time means none.
func (c *Conn) SetDeadline(t time.Time) error { return c.c.SetDeadline(t) }

// SetReadDeadline bounds Recv.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.c.SetReadDeadline(t) }

// SetWriteDeadline bounds Send.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.c.SetWriteDeadline(t) }

// Close closes the connection; a Recv under way returns.
func (c *Conn) Close() error { return c.c.Close() }

// Peer is who is at the other end, by the kernel's word.
type Peer struct {
	UID, GID uint32
	Groups   []uint32 // supplementary; nil where the kernel does not tell
	PID      int32    // for humans only
}

// Peer asks the kernel for the other end's credentials.
func (c *Conn) Peer() (Peer, error) {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var u *unix.Ucred
	var groups []uint32
	var uerr error
	if err := raw.Control(func(fd uintptr) {
		u, uerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups = peerGroups(int(fd))
	}); err != nil {
		return Peer{}, err
	}
	if uerr != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", uerr)
	}
	return Peer{UID: u.Uid, GID: u.Gid, Groups: groups, PID: u.Pid}, nil
}

// Gone reports whether err means that the connection is over rather than that
// one message was bad.
func Gone(err error) bool {
	return err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooBig)
}
