package shm

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/internal/layout"
)

// LocalOptions; the zero value is the default.
type LocalOptions struct {
	// Geometry and policy of every topic; 0 = the defaults of docs/layout.md.
	RingBytes       uint64
	MaxMessageBytes uint32
	Policy          Policy
	Log             *slog.Logger
}

// LocalDirectory is a bus without a daemon: the same directory that the
// registry serves on its socket, inside this process. Segments are real files
// under its path, so tools can look at them.
type LocalDirectory struct {
	server *directory.Server
	path   string
	remove bool
	mu     sync.Mutex
	closed bool // guarded by mu: no connection is added once Close waits for them
	conns  sync.WaitGroup
}

// OpenLocal makes a bus in dir, which it creates; "" = a fresh directory under
// /dev/shm that Close removes, or, after a kill, the next OpenLocal of this user.
func OpenLocal(dir string, opts *LocalOptions) (*LocalDirectory, error) {
	var o LocalOptions
	if opts != nil {
		o = *opts
	}
	g := layout.Geometry{Ring: o.RingBytes, MaxMsg: o.MaxMessageBytes}.WithDefaults()
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	remove := dir == ""
	if remove {
		directory.RemoveLeftovers("/dev/shm", "mycelium-local-")
		var err error
		if dir, err = os.MkdirTemp("/dev/shm", "mycelium-local-"); err != nil {
			return nil, err
		}
	}
	s, err := directory.Open(directory.Options{
		Dir: dir,
		Bus: filepath.Base(dir),
		Log: o.Log,
		TopicFor: func(string) (directory.TopicConfig, error) {
			return directory.TopicConfig{Geometry: g, Policy: o.Policy.control()}, nil
		},
	})
	if err != nil {
		if remove {
			_ = os.RemoveAll(dir)
		}
		return nil, err
	}
	return &LocalDirectory{server: s, path: dir, remove: remove}, nil
}

func (p Policy) control() control.Policy {
	switch p.Kind {
	case PolicyEvict:
		return control.Policy{Kind: "evict", Ns: int64(p.timeout())}
	case PolicyFail:
		return control.Policy{Kind: "fail"}
	}
	return control.Policy{Kind: "block", Ns: int64(max(p.timeout(), 0))}
}

// Client attaches to the bus; any number may.
func (d *LocalDirectory) Client(ctx context.Context) (*Client, error) {
	return Connect(ctx, func(context.Context) (*control.Conn, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.closed {
			return nil, fmt.Errorf("local directory %s: %w", d.path, ErrClosed)
		}
		a, b, err := control.Pair()
		if err != nil {
			return nil, err
		}
		d.conns.Go(func() { d.server.ServeConn(a) })
		return b, nil
	}, nil)
}

// Path is the bus directory.
func (d *LocalDirectory) Path() string { return d.path }

// Close ends the directory. Clients still open keep what they have attached.
func (d *LocalDirectory) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	err := d.server.Close()
	d.conns.Wait()
	if d.remove {
		if e := os.RemoveAll(d.path); err == nil {
			err = e
		}
	}
	return err
}
