package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/seqlock"
)

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
	var s *Subscriber
	err := c.attach(ctx, func() (err error) {
		s, err = c.subscribe(ctx, pattern, o)
		return err
	})
	return s, err
}

func (c *Client) subscribe(ctx context.Context, pattern string, o SubscriberOptions) (*Subscriber, error) {
	park := o.Idle == IdlePark
	m, f, err := c.requestFree(ctx, func() *control.Message {
		return &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{
			Topic: pattern, Name: o.Name, Mode: o.Mode.layout(), Park: park, Past: o.Start.kind != startLatest, Keep: int64(o.Keep)}}
	})
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
		BootID: g.Boot, Keep: int64(o.Keep), Name: o.Name, Pattern: pattern}
	if g.Resumed {
		return c.reopenCursors(ctx, f, h, o)
	}
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
	h.CreatedWall, h.CreatedMono = clock.Wall(), clock.Mono() // as in openLane
	h.Encode(mem)
	s, err := newSubscriber(mem, h, o)
	if err != nil {
		_ = mp.Close()
		return nil, err
	}
	return c.subscribed(ctx, s, mp)
}

// subscribed declares a subscriber ready whose cursor file has its header.
func (c *Client) subscribed(ctx context.Context, s *Subscriber, mp *segment.Mapping) (*Subscriber, error) {
	mem, h := mp.Bytes(), s.hdr
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
	s.control.Lock()
	s.back = false
	s.control.Unlock()
	return s, nil
}

// onLane is the directory's word of a lane: one to follow, or the answer to a
// rejoin. Control goroutine; f stays the caller's.
func (s *Subscriber) onLane(m *control.Message, f *os.File) {
	var joined *control.Joined
	var refused error
	if len(m.Joined) == 1 {
		if j := &m.Joined[0]; j.Ticket != 0 {
			joined = j
		} else {
			refused = refusal(m.Joined)
		}
	}
	s.control.Lock()
	_, known := s.lanesHeld[m.Lane]
	left := s.left.has(m.Lane)
	if len(m.Joined) == 1 {
		delete(s.rejoining, m.Lane)
	}
	s.control.Unlock()
	switch {
	case left: // the directory missed that we are done with it
		s.client.tell(&control.Message{Op: control.OpDrained, Sub: s.hdr.Epoch, Lane: m.Lane})
	case !known:
		s.postAll(s.admissions(m, f, joined))
	case joined != nil:
		s.post(admission{epoch: m.Lane, joined: joined})
	case refused != nil:
		s.post(admission{epoch: m.Lane, refused: refused})
	}
}

// onFinal is the directory's word where a lane ends. Control goroutine.
func (s *Subscriber) onFinal(m *control.Message) {
	s.control.Lock()
	_, known := s.lanesHeld[m.Lane]
	s.control.Unlock()
	if !known {
		s.client.tell(&control.Message{Op: control.OpDrained, Sub: s.hdr.Epoch, Lane: m.Lane})
		return
	}
	s.post(admission{epoch: m.Lane, final: m.Final})
}

// admissions maps a lane, finds the place to start at, and prepares the news of
// it. It may take long, and holds no lock: a Poll goes on meanwhile.
func (s *Subscriber) admissions(m *control.Message, f *os.File, joined *control.Joined) []admission {
	r, err := s.openReader(m, f, joined)
	if err == nil && s.opts.Mode == Lossless && joined == nil && m.Final == nil {
		_ = r.mapping.Close()
		err = refusal(m.Joined)
	}
	if err != nil {
		s.client.log.Warn("lane not followed", "lane", m.Lane, "error", err)
		s.client.drained(s, m.Lane)
		return []admission{{err: &LaneError{Reason: "lane " + m.Lane.String() + " is not followed", Err: err}}}
	}
	s.names.Store(r.topic, r.hdr.Topic)
	s.names.Store(r.source, r.hdr.Source)
	news := []admission{{lane: r}}
	if m.Final != nil {
		news = append(news, admission{epoch: m.Lane, final: m.Final})
	}
	return news
}

// refusal is why a publisher does not hold data for a lossless subscriber.
func refusal(j []control.Joined) error {
	if len(j) == 1 && j[0].Err != "" {
		return fmt.Errorf("%w: the publisher refused: %s", ErrQuota, j[0].Err)
	}
	return fmt.Errorf("%w: the publisher does not hold it for a lossless subscriber", ErrInvalid)
}

func (s *Subscriber) openReader(m *control.Message, f *os.File, joined *control.Joined) (r *reader, err error) {
	if f == nil {
		return nil, errNoDescriptor
	}
	h, err := segment.ReadLane(f)
	if err != nil {
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
		r.hold(joined)
	}
	if m.LaneInfo != nil {
		r.neverEvicts = policyOf(m.LaneInfo.Policy).Kind != PolicyEvict
	}
	defer func() { r.acknowledge(s.acked) }()
	if s.resumed && r.resume(s.opts.Mode == Lossless, m.LaneInfo != nil && m.LaneInfo.New) {
		return r, nil
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
func (c *Client) drained(s *Subscriber, lane layout.ID16) {
	s.control.Lock()
	delete(s.lanesHeld, lane)
	delete(s.rejoining, lane)
	s.left.add(lane)
	s.control.Unlock()
	c.tell(&control.Message{Op: control.OpDrained, Sub: s.hdr.Epoch, Lane: lane})
}

// resumption declares the subscriber and its lanes to a directory that may know
// less, and says which lanes wait to be joined again.
func (s *Subscriber) resumption() (m *control.Message, again []layout.ID16) {
	m = &control.Message{Op: control.OpResSub, Sub: s.hdr.Epoch}
	s.control.Lock()
	defer s.control.Unlock()
	m.Back = s.back
	for e, number := range s.lanesHeld {
		m.Lanes = append(m.Lanes, control.HeldLane{Lane: e, Number: number})
	}
	for e := range s.rejoining {
		again = append(again, e)
	}
	return m, again
}

// leftMost bounds how many lanes a subscriber remembers that it is done with. An
// older one ended: its slot tells.
const leftMost = 4096

// leftLanes are the lanes that a subscriber is done with: word of it may be lost
// with a connection, and none may be read twice.
type leftLanes struct {
	set  map[layout.ID16]struct{}
	ring []layout.ID16 // in order of leaving, from next on
	next int
}

func (l *leftLanes) has(lane layout.ID16) bool {
	_, ok := l.set[lane]
	return ok
}

func (l *leftLanes) add(lane layout.ID16) {
	if l.set == nil {
		l.set = map[layout.ID16]struct{}{}
	}
	l.set[lane] = struct{}{}
	if len(l.ring) < leftMost {
		l.ring = append(l.ring, lane)
		return
	}
	delete(l.set, l.ring[l.next])
	l.ring[l.next] = lane
	l.next = (l.next + 1) % leftMost
}

func (s *Subscriber) storeBeat() {
	s.control.Lock()
	defer s.control.Unlock()
	if s.mapping != nil {
		shielded(s.mem, func() { s.beat.Store([]uint64{uint64(clock.Mono()), uint64(clock.Wall())}) })
	}
}

// Close detaches from every lane. Safe from any goroutine, but not from a
// handler; a Poll or Run under way returns ErrClosed. A second Close does nothing.
func (s *Subscriber) Close() error { return s.close(context.Background()) }

func (s *Subscriber) close(ctx context.Context) error {
	return s.closeWith(ctx, &control.Message{Op: control.OpCloseSub, Sub: s.hdr.Epoch})
}

// closeWith detaches, and then tells the directory by m.
func (s *Subscriber) closeWith(ctx context.Context, m *control.Message) error {
	s.control.Lock()
	again := s.closed.Swap(true)
	s.inbox.Store(true) // for good: admit answers from now on
	s.control.Unlock()
	if again {
		return nil
	}
	s.park.kick()
	// The polling goroutine raises busy with a plain store and then looks at
	// inbox; the barrier makes one of the two see the other.
	membarrier()
	for atomic.LoadUint32(&s.busy) != 0 { // SYNC busy/close
		runtime.Gosched()
	}
	if s.laid.lane != nil {
		s.gatherUp()
	}
	shielded(s.mem, func() {
		s.stats.Store(s.counts[:])
		if s.opts.Keep > 0 { // its next owner goes on from here
			for _, r := range s.lanes {
				r.storeCursor()
			}
		}
	})
	for _, l := range [][]*reader{s.lanes, s.waiting} {
		for _, r := range l {
			r.unmap()
		}
	}
	s.lanes, s.waiting = nil, nil
	if s.client == nil {
		return nil
	}
	s.final = statsOf(s.counts[:])
	if err := s.release(); err != nil {
		return err
	}
	_, _, err := s.client.request(ctx, nil, m)
	// As for a publisher, a free lock tells the same.
	if err != nil && !errors.Is(err, ErrRegistryDown) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
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
			a.lane.unmap()
		}
	}
	s.inboxed = nil
	s.unmapped = true
	err := s.mapping.Close()
	s.mapping = nil
	return err
}
