package tcp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/shm"
)

// link is one configured link. Its pump goroutine reads the relays and writes to the
// connection of the moment; each connection has a reader goroutine of its own.
//
//	relays --> sender --> outbox --> connection          pump
//	                ^                   |
//	                | ACK, RESUME       v
//	                +------------- frames ---> receiver --> mirror lanes    reader
type link struct {
	f   *Forwarder
	opt LinkOptions

	relays []*shm.Relay // the pump's
	parker *shm.RelayParker
	out    outbox

	mu   sync.Mutex // guards send; the pump alone changes lanes, and others look at them
	send *sender

	kicked atomic.Bool
	parked atomic.Bool
	wake   chan struct{} // where there is no relay to kick

	connMu   sync.Mutex
	next     *session // greeted, and not yet taken over by the pump
	cur      *session
	counters linkCounters
}

type linkCounters struct {
	connects, wireIn, wireOut, writes, reads, protocolErrors, silences, replaced atomic.Uint64
	lastError                                                                    atomic.Pointer[string]
	since                                                                        atomic.Int64 // unix ns of the last change between up and down
	rtt                                                                          atomic.Int64
	in                                                                           receiverStats // of connections that have ended; guarded by connMu
}

var (
	errSilent   = errors.New("the peer is silent")
	errReplaced = errors.New("another connection took the place of this one")
	errStopping = errors.New("the forwarder ends")
)

func newLink(f *Forwarder, o LinkOptions) *link {
	return &link{f: f, opt: o, send: newSender(f.node), wake: make(chan struct{}, 1)}
}

// attach opens the relays of the link's exports.
func (l *link) attach(ctx context.Context) error {
	for i := range l.opt.Exports {
		e := &l.opt.Exports[i]
		r, err := l.f.client.Relay(ctx, e.Pattern, relayOptions(&l.f.opt, &l.opt, e))
		if err != nil {
			return fmt.Errorf("link %s to %s: export %s: %w", l.opt.name(), l.opt.Peer, e.Pattern, err)
		}
		l.relays = append(l.relays, r)
	}
	l.parker = shm.NewRelayParker(l.relays)
	return nil
}

// kick ends the pump's sleep.
func (l *link) kick() {
	l.kicked.Store(true)
	if !l.parked.Load() {
		return
	}
	if len(l.relays) > 0 {
		l.relays[0].Kick()
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run pumps until ctx ends, inside the protection of every relay.
func (l *link) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.kick)
	defer stop()
	for {
		err := l.protected(len(l.relays), func() error { return l.pump(ctx) })
		var lane *shm.LaneError
		if ctx.Err() == nil && errors.As(err, &lane) { // everything else goes on
			l.f.log.Error("lane lost", "link", l.opt.name(), "error", err)
			continue
		}
		l.endSession(errStopping)
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
}

func (l *link) protected(n int, f func() error) error {
	if n == 0 {
		return f()
	}
	return l.relays[n-1].Protect(func() error { return l.protected(n-1, f) })
}

const idleMax = 250 * time.Millisecond

func (l *link) pump(ctx context.Context) error {
	var idleSince int64
	for ctx.Err() == nil {
		l.kicked.Store(false)
		s := l.session()
		if err := l.admit(); err != nil {
			return err
		}
		now := clock.Mono()
		l.out.reset()
		if s != nil {
			l.hear(s, now)
		}
		worked, due := l.step(now)
		if s != nil {
			s.writing.Lock() // what is taken here is not overtaken by writeControl
			s.control(now, &l.out)
			var err error
			if !l.out.empty() {
				err = l.out.write(s.c, writeDeads*l.f.opt.Dead)
			}
			s.writing.Unlock()
			if !l.out.empty() {
				worked = true
				if err == nil && len(l.out.runs) > 0 {
					err = l.torn()
				}
				if err != nil {
					s.fail(err)
				}
				l.counters.writes.Add(1)
				l.counters.wireOut.Add(uint64(l.out.bytes))
			}
			due = earlier(due, s.due())
		}
		if worked {
			idleSince = 0
			continue
		}
		if idleSince == 0 {
			idleSince = now
		}
		due = earlier(due, now+int64(idleMax))
		if spin := int64(l.f.opt.Spin); len(l.relays) > 0 && (spin < 0 || now-idleSince < spin) {
			if spin > 0 {
				due = min(due, idleSince+spin)
			}
			l.parker.Watch(due, &l.kicked)
			continue
		}
		l.park(time.Duration(max(due-now, 0)))
	}
	return nil
}

// step and torn touch the rings: a memory fault leaves them by way of the lock.
func (l *link) step(now int64) (worked bool, due int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	worked = l.send.step(now, &l.out)
	return worked, l.send.due()
}

// hear has the sender act on what its receiver has said.
func (l *link) hear(s *session, now int64) {
	s.mu.Lock()
	said := s.said
	s.said, s.spare = s.spare[:0], said
	s.mu.Unlock()
	if len(said) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range said {
		if err := l.send.take(now, &said[i]); err != nil {
			s.fail(err)
			break
		}
	}
	clear(said)
}

func (l *link) torn() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.torn()
}

// writeDeads is how many times the silence that ends a connection a write may take: a
// slow way takes a while for what one write holds, and the peer's beats tell whether it
// lives.
const writeDeads = 10

func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (l *link) park(wait time.Duration) {
	l.parked.Store(true)
	defer l.parked.Store(false)
	if l.kicked.Load() {
		return
	}
	if len(l.relays) > 0 {
		l.parker.Park(wait)
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-l.wake:
	case <-t.C:
	}
}

// admit takes on the lanes that have appeared.
func (l *link) admit() error {
	for i, r := range l.relays {
		err := l.admitLanes(r, &l.opt.Exports[i])
		var lane *shm.LaneError
		switch {
		case err == nil:
		case errors.As(err, &lane):
			l.f.log.Error("lane not followed", "link", l.opt.name(), "error", err)
		default:
			return fmt.Errorf("export %s: %w", r.Topic(), err)
		}
	}
	return nil
}

func (l *link) admitLanes(r *shm.Relay, e *Export) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lanes, err := r.Lanes()
	for _, rl := range lanes {
		if *rl.Own() != nil {
			continue
		}
		*rl.Own() = l
		if l.carries(rl.Info(), e) {
			l.send.attach(rl, e.Lossy)
		} else {
			rl.Done()
		}
	}
	return err
}

// carries reports whether an export is the one that a lane goes by: split horizon, and
// of several exports the most specific.
func (l *link) carries(i *shm.LaneInfo, e *Export) bool {
	return (!i.Mirror || l.opt.Transit) && l.opt.carriedBy(i.Topic) == e
}

// offer hands a greeted connection over. It ends the one before it.
func (l *link) offer(c net.Conn, h *hello) *session {
	s := newSession(l, c, h)
	l.connMu.Lock()
	old, cur := l.next, l.cur
	l.next = s
	l.connMu.Unlock()
	if old != nil {
		old.fail(errReplaced)
		close(old.gone)
	}
	if cur != nil {
		cur.fail(errReplaced)
	}
	l.kick()
	return s
}

// session is the connection of the moment, nil if there is none: one that has ended is
// put away, one that was offered is begun.
func (l *link) session() *session {
	l.connMu.Lock()
	s, next := l.cur, l.next
	l.connMu.Unlock()
	if s != nil && s.err.Load() != nil {
		l.endSession(*s.err.Load())
		s = nil
	}
	if s != nil || next == nil {
		return s
	}
	l.connMu.Lock()
	s, l.next = l.next, nil
	l.cur = s
	l.connMu.Unlock()
	l.out.pack = newPacker(l.opt.Compression, s.peer.decodes)
	l.mu.Lock()
	l.send.connected(s.peer.node, s.peer.maxBody)
	l.mu.Unlock()
	l.counters.connects.Add(1)
	l.counters.since.Store(time.Now().UnixNano())
	l.f.log.Info("link up", "link", l.opt.name(), "peer", s.peer.name, "address", s.c.RemoteAddr().String())
	go s.read()
	return s
}

// endSession puts the connection of the moment away.
func (l *link) endSession(why error) {
	l.connMu.Lock()
	s, next := l.cur, l.next
	if errors.Is(why, errStopping) {
		l.next = nil
	} else {
		next = nil
	}
	l.connMu.Unlock()
	if next != nil { // it was never begun
		next.fail(why)
		close(next.gone)
	}
	if s == nil {
		return
	}
	if errors.Is(why, errStopping) {
		_ = s.c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = s.c.Write(encodeReason(kindClose, 0, codeStopping, "the forwarder ends"))
	}
	s.fail(why)
	<-s.done
	l.mu.Lock()
	l.send.disconnected()
	l.mu.Unlock()
	s.in.mu.Lock()
	clear(s.in.intakes)
	total := s.in.total
	s.in.mu.Unlock()
	l.f.shared.release(s.in.receiver)
	l.connMu.Lock()
	l.cur = nil
	l.counters.in.add(&total)
	l.connMu.Unlock()
	l.counters.since.Store(time.Now().UnixNano())
	text := why.Error()
	l.counters.lastError.Store(&text)
	switch {
	case errors.Is(why, ErrProtocol):
		l.counters.protocolErrors.Add(1)
	case errors.Is(why, errSilent):
		l.counters.silences.Add(1)
	case errors.Is(why, errReplaced):
		l.counters.replaced.Add(1)
	}
	l.f.log.Warn("link down", "link", l.opt.name(), "peer", l.opt.Peer, "error", why)
	close(s.gone)
}

// dialLoop keeps a connection of a link that this side dials.
func (l *link) dialLoop(ctx context.Context) {
	var pause backoff
	for attempt := 1; ctx.Err() == nil; attempt++ {
		if h := l.f.opt.dialHook; h != nil {
			h(l.opt.name(), attempt)
		}
		c, h, err := l.f.dial(ctx, l)
		if err != nil {
			text := err.Error()
			if last := l.counters.lastError.Swap(&text); last == nil || *last != text {
				l.f.log.Warn("link cannot be dialled", "link", l.opt.name(), "peer", l.opt.Peer, "address", l.opt.Address, "error", err)
			}
		} else {
			start := time.Now()
			s := l.offer(c, h)
			select {
			case <-s.gone:
			case <-ctx.Done():
				return
			}
			pause.worked(time.Since(start))
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause.next(rand.Float64())):
		}
	}
}
