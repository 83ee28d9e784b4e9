package torqbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrLive says that somebody else listens on a path that the bridge was to take.
var ErrLive = errors.New("somebody listens there")

// names are the three places of a domain's sockets, and the one that the bridge
// listens on. Which socket a name leads to:
//
//	          socket     legacy_socket    bus_socket
//	shadow    relay      -                bridge
//	bus       bridge     relay            -
//
// A name is put over another by rename(2): a peer that connects meets one or the
// other, never none, except while a rollback drains.
type names struct {
	socket, legacy, bus string

	l    *net.UnixListener
	info fs.FileInfo // of the file of l
}

// holder is who answers at a name.
type holder int

const (
	holderNone  holder = iota // no file
	holderStale               // a socket that nobody listens on
	holderOther               // somebody else, as a rule the old relay
	holderOwn
)

// holder finds out who answers at a path. An error: it is no socket, or cannot be
// looked at.
func (n *names) holder(path string) (holder, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return holderNone, nil
	case err != nil:
		return holderNone, err
	case info.Mode().Type() != fs.ModeSocket:
		return holderNone, fmt.Errorf("%s: %w and is no socket: remove it, or configure another path", path, fs.ErrExist)
	case n.l != nil && os.SameFile(info, n.info):
		return holderOwn, nil
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return holderOther, nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return holderStale, nil
	case errors.Is(err, fs.ErrNotExist):
		return holderNone, nil
	}
	return holderOther, fmt.Errorf("%s: it cannot be told whether somebody listens there: %w", path, err)
}

// own reports whether a name leads to the bridge.
func (n *names) own(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && n.l != nil && os.SameFile(info, n.info)
}

// listen opens a socket at the bus name. A stale one there is removed, a live one
// refused.
func (n *names) listen() error {
	h, err := n.holder(n.bus)
	if err != nil {
		return err
	}
	if h == holderOther {
		return fmt.Errorf("%s: %w: stop it, or configure another bus_socket", n.bus, ErrLive)
	}
	if err := makeDir(n.bus); err != nil {
		return err
	}
	tmp := n.bus + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	info, err := os.Lstat(tmp)
	if err == nil {
		err = os.Rename(tmp, n.bus)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return err
	}
	n.l, n.info = l, info
	return nil
}

// take puts the bridge's socket at the public name, and the old relay's, if it
// lives, at the legacy name.
//
// Preconditions: listen.
func (n *names) take() error {
	h, err := n.holder(n.socket)
	if err != nil || h == holderOwn {
		return err
	}
	if h == holderOther {
		if err := n.resemble(); err != nil {
			return err
		}
		if err := n.aside(); err != nil {
			return err
		}
	}
	return os.Rename(n.bus, n.socket)
}

// ErrAccess says that processes that can connect to the old relay's socket could not
// connect to the bridge's.
var ErrAccess = errors.New("its clients could not connect to the bridge")

// resemble lets everybody connect to the bridge's socket who can connect to the relay's.
func (n *names) resemble() error {
	relay, err := os.Lstat(n.socket)
	if err != nil {
		return err
	}
	mode, theirs, own := relay.Mode().Perm(), relay.Sys().(*syscall.Stat_t), n.info.Sys().(*syscall.Stat_t)
	// As far as this process may: root may give the socket away, others to a group of theirs.
	sameGroup := theirs.Gid == own.Gid || os.Lchown(n.bus, -1, int(theirs.Gid)) == nil
	sameUser := theirs.Uid == own.Uid || os.Lchown(n.bus, int(theirs.Uid), -1) == nil
	const groupWrites, othersWrite = 0o020, 0o002 // who connects has to write
	switch {
	case mode&othersWrite != 0:
	case mode&groupWrites != 0 && sameGroup:
	case mode&groupWrites == 0 && sameUser:
	default:
		return fmt.Errorf("%s: %w: it belongs to user %d and group %d and has mode %#o; run the bridge as that user, or in that group with a relay that lets the group write",
			n.socket, ErrAccess, theirs.Uid, theirs.Gid, mode)
	}
	return os.Chmod(n.bus, mode)
}

// aside gives the relay's socket its second name, and takes the first away only if
// the kernel refuses to let it have two.
func (n *names) aside() error {
	if h, err := n.holder(n.legacy); err != nil {
		return err
	} else if h == holderOther {
		return fmt.Errorf("%s: %w, and on %s too: stop one of the two relays", n.legacy, ErrLive, n.socket)
	}
	if err := os.Remove(n.legacy); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(n.socket, n.legacy) == nil {
		return nil
	}
	return os.Rename(n.socket, n.legacy)
}

// give puts the relay's socket back at the public name.
func (n *names) give() error { return os.Rename(n.legacy, n.socket) }

// withdraw takes the relay's socket off the public name again: nobody can connect.
func (n *names) withdraw() error { return os.Rename(n.socket, n.legacy) }

// close ends the listener and removes the names that lead to it.
func (n *names) close() {
	for _, path := range []string{n.bus, n.socket} {
		if n.own(path) {
			_ = os.Remove(path)
		}
	}
	if n.l != nil {
		_ = n.l.Close()
		n.l = nil
	}
}

// restore puts right what a bridge that was killed has left: a relay that lives at
// the legacy name gets the public one back, unless somebody lives there.
func (n *names) restore() error {
	h, err := n.holder(n.socket)
	if err != nil || h == holderOther {
		return err
	}
	relay, err := n.holder(n.legacy)
	if err != nil || relay != holderOther {
		return err
	}
	return n.give()
}

// relay is where the old relay answers: at the legacy name, or at the public one
// if that is not the bridge's.
func (n *names) relay() string {
	if h, err := n.holder(n.legacy); err == nil && h == holderOther {
		return n.legacy
	}
	if !n.own(n.socket) {
		return n.socket
	}
	return n.legacy
}
