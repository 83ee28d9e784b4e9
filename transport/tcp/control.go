package tcp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/shm"
)

// The control socket of a forwarder: a client connects, writes one Order as a line of
// JSON and reads one Answer. The socket's mode, 0600, says who may.

// Order is what a tool asks of a forwarder.
type Order struct {
	Op   string `json:"op"` // status, pause, resume
	Link string `json:"link,omitempty"`
}

// Answer is what it gets.
type Answer struct {
	Error    string  `json:"error,omitempty"`
	NotFound bool    `json:"not_found,omitempty"`
	Status   *Status `json:"status,omitempty"`
}

var errNoLink = fmt.Errorf("%w: no such link", shm.ErrNotFound)

const (
	orderTimeout  = 2 * time.Second
	maxOrderBytes = 4096
)

// ServeControl answers on a socket of ListenControl until ctx ends, and closes it.
func (f *Forwarder) ServeControl(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket %s: %w", ln.Addr(), err)
		}
		go f.obey(c)
	}
}

// ListenControl opens the control socket of a forwarder. One that a forwarder which was
// killed has left is replaced; one that answers is an error.
func ListenControl(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("control socket %s: %w: a forwarder answers there", path, shm.ErrExists)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("control socket %s: %w and is no socket", path, fs.ErrExist)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

func (f *Forwarder) obey(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(orderTimeout))
	line, err := bufio.NewReaderSize(c, maxOrderBytes).ReadSlice('\n')
	var o Order
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	var a Answer
	if err == nil {
		a, err = f.order(o)
	}
	if err != nil {
		a.Error, a.NotFound = err.Error(), errors.Is(err, shm.ErrNotFound)
	}
	_ = json.NewEncoder(c).Encode(a)
}

func (f *Forwarder) order(o Order) (Answer, error) {
	s := f.Status()
	switch o.Op {
	case "status":
		return Answer{Status: &s}, nil
	case "pause", "resume":
		l, err := s.Link(o.Link)
		if err == nil {
			err = f.Pause(l.Peer, l.Link, o.Op == "pause")
		}
		s = f.Status()
		return Answer{Status: &s}, err
	}
	return Answer{}, fmt.Errorf("unknown order %q", o.Op)
}

// Ask sends an order to the forwarder behind a control socket.
func Ask(ctx context.Context, path string, o Order) (*Status, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoForwarder, err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * orderTimeout))
	var a Answer
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return nil, err
	}
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		return nil, fmt.Errorf("answer of the forwarder: %w", err)
	}
	if a.Error != "" {
		if a.NotFound {
			return nil, fmt.Errorf("%w: %s", shm.ErrNotFound, strings.TrimPrefix(a.Error, shm.ErrNotFound.Error()+": "))
		}
		return nil, errors.New(a.Error)
	}
	return a.Status, nil
}

// ErrNoForwarder says that nobody answers on a control socket.
var ErrNoForwarder = errors.New("no forwarder answers")

// FromConfig makes options of a configuration that was loaded.
func FromConfig(c *config.Forward) Options {
	o := Options{Node: c.Node, Listen: c.Listen, Keep: c.Keep, MaxBody: uint32(c.MaxBody), Beat: c.Beat, Dead: c.Dead,
		Spin: max(c.Spin, 1)} // 0 here is none, and there the default
	if c.Cert != "" {
		o.TLS = &TLS{Cert: c.Cert, Key: c.Key, CA: c.CA}
	}
	for i := range c.Links {
		k := &c.Links[i]
		l := LinkOptions{Name: k.Name, Peer: k.Peer, Address: k.Address, Imports: k.Import, Transit: k.Transit, Oldest: k.Start == "oldest",
			Compression: k.Compression, Insecure: k.Insecure}
		for _, p := range k.Export {
			l.Exports = append(l.Exports, Export{Pattern: p})
		}
		for _, p := range k.ExportLossy {
			l.Exports = append(l.Exports, Export{Pattern: p, Lossy: true})
		}
		o.Links = append(o.Links, l)
	}
	return o
}
