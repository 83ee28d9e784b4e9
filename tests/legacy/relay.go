package legacy

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	readBytes = 64 << 10 // of one read, and so of one item
	queue     = 10_000   // items that a connection may be behind
	header    = 32
	magic     = 0xDEADBEEF
)

// AnyDomain lets a relay pass items whatever domain their first header names.
const AnyDomain = -1

// Relay is a running relay.
type Relay struct {
	Lagged  atomic.Uint64 // items dropped for slow connections
	Refused atomic.Uint64 // items that did not begin with a header of the domain

	l      *net.UnixListener
	domain int

	mu    sync.Mutex
	more  sync.Cond
	items [queue][]byte
	next  uint64 // index of the next item
	conns map[*net.UnixConn]bool
	ended bool
}

// Listen starts a relay on a path, which it takes from whoever had it, as the old
// ones do. domain is what it lets pass, or AnyDomain.
func Listen(path string, domain int) (*Relay, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // a killed process does not either
	r := &Relay{l: l, domain: domain, conns: map[*net.UnixConn]bool{}}
	r.more.L = &r.mu
	go r.accept()
	return r, nil
}

func (r *Relay) accept() {
	for {
		c, err := r.l.AcceptUnix()
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.ended {
			r.mu.Unlock()
			_ = c.Close()
			return
		}
		r.conns[c] = true
		from := r.next
		r.mu.Unlock()
		// Whichever of the two ends first, the other goes on.
		go r.read(c)
		go r.write(c, from)
	}
}

func (r *Relay) read(c *net.UnixConn) {
	buf := make([]byte, readBytes)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if n < header || binary.LittleEndian.Uint32(buf) != magic || r.domain != AnyDomain && int(buf[4]) != r.domain {
			r.Refused.Add(1)
			continue
		}
		item := append([]byte(nil), buf[:n]...)
		r.mu.Lock()
		r.items[r.next%queue] = item
		r.next++
		r.mu.Unlock()
		r.more.Broadcast()
	}
}

func (r *Relay) write(c *net.UnixConn, at uint64) {
	defer func() {
		r.mu.Lock()
		delete(r.conns, c)
		r.mu.Unlock()
		_ = c.Close()
	}()
	for {
		r.mu.Lock()
		for at == r.next && !r.ended {
			r.more.Wait()
		}
		if at == r.next {
			r.mu.Unlock()
			return
		}
		if r.next-at > queue {
			r.Lagged.Add(r.next - queue - at)
			at = r.next - queue
		}
		item := r.items[at%queue]
		r.mu.Unlock()
		at++
		if _, err := c.Write(item); err != nil {
			return
		}
	}
}

// Clients is how many connections there are.
func (r *Relay) Clients() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// Close ends the relay as a kill would, except that its process lives on: the
// path stays, and connections end.
func (r *Relay) Close() error {
	err := r.l.Close()
	r.mu.Lock()
	r.ended = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.more.Broadcast()
	return err
}
