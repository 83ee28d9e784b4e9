package tcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/shm"
)

// mirrors are the mirror lanes that a forwarder writes. They outlive connections: the
// next one of the link goes on with them.
//
//	         claim: none, or another origin epoch of the source
//	(none) ------------------------------------------> opening
//	                                                      |
//	   closed by END, or by a claim of the next epoch     v      connection ends
//	(none) <----------------------------------------- fed ------------------------> kept
//	                                                      ^    claim of the link      |
//	                                                      +---------------------------+
//
// Opening and closing ask the registry, and happen on goroutines of their own.
type mirrors struct {
	client *shm.Client
	log    *slog.Logger
	ctx    context.Context
	jobs   sync.WaitGroup

	mu  sync.Mutex
	all map[layout.ID16]*mirrorLane // by origin epoch
}

// mirrorLane is one of them. The feeding receiver's goroutine has m; nobody else
// touches it while there is one.
type mirrorLane struct {
	open   open
	m      *shm.Mirror // nil while opening or closing
	link   string      // that feeds it, or did last
	feeder *receiver   // nil = kept
	since  time.Time   // kept
}

func newMirrors(ctx context.Context, c *shm.Client, log *slog.Logger) *mirrors {
	return &mirrors{client: c, log: log, ctx: ctx, all: map[layout.ID16]*mirrorLane{}}
}

const (
	openTimeout = 10 * time.Second
	// keptFor is how long a mirror lane stays open that nobody feeds. Its resume point
	// stays for a day after.
	keptFor = time.Hour
)

// inbound is a receiver with the lock that its goroutines take.
type inbound struct {
	mu sync.Mutex
	*receiver
	kick   func() // something was pushed
	rules  func(topic string) bool
	shared *mirrors
}

func (b *inbound) allows(topic string) bool { return b.rules(topic) }

// claim finds or opens the mirror lane of an origin epoch. Receiver's lock held.
func (b *inbound) claim(r *receiver, o *open, first uint64, ref uint32) {
	s := b.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(m *shm.Mirror, c code, text string) {
		s.jobs.Go(func() { b.answer(ref, m, c, text) })
	}
	old := s.all[o.originEpoch]
	if old != nil {
		switch {
		case old.feeder != nil && old.link != r.link:
			answer(nil, codeHave, "it comes over link "+old.link)
		case old.feeder != nil || old.m == nil:
			answer(nil, codeBusy, "it is being opened or closed")
		case old.link != r.link && int64(first-old.m.Due()) > 0:
			answer(nil, codeHave, "it came over link "+old.link+", which has more of it")
		case old.m.Lost() || old.m.MaxMessageBytes() < o.maxMsg:
			s.reopen(b, old, o, first, ref)
		default:
			old.feeder, old.link = r, r.link
			answer(old.m, 0, "")
		}
		return
	}
	for _, other := range s.all {
		if p := &other.open; p.topic == o.topic && p.source == o.source && p.originNode == o.originNode {
			if other.m == nil || other.feeder != nil { // by this connection, too: it appends there
				answer(nil, codeBusy, "the source's lane before is still fed")
				return
			}
			s.reopen(b, other, o, first, ref)
			return
		}
	}
	s.reopen(b, nil, o, first, ref)
}

// reopen closes an old mirror lane, nil = none, and opens the one that is asked for.
// The caller holds mu.
func (s *mirrors) reopen(b *inbound, old *mirrorLane, o *open, first uint64, ref uint32) {
	var last *shm.Mirror
	if old != nil {
		last, old.m = old.m, nil
		delete(s.all, old.open.originEpoch)
	}
	l := &mirrorLane{open: *o, link: b.link, feeder: b.receiver}
	s.all[o.originEpoch] = l
	s.jobs.Go(func() {
		if last != nil {
			if err := last.Close(); err != nil {
				s.log.Warn("mirror lane not closed in order", "topic", o.topic, "error", err)
			}
		}
		m, c, text := s.openLane(o, first)
		s.mu.Lock()
		if m != nil {
			l.m = m
		} else if s.all[o.originEpoch] == l {
			delete(s.all, o.originEpoch)
		}
		s.mu.Unlock()
		b.answer(ref, m, c, text)
	})
}

func (s *mirrors) openLane(o *open, first uint64) (*shm.Mirror, code, string) {
	ctx, cancel := context.WithTimeout(s.ctx, openTimeout)
	defer cancel()
	m, err := s.client.Mirror(ctx, &shm.MirrorOptions{FirstSeq: first, LaneInfo: shm.LaneInfo{
		Topic: o.topic, Source: o.source, OriginNode: o.originNode, OriginEpoch: o.originEpoch, Hops: o.hops, Via: o.via,
		OriginWall: o.wall, OriginMono: o.mono, Timestamps: shm.Timestamps(o.timestamp), MaxMessageBytes: o.maxMsg}})
	if err == nil {
		s.log.Info("mirror lane open", "topic", o.topic, "source", o.source, "origin", o.originNode.String(), "next", m.Due())
		return m, 0, ""
	}
	s.log.Warn("mirror lane not opened", "topic", o.topic, "source", o.source, "error", err)
	return nil, codeOf(err), err.Error()
}

// codeOf classes an error of the bus.
func codeOf(err error) code {
	switch {
	case errors.Is(err, shm.ErrSourceBusy):
		return codeBusy
	case errors.Is(err, shm.ErrRegistryDown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, shm.ErrClosed):
		return codeDown
	case errors.Is(err, shm.ErrNoSpace), errors.Is(err, shm.ErrQuota):
		return codeSpace
	case errors.Is(err, shm.ErrPermission), errors.Is(err, shm.ErrNotFound):
		return codeDenied
	}
	return codeInvalid
}

// answer tells the receiver, if its connection is still there.
func (b *inbound) answer(ref uint32, m *shm.Mirror, c code, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m == nil {
		b.opened(ref, nil, c, text)
	} else {
		b.opened(ref, m, 0, "")
	}
	b.kick()
}

// end closes a mirror lane whose origin has ended.
func (b *inbound) end(r *receiver, epoch layout.ID16, ref uint32) {
	m := b.detach(r, epoch)
	if m == nil {
		return
	}
	b.shared.jobs.Go(func() {
		due := m.Due()
		if err := m.Close(); err != nil {
			b.shared.log.Warn("mirror lane not closed in order", "error", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed(ref, due)
		b.kick()
	})
}

// lost gives up a mirror lane that was taken away.
func (b *inbound) lost(r *receiver, epoch layout.ID16) {
	if m := b.detach(r, epoch); m != nil {
		b.shared.jobs.Go(func() {
			_ = m.Close() // it says what we know
		})
	}
}

// detach takes a mirror lane out of the table.
func (b *inbound) detach(r *receiver, epoch layout.ID16) *shm.Mirror {
	s := b.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.all[epoch]
	if l == nil || l.feeder != r || l.m == nil {
		return nil
	}
	delete(s.all, epoch)
	return l.m
}

// release keeps the mirror lanes of a connection that has ended, whose reader is gone.
func (s *mirrors) release(r *receiver) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.all {
		if l.feeder == r {
			l.feeder, l.since = nil, time.Now()
			if l.m != nil {
				l.m.Flush()
			}
		}
	}
}

// expire closes what nobody has fed for long.
func (s *mirrors) expire(now time.Time) {
	s.mu.Lock()
	var old []*shm.Mirror
	for epoch, l := range s.all {
		if l.feeder == nil && l.m != nil && now.Sub(l.since) > keptFor {
			old = append(old, l.m)
			delete(s.all, epoch)
		}
	}
	s.mu.Unlock()
	for _, m := range old {
		if err := m.Close(); err != nil {
			s.log.Warn("mirror lane not closed in order", "error", err)
		}
	}
}

// close ends every mirror lane: the next start of the forwarder goes on after them.
// Every connection has ended.
func (s *mirrors) close() error {
	s.jobs.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for epoch, l := range s.all {
		if l.m != nil {
			if err := l.m.Close(); err != nil {
				errs = append(errs, fmt.Errorf("mirror lane of %s: %w", l.open.topic, err))
			}
		}
		delete(s.all, epoch)
	}
	return errors.Join(errs...)
}
