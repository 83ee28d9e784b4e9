package shm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
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

type joinRequest struct {
	sub  layout.ID16
	join control.Join
	f    *os.File
}

// onJoin honours or wakes one more subscriber, or keeps the request until the
// lane is open. A lane that is closed gives no answer: its end is the answer.
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
	early := p == nil && c.opening > 0
	if early {
		c.early[m.Lane] = append(c.early[m.Lane], req)
	}
	c.mu.Unlock()
	switch {
	case early:
	case p == nil:
		req.close()
	default:
		if j, err := c.admitJoin(p, req); !errors.Is(err, ErrClosed) {
			l.tell(&control.Message{Op: control.OpJoined, Lane: m.Lane, Sub: m.Sub, Joined: []control.Joined{j}})
		}
	}
}

func (j joinRequest) close() {
	if j.f != nil {
		_ = j.f.Close()
	}
}

// admitJoin is idempotent for a subscriber that is joined already, unless it
// was evicted and joins again. With an error the answer is a refusal that says so.
func (c *Client) admitJoin(p *Publisher, req joinRequest) (control.Joined, error) {
	fail := func(err error) (control.Joined, error) { return control.Joined{Sub: req.sub, Err: err.Error()}, err }
	old := p.set.Load().bySub(req.sub)
	if old != nil && !req.join.Again && (old.held() || req.join.Mode != layout.Lossless) {
		req.close()
		return old.joined(), nil
	}
	pr, err := c.peerOf(req.sub, req.f)
	if err != nil {
		return fail(err)
	}
	if uint64(len(pr.mem)) < layout.SlotOff(p.hdr.Lane+1) {
		return fail(fmt.Errorf("%w: its cursor file has no slot for lane %d", ErrInvalid, p.hdr.Lane))
	}
	if old != nil {
		p.remove(old)
	}
	mb, err := p.join(pr, req.join.Mode == layout.Lossless, req.join.Park)
	if err != nil {
		return fail(err)
	}
	return mb.joined(), nil
}

// joined is the answer to the join that made m.
func (m *member) joined() control.Joined {
	return control.Joined{Sub: m.peer.epoch, Pos: m.join, Ticket: m.ticket, Notice: m.notice}
}

// resumption declares the lane and its members to a directory that may know less.
func (p *Publisher) resumption() *control.Message {
	m := &control.Message{Op: control.OpResPub, Lane: p.hdr.Epoch}
	set := p.set.Load()
	for _, mb := range set.lossless {
		m.Joined = append(m.Joined, mb.joined())
	}
	for _, mb := range set.sleepers {
		if !mb.lossless {
			m.Joined = append(m.Joined, mb.joined())
		}
	}
	return m
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
	p := &peer{epoch: sub, mem: m.Bytes(), file: f, keep: h.Keep}
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
	var p *Publisher
	err := c.attach(ctx, func() (err error) {
		p, err = c.publish(ctx, name, o)
		return err
	})
	return p, err
}

func (c *Client) publish(ctx context.Context, name string, o PublisherOptions) (*Publisher, error) {
	c.mu.Lock()
	c.opening++
	c.mu.Unlock()
	defer c.opened()
	m, f, err := c.requestFree(ctx, func() *control.Message {
		open := &control.OpenPub{Topic: name, Source: o.Source, Ring: o.RingBytes, MaxMsg: o.MaxMessageBytes, Timestamp: layout.Timestamp(o.Timestamps)}
		if o.mirror != nil {
			open.Mirror = &o.mirror.Mirror
		}
		return &control.Message{Op: control.OpOpenPub, OpenPub: open}
	})
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

// requestFree asks for what may still have an owner, again for as long as a
// predecessor takes to die: the kernel frees its lock a few ms after its socket.
func (c *Client) requestFree(ctx context.Context, m func() *control.Message) (a *control.Message, f *os.File, err error) {
	for wait := busyMin; ; wait *= 2 {
		a, f, err = c.request(ctx, nil, m())
		if !errors.Is(err, ErrSourceBusy) && !errors.Is(err, ErrExists) || wait > busyMax {
			return a, f, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// opened ends a Publisher call. When the last is over, no join is early any more:
// what is left belongs to lanes that never came to be.
func (c *Client) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opening--; c.opening > 0 {
		return
	}
	for _, joins := range c.early {
		for _, j := range joins {
			j.close()
		}
	}
	clear(c.early)
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
			j.close()
		}
	}()
	g := m.LaneGrant
	if g == nil || f == nil {
		return nil, errNoDescriptor
	}
	h := layout.LaneHeader{
		Geometry: layout.Geometry{Ring: g.Ring, MaxMsg: g.MaxMsg, Step: g.Step},
		TopicID:  topic.ID(g.Topic), Lane: g.Number, Epoch: m.Lane, OriginNode: g.Node, UID: g.UID, GID: g.GID,
		BootID: g.Boot, PrevEpoch: g.PrevEpoch, FirstSeq: g.FirstSeq,
		Timestamp: layout.Timestamp(o.Timestamps), OriginEpoch: m.Lane, Topic: g.Topic, Source: g.Source,
	}
	h.FirstPos = h.FirstPosition(g.Number)
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
	// Only now that nothing slow is left: who is older, a lane or a subscriber, says
	// after a restart of the directory whether the one has to read all of the other.
	h.CreatedWall, h.CreatedMono = clock.Wall(), clock.Mono()
	h.OriginWall, h.OriginMono = h.CreatedWall, h.CreatedMono
	if o.mirror != nil {
		mirrored(&h, o.mirror)
		o.mirror.found = g.Found
	}
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
		answer, _ := c.admitJoin(p, j)
		ready.Joined = append(ready.Joined, answer)
	}
	if err := c.requestList(ctx, nil, ready); err != nil {
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

// storeBeat stores a clock pair: this process lives, and this is how its
// monotonic clock maps to the wall. It is information, never proof.
func (p *Publisher) storeBeat() {
	p.control.Lock()
	defer p.control.Unlock()
	if p.mapping != nil {
		shielded(p.mem, func() { p.beat.Store([]uint64{uint64(clock.Mono()), uint64(clock.Wall())}) })
	}
}

// Close ends the lane: an END frame if there is room, so that subscribers know
// that it is complete, and word to the directory. Publishing goroutine only.
// What was published stays readable for the bus's grace time.
func (p *Publisher) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	if p.dead == nil {
		p.end()
	}
	whole := p.dead == nil
	p.dead, p.room, p.limit = ErrClosed, 0, 0
	if p.client == nil {
		return nil
	}
	p.release()
	_, _, err := p.client.request(context.Background(), nil, &control.Message{Op: control.OpClosePub, Lane: p.hdr.Epoch})
	// A registry that is down, or does not know yet whose the lane is, finds it
	// closed; one that saw the broken lane unlocked has removed it already.
	if err != nil && whole && !errors.Is(err, ErrRegistryDown) && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("close %s: %w", p.hdr.Topic, err)
	}
	return nil
}

// end writes the END frame and the last words of the header.
func (p *Publisher) end() {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		var err error
		p.caught(recover(), &err) // truncated: there is nothing left to end
	}()
	p.endClaim()
	if p.makeRoom(0, false) == nil {
		p.clearNext(p.pos + layout.FrameHeaderBytes)
		f := p.ring.header(p.pos)
		f.meta, f.seq, f.time = 0, p.seq, 0
		seqlock.StoreRelease(&f.commit, layout.Commit(p.pos, layout.KindEnd)) // SYNC commit/poll
	}
	p.storeTail() // not past END: a late joiner starts before it
	p.wake()
	if p.dead == nil {
		atomic.StoreUint32(word32(p.mem, layout.OffState), uint32(layout.LaneClosed))
	}
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
