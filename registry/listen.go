package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
)

// listener is the socket, made here or handed over by the service manager.
type listener struct {
	*net.UnixListener
	path  string
	info  fs.FileInfo // of the socket's file, nil if it cannot be seen
	given bool        // by the service manager, whose it stays
}

// newSuffix makes the name under which a socket is bound. The bus lock keeps
// two registries of one bus from using it at once.
const newSuffix = ".new"

// listen opens the socket for clients.
//
// Preconditions: the bus lock is held.
func listen(path string, access config.Access) (*listener, error) {
	l, err := inherited()
	if l != nil || err != nil {
		return l, err
	}
	if err := free(path); err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Dir(path), access); err != nil {
		return nil, err
	}
	tmp := path + newSuffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	u, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: tmp, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	u.SetUnlinkOnClose(false)
	l = &listener{UnixListener: u, path: path}
	if err = os.Chmod(tmp, socketMode(access)); err == nil {
		if l.info, err = os.Lstat(tmp); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		_ = u.Close()
		_ = os.Remove(tmp)
		return nil, err
	}
	return l, nil
}

// inherited is the socket of a socket-activated service, nil if there is none.
func inherited() (*listener, error) {
	all, err := activation.Listeners()
	if len(all) == 0 || err != nil {
		return nil, err
	}
	u, ok := all[0].(*net.UnixListener)
	if ok = ok && u.Addr().Network() == "unixpacket"; !ok || len(all) > 1 {
		for _, l := range all {
			if l != nil {
				_ = l.Close()
			}
		}
		return nil, fmt.Errorf("want one sequential-packet socket from the service manager, by ListenSequentialPacket= in the .socket unit; it hands over %d", len(all))
	}
	l := &listener{UnixListener: u, path: u.Addr().String(), given: true}
	l.info, _ = os.Lstat(l.path)
	return l, nil
}

// free makes sure that nobody listens on a path.
func free(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		err = fmt.Errorf("%s: %w and is no socket: remove it, or set registry.socket to another path", path, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("unixpacket", path, time.Second)
	switch {
	case err == nil:
		conn := control.NewConn(c.(*net.UnixConn))
		defer conn.Close()
		p, _ := conn.Peer()
		return fmt.Errorf("%s: %w: process %d listens there: stop it, or set registry.socket to another path", path, syscall.EADDRINUSE, p.PID)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // left by a registry that was killed
	}
	return fmt.Errorf("%s: %w: it cannot be told whether somebody listens there (%w): remove it, or set registry.socket to another path",
		path, syscall.EADDRINUSE, err)
}

// makeDir makes the socket's directory if it is not there: open to those who
// may connect.
func makeDir(dir string, access config.Access) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil && access != config.AccessOwner {
		err = os.Chmod(dir, 0o755)
	}
	return err
}

func socketMode(access config.Access) fs.FileMode {
	switch access {
	case config.AccessGroup:
		return 0o660
	case config.AccessAll:
		return 0o666
	}
	return 0o600
}

// group is the socket's, which access = "group" admits.
func (l *listener) group() uint32 {
	if l.info != nil {
		if st, ok := l.info.Sys().(*syscall.Stat_t); ok {
			return st.Gid
		}
	}
	return uint32(os.Getegid())
}

// setAccess gives the socket the mode of another access rule. The service
// manager's socket keeps its own.
func (l *listener) setAccess(access config.Access) error {
	if l.given || !l.mine() {
		return nil
	}
	return os.Chmod(l.path, socketMode(access))
}

// mine reports whether the path leads to this socket still.
func (l *listener) mine() bool {
	now, err := os.Lstat(l.path)
	return err == nil && l.info != nil && os.SameFile(now, l.info)
}

// close takes the socket away, unless it is the service manager's or somebody
// else's by now.
func (l *listener) close() {
	if !l.given && l.mine() {
		_ = os.Remove(l.path)
	}
	_ = l.Close()
}
