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
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/seqlock"
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

type joinRequest struct {
	sub  layout.ID16
	join control.Join
	f    *os.File
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

// onJoin honours or wakes one more subscriber, or keeps the request until the
// lane is open.
func (c *Client) onJoin(l *link, m *control.Message, f *os.File) {
	if m.Join == nil {
		if f != nil {
			_ = f.Close()
		}
		return
	}
	req := joinRequest{sub: m.Sub, join: *m.Join, f: f}
	c.mu.Lock()
	p := c.pubs[m.Lane]
	if p == nil {
		c.early[m.Lane] = append(c.early[m.Lane], req)
	}
	c.mu.Unlock()
	if p != nil {
		l.tell(&control.Message{Op: control.OpJoined, Lane: m.Lane, Sub: m.Sub, Joined: []control.Joined{c.admitJoin(p, req)}})
	}
}

// admitJoin is idempotent for a subscriber that is joined already, unless it
// was evicted and joins again.
func (c *Client) admitJoin(p *Publisher, req joinRequest) control.Joined {
	fail := func(err error) control.Joined { return control.Joined{Sub: req.sub, Err: err.Error()} }
	old := p.set.Load().bySub(req.sub)
	if old != nil && !req.join.Again && (old.held() || req.join.Mode != layout.Lossless) {
		if req.f != nil {
			_ = req.f.Close()
		}
		return control.Joined{Sub: req.sub, Pos: old.join, Ticket: old.ticket, Notice: old.notice}
	}
	pr, err := c.peerOf(req.sub, req.f)
	if err != nil {
		return fail(err)
	}
	if uint64(len(pr.mem)) < layout.OffSlots+uint64(p.hdr.Lane+1)*layout.SlotBytes {
		return fail(fmt.Errorf("%w: its cursor file has no slot for lane %d", ErrInvalid, p.hdr.Lane))
	}
	if old != nil {
		p.remove(old)
	}
	mb, err := p.join(pr, req.join.Mode == layout.Lossless, req.join.Park)
	if err != nil {
		return fail(err)
	}
	return control.Joined{Sub: req.sub, Pos: mb.join, Ticket: mb.ticket, Notice: mb.notice}
}

// peerOf maps a subscriber's cursor file, once per process. It takes over f.
func (c *Client) peerOf(sub layout.ID16, f *os.File) (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.peers[sub]; ok {
		if p := w.Value(); p != nil {
			if f != nil {
				_ = f.Close()
			}
			return p, nil
		}
	}
	if f == nil {
		return nil, errNoDescriptor
	}
	h, err := segment.ReadCursor(f)
	if err == nil && h.Epoch != sub {
		err = fmt.Errorf("%w: cursor file of %s where %s is meant", layout.ErrMagic, h.Epoch, sub)
	}
	var m *segment.Mapping
	if err == nil {
		m, err = segment.Map(f, false)
	}
	if err == nil && uint64(len(m.Bytes())) != layout.CursorFileBytes(h.Slots) {
		_ = m.Close()
		err = layout.ErrTruncated
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	p := &peer{epoch: sub, mem: m.Bytes(), file: f}
	runtime.AddCleanup(p, func(m *segment.Mapping) {
		_ = m.Close()
		c.mu.Lock()
		if w, ok := c.peers[sub]; ok && w.Value() == nil {
			delete(c.peers, sub)
		}
		c.mu.Unlock()
	}, m)
	c.peers[sub] = weak.Make(p)
	return p, nil
}

var errNoDescriptor = errors.New("no file descriptor came with the message: raise the limit on open files (ulimit -n)")

// Publisher opens a lane on a topic and returns its writing end. Every lossless
// subscriber of that moment receives from its first frame on. Errors:
// ErrInvalid, ErrPermission, ErrSourceBusy, ErrQuota, ErrNoSpace, ErrRegistryDown.
func (c *Client) Publisher(ctx context.Context, name string, opts *PublisherOptions) (*Publisher, error) {
	var o PublisherOptions
	if opts != nil {
		o = *opts
	}
	if err := topic.Check(name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Source == "" {
		o.Source = fmt.Sprintf("%s-%d", c.hello.Program, os.Getpid())
	}
	var m *control.Message
	var f *os.File
	var err error
	for wait := busyMin; ; wait *= 2 {
		m, f, err = c.request(ctx, nil, &control.Message{Op: control.OpOpenPub, OpenPub: &control.OpenPub{
			Topic: name, Source: o.Source, Ring: o.RingBytes, MaxMsg: o.MaxMessageBytes, Timestamp: layout.Timestamp(o.Timestamps)}})
		if !errors.Is(err, ErrSourceBusy) || wait > busyMax {
			break
		}
		select { // the predecessor may be dying at this moment: the kernel frees its lock a few ms later
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	if err != nil {
		return nil, fmt.Errorf("publish on %s: %w", name, err)
	}
	p, err := c.openLane(ctx, m, f, o)
	if err != nil {
		c.tell(&control.Message{Op: control.OpDiscard, Lane: m.Lane})
		return nil, fmt.Errorf("publish on %s: %w", name, err)
	}
	return p, nil
}

// openLane fills a granted lane file and declares it ready. The lock is taken
// first and the ready word stored last: whatever kills us in between leaves a
// file that is plainly unfinished and plainly unowned.
func (c *Client) openLane(ctx context.Context, m *control.Message, f *os.File, o PublisherOptions) (*Publisher, error) {
	defer func() {
		c.mu.Lock()
		late := c.early[m.Lane]
		delete(c.early, m.Lane)
		c.mu.Unlock()
		for _, j := range late {
			if j.f != nil {
				_ = j.f.Close()
			}
		}
	}()
	g := m.LaneGrant
	if g == nil || f == nil {
		return nil, errNoDescriptor
	}
	h := layout.LaneHeader{
		Geometry: layout.Geometry{Ring: g.Ring, MaxMsg: g.MaxMsg, Step: g.Step},
		TopicID:  topic.ID(g.Topic), Lane: g.Number, Epoch: m.Lane, OriginNode: g.Node, UID: g.UID, GID: g.GID,
		CreatedWall: clock.Wall(), CreatedMono: clock.Mono(), BootID: g.Boot, PrevEpoch: g.PrevEpoch, FirstPos: g.Ring, FirstSeq: g.FirstSeq,
		Timestamp: layout.Timestamp(o.Timestamps), OriginEpoch: m.Lane, Topic: g.Topic, Source: g.Source,
	}
	h.OriginWall, h.OriginMono = h.CreatedWall, h.CreatedMono
	h.SourceID = sourceID(g.Source)
	if err := h.Check(); err != nil {
		_ = f.Close()
		return nil, err
	}
	mp, err := own(f, h.FileBytes(), "pub")
	if err != nil {
		return nil, err
	}
	mem := mp.Bytes()
	h.Encode(mem)
	p, err := newPublisher(mem, h, o, policyOf(g.Policy))
	if err != nil {
		_ = mp.Close()
		return nil, err
	}
	p.mapping, p.client = mp, c
	p.onEvict = func(mb *member, why evictReason) {
		// Never block the publishing goroutine on the directory.
		go c.tell(&control.Message{Op: control.OpEvicted, Lane: h.Epoch, Sub: mb.peer.epoch, Reason: why.String()})
	}
	p.storeBeat()
	atomic.StoreUint32(word32(mem, layout.OffPID), uint32(os.Getpid()))
	atomic.StoreUint64(word64(mem, layout.OffStartTicks), startTicks())
	atomic.StoreUint32(word32(mem, layout.OffState), uint32(layout.LaneActive))
	if failpoint.Enabled {
		failpoint.Here("open.before_ready")
	}
	seqlock.StoreRelease(word64(mem, layout.OffReady), layout.Ready(layout.LaneMagic, h.Epoch)) // SYNC ready/attach
	if failpoint.Enabled {
		failpoint.Here("open.after_ready")
	}
	c.mu.Lock()
	joins := c.early[h.Epoch]
	delete(c.early, h.Epoch)
	c.pubs[h.Epoch] = p
	c.mu.Unlock()
	ready := &control.Message{Op: control.OpReadyPub, Lane: h.Epoch}
	for _, j := range joins {
		ready.Joined = append(ready.Joined, c.admitJoin(p, j))
	}
	if _, _, err := c.request(ctx, nil, ready); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// own locks, sizes and maps a granted file, and closes the descriptor: the lock
// then lives as long as the mapping.
func own(f *os.File, bytes uint64, who string) (*segment.Mapping, error) {
	defer func() { _ = f.Close() }()
	if err := segment.Lock(f); err != nil {
		return nil, err
	}
	if failpoint.Enabled {
		failpoint.Here(who + ".locked")
	}
	if err := segment.Allocate(f, bytes); err != nil {
		return nil, err
	}
	if failpoint.Enabled {
		failpoint.Here(who + ".allocated")
	}
	return segment.Map(f, true)
}

func sourceID(name string) (id layout.ID16) {
	v := topic.ID(name)
	for i := range 8 {
		id[i] = byte(v >> (8 * i))
	}
	return id
}

func policyOf(p control.Policy) Policy {
	o := Policy{Timeout: time.Duration(p.Ns)}
	switch p.Kind {
	case "evict":
		o.Kind = PolicyEvict
	case "fail":
		o.Kind = PolicyFail
	default:
		if p.Ns == 0 {
			o.Timeout = -1
		}
	}
	return o
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

// Subscriber attaches to a topic, or to every topic that matches a pattern
// (* one token, > the rest), now and later. When it returns, every lane of that
// moment is followed, except of publishers that are stopped: theirs come when
// they answer. Errors: ErrInvalid, ErrPermission, ErrQuota, ErrNoSpace, ErrRegistryDown.
func (c *Client) Subscriber(ctx context.Context, pattern string, opts *SubscriberOptions) (*Subscriber, error) {
	var o SubscriberOptions
	if opts != nil {
		o = *opts
	}
	if err := topic.CheckPattern(pattern); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("%s-%d", c.hello.Program, os.Getpid())
	}
	park := o.Idle == IdlePark
	m, f, err := c.request(ctx, nil, &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{
		Topic: pattern, Name: o.Name, Mode: o.Mode.layout(), Park: park, Past: o.Start.kind != startLatest}})
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	s, err := c.openCursors(ctx, m, f, pattern, o)
	if err != nil {
		c.tell(&control.Message{Op: control.OpDiscard, Sub: m.Sub})
		return nil, fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	return s, nil
}

func (c *Client) openCursors(ctx context.Context, m *control.Message, f *os.File, pattern string, o SubscriberOptions) (*Subscriber, error) {
	g := m.SubGrant
	if g == nil || f == nil {
		return nil, errNoDescriptor
	}
	h := layout.CursorHeader{Epoch: m.Sub, UID: g.UID, GID: g.GID, Mode: o.Mode.layout(), Park: o.Idle == IdlePark, Slots: g.Slots,
		CreatedWall: clock.Wall(), CreatedMono: clock.Mono(), BootID: g.Boot, Name: o.Name, Pattern: pattern}
	if g.Slots == 0 || g.Slots > layout.MaxLanes {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %d slots", layout.ErrGeometry, g.Slots)
	}
	registerBarrier()
	mp, err := own(f, layout.CursorFileBytes(g.Slots), "sub")
	if err != nil {
		return nil, err
	}
	mem := mp.Bytes()
	h.Encode(mem)
	s, err := newSubscriber(mem, h, o)
	if err != nil {
		_ = mp.Close()
		return nil, err
	}
	s.mapping, s.client = mp, c
	s.storeBeat()
	seqlock.StoreRelease(word64(mem, layout.OffReady), layout.Ready(layout.CursorMagic, h.Epoch)) // SYNC ready/attach
	if failpoint.Enabled {
		failpoint.Here("sub.after_ready")
	}
	c.mu.Lock()
	c.subs[h.Epoch] = s
	c.mu.Unlock()
	if _, _, err := c.request(ctx, nil, &control.Message{Op: control.OpReadySub, Sub: h.Epoch}); err != nil {
		_ = s.release()
		return nil, err
	}
	return s, nil
}

// onLane maps a lane and passes it to the polling goroutine. Control goroutine;
// f stays the caller's.
func (s *Subscriber) onLane(m *control.Message, f *os.File) {
	var joined *joinedAgain
	if len(m.Joined) == 1 && m.Joined[0].Ticket != 0 {
		j := m.Joined[0]
		joined = &joinedAgain{j.Pos, j.Ticket, j.Notice}
	}
	s.control.Lock()
	known := s.lanesHeld[m.Lane] != nil
	if joined != nil {
		delete(s.rejoining, m.Lane)
	}
	s.control.Unlock()
	if known {
		if joined != nil {
			s.post(admission{epoch: m.Lane, joined: joined})
		}
		return
	}
	r, err := s.openReader(m, f, joined)
	if err != nil {
		s.client.log.Warn("lane not followed", "lane", m.Lane, "error", err)
		s.post(admission{err: &LaneError{Reason: "lane " + m.Lane.String() + " could not be attached: " + err.Error(), Err: ErrFault}})
		s.client.tell(&control.Message{Op: control.OpDrained, Sub: s.hdr.Epoch, Lane: m.Lane})
		return
	}
	s.control.Lock()
	s.lanesHeld[m.Lane] = &held{number: r.hdr.Lane}
	s.control.Unlock()
	s.names.Store(r.topic, r.hdr.Topic)
	s.names.Store(r.source, r.hdr.Source)
	s.post(admission{lane: r})
	if m.Final != nil {
		s.post(admission{epoch: m.Lane, final: &finalNews{m.Final.Pos, m.Final.Seq}})
	}
}

func (s *Subscriber) openReader(m *control.Message, f *os.File, joined *joinedAgain) (r *reader, err error) {
	if f == nil {
		return nil, errNoDescriptor
	}
	h, err := segment.ReadLane(f)
	if err != nil && !errors.Is(err, segment.ErrUnlinked) {
		return nil, err
	}
	if h.Epoch != m.Lane {
		return nil, fmt.Errorf("%w: lane %s where %s is meant", layout.ErrMagic, h.Epoch, m.Lane)
	}
	if h.Lane >= s.hdr.Slots {
		return nil, fmt.Errorf("%w: lane number %d, the cursor file has %d slots", layout.ErrGeometry, h.Lane, s.hdr.Slots)
	}
	mp, err := segment.Map(f, false)
	if err != nil {
		return nil, err
	}
	defer func() {
		if v := recover(); v != nil {
			if addr, ok := faultAddr(v); !ok || !addrWithin(addr, mp.Bytes()) {
				panic(v)
			}
			r, err = nil, layout.ErrTruncated
		}
		if err != nil {
			_ = mp.Close()
		}
	}()
	if uint64(len(mp.Bytes())) != h.FileBytes() {
		return nil, layout.ErrTruncated
	}
	if r, err = newReader(mp.Bytes(), h); err != nil {
		return nil, err
	}
	r.mapping = mp
	r.bindSlot(s.mem)
	if joined != nil && s.opts.Mode == Lossless {
		r.lossless = true
		r.hold(joined.join, joined.ticket, joined.notice)
	}
	if m.LaneInfo != nil {
		r.neverEvicts = policyOf(m.LaneInfo.Policy).Kind != PolicyEvict
	}
	if m.LaneInfo == nil || !m.LaneInfo.New {
		switch s.opts.Start.kind {
		case startLatest:
			r.startLatest()
		case startOldest:
			r.startOldest()
		case startSeq:
			r.startAt(s.opts.Start.seq)
		}
	}
	r.openSlot()
	return r, nil
}

// rejoin asks for a lane to be held again after an eviction.
func (c *Client) rejoin(s *Subscriber, lane layout.ID16) {
	s.control.Lock()
	s.rejoining[lane] = true
	s.control.Unlock()
	c.tell(&control.Message{Op: control.OpRejoin, Sub: s.hdr.Epoch, Lane: lane})
}

// drained tells the directory that a lane is read to its end, or given up.
func (c *Client) drained(s *Subscriber, r *reader) {
	s.control.Lock()
	delete(s.lanesHeld, r.hdr.Epoch)
	delete(s.rejoining, r.hdr.Epoch)
	s.control.Unlock()
	c.tell(&control.Message{Op: control.OpDrained, Sub: s.hdr.Epoch, Lane: r.hdr.Epoch})
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

// storeBeat stores a clock pair: this process lives, and this is how its
// monotonic clock maps to the wall. It is information, never proof.
func (p *Publisher) storeBeat() {
	p.control.Lock()
	defer p.control.Unlock()
	if p.mapping != nil {
		p.beat.Store([]uint64{uint64(clock.Mono()), uint64(clock.Wall())})
	}
}

func (s *Subscriber) storeBeat() {
	s.control.Lock()
	defer s.control.Unlock()
	if s.mapping != nil {
		s.beat.Store([]uint64{uint64(clock.Mono()), uint64(clock.Wall())})
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

// Close ends the lane: an END frame if there is room, so that subscribers know
// that it is complete, and word to the directory. Publishing goroutine only.
// What was published stays readable for the bus's grace time.
func (p *Publisher) Close() error {
	if p.dead != nil {
		return nil
	}
	p.endClaim()
	if p.makeRoom(0, false) == nil {
		pos := p.pos
		*p.ring.word(pos + layout.OffLen) = 0
		*p.ring.word(pos + layout.OffSeq) = p.seq
		*p.ring.word(pos + layout.OffTime) = 0
		storeRelaxed(p.ring.word(pos+layout.FrameHeaderBytes), 0)
		seqlock.StoreRelease(p.ring.word(pos), layout.Commit(pos, layout.KindEnd)) // SYNC commit/poll
	}
	p.storeTail()
	if set := p.set.Load(); len(set.sleepers) != 0 {
		p.wake(set)
	}
	atomic.StoreUint32(word32(p.mem, layout.OffState), uint32(layout.LaneClosed))
	p.dead, p.room, p.limit = ErrClosed, 0, 0
	if p.client == nil {
		return nil
	}
	p.release()
	_, _, err := p.client.request(context.Background(), nil, &control.Message{Op: control.OpClosePub, Lane: p.hdr.Epoch})
	if err != nil && !errors.Is(err, ErrRegistryDown) && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("close %s: %w", p.hdr.Topic, err)
	}
	return nil // a registry that is down finds the closed lane when it comes back
}

// release unmaps the lane, and with it gives up the lock.
func (p *Publisher) release() {
	p.client.mu.Lock()
	delete(p.client.pubs, p.hdr.Epoch)
	p.client.mu.Unlock()
	p.control.Lock()
	defer p.control.Unlock()
	p.dead, p.room, p.limit = ErrClosed, 0, 0
	p.set.Store(&memberSet{})
	if p.mapping != nil {
		_ = p.mapping.Close()
		p.mapping = nil
	}
}

// Close detaches from every lane. Safe from any goroutine, but not from a
// handler; a Poll or Run under way returns ErrClosed. A second Close does nothing.
func (s *Subscriber) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.park.kick()
	// The polling goroutine raises busy with a plain store and then looks at
	// closed; the barrier makes one of the two see the other.
	membarrier()
	for atomic.LoadUint32(&s.busy) != 0 { // SYNC busy/close
		runtime.Gosched()
	}
	s.stats.Store(s.counts[:])
	for _, l := range [][]*reader{s.lanes, s.waiting} {
		for _, r := range l {
			if r.mapping != nil {
				_ = r.mapping.Close()
			}
			r.mem = nil
		}
	}
	s.lanes, s.waiting = nil, nil
	if s.client == nil {
		return nil
	}
	s.final = s.readStats()
	if err := s.release(); err != nil {
		return err
	}
	_, _, err := s.client.request(context.Background(), nil, &control.Message{Op: control.OpCloseSub, Sub: s.hdr.Epoch})
	if err != nil && !errors.Is(err, ErrRegistryDown) && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("close subscriber of %s: %w", s.hdr.Pattern, err)
	}
	return nil
}

// release unmaps the cursor file, and with it gives up the lock.
func (s *Subscriber) release() error {
	s.client.mu.Lock()
	delete(s.client.subs, s.hdr.Epoch)
	s.client.mu.Unlock()
	s.control.Lock()
	defer s.control.Unlock()
	for _, a := range s.inboxed { // lanes that were never polled
		if a.lane != nil {
			_ = a.lane.mapping.Close()
		}
	}
	s.inboxed = nil
	s.unmapped = true
	err := s.mapping.Close()
	s.mapping = nil
	return err
}

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
