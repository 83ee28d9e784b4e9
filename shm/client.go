package shm

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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

	// Again is asked whenever Connect could not reach the directory: true has it try
	// again, with the pauses of a client that reconnects. nil = never.
	Again func(why error) bool
}

const (
	requestTimeout = 5 * time.Second // where the context has no deadline
	beatEvery      = time.Second
	busyMin        = 5 * time.Millisecond // a source that is busy is asked for again, for 315 ms in all
	busyMax        = 160 * time.Millisecond
	closeTimeout   = 2 * time.Second // of all the close requests of Client.Close
	redialMin      = 10 * time.Millisecond
	redialMax      = time.Second
	collectAfter   = 64 // subscribers that left, before their mappings are collected
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
	lists   chan struct{}            // holds a token while a list is sent: its parts go one after the other
	gone    map[layout.ID16]struct{} // subscribers that left since the last collection; control goroutine only

	mu      sync.Mutex
	link    *link         // nil while reconnecting
	changed chan struct{} // closed when link changes
	pubs    map[layout.ID16]*Publisher
	subs    map[layout.ID16]*Subscriber
	opening int                           // Publisher calls under way
	early   map[layout.ID16][]joinRequest // joins of lanes that are being opened
	peers   map[layout.ID16]weak.Pointer[peer]
}

// link is one connection's life.
type link struct {
	conn *control.Conn
	some chan struct{} // holds a token while something may be in out
	down chan struct{}

	mu      sync.Mutex
	out     []*control.Message // unbounded: who tells must never wait for the directory
	pending map[uint64]chan answer
	dead    bool
}

// answer is what a request gets; err if it could not be sent.
type answer struct {
	m   *control.Message
	f   *os.File
	err error
}

// Connect attaches to a bus. It fails if the directory cannot be reached now, unless
// ClientOptions.Again waits for it; later losses are bridged.
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
		lists:   make(chan struct{}, 1),
		gone:    map[layout.ID16]struct{}{},
		changed: make(chan struct{}),
		pubs:    map[layout.ID16]*Publisher{},
		subs:    map[layout.ID16]*Subscriber{},
		early:   map[layout.ID16][]joinRequest{},
		peers:   map[layout.ID16]weak.Pointer[peer]{},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	l, err := c.connect(ctx)
	if err != nil && o.Again != nil && ctx.Err() == nil && o.Again(err) {
		l, err = c.redial(ctx, o.Again)
	}
	if err != nil {
		c.cancel()
		return nil, err
	}
	c.setLink(l)
	c.done.Go(func() { c.serve(l) })
	c.done.Go(c.beatLoop)
	return c, nil
}

func newID() (id layout.ID16) {
	_, _ = crand.Read(id[:])
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
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
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
	if !stop() {
		err = fmt.Errorf("%w: hello: %w", ErrRegistryDown, ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.welcome.Store(r.Welcome)
	return &link{conn: conn, some: make(chan struct{}, 1), down: make(chan struct{}), pending: map[uint64]chan answer{}}, nil
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
	// Admitting a lane reads shared memory that its owner could truncate.
	debug.SetPanicOnFault(true)
	for next := first; ; {
		l := next // what is started below keeps this one
		stop := context.AfterFunc(c.ctx, func() { _ = l.conn.Close() })
		c.done.Go(l.write)
		c.read(l)
		stop()
		c.setLink(nil) // first: who hears that l is down waits for the next one
		l.fail()
		again, err := c.redial(c.ctx, func(error) bool { return true })
		if err != nil {
			return
		}
		c.setLink(again)
		c.done.Go(func() { c.resume(again) })
		next = again
	}
}

// redial connects as soon as it can, with pauses that grow. It fails when ctx ends, or
// with an error after which again does not want another attempt.
func (c *Client) redial(ctx context.Context, again func(why error) bool) (*link, error) {
	for wait := redialMin; ; wait = min(2*wait, redialMax) {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrRegistryDown, context.Cause(ctx))
		case <-time.After(wait/2 + rand.N(wait/2)):
		}
		l, err := c.connect(ctx)
		if err == nil || ctx.Err() == nil && !again(err) {
			return l, err
		}
	}
}

func (l *link) write() {
	for {
		select {
		case <-l.down:
			return
		case <-l.some:
		}
		l.mu.Lock()
		batch := l.out
		l.out = nil
		l.mu.Unlock()
		for _, m := range batch {
			err := l.conn.Send(m, nil)
			if control.Gone(err) {
				_ = l.conn.Close()
				return
			}
			if err != nil {
				if ch := l.take(m.ID); ch != nil {
					ch <- answer{err: err}
				}
			}
		}
	}
}

// take ends the wait for the answer to a request; nil if nobody waits.
func (l *link) take(id uint64) chan answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	ch := l.pending[id]
	delete(l.pending, id)
	return ch
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
			if ch := l.take(m.ID); ch != nil {
				ch <- answer{m: m, f: f}
			} else { // nobody waits any more
				l.giveBack(m, f)
			}
			continue
		}
		c.event(l, m, f)
	}
}

// giveBack refuses an answer that came too late.
func (l *link) giveBack(m *control.Message, f *os.File) {
	if f != nil {
		_ = f.Close()
	}
	if m.Op == control.OpGranted {
		l.tell(&control.Message{Op: control.OpDiscard, Lane: m.Lane, Sub: m.Sub})
	}
}

// tell queues a notice and never waits; what is queued is lost with the link, and
// resume makes up for it.
func (l *link) tell(m *control.Message) {
	l.mu.Lock()
	if !l.dead {
		l.out = append(l.out, m)
	}
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// errLost says that the connection ended before an answer came.
var errLost = fmt.Errorf("%w: connection lost", ErrRegistryDown)

// request sends m and waits for its answer. A refusal is an error of this
// package's kind; a descriptor in the answer is the caller's.
func (c *Client) request(ctx context.Context, l *link, m *control.Message) (*control.Message, *os.File, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if l == nil {
		var err error
		if l, err = c.connected(ctx); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.Op, err)
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
		if a.err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.Op, a.err)
		}
		if a.m.Error != nil {
			if a.f != nil {
				_ = a.f.Close()
			}
			return nil, nil, wrap(a.m.Error)
		}
		return a.m, a.f, nil
	case <-l.down:
		return nil, nil, fmt.Errorf("%w during %s", errLost, m.Op)
	case <-ctx.Done():
		if l.take(m.ID) == nil { // it came in this moment
			if a := <-ch; a.err == nil {
				l.giveBack(a.m, a.f)
			}
		}
		return nil, nil, fmt.Errorf("%s: %w", m.Op, ctx.Err())
	}
}

// withDeadline bounds a request whose caller has set no bound.
func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// connected waits for a connection.
func (c *Client) connected(ctx context.Context) (*link, error) {
	for {
		if c.ctx.Err() != nil {
			return nil, fmt.Errorf("client: %w", ErrClosed)
		}
		c.mu.Lock()
		l, changed := c.link, c.changed
		c.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrRegistryDown, ctx.Err())
		}
	}
}

// requestList is request for a message with a list, in as many parts as it takes,
// all on one connection.
func (c *Client) requestList(ctx context.Context, l *link, m *control.Message) (err error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	if l == nil {
		if l, err = c.connected(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.Op, err)
		}
	}
	select {
	case c.lists <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", m.Op, ctx.Err())
	}
	defer func() { <-c.lists }()
	for len(m.Joined) > control.ListPart || len(m.Lanes) > control.ListPart {
		part := &control.Message{Op: m.Op, Lane: m.Lane, Sub: m.Sub, More: true}
		n := min(len(m.Joined), control.ListPart)
		part.Joined, m.Joined = m.Joined[:n], m.Joined[n:]
		n = min(len(m.Lanes), control.ListPart)
		part.Lanes, m.Lanes = m.Lanes[:n], m.Lanes[n:]
		if _, _, err := c.request(ctx, l, part); err != nil {
			_ = l.conn.Close() // a list without its end: begin again
			return err
		}
	}
	_, _, err = c.request(ctx, l, m)
	return err
}

// attach runs open, which takes several requests, again if the connection changed under
// it: a directory that was started in between knows nothing of a grant that its
// predecessor gave, and its refusal of what comes next says nothing about what was
// asked for. A question that was lost with the connection is asked again, too, for as long
// as a request may take.
func (c *Client) attach(ctx context.Context, open func() error) error {
	for start := clock.Mono(); ; {
		before := c.current()
		err := open()
		if errors.Is(err, errLost) && ctx.Err() == nil && clock.Mono()-start < int64(requestTimeout) {
			continue
		}
		if err == nil || c.current() == before || ctx.Err() != nil || errors.Is(err, ErrClosed) || errors.Is(err, ErrRegistryDown) {
			return err
		}
	}
}

// current is the connection of the moment, nil if there is none.
func (c *Client) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
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
		c.departed(m.Sub)
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
			s.onFinal(m)
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
	if l := c.current(); l != nil {
		l.tell(m)
	}
}

// handles are the publishers and subscribers of this moment.
func (c *Client) handles() (pubs []*Publisher, subs []*Subscriber) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pubs {
		pubs = append(pubs, p)
	}
	for _, s := range c.subs {
		subs = append(subs, s)
	}
	return pubs, subs
}

// resume declares every handle again after a lost connection. If the directory
// cannot take them now, the connection is given up, and the next one resumes.
func (c *Client) resume(l *link) {
	err := c.declare(l)
	if err == nil {
		return
	}
	c.log.Warn("cannot resume yet", "error", err)
	select {
	case <-l.down:
	case <-c.ctx.Done():
	case <-time.After(redialMax):
		_ = l.conn.Close()
	}
}

// declare is one attempt of resume. What the directory refuses for good ends; any
// other error says that it has to be tried again.
func (c *Client) declare(l *link) (failed error) {
	pubs, subs := c.handles()
	for _, p := range pubs {
		if p.lost.Load() {
			continue
		}
		err := c.requestList(c.ctx, l, p.resumption())
		switch {
		case err == nil || !c.has(p):
		case hopeless(err):
			c.log.Error("lane lost", "topic", p.hdr.Topic, "lane", p.hdr.Epoch, "error", err)
			p.lost.Store(true)
		case stalled(err):
			return err
		default:
			failed = err
		}
	}
	for _, s := range subs {
		if s.lost.Load() {
			continue
		}
		m, again := s.resumption()
		err := c.requestList(c.ctx, l, m)
		switch {
		case err == nil:
			for _, e := range again {
				l.tell(&control.Message{Op: control.OpRejoin, Sub: s.hdr.Epoch, Lane: e})
			}
		case !c.hasSub(s):
		case hopeless(err):
			c.log.Error("subscriber lost", "pattern", s.hdr.Pattern, "error", err)
			s.lost.Store(true)
			s.post(admission{lost: fmt.Errorf("%w: the registry gave this subscriber of %s up: %w", ErrClosed, s.hdr.Pattern, err)})
		case stalled(err):
			return err
		default:
			failed = err
		}
	}
	return failed
}

// hopeless reports whether asking again for the same is of no use.
func hopeless(err error) bool { return errors.Is(err, ErrNotFound) || errors.Is(err, ErrPermission) }

// stalled reports whether the next request would fare no better.
func stalled(err error) bool {
	return errors.Is(err, ErrRegistryDown) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (c *Client) has(p *Publisher) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pubs[p.hdr.Epoch] == p
}

func (c *Client) hasSub(s *Subscriber) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs[s.hdr.Epoch] == s
}

// departed counts the subscribers that left. Their mappings and descriptors wait
// for the garbage collector, which a publisher that never allocates never brings
// about. Control goroutine.
func (c *Client) departed(sub layout.ID16) {
	if c.gone[sub] = struct{}{}; len(c.gone) >= collectAfter {
		clear(c.gone)
		runtime.GC()
	}
}

// beatLoop stores the beat of every handle once a second and keeps the cycle
// counter's calibration.
func (c *Client) beatLoop() {
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
		pubs, subs := c.handles()
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
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	_, subs := c.handles()
	for _, s := range subs {
		errs = append(errs, s.close(ctx))
	}
	c.cancel()
	c.done.Wait()
	return errors.Join(errs...)
}
