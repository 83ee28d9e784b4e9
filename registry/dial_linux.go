package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/shm"
	"golang.org/x/sys/unix"
)

// DialOptions; the zero value is the default.
type DialOptions struct {
	Program string       // for humans, in listings; "" = the program's file name
	Log     *slog.Logger // control-plane events; nil = none

	// Waiting has Dial wait until the registry is there or ctx ends, for daemons that
	// may be started before it. It is called once, when it turns out that there is
	// something to wait for. Whatever waiting does not mend is an error still. nil = no
	// waiting.
	Waiting func(socket string, why error)
}

// Dial attaches this process to the bus whose registry listens on socket, ""
// for the default one (MYCELIUM_REGISTRY, else the path of this user's bus).
// It fails with shm.ErrRegistryDown if nothing answers, unless it is to wait; once
// attached, the client survives restarts of the registry.
func Dial(ctx context.Context, socket string, opts *DialOptions) (*shm.Client, error) {
	var o DialOptions
	if opts != nil {
		o = *opts
	}
	if socket == "" {
		socket = DefaultSocket()
	}
	dial := func(ctx context.Context) (*control.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unixpacket", socket)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%w (registry.access says who may connect)", err)
		case err != nil:
			return nil, fmt.Errorf("%w (is the registry running? start one with: myceliumctl registry serve)", err)
		}
		return control.NewConn(c.(*net.UnixConn)), nil
	}
	co := &shm.ClientOptions{Program: o.Program, Log: o.Log}
	if o.Waiting != nil {
		var told sync.Once
		co.Again = func(why error) bool {
			if !mayCome(why) {
				return false
			}
			told.Do(func() { o.Waiting(socket, why) })
			return true
		}
	}
	return shm.Connect(ctx, dial, co)
}

// mayCome reports whether a registry that was not reached may be there later, on the
// same socket and for the same user.
func mayCome(why error) bool {
	if !errors.Is(why, shm.ErrRegistryDown) || errors.Is(why, fs.ErrPermission) {
		return false
	}
	for _, never := range []error{unix.EINVAL, unix.ENAMETOOLONG, unix.ENOTDIR, unix.ELOOP, unix.EPROTOTYPE} {
		if errors.Is(why, never) { // the path is none for a socket, or who listens there is no registry
			return false
		}
	}
	return true
}
