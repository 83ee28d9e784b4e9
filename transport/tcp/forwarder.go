package tcp

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/shm"
)

// Forwarder extends topics of a bus to other hosts, and theirs to it. Its methods are
// safe for concurrent use.
type Forwarder struct {
	opt         Options
	client      *shm.Client
	log         *slog.Logger
	node        layout.ID16
	incarnation layout.ID16
	links       []*link
	shared      *mirrors
	listeners   []net.Listener
	started     time.Time

	halfMu sync.Mutex
	half   map[string]int // connections without a HELLO, by address
	halves int

	counters forwarderCounters
}

type forwarderCounters struct {
	accepted, refused, authFailures, plaintext, crowded, panics atomic.Uint64
}

const (
	maxHalf      = 64 // connections that have not said HELLO
	maxHalfPerIP = 8
)

// New attaches to the bus of a client, which stays the caller's, and opens the ports.
// From here on what the links export is held for them.
func New(ctx context.Context, c *shm.Client, o Options) (*Forwarder, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	f := &Forwarder{opt: o, client: c, log: o.Log, node: c.Node(), half: map[string]int{}, started: time.Now()}
	_, _ = rand.Read(f.incarnation[:])
	f.shared = newMirrors(context.WithoutCancel(ctx), c, o.Log)
	for i := range o.Links {
		f.links = append(f.links, newLink(f, o.Links[i]))
	}
	for _, address := range o.Listen {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			f.closeListeners()
			return nil, err
		}
		f.listeners = append(f.listeners, ln)
	}
	for _, l := range f.links {
		if err := l.attach(ctx); err != nil {
			f.closeListeners()
			f.closeRelays()
			return nil, err
		}
	}
	return f, nil
}

func (f *Forwarder) closeListeners() {
	for _, ln := range f.listeners {
		_ = ln.Close()
	}
}

func (f *Forwarder) closeRelays() (err error) {
	for _, l := range f.links {
		for _, r := range l.relays {
			err = errors.Join(err, r.Close())
		}
	}
	return err
}

// Addrs are the addresses that the forwarder listens on.
func (f *Forwarder) Addrs() (all []net.Addr) {
	for _, ln := range f.listeners {
		all = append(all, ln.Addr())
	}
	return all
}

// Run forwards until ctx ends, nil, or a link cannot go on. What was not acknowledged
// then stays held for Options.Keep.
func (f *Forwarder) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for _, l := range f.links {
		all.Go(func() {
			if err := l.run(ctx); err != nil {
				err = fmt.Errorf("link %s to %s: %w", l.opt.name(), l.opt.Peer, err)
				failed.CompareAndSwap(nil, &err)
				cancel()
			}
		})
		if l.opt.Address != "" {
			all.Go(func() { l.dialLoop(ctx) })
		}
	}
	var conns sync.WaitGroup
	for _, ln := range f.listeners {
		all.Go(func() { f.accept(ctx, ln, &conns) })
	}
	all.Go(func() { f.tidy(ctx) })
	<-ctx.Done()
	f.closeListeners()
	all.Wait()
	conns.Wait()
	err := errors.Join(f.shared.close(), f.closeRelays())
	if why := failed.Load(); why != nil {
		return errors.Join(*why, err)
	}
	return err
}

// tidy does what is done now and then.
func (f *Forwarder) tidy(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			f.shared.expire(now)
			for _, l := range f.links {
				if s := l.current(); s != nil {
					s.in.mu.Lock()
					s.in.settle()
					s.in.mu.Unlock()
				}
			}
		}
	}
}

func (l *link) current() *session {
	l.connMu.Lock()
	defer l.connMu.Unlock()
	return l.cur
}

// find is the link with a peer.
func (f *Forwarder) find(peer, name string) *link {
	for _, l := range f.links {
		if l.opt.Peer == peer && l.opt.name() == name {
			return l
		}
	}
	return nil
}

// relayOptions of an export: they are also the identity of what is held for it.
func relayOptions(o *Options, l *LinkOptions, e *Export) *shm.RelayOptions {
	so := shm.SubscriberOptions{Name: "forward:" + o.Node + ":" + l.Peer + ":" + l.name(), Idle: shm.IdlePark, Keep: o.Keep}
	if !e.Lossy {
		so.Mode = shm.Lossless
	}
	if l.Oldest {
		so.Start = shm.StartOldest()
	}
	return &shm.RelayOptions{SubscriberOptions: so}
}

// Forget gives up what is held for a forwarder of these options that is not running, and
// names the exports for which something was.
func Forget(ctx context.Context, c *shm.Client, o Options) (held []string, err error) {
	o, held = o.withDefaults(), []string{}
	for i := range o.Links {
		l := &o.Links[i]
		for k := range l.Exports {
			e := &l.Exports[k]
			r, err := c.Relay(ctx, e.Pattern, relayOptions(&o, l, e))
			if err != nil {
				return held, fmt.Errorf("link %s to %s: export %s: %w", l.name(), l.Peer, e.Pattern, err)
			}
			if r.Resumed() {
				held = append(held, l.Peer+"/"+l.name()+" "+e.Pattern)
			}
			if err := r.Forget(ctx); err != nil {
				return held, err
			}
		}
	}
	return held, nil
}

// accept takes connections on, as long as not too many of them have said nothing.
func (f *Forwarder) accept(ctx context.Context, ln net.Listener, conns *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			f.log.Warn("accept", "error", err) // out of descriptors: others will close theirs
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		f.counters.accepted.Add(1)
		ip := addressOf(c)
		if !f.enter(ip) {
			f.counters.crowded.Add(1)
			_ = c.Close()
			continue
		}
		conns.Go(func() {
			defer f.leave(ip)
			f.welcome(ctx, c)
		})
	}
}

func addressOf(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return ""
}

func (f *Forwarder) enter(ip string) bool {
	f.halfMu.Lock()
	defer f.halfMu.Unlock()
	if f.halves >= maxHalf || f.half[ip] >= maxHalfPerIP {
		return false
	}
	f.halves++
	f.half[ip]++
	return true
}

func (f *Forwarder) leave(ip string) {
	f.halfMu.Lock()
	defer f.halfMu.Unlock()
	f.halves--
	if f.half[ip]--; f.half[ip] == 0 {
		delete(f.half, ip)
	}
}

// welcome hears an accepted connection out, and hands it to its link.
func (f *Forwarder) welcome(ctx context.Context, accepted net.Conn) {
	from := accepted.RemoteAddr().String()
	c, h, l, err := f.receive(ctx, accepted.(*net.TCPConn))
	if err != nil {
		f.counters.refused.Add(1)
		f.log.Warn("connection refused", "address", from, "error", err)
		return
	}
	l.offer(c, h)
}

// receive makes a connection of a link, or none: then it is closed.
func (f *Forwarder) receive(ctx context.Context, accepted *net.TCPConn) (c net.Conn, h *hello, l *link, err error) {
	s, err := f.socket(accepted)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if c, err = f.secure(ctx, s); err == nil {
		h, l, err = f.greetAccepted(c)
	}
	if err != nil {
		_ = s.Close()
	}
	return c, h, l, err
}

// socket takes a connection over from the runtime.
func (f *Forwarder) socket(c *net.TCPConn) (*socket, error) {
	tune(c, writeDeads*f.opt.Dead)
	return newSocket(c)
}

// recordHandshake is the first byte of TLS, which no HELLO begins with.
const recordHandshake = 0x16

// peeked is a connection whose first byte was looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// secure does the TLS of an accepted connection, if both sides want it.
func (f *Forwarder) secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	if f.opt.TLS == nil {
		return c, nil
	}
	_ = c.SetDeadline(time.Now().Add(greetTimeout))
	p := &peeked{c, bufio.NewReaderSize(c, 16)}
	first, err := p.r.Peek(1)
	if err != nil {
		return c, err
	}
	if first[0] != recordHandshake { // judge says whether that is all right
		return p, nil
	}
	cfg, err := f.opt.TLS.server(f.log)
	if err != nil {
		return c, err
	}
	t := tls.Server(p, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		f.counters.authFailures.Add(1)
		return c, err
	}
	return t, nil
}

// Reload reads the certificates again, if their files have changed. Connections that are
// up stay; the next ones use what was read.
func (f *Forwarder) Reload() {
	if f.opt.TLS != nil {
		_, _, _ = f.opt.TLS.load(f.log) // it logs, and keeps the last good ones
	}
}

// Pause has a link send nothing new, or go on. What it exports is held meanwhile.
func (f *Forwarder) Pause(peer, name string, on bool) error {
	l := f.find(peer, name)
	if l == nil {
		return fmt.Errorf("%w: no link %q to %q", shm.ErrNotFound, name, peer)
	}
	l.mu.Lock()
	l.send.paused = on
	l.mu.Unlock()
	l.kick()
	return nil
}
