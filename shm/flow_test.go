package shm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// fill publishes until there is no room, for a publisher that fails at once.
func fill(t *testing.T, p *Publisher) (n uint64) {
	t.Helper()
	for {
		_, err := p.Publish(1, make([]byte, 100))
		if errors.Is(err, ErrBackpressure) {
			return n
		}
		must(t, err)
		n++
	}
}

func TestBlockGivesUpAtItsDeadline(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Timeout: 30 * time.Millisecond})
	var err error
	start := time.Now()
	for err == nil {
		start = time.Now()
		_, err = p.Publish(1, make([]byte, 1000))
	}
	var be *BackpressureError
	if !errors.As(err, &be) || be.Subscriber != s.hdr.Epoch.String() || be.Waited < 30*time.Millisecond ||
		time.Since(start) < be.Waited || be.LagBytes != p.pos-r.hdr.FirstPos {
		t.Fatalf("%v (%+v)", err, be)
	}
	before := p.Seq()
	if _, err := p.Claim(1, 1000); err != ErrBackpressure { // never waits, never allocates
		t.Fatal(err)
	}
	n := uint64(0)
	_, err = s.Poll(func(Frame) { n++ }, 1000)
	must(t, err)
	for n < before {
		_, err = s.Poll(func(Frame) { n++ }, 1000)
		must(t, err)
	}
	if seq, err := p.Publish(1, nil); err != nil || seq != before {
		t.Fatal(seq, err)
	}
	if p.counts[layout.MetricBackpressure] == 0 || p.counts[layout.MetricBackpressureNs] == 0 {
		t.Fatal("back-pressure was not counted")
	}
}

func TestBlockWithoutDeadlineWaitsForTheReader(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Timeout: -1})
	const n = 2000
	sent := make(chan error, 1)
	go func() {
		for range n {
			if _, err := p.Publish(1, make([]byte, 500)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for got := 0; got < n; {
		m, err := s.Poll(func(Frame) {}, 7)
		must(t, err)
		if got += m; got%100 < 7 {
			time.Sleep(time.Millisecond)
		}
	}
	must(t, <-sent)
}

func TestFailFailsAtOnce(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	n := fill(t, p)
	if n < 300 {
		t.Fatalf("the ring took %d frames", n)
	}
	_, err := s.Poll(func(Frame) {}, 200)
	must(t, err)
	if more := fill(t, p); more == 0 {
		t.Fatal("no room after reading")
	}
}

// A publisher that only claims never waits; it evicts all the same.
func TestClaimsEvictToo(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyEvict, Timeout: 20 * time.Millisecond})
	refused := 0
	for p.Seq() < 5000 {
		c, err := p.Claim(1, 100)
		if err == ErrBackpressure {
			refused++
			seqlock.Pause(100)
			continue
		}
		must(t, err)
		c.Commit()
	}
	if refused == 0 || p.counts[layout.MetricEvictions] != 1 {
		t.Fatalf("%d refusals, %d evictions", refused, p.counts[layout.MetricEvictions])
	}
	_, err := s.Poll(func(Frame) {}, 0)
	var ev *EvictedError
	if !errors.As(err, &ev) || ev.NextSeq != 0 {
		t.Fatal(err)
	}
}

func TestStalledReaderIsEvictedRejoinsAndKnowsItsGap(t *testing.T) {
	watch(t, time.Minute)
	d, pc := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyEvict, Timeout: 300 * time.Millisecond}})
	p := publisher(t, pc, "a", PublisherOptions{})
	s := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: Lossless})
	c := newTally()
	publish := func(n int) {
		t.Helper()
		must(t, send(p, n))
	}
	evictions := 0
	catchUp := func() {
		t.Helper()
		idle := s.Idler()
		for {
			n, err := s.Poll(c.frame, 0)
			var gap *GapError
			var ev *EvictedError
			switch {
			case errors.As(err, &gap):
				if gap.Cause != CauseEvicted {
					t.Fatal(err)
				}
				c.gap(gap)
			case errors.As(err, &ev):
				if want := c.next[ev.Source]; ev.NextSeq != want {
					t.Fatalf("%v, want %d", ev, want)
				}
				evictions++
			case err != nil:
				t.Fatal(err)
			}
			if c.err != nil {
				t.Fatal(c.err)
			}
			if received, missed := c.total(); received+missed == p.Seq() && len(s.lanes) == 1 && s.lanes[0].held {
				return
			}
			idle.Idle(n)
		}
	}
	for round := 1; round <= 5; round++ { // notices are used again
		publish(100)
		catchUp()
		publish(5000) // stalls, evicts, laps
		// The subscriber has to rejoin and see what comes next to know the gap.
		stop, done := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				case <-time.After(time.Millisecond):
					if err := send(p, 1); err != nil {
						done <- err
						return
					}
				}
			}
		}()
		for idle := s.Idler(); ; {
			n, err := s.Poll(c.frame, 0)
			var gap *GapError
			var ev *EvictedError
			if errors.As(err, &gap) {
				c.gap(gap)
				break
			} else if errors.As(err, &ev) {
				evictions++
			} else {
				must(t, err)
			}
			idle.Idle(n)
		}
		close(stop)
		must(t, <-done)
		catchUp()
		if evictions != round {
			t.Fatalf("%d evictions in round %d", evictions, round)
		}
	}
	// It is lossless again.
	_, missed := c.total()
	var done sync.WaitGroup
	done.Go(func() {
		if err := send(p, 20000); err != nil {
			t.Error(err)
		}
	})
	want := c.next[SourceID(p.stampID())] + 20000
	for c.next[SourceID(p.stampID())] != want {
		_, err := s.Poll(c.frame, 0)
		must(t, err)
		if c.err != nil {
			t.Fatal(c.err)
		}
	}
	done.Wait()
	if _, m := c.total(); m != missed {
		t.Fatalf("%d more missed after joining again", m-missed)
	}
	if s.Stats().Evictions != 5 {
		t.Fatal(s.Stats())
	}
}

// elsewhere is a publisher that waits for room, until the error on sent, behind a
// subscriber that sees only the other lane.
func elsewhere(t *testing.T, timeout time.Duration) (p, other *Publisher, s *Subscriber, sent <-chan error) {
	pubs, subs := heapBus(t, 2, 1, layout.Geometry{Ring: small}, Policy{Kind: PolicyEvict, Timeout: timeout})
	p, other, s = pubs[0], pubs[1], subs[0]
	for p.pos+2000 < p.hdr.FirstPos+p.hdr.Ring {
		_, err := p.Publish(1, make([]byte, 1000))
		must(t, err)
	}
	must(t, s.admit())
	s.lanes[0].state = laneWaiting
	c := make(chan error, 1)
	go func() {
		for range 20 {
			if _, err := p.Publish(1, make([]byte, 1000)); err != nil {
				c <- err
				return
			}
		}
		c <- nil
	}()
	return p, other, s, c
}

// Who reads other lanes is busy, not stuck.
func TestReadingOtherLanesIsProgress(t *testing.T) {
	watch(t, time.Minute)
	p, other, s, sent := elsewhere(t, 100*time.Millisecond)
	for range 20 { // for two time-outs
		_, err := other.Publish(1, nil)
		must(t, err)
		time.Sleep(10 * time.Millisecond)
		_, err = s.Poll(func(Frame) {}, 1)
		must(t, err)
	}
	select {
	case err := <-sent:
		t.Fatalf("the publisher did not wait: %v", err)
	default:
	}
	s.lanes[0].state = laneReading
	for done := false; !done; {
		_, err := s.Poll(func(Frame) {}, 0)
		must(t, err)
		select {
		case err := <-sent:
			must(t, err)
			done = true
		default:
		}
	}
	if p.counts[layout.MetricEvictions] != 0 {
		t.Fatal("evicted")
	}
}

// An activity word moves as long as its owner likes; without a cursor that moves, it
// must not hold a publisher for ever.
func TestActivityAloneHoldsNobodyForEver(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, other *Publisher, s *Subscriber){
		"busy elsewhere": func(t *testing.T, other *Publisher, s *Subscriber) {
			_, err := other.Publish(1, nil)
			must(t, err)
			_, err = s.Poll(func(Frame) {}, 1)
			must(t, err)
		},
		"hostile": func(_ *testing.T, _ *Publisher, s *Subscriber) {
			atomic.AddUint64(word64(s.mem, layout.OffSubMetrics), 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			watch(t, time.Minute)
			const timeout = 20 * time.Millisecond
			begun := clock.Mono()
			p, other, s, sent := elsewhere(t, timeout)
			for done := false; !done; {
				act(t, other, s)
				select {
				case err := <-sent:
					must(t, err)
					done = true
				case <-time.After(time.Millisecond):
				}
			}
			if took := time.Duration(clock.Mono() - begun); took < timeout {
				t.Fatalf("evicted after %v, busy or not", took)
			}
			if p.counts[layout.MetricEvictions] != 1 || other.counts[layout.MetricEvictions] != 0 {
				t.Fatalf("%d and %d evictions", p.counts[layout.MetricEvictions], other.counts[layout.MetricEvictions])
			}
			s.lanes[0].state = laneReading
			for {
				if _, err := s.Poll(func(Frame) {}, 1); err != nil {
					if !errors.Is(err, ErrEvicted) {
						t.Fatal(err)
					}
					return
				}
			}
		})
	}
}

// A freeze of both sides (SIGSTOP, a suspended machine) shows as one long round.
func TestFreezeIsNoStall(t *testing.T) {
	pr := &peer{mem: make([]byte, layout.CursorFileBytes(1))}
	m := newMember(pr, 0, true, false)
	var st stall
	now := clock.Mono()
	st.look(m, now)
	now += int64(time.Hour)
	st.look(m, now)
	if st.idle != roundMax {
		t.Fatalf("an hour's freeze counts %v", time.Duration(st.idle))
	}
	now += int64(time.Millisecond)
	st.look(m, now)
	if st.idle != roundMax+int64(time.Millisecond) {
		t.Fatal(time.Duration(st.idle))
	}
	atomic.StoreUint64(m.activity, 2)
	st.look(m, now)
	if st.idle != 0 || st.still == 0 {
		t.Fatal("activity is progress, for a while")
	}
	st.look(m, now+1)
	m.last += 32
	st.look(m, now+2)
	if st.idle != 0 || st.still != 0 {
		t.Fatal("a cursor that moves is progress")
	}
}

func TestLaneTakes128LosslessSubscribers(t *testing.T) {
	watch(t, time.Minute)
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	p, err := newPublisher(mem, h, PublisherOptions{}, Policy{Kind: PolicyFail})
	must(t, err)
	var subs []*Subscriber
	for range layout.Notices {
		s, _ := heapSub(t, p, mem, h, Lossless)
		subs = append(subs, s)
	}
	extra := &peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64))}
	if _, err := p.join(extra, true, false); !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "128") {
		t.Fatal(err)
	}
	if _, err := p.join(extra, false, true); err != nil { // lossy ones are unlimited
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for _, m := range p.set.Load().lossless {
		if seen[m.notice] {
			t.Fatalf("notice %d twice", m.notice)
		}
		seen[m.notice] = true
	}
	next := make([]uint64, len(subs))
	for range 30 {
		for range 20 {
			_, err := p.Publish(1, make([]byte, 300))
			must(t, err)
		}
		for i, s := range subs {
			readOut(t, s, func(f Frame) {
				if f.Seq != next[i] {
					t.Fatalf("subscriber %d: %d where %d is due", i, f.Seq, next[i])
				}
				next[i]++
			})
		}
	}
	for i := range next {
		if next[i] != 600 {
			t.Fatalf("subscriber %d: %d", i, next[i])
		}
	}
	// One leaves, one more fits.
	p.remove(p.set.Load().lossless[5])
	if _, err := p.join(extra, true, false); err != nil {
		t.Fatal(err)
	}
}

// Whatever a cursor word says, the lane goes on without its owner.
func TestHostileCursorsAreEvicted(t *testing.T) {
	for name, lie := range map[string]func(p *Publisher, r *reader){
		"ahead":      func(p *Publisher, r *reader) { *r.slotPos = p.pos + p.hdr.Ring },
		"far ahead":  func(p *Publisher, r *reader) { *r.slotPos = 1 << 62 },
		"all ones":   func(p *Publisher, r *reader) { *r.slotPos = ^uint64(0) },
		"unaligned":  func(p *Publisher, r *reader) { *r.slotPos++ },
		"zero":       func(p *Publisher, r *reader) { *r.slotPos = 0 },
		"backwards":  func(p *Publisher, r *reader) { *r.slotPos = p.set.Load().lossless[1].last - 32 },
		"half range": func(p *Publisher, r *reader) { *r.slotPos += 1 << 63 },
		"no epoch":   func(p *Publisher, r *reader) { *r.slotEpoch = 7 }, // back to J, behind what was seen
	} {
		t.Run(name, func(t *testing.T) {
			watch(t, time.Minute)
			mem, h := heapLane(t, layout.Geometry{Ring: small})
			p, err := newPublisher(mem, h, PublisherOptions{}, Policy{Kind: PolicyFail})
			must(t, err)
			good, _ := heapSub(t, p, mem, h, Lossless)
			bad, r := heapSub(t, p, mem, h, Lossless)
			var why []evictReason
			p.onEvict = func(m *member, w evictReason) { why = append(why, w) }
			next := uint64(0)
			round := func() {
				t.Helper()
				for range 100 {
					_, err := p.Publish(1, make([]byte, 300))
					must(t, err)
				}
				readOut(t, good, func(f Frame) {
					if f.Seq != next {
						t.Fatalf("%d where %d is due", f.Seq, next)
					}
					next++
				})
			}
			for range 4 {
				round()
				readOut(t, bad, func(Frame) {})
			}
			lie(p, r)
			for range 20 {
				round()
			}
			if len(why) != 1 || why[0] != evictHostile || len(p.set.Load().lossless) != 1 {
				t.Fatalf("evictions %v, %d members", why, len(p.set.Load().lossless))
			}
			if _, err := bad.Poll(func(Frame) {}, 0); !errors.Is(err, ErrEvicted) {
				t.Fatalf("the liar was told %v", err)
			}
		})
	}
	if evictHostile.String() != "hostile cursor" || evictStalled.String() != "stalled" {
		t.Fatal("names")
	}
}

// The control goroutine changes the set while the publishing goroutine uses it.
func TestMembersComeAndGoUnderThePublisher(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Timeout: -1})
	n := frames(1_000_000)
	var done sync.WaitGroup
	done.Go(func() {
		if err := send(p, n); err != nil {
			t.Error(err)
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	done.Go(func() {
		for ctx.Err() == nil {
			pr := &peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64))}
			m, err := p.join(pr, true, true)
			if err != nil {
				t.Error(err)
				return
			}
			if seqlock.Diff(atomic.LoadUint64(p.intent), m.join) > int64(p.hdr.Ring) {
				t.Error("J was overwritten")
			}
			if p.set.Load().bySub(pr.epoch) != m {
				t.Error("not a member")
			}
			p.remove(m)
			time.Sleep(50 * time.Microsecond)
		}
	})
	c := newTally()
	for received := uint64(0); received < uint64(n); received, _ = c.total() {
		_, err := s.Poll(c.frame, 0)
		if must(t, err); c.err != nil {
			t.Fatal(c.err)
		}
	}
	stop()
	done.Wait()
}

func TestPoliciesAreNamed(t *testing.T) {
	for want, p := range map[string]Policy{
		"block:1s": {}, "block": {Timeout: -1}, "block:5ms": {Timeout: 5 * time.Millisecond},
		"evict:1s": {Kind: PolicyEvict}, "evict:2s": {Kind: PolicyEvict, Timeout: 2 * time.Second}, "fail": {Kind: PolicyFail},
	} {
		if p.String() != want {
			t.Errorf("%q, want %q", p.String(), want)
		}
		back := policyOf(p.control())
		if back.Kind != p.Kind || p.Kind != PolicyFail && back.timeout() != p.timeout() {
			t.Errorf("%v became %v on its way through the directory", p, back)
		}
	}
}

// Fear: a frame waits for a refill that could have been done while nobody waited, or one
// that was done early takes more than there is, or counts as backpressure.
func TestRefillsComeBeforeTheyAreNeeded(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: 64 << 10, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{Kind: PolicyFail})
	payload := make([]byte, 64)
	frame := layout.FrameBytes(uint64(len(payload)))
	_, err := p.Publish(1, payload)
	must(t, err)
	for range 5 * p.hdr.Ring / frame {
		if left := p.intentL - p.pos; left < frame+layout.Align {
			t.Fatalf("%d bytes of credit are left at %d, though the subscriber reads", left, p.pos)
		}
		_, err := p.Publish(1, payload)
		must(t, err)
		_, err = s.Poll(func(Frame) {}, 0)
		must(t, err)
	}
	n := 0
	for ; ; n++ { // and now nobody reads
		if p.counts[layout.MetricBackpressure] != 0 {
			t.Fatalf("backpressure with %d frames in the ring", n)
		}
		if _, err := p.Publish(1, payload); err != nil {
			break
		}
	}
	if room := p.hdr.Ring - p.hdr.Step; uint64(n)*frame < room {
		t.Errorf("%d frames of %d bytes filled a ring of %d", n, frame, p.hdr.Ring)
	}
}

// Fear: credit that comes early keeps a publisher from hearing that its lane was given up.
func TestALaneThatWasGivenUpGetsNoMoreCredit(t *testing.T) {
	p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{Kind: PolicyFail})
	payload := make([]byte, 64)
	_, err := p.Publish(1, payload)
	must(t, err)
	p.lost.Store(true)
	for sent := uint64(0); ; sent += layout.FrameBytes(64) {
		if _, err = p.Publish(1, payload); err != nil {
			break
		}
		if sent > p.hdr.Step {
			t.Fatalf("%d bytes went out since, of steps of %d", sent, p.hdr.Step)
		}
		_, err = s.Poll(func(Frame) {}, 0)
		must(t, err)
	}
	if !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}
