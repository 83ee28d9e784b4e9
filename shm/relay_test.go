package shm

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

func relay(t *testing.T, c *Client, pattern string, o SubscriberOptions) *Relay {
	t.Helper()
	f, err := c.Relay(bg(), pattern, &RelayOptions{o})
	must(t, err)
	return f
}

// lane waits for the n-th lane of a relay.
func (f *Relay) await(t *testing.T, n int) *RelayLane {
	t.Helper()
	for {
		lanes, err := f.Lanes()
		must(t, err)
		if len(lanes) >= n {
			return lanes[n-1]
		}
		time.Sleep(time.Millisecond)
	}
}

func newMirror(t *testing.T, c *Client, info LaneInfo, first uint64) *Mirror {
	t.Helper()
	info.Hops++
	info.OriginNode[0]++ // of another host
	m, err := c.Mirror(bg(), &MirrorOptions{LaneInfo: info, FirstSeq: first})
	must(t, err)
	return m
}

// private is an aligned copy of a run's bytes.
func private(run Run) []byte {
	b := make([]byte, len(run.Bytes))
	copy(b, run.Bytes)
	return b
}

// carry passes on up to limit bytes of what there is; false if nothing was.
func carry(t *testing.T, l *RelayLane, m *Mirror, limit int) bool {
	t.Helper()
	run, err := l.Next(limit)
	var gap *GapError
	if errors.As(err, &gap) {
		must(t, m.Gap(gap.Next))
		return true
	}
	if errors.Is(err, ErrEvicted) {
		return true
	}
	must(t, err)
	if run.Count == 0 {
		return false
	}
	b := private(run)
	if !l.Whole(run) {
		t.Fatal("a lossless relay was overtaken")
	}
	if n, err := CountFrames(b, run.First, m.MaxMessageBytes()); err != nil || n != run.Count {
		t.Fatalf("%d frames of %d: %v", n, run.Count, err)
	}
	must(t, m.Append(b))
	return true
}

// Fear: a mirror lane differs from its origin in a byte, a sequence, or by a frame,
// whatever the sizes, the wraps, the restarts of either side.
func TestMirrorCarriesExactlyWhatTheOriginHas(t *testing.T) {
	watch(t, 2*time.Minute)
	_, here := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: 20 * time.Second}})
	_, there := openBus(t, LocalOptions{RingBytes: 2 * small})
	o := durableOptions(Lossless)
	f := relay(t, here, "a.b", o)
	p := publisher(t, here, "a.b", PublisherOptions{Source: "s", Timestamps: TimestampsClock})
	s := subscriber(t, there, "a.b", SubscriberOptions{Mode: Lossless})
	l := f.await(t, 1)
	m := newMirror(t, there, *l.Info(), l.Acked())
	rnd := rand.New(rand.NewPCG(1, 2))
	ta := newTally()
	const frames = 30_000
	sent := make(chan error, 1)
	go func() { sent <- send(p, frames) }()
	var last int64
	see := func(f Frame) {
		if f.Time < last || f.Time == 0 {
			t.Errorf("sequence %d: time %d after %d", f.Seq, f.Time, last)
		}
		last = f.Time
		ta.frame(f)
	}
	for got := uint64(0); got < frames; got, _ = ta.total() {
		if m.Room(0) > uint64(p.MaxMessageBytes())+64 {
			carry(t, l, m, 9000+rnd.IntN(20_000))
		}
		switch rnd.IntN(40) {
		case 0:
			l.Ack(m.Due())
		case 1: // a new connection
			l.Ack(l.Acked() + uint64(rnd.IntN(int(m.Due()-l.Acked())+1)))
			l.Rewind(m.Due())
		case 2:
			if rnd.IntN(20) == 0 { // the receiver starts anew
				info, due := *l.Info(), m.Due()
				must(t, m.Close())
				if m = newMirror(t, there, info, 0); m.Due() != due || m.FirstSeq() != due {
					t.Fatalf("the next mirror lane begins with %d, want %d", m.Due(), due)
				}
			}
		case 3:
			if rnd.IntN(20) == 0 { // the sender starts anew
				must(t, f.Close())
				f = relay(t, here, "a.b", o)
				if l = f.await(t, 1); !l.Known() {
					t.Fatal("a lane that was read does not know its sequence")
				}
				l.Rewind(m.Due())
			}
		}
		_, err := s.Poll(see, 0)
		must(t, err)
	}
	must(t, <-sent)
	must(t, ta.err)
	must(t, p.Close())
	for {
		if _, err := l.Next(1 << 20); errors.Is(err, io.EOF) {
			break
		} else {
			must(t, err)
		}
	}
	l.Ack(m.Due())
	l.Done()
	must(t, m.Close())
	must(t, f.Forget(bg()))
}

func TestRelayReportsAndMirrorCarriesGaps(t *testing.T) {
	watch(t, time.Minute)
	// It may be joined again before the publisher has lapped it, and is then evicted again.
	_, here := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyEvict, Timeout: 20 * time.Millisecond}})
	_, there := openBus(t, LocalOptions{RingBytes: small})
	for _, mode := range []Mode{Lossy, Lossless} {
		topic := "a." + mode.String()
		f := relay(t, here, topic, SubscriberOptions{Mode: mode})
		p := publisher(t, here, topic, PublisherOptions{Source: "s"})
		s := subscriber(t, there, topic, SubscriberOptions{Mode: Lossless})
		l := f.await(t, 1)
		m := newMirror(t, there, *l.Info(), 0)
		publishN(t, p, 10)
		for carry(t, l, m, 1<<20) {
		}
		l.Ack(5)
		if mode == Lossless { // as if the policy had evicted it
			mb := p.set.Load().lossless[0]
			p.evict(mb, evictStalled)
			if _, err := l.Next(1 << 20); !errors.Is(err, ErrEvicted) {
				t.Errorf("%v: %v, want an eviction", mode, err)
			}
		}
		publishN(t, p, 3000) // it is lapped
		for m.Due() < 3010 {
			_, err := f.Lanes() // joined again
			must(t, err)
			carry(t, l, m, 1<<20)
		}
		// A GAP as the last thing before the end.
		must(t, m.Gap(4000))
		must(t, m.Close())
		ta := newTally()
		for n, missed := uint64(0), uint64(0); n+missed < 4000; n, missed = ta.total() {
			_, err := s.Poll(ta.frame, 0)
			var gap *GapError
			if errors.As(err, &gap) {
				if gap.Cause != CauseForwarded && gap.Next != 4000 {
					t.Errorf("cause %v", gap.Cause)
				}
				ta.gap(gap)
			} else {
				must(t, err)
			}
		}
		must(t, ta.err)
		// The directory knows where it ended, GAP and all.
		if again := newMirror(t, there, *l.Info(), 0); again.Due() != 4000 || !again.Found() {
			t.Errorf("%v: the next mirror lane begins with %d, want 4000", mode, again.Due())
		}
		must(t, p.Close())
		must(t, f.Close())
		must(t, s.Close())
	}
}

func TestMirrorRefusesFramesThatAreNone(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	f := relay(t, c, "a.b", SubscriberOptions{Mode: Lossless})
	p := publisher(t, c, "a.b", PublisherOptions{})
	publishN(t, p, 3)
	run, err := f.await(t, 1).Next(1 << 20)
	must(t, err)
	good := func() []byte { return private(run) }
	count := func(b []byte, first uint64, most uint32) error { _, err := CountFrames(b, first, most); return err }
	must(t, count(good(), 0, 64))
	for name, err := range map[string]error{
		"rest":         count(append(good(), 0, 0, 0, 0, 0, 0, 0, 0), 0, 64),
		"cut":          count(good()[:len(run.Bytes)-32], 0, 64),
		"sequence":     count(good(), 1, 64),
		"large":        count(good(), 0, 63),
		"inner":        count(func() []byte { b := good(); b[96+layout.OffSeq]++; return b }(), 0, 64),
		"inner length": count(func() []byte { b := good(); b[96+layout.OffLen+3]++; return b }(), 0, 1<<31),
	} {
		if !errors.Is(err, ErrFrames) {
			t.Errorf("%s: %v", name, err)
		}
	}
	info := LaneInfo{Topic: "a.c", Source: "s", OriginNode: newID(), OriginEpoch: newID(), Hops: 1, MaxMessageBytes: 64}
	m, err := c.Mirror(bg(), &MirrorOptions{LaneInfo: info})
	must(t, err)
	if err := m.Gap(0); !errors.Is(err, ErrFrames) {
		t.Errorf("an empty gap: %v", err)
	}
	// The name of a source is the origin host's: another host, and this one, may have it too.
	must(t, publisher(t, c, "a.c", PublisherOptions{Source: "s"}).Close())
	if _, err := c.Mirror(bg(), &MirrorOptions{LaneInfo: info}); !errors.Is(err, ErrSourceBusy) {
		t.Errorf("a second writer: %v", err)
	}
	for _, bad := range []func(*LaneInfo){
		func(i *LaneInfo) { i.Hops = 0 },
		func(i *LaneInfo) { i.Hops = layout.MaxHops + 1 },
		func(i *LaneInfo) { i.Hops = 3 },
		func(i *LaneInfo) { i.OriginEpoch = layout.ID16{} },
		func(i *LaneInfo) { i.OriginNode = f.lanes[0].info.OriginNode },
	} {
		i := info
		bad(&i)
		if _, err := c.Mirror(bg(), &MirrorOptions{LaneInfo: i}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", i, err)
		}
	}
	must(t, m.Close())
	must(t, p.Close())
}

// Fear: a mirror lane goes with its file, and the next begins with what it had.
func TestResumePointOutlivesTheMirrorLane(t *testing.T) {
	watch(t, time.Minute)
	b := newRoughBus(t, LocalOptions{}.Policy.control())
	b.options.LaneGrace = -1
	c := b.client()
	b.restart(c)
	f := relay(t, c.Client, "a.b", SubscriberOptions{Mode: Lossless})
	p := publisher(t, c.Client, "a.b", PublisherOptions{})
	l := f.await(t, 1)
	info := *l.Info()
	info.Topic = "a.c"
	publishN(t, p, 10)
	m := newMirror(t, c.Client, info, 0)
	if m.Found() {
		t.Error("an unknown origin epoch was found")
	}
	carry(t, l, m, 1<<20)
	must(t, m.Close())
	b.restart(c)
	if m = newMirror(t, c.Client, info, 0); m.Due() != 10 || !m.Found() {
		t.Errorf("the next mirror lane begins with %d, found %v", m.Due(), m.Found())
	}
	must(t, m.Close())
	must(t, p.Close())
}

func TestRoomOfAMirrorIsWhatItsSubscribersLeave(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyEvict, Timeout: 50 * time.Millisecond}})
	s := subscriber(t, c, "a.c", SubscriberOptions{Mode: Lossless})
	f := relay(t, c, "a.b", SubscriberOptions{Mode: Lossless})
	p := publisher(t, c, "a.b", PublisherOptions{})
	l := f.await(t, 1)
	info := *l.Info()
	info.Topic = "a.c"
	m := newMirror(t, c, info, 0)
	if m.Room(0) != small/2 {
		t.Errorf("room of an empty mirror: %d", m.Room(0))
	}
	filled := false
	for {
		publishN(t, p, 20)
		run, err := l.Next(1 << 20)
		must(t, err)
		if uint64(len(run.Bytes)) > m.Room(0) {
			filled = true
			break
		}
		must(t, m.Append(private(run)))
		l.Ack(m.Due())
	}
	for m.Room(small/8) < small/8 { // the policy acts although nobody waits
		time.Sleep(time.Millisecond)
	}
	if !filled {
		t.Error("never full")
	}
	_, err := s.Poll(func(Frame) {}, 0)
	for err == nil {
		_, err = s.Poll(func(Frame) {}, 0)
	}
	if !errors.Is(err, ErrEvicted) {
		t.Errorf("the stuck subscriber: %v", err)
	}
	must(t, m.Close())
	must(t, p.Close())
}

func TestParkedRelaysWakeForAFrame(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	a := relay(t, c, "a.b", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	b := relay(t, c, "b.>", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	p := publisher(t, c, "b.c", PublisherOptions{})
	l := b.await(t, 1)
	park := NewRelayParker([]*Relay{a, b})
	must(t, a.Protect(func() error {
		return b.Protect(func() error {
			for i := range 20 {
				var other sync.WaitGroup
				other.Go(func() {
					time.Sleep(5 * time.Millisecond)
					if i%2 == 0 {
						a.Kick()
						return
					}
					publishN(t, p, 1)
				})
				start := time.Now()
				park.Park(20 * time.Second)
				if i%2 == 1 {
					for !l.Waits() {
						park.Park(20 * time.Second)
					}
					run, err := l.Next(1 << 20)
					if err != nil || run.Count != 1 {
						t.Errorf("round %d: %d frames, %v", i, run.Count, err)
					}
					l.Ack(l.Due())
				}
				if time.Since(start) > 15*time.Second {
					t.Errorf("round %d: nobody woke the relays", i)
				}
				other.Wait()
			}
			// A look ends for the same reasons, at its time, and when it is told to.
			var over atomic.Bool
			later := func(d time.Duration) int64 { return clock.Mono() + int64(d) }
			park.Watch(later(time.Millisecond), &over)
			var other sync.WaitGroup
			other.Go(func() { time.Sleep(5 * time.Millisecond); publishN(t, p, 1) })
			park.Watch(later(time.Hour), &over)
			other.Wait()
			if run, err := l.Next(1 << 20); err != nil || run.Count != 1 {
				t.Errorf("after a look: %d frames, %v", run.Count, err)
			}
			l.Ack(l.Due())
			other.Go(func() { time.Sleep(5 * time.Millisecond); over.Store(true) })
			park.Watch(later(time.Hour), &over)
			other.Wait()
			publishN(t, p, 1)
			l.Stall(true) // what comes there is no reason to wake
			park.Park(10 * time.Millisecond)
			return nil
		})
	}))
	must(t, p.Close())
	must(t, a.Close())
	must(t, b.Close())
}

// Fear: giving back a run, or skimming a lane, loses the place.
func TestRelayReturnsSkimsAndTellsItsLag(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	f := relay(t, c, "a.*", SubscriberOptions{Mode: Lossless})
	p := publisher(t, c, "a.b", PublisherOptions{Source: "s"})
	l := f.await(t, 1)
	lag := func(frames, bytes uint64, more bool) {
		t.Helper()
		if f, b, m := l.Lag(); f != frames || b != bytes || m != more {
			t.Errorf("lag of %d frames, %d bytes, more %v, want %d, %d, %v", f, b, m, frames, bytes, more)
		}
	}
	lag(0, 0, false)
	publishN(t, p, 3)
	lag(0, 0, true) // the publisher has told nothing yet
	publishN(t, p, 17)
	p.Flush()
	lag(20, 20*96, false)
	first, err := l.Next(5 * 96)
	must(t, err)
	second, err := l.Next(5 * 96)
	must(t, err)
	if first.Count != 5 || second.First != 5 || l.Due() != 10 || l.PendingBytes() != 960 || !l.Known() || !l.Whole(first) {
		t.Fatalf("%+v, %+v, due %d, pending %d", first, second, l.Due(), l.PendingBytes())
	}
	l.Return(second)
	l.Ack(5)
	if l.Acked() != 5 || l.Due() != 5 {
		t.Errorf("acked %d, due %d after a run was given back", l.Acked(), l.Due())
	}
	again, err := l.Next(5 * 96)
	must(t, err)
	if again.First != 5 || again.Count != 5 {
		t.Errorf("given back %+v, came again %+v", second, again)
	}
	// The receiver has half of it, and part of what was never sent.
	l.Ack(7)
	l.Rewind(12)
	rest, err := l.Next(1 << 20)
	must(t, err)
	if rest.First != 12 || rest.Count != 8 || l.Acked() != 12 {
		t.Errorf("%+v, acked %d", rest, l.Acked())
	}
	for range 20 { // more than the ring holds: skimming lets it pass
		publishN(t, p, 100)
		must(t, l.Skim())
	}
	if l.Acked() != l.Due() || l.PendingBytes() != 0 {
		t.Errorf("acked %d, due %d after skimming", l.Acked(), l.Due())
	}
	lag(0, 0, false)
	must(t, p.Close())
	if err := l.Skim(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	l.Done()
	l.Done()
	l.Ack(1 << 40)
	l.Rewind(0)
	if _, err := l.Next(1 << 20); !errors.Is(err, ErrClosed) || !l.Whole(rest) {
		t.Errorf("a lane that was given up: %v", err)
	}
	lag(0, 0, false)
	// How much a lossy one missed is known when it has looked.
	lossy := relay(t, c, "b.c", SubscriberOptions{})
	q := publisher(t, c, "b.c", PublisherOptions{Source: "s"})
	l = lossy.await(t, 1)
	publishN(t, q, 3*small/96)
	q.Flush()
	lag(0, 0, true)
	must(t, lossy.Close())
	must(t, q.Close())
	if f.Topic() != "a.*" || f.Resumed() {
		t.Error("topic")
	}
	must(t, f.Close())
	if _, err := f.Lanes(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// heapRelay is a relay of one lane on the heap.
func heapRelay(t *testing.T, mode Mode) (*Publisher, *Relay, *RelayLane) {
	t.Helper()
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, mode, Policy{Kind: PolicyFail})
	s.acked = true
	r.acknowledge(true)
	f := &Relay{s: s, known: map[*reader]*RelayLane{}}
	return p, f, f.await(t, 1)
}

func publishSome(t *testing.T, p *Publisher, n int) {
	t.Helper()
	for range n {
		_, err := p.Publish(1, make([]byte, 1000))
		must(t, err)
	}
}

// Fear: a relay that was overtaken sends what lies there now, loses count, or waits for
// somebody to acknowledge what was overwritten.
func TestOvertakenRelayTellsTheGap(t *testing.T) {
	watch(t, time.Minute)
	for _, prompt := range []bool{true, false} {
		p, _, l := heapRelay(t, Lossy)
		publishSome(t, p, 2)
		run, err := l.Next(4000)
		must(t, err)
		if run.Count != 2 || !l.Whole(run) {
			t.Fatalf("%d frames", run.Count)
		}
		if prompt {
			l.Ack(2)
		}
		publishSome(t, p, 500)
		if l.Whole(run) {
			t.Fatal("an overwritten run is whole")
		}
		for want := uint64(2); want < 502; {
			run, err := l.Next(4000)
			var gap *GapError
			switch {
			case errors.As(err, &gap):
				if gap.From != want || gap.Cause != CauseLapped {
					t.Fatalf("%v, want it from %d", gap, want)
				}
				want = gap.Next
			case err != nil:
				t.Fatal(err)
			case run.Count > 0 && run.First != want:
				t.Fatalf("a run from %d, want %d", run.First, want)
			}
			want += uint64(run.Count)
			if prompt {
				if n := uint64(len(run.Bytes)); l.PendingBytes() > n+2000 { // and padding
					t.Fatalf("%d bytes wait to be acknowledged, %d were handed out", l.PendingBytes(), n)
				}
				l.Ack(want)
			}
		}
		l.Ack(502)
		if n, _, _ := l.Lag(); l.Acked() != 502 || n != 0 || l.PendingBytes() > 2000 {
			t.Fatalf("acknowledged up to %d, %d behind, %d bytes pending", l.Acked(), n, l.PendingBytes())
		}
	}
}

// Fear: a lane whose publisher lies goes on, or takes its relay with it.
func TestRelayGivesUpALaneThatLies(t *testing.T) {
	watch(t, time.Minute)
	p, f, l := heapRelay(t, Lossless)
	publishSome(t, p, 1)
	run, err := l.Next(4000)
	must(t, err)
	publishSome(t, p, 1)
	p.ring.header(l.r.pos).seq = 77
	for range 2 {
		if _, err := l.Next(4000); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a lane that jumps to 77: %v", err)
		}
	}
	if !l.Whole(run) {
		t.Fatal("what was handed out before is asked for again")
	}
	l.Rewind(0)
	l.Ack(1)
	if lanes, err := f.Lanes(); err != nil || len(lanes) != 0 {
		t.Fatalf("%d lanes, %v", len(lanes), err)
	}
	must(t, f.s.Close())
	if _, err := f.Lanes(); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// Fear: the last frames of a killed publisher are missing on the far side, unsaid.
func TestRelayTellsWhatIsMissingAtTheEnd(t *testing.T) {
	watch(t, time.Minute)
	p, f, l := heapRelay(t, Lossless)
	publishSome(t, p, 2)
	f.s.post(admission{epoch: l.r.hdr.Epoch, final: &control.Final{Pos: p.pos, Seq: 5}})
	_, err := f.Lanes()
	must(t, err)
	run, err := l.Next(4000)
	must(t, err)
	var gap *GapError
	if _, err := l.Next(4000); run.Count != 2 || !errors.As(err, &gap) || gap.From != 2 || gap.Next != 5 {
		t.Fatalf("%d frames, then %v", run.Count, err)
	}
	if _, err := l.Next(4000); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	l.Ack(5)
	if l.Acked() != 5 {
		t.Fatalf("acknowledged up to %d", l.Acked())
	}
}

// Fear: a relay that came to an empty lane makes up a sequence, or one that is asked
// for what it has no longer sends something else.
func TestRelayKnowsWhereItIs(t *testing.T) {
	watch(t, time.Minute)
	p, f, l := heapRelay(t, Lossless)
	l.r.fresh = true
	if l.Known() {
		t.Fatal("nothing was published, and the sequence is known")
	}
	if _, _, more := l.Lag(); more {
		t.Fatal("nothing was published, and something waits")
	}
	publishSome(t, p, 3)
	p.Flush()
	if n, _, more := l.Lag(); n != 0 || !more {
		t.Fatalf("lag of %d without a sequence, more %v", n, more)
	}
	if !l.Known() || l.Due() != 0 {
		t.Fatalf("due %d", l.Due())
	}
	if n, _, more := l.Lag(); n != 3 || more {
		t.Fatalf("lag of %d, more %v", n, more)
	}
	run, err := l.Next(4000)
	must(t, err)
	l.Ack(2) // not yet the end of the run
	l.Ack(3)
	l.Rewind(1)
	var gap *GapError
	for range 3 { // the ring has nothing before 3, and a frame to tell it by
		if _, err = l.Next(4000); err != nil {
			break
		}
		publishSome(t, p, 1)
	}
	if !errors.As(err, &gap) || gap.From != 1 || gap.Next != 3 || gap.Cause != CauseForwarded || run.Count != 3 {
		t.Fatalf("%v after a run of %d", err, run.Count)
	}
	l.r.fresh = true
	l.r.pos = p.pos
	f.s.post(admission{epoch: l.r.hdr.Epoch, final: &control.Final{Pos: p.pos, Seq: 9}})
	_, err = f.Lanes()
	must(t, err)
	if !l.Known() || l.Due() != 9 {
		t.Fatalf("a lane that ended at 9 is due %d", l.Due())
	}
}

// Fear: the lane that takes the place of another is overlooked, since there are as many
// as before, and its source is never heard again.
func TestRelaySeesTheLaneThatTakesTheOthersPlace(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	f := relay(t, c, "a", SubscriberOptions{Mode: Lossless})
	for range 10 {
		p := publisher(t, c, "a", PublisherOptions{Source: "s"})
		l := f.await(t, 1)
		must(t, p.Close())
		next := publisher(t, c, "a", PublisherOptions{Source: "s"}) // waits behind the first
		for len(f.s.waiting) == 0 {
			_, err := f.Lanes()
			must(t, err)
		}
		if _, err := l.Next(1 << 20); err != io.EOF {
			t.Fatal(err)
		}
		l.Done()
		if got, err := f.Lanes(); err != nil || len(got) != 1 || got[0] == l {
			t.Fatalf("%d lanes, the old one first: %v, %v", len(got), len(got) > 0 && got[0] == l, err)
		}
		must(t, next.Close())
		l = f.await(t, 1)
		if _, err := l.Next(1 << 20); err != io.EOF {
			t.Fatal(err)
		}
		l.Done()
	}
	must(t, f.Close())
}
