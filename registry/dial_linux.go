package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/shm"
)

// DialOptions; the zero value is the default.
type DialOptions struct {
	Program string       // for humans, in listings; "" = the program's file name
	Log     *slog.Logger // control-plane events; nil = none
}

// Dial attaches this process to the bus whose registry listens on socket, ""
// for the default one (MYCELIUM_REGISTRY, else the path of this user's bus).
// It fails with shm.ErrRegistryDown if nothing answers; once attached, the
// client survives restarts of the registry.
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
	return shm.Connect(ctx, dial, &shm.ClientOptions{Program: o.Program, Log: o.Log})
}
