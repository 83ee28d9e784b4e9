package shm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// Dialer opens a connection to the directory of a bus: the registry's socket, or
// a LocalDirectory.
type Dialer func(context.Context) (*control.Conn, error)

// ClientOptions; the zero value is the default.
type ClientOptions struct {
	Program string       // for humans; "" = the program's file name
	Log     *slog.Logger // control-plane events; nil = none. Nothing logs on the data path
}

const (
	requestTimeout = 5 * time.Second // where the context has no deadline
	beatEvery      = time.Second
	busyMin        = 5 * time.Millisecond // a source that is busy is asked for again, for 315 ms in all
	busyMax        = 160 * time.Millisecond
	redialMin      = 10 * time.Millisecond
	redialMax      = time.Second
)

// Client is one process's attachment to a bus. It is safe for concurrent use;
// the publishers and subscribers that it makes are for one goroutine each. When
// the registry goes away, everything that is attached goes on, and the client
// reconnects and declares its handles again.
type Client struct {
	dial    Dialer
	log     *slog.Logger
	hello   control.Hello
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
	nextID  atomic.Uint64
	welcome atomic.Pointer[control.Welcome]

	mu      sync.Mutex
	link    *link         // nil while reconnecting
	changed chan struct{} // closed when link changes
	pubs    map[layout.ID16]*Publisher
	subs    map[layout.ID16]*Subscriber
	early   map[layout.ID16][]joinRequest // joins of a lane that is being opened
	peers   map[layout.ID16]weak.Pointer[peer]
}

// link is one connection's life.
type link struct {
	conn    *control.Conn
	out     chan *control.Message
	down    chan struct{}
	mu      sync.Mutex
	pending map[uint64]chan answer
	dead    bool
}

type answer struct {
	m *control.Message
	f *os.File
}

// Connect attaches to a bus. It fails if the directory cannot be reached now;
// later losses are bridged.
func Connect(ctx context.Context, dial Dialer, o *ClientOptions) (*Client, error) {
	if o == nil {
		o = &ClientOptions{}
	}
	program := o.Program
	if program == "" {
		program = filepath.Base(os.Args[0])
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		dial:    dial,
		log:     log,
		hello:   control.Hello{Version: control.Version, Client: newID(), Program: program},
		changed: make(chan struct{}),
		pubs:    map[layout.ID16]*Publisher{},
		subs:    map[layout.ID16]*Subscriber{},
		early:   map[layout.ID16][]joinRequest{},
		peers:   map[layout.ID16]weak.Pointer[peer]{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	l, err := c.connect(ctx)
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.setLink(l)
	c.done.Add(2)
	go c.serve(l)
	go c.beatLoop()
	return c, nil
}

func newID() (id layout.ID16) {
	_, _ = rand.Read(id[:])
	return id
}

// connect dials and shakes hands.
func (c *Client) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistryDown, err)
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	hello := c.hello
	if w := c.welcome.Load(); w != nil {
		hello.Incarnation = w.Incarnation
	}
	m := &control.Message{Op: control.OpHello, ID: c.nextID.Add(1), Hello: &hello}
	if err := conn.Send(m, nil); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: hello: %w", ErrRegistryDown, err)
	}
	r, f, err := conn.Recv()
	if f != nil {
		_ = f.Close()
	}
	switch {
	case err != nil:
		err = fmt.Errorf("%w: hello: %w", ErrRegistryDown, err)
	case r.Error != nil:
		err = wrap(r.Error)
	case r.Op != control.OpWelcome || r.Welcome == nil:
		err = fmt.Errorf("%w: answered hello with %q", ErrVersion, r.Op)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	c.welcome.Store(r.Welcome)
	return &link{conn: conn, out: make(chan *control.Message, 1024), down: make(chan struct{}), pending: map[uint64]chan answer{}}, nil
}

func (c *Client) setLink(l *link) {
	c.mu.Lock()
	c.link = l
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// serve is the control goroutine: it reads answers and events, and reconnects
// for as long as the client lives.
func (c *Client) serve(first *link) {
	defer c.done.Done()
	// Admitting a lane reads shared memory that its owner could truncate.
	debug.SetPanicOnFault(true)
	for next := first; ; {
		l := next // what is started below keeps this one
		stop := context.AfterFunc(c.ctx, func() { _ = l.conn.Close() })
		c.done.Add(1)
		go func() {
			defer c.done.Done()
			l.write()
		}()
		c.read(l)
		stop()
		l.fail()
		c.setLink(nil)
		again := c.redial()
		if again == nil {
			return
		}
		c.setLink(again)
		c.done.Add(1)
		go func() {
			defer c.done.Done()
			c.resume(again)
		}()
		next = again
	}
}

func (c *Client) redial() *link {
	for wait := redialMin; ; wait = min(2*wait, redialMax) {
		jitter, err := rand.Int(rand.Reader, big.NewInt(int64(wait)))
		if err != nil {
			jitter = big.NewInt(0)
		}
		select {
		case <-c.ctx.Done():
			return nil
		case <-time.After(wait/2 + time.Duration(jitter.Int64()/2)):
		}
		if l, err := c.connect(c.ctx); err == nil {
			return l
		}
	}
}

func (l *link) write() {
	for {
		select {
		case <-l.down:
			return
		case m := <-l.out:
			if err := l.conn.Send(m, nil); err != nil && control.Gone(err) {
				_ = l.conn.Close()
				return
			}
		}
	}
}

// fail ends every request under way.
func (l *link) fail() {
	_ = l.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.dead = true
		close(l.down)
	}
}

func (c *Client) read(l *link) {
	for {
		m, f, err := l.conn.Recv()
		if err != nil {
			if control.Gone(err) {
				return
			}
			c.log.Warn("control message ignored", "error", err)
			continue
		}
		if m.ID != 0 {
			l.mu.Lock()
			ch := l.pending[m.ID]
			delete(l.pending, m.ID)
			l.mu.Unlock()
			switch {
			case ch != nil:
				ch <- answer{m, f}
			default: // nobody waits any more
				if f != nil {
					_ = f.Close()
				}
				if m.Op == control.OpGranted {
					l.tell(&control.Message{Op: control.OpDiscard, Lane: m.Lane, Sub: m.Sub})
				}
			}
			continue
		}
		c.event(l, m, f)
	}
}

// tell queues a notice; it is lost with the link, and resume makes up for it.
func (l *link) tell(m *control.Message) {
	select {
	case l.out <- m:
	case <-l.down:
	}
}

// request sends m and waits for its answer. A refusal is an error of this
// package's kind; a descriptor in the answer is the caller's.
func (c *Client) request(ctx context.Context, l *link, m *control.Message) (*control.Message, *os.File, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	for l == nil {
		if c.ctx.Err() != nil {
			return nil, nil, fmt.Errorf("client: %w", ErrClosed)
		}
		c.mu.Lock()
		changed := c.changed
		l = c.link
		c.mu.Unlock()
		if l != nil {
			break
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrRegistryDown, m.Op, ctx.Err())
		}
	}
	ch := make(chan answer, 1)
	m.ID = c.nextID.Add(1)
	l.mu.Lock()
	l.pending[m.ID] = ch
	l.mu.Unlock()
	l.tell(m)
	select {
	case a := <-ch:
		if a.m.Error != nil {
			if a.f != nil {
				_ = a.f.Close()
			}
			return nil, nil, wrap(a.m.Error)
		}
		return a.m, a.f, nil
	case <-l.down:
		return nil, nil, fmt.Errorf("%w: connection lost during %s", ErrRegistryDown, m.Op)
	case <-ctx.Done():
		l.mu.Lock()
		_, waiting := l.pending[m.ID]
		delete(l.pending, m.ID)
		l.mu.Unlock()
		if !waiting { // it came in this moment
			a := <-ch
			if a.f != nil {
				_ = a.f.Close()
				l.tell(&control.Message{Op: control.OpDiscard, Lane: a.m.Lane, Sub: a.m.Sub})
			}
		}
		return nil, nil, fmt.Errorf("%s: %w", m.Op, ctx.Err())
	}
}

// Request is for tools: one control request on the client's connection. The
// descriptor that an answer may bring is closed.
func (c *Client) Request(ctx context.Context, m *control.Message) (*control.Message, error) {
	r, f, err := c.request(ctx, nil, m)
	if f != nil {
		_ = f.Close()
	}
	return r, err
}

var codeErrors = map[control.Code]error{
	control.CodeInvalid:     ErrInvalid,
	control.CodeNotFound:    ErrNotFound,
	control.CodePermission:  ErrPermission,
	control.CodeExists:      ErrExists,
	control.CodeInUse:       ErrExists,
	control.CodeSourceBusy:  ErrSourceBusy,
	control.CodeQuota:       ErrQuota,
	control.CodeNoSpace:     ErrNoSpace,
	control.CodeVersion:     ErrVersion,
	control.CodeTimeout:     context.DeadlineExceeded,
	control.CodeUnavailable: ErrRegistryDown,
}

// wrap makes a refusal match this package's sentinels and its own code.
func wrap(e *control.Error) error {
	if s := codeErrors[e.Code]; s != nil {
		return fmt.Errorf("%w: %w", s, e)
	}
	return e
}

// event acts on what the directory says by itself.
func (c *Client) event(l *link, m *control.Message, f *os.File) {
	switch m.Op {
	case control.OpJoin:
		c.onJoin(l, m, f)
		return // f is the peer's now
	case control.OpLeave:
		c.mu.Lock()
		p := c.pubs[m.Lane]
		c.mu.Unlock()
		if p != nil {
			if mb := p.set.Load().bySub(m.Sub); mb != nil {
				p.remove(mb)
			}
		}
	case control.OpLane:
		c.mu.Lock()
		s := c.subs[m.Sub]
		c.mu.Unlock()
		if s != nil {
			s.onLane(m, f)
		}
	case control.OpFinal:
		c.mu.Lock()
		s := c.subs[m.Sub]
		c.mu.Unlock()
		if s != nil && m.Final != nil {
			s.post(admission{epoch: m.Lane, final: &finalNews{m.Final.Pos, m.Final.Seq}})
		}
	default:
		c.log.Warn("unknown event from the directory", "op", m.Op)
	}
	if f != nil {
		_ = f.Close()
	}
}

// tell queues a notice on the current connection, if there is one.
func (c *Client) tell(m *control.Message) {
	c.mu.Lock()
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.tell(m)
	}
}

// resume declares every handle again after a lost connection.
func (c *Client) resume(l *link) {
	c.mu.Lock()
	var pubs []*Publisher
	var subs []*Subscriber
	for _, p := range c.pubs {
		pubs = append(pubs, p)
	}
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	for _, p := range pubs {
		m := &control.Message{Op: control.OpResPub, Lane: p.hdr.Epoch}
		set := p.set.Load()
		for _, mb := range set.lossless {
			m.Joined = append(m.Joined, control.Joined{Sub: mb.peer.epoch, Pos: mb.join, Ticket: mb.ticket, Notice: mb.notice})
		}
		for _, mb := range set.sleepers {
			if !mb.lossless {
				m.Joined = append(m.Joined, control.Joined{Sub: mb.peer.epoch, Pos: mb.join, Ticket: mb.ticket, Notice: mb.notice})
			}
		}
		if _, _, err := c.request(c.ctx, l, m); err != nil && !errors.Is(err, ErrRegistryDown) && c.ctx.Err() == nil {
			c.log.Error("lane lost: the registry does not know it any more", "topic", p.hdr.Topic, "lane", p.hdr.Epoch, "error", err)
			p.lost.Store(true)
		}
	}
	for _, s := range subs {
		m := &control.Message{Op: control.OpResSub, Sub: s.hdr.Epoch}
		var again []layout.ID16
		s.control.Lock()
		for e, h := range s.lanesHeld {
			m.Lanes = append(m.Lanes, control.HeldLane{Lane: e, Number: h.number})
		}
		for e := range s.rejoining {
			again = append(again, e)
		}
		s.control.Unlock()
		if _, _, err := c.request(c.ctx, l, m); err != nil && !errors.Is(err, ErrRegistryDown) && c.ctx.Err() == nil {
			c.log.Error("subscriber lost: the registry does not know it any more", "pattern", s.hdr.Pattern, "error", err)
			continue
		}
		for _, e := range again {
			l.tell(&control.Message{Op: control.OpRejoin, Sub: s.hdr.Epoch, Lane: e})
		}
	}
}

// beatLoop stores the beat of every handle once a second and keeps the cycle
// counter's calibration.
func (c *Client) beatLoop() {
	defer c.done.Done()
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-t.C:
		}
		if tsc := tscInUse.Load(); tsc != nil {
			tsc.Recalibrate()
		}
		c.mu.Lock()
		pubs := make([]*Publisher, 0, len(c.pubs))
		for _, p := range c.pubs {
			pubs = append(pubs, p)
		}
		subs := make([]*Subscriber, 0, len(c.subs))
		for _, s := range c.subs {
			subs = append(subs, s)
		}
		c.mu.Unlock()
		for _, p := range pubs {
			p.storeBeat()
		}
		for _, s := range subs {
			s.storeBeat()
		}
	}
}

var (
	tscInUse  atomic.Pointer[clock.TSC]
	sharedTSC = sync.OnceValues(func() (*clock.TSC, error) {
		t, err := clock.NewTSC()
		if err == nil {
			tscInUse.Store(t)
		}
		return t, err
	})
)

// Close closes the client's subscribers and its connection. Close publishers
// first, each on its own goroutine: one that is still open keeps its lane until
// the process ends.
func (c *Client) Close() error {
	c.mu.Lock()
	var subs []*Subscriber
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.Close())
	}
	c.cancel()
	c.done.Wait()
	return errors.Join(errs...)
}
