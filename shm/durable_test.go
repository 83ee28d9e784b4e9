package shm

import (
	"errors"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

func durableOptions(mode Mode) SubscriberOptions {
	return SubscriberOptions{Name: "keeper", Mode: mode, Keep: time.Minute}
}

// publishN publishes n frames with the payload of stamp.
func publishN(t *testing.T, p *Publisher, n int) {
	t.Helper()
	b := make([]byte, 64)
	for range n {
		stamp(b, p.stampID(), p.Seq())
		if _, err := p.Publish(1, b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDurableSubscriberGoesOnWhereItWas(t *testing.T) {
	watch(t, time.Minute)
	for _, pattern := range []string{"a.b", "a.*"} {
		_, c := openBus(t, LocalOptions{RingBytes: small})
		p := publisher(t, c, "a.b", PublisherOptions{Source: "s"})
		s := subscriber(t, c, pattern, durableOptions(Lossless))
		if s.Resumed() {
			t.Error("a new subscriber says that it resumed")
		}
		ta := newTally()
		publishN(t, p, 100)
		for n := 0; n < 40; {
			got, err := s.Poll(ta.frame, 40-n)
			must(t, err)
			n += got
		}
		must(t, s.Close())
		publishN(t, p, 100)
		late := publisher(t, c, "a.b", PublisherOptions{Source: "late"}) // while nobody is there
		publishN(t, late, 50)
		must(t, p.Close()) // and a lane ends
		next := publisher(t, c, "a.b", PublisherOptions{Source: "s"})
		publishN(t, next, 7)

		s = subscriber(t, c, pattern, durableOptions(Lossless))
		if !s.Resumed() {
			t.Error("it does not say that it resumed")
		}
		source := SourceID(p.hdr.SourceID.Low())
		again := newTally()
		again.next[source] = ta.next[source]
		total := func() uint64 { n, _ := again.total(); return n }
		restart := false
		pollUntil(t, s, func(f Frame) {
			if f.Source == source && f.Seq == 0 && again.next[source] == 200 {
				again.next[source], restart = 0, true // the next lane of the source
			}
			again.frame(f)
		}, func() bool { return total() >= 160+50+7 })
		readOut(t, s, again.frame)
		must(t, again.err)
		if total() != 160+50+7 || !restart {
			t.Errorf("%d frames after the return, want %d; next lane seen: %v", total(), 160+50+7, restart)
		}
		must(t, s.Forget(bg()))
		if s = subscriber(t, c, pattern, durableOptions(Lossless)); s.Resumed() {
			t.Error("a forgotten subscriber resumed")
		}
		must(t, s.Forget(bg()))
		must(t, next.Close())
		must(t, late.Close())
	}
}

func TestDurableSubscriberHasOneOwner(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, c, "a.b", durableOptions(Lossless))
	o := durableOptions(Lossless)
	if _, err := c.Subscriber(bg(), "a.b", &o); !errors.Is(err, ErrExists) {
		t.Errorf("a second owner: %v", err)
	}
	must(t, s.Close())
	o.Mode = Lossy
	if _, err := c.Subscriber(bg(), "a.b", &o); !errors.Is(err, ErrExists) {
		t.Errorf("another mode: %v", err)
	}
	for _, o := range []SubscriberOptions{{Keep: time.Minute}, {Keep: -1, Name: "x"}} {
		if _, err := c.Subscriber(bg(), "a.b", &o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := c.Subscriber(bg(), "a.b", &SubscriberOptions{Keep: 1e6 * time.Hour, Name: "x"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("kept for a century: %v", err)
	}
}

func TestDeadDurableSubscriberHoldsThePublisherAndIsGivenUp(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
	p := publisher(t, c, "a.b", PublisherOptions{})
	o := durableOptions(Lossless)
	o.Keep = 300 * time.Millisecond
	s := subscriber(t, c, "a.b", o)
	must(t, s.Close())
	b := make([]byte, 4096)
	held := false
	for start := time.Now(); ; {
		_, err := p.Publish(1, b)
		if errors.Is(err, ErrBackpressure) {
			held = true
			continue
		}
		must(t, err)
		if held {
			if waited := time.Since(start); waited < o.Keep {
				t.Errorf("given up after %v, kept for %v", waited, o.Keep)
			}
			break
		}
	}
	must(t, p.Close())
}

// Fear: the owner comes back after the publisher has given it up and before the
// directory has, and reads on as if nothing were missing.
func TestDurableSubscriberLearnsWhatItMissed(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyEvict, Timeout: 20 * time.Millisecond}})
	p := publisher(t, c, "a.b", PublisherOptions{})
	s := subscriber(t, c, "a.b", durableOptions(Lossless))
	ta := newTally()
	publishN(t, p, 10)
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 10 })
	must(t, s.Close())
	publishN(t, p, 5000)
	s = subscriber(t, c, "a.b", durableOptions(Lossless))
	evicted := false
	for n, m := uint64(0), uint64(0); n+m < 5010; n, m = ta.total() {
		_, err := s.Poll(ta.frame, 0)
		var gap *GapError
		switch {
		case errors.As(err, &gap):
			ta.gap(gap)
		case errors.Is(err, ErrEvicted):
			evicted = true
		default:
			must(t, err)
		}
	}
	must(t, ta.err)
	if _, missed := ta.total(); missed == 0 || !evicted {
		t.Errorf("missed %d, evicted %v", missed, evicted)
	}
	must(t, p.Close())
	must(t, s.Forget(bg()))
}

func TestDurableSubscriberOutlivesTheDirectory(t *testing.T) {
	watch(t, time.Minute)
	b := newRoughBus(t, control.Policy{Kind: "block", Ns: int64(20 * time.Second)})
	c := b.client()
	p := publisher(t, c.Client, "a.b", PublisherOptions{Source: "s"})
	s := subscriber(t, c.Client, "a.b", durableOptions(Lossless))
	ta := newTally()
	publishN(t, p, 50)
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 50 })
	must(t, s.Close())
	publishN(t, p, 50)
	b.restart(c)
	publishN(t, p, 50)
	must(t, p.Close())
	b.restart(c)
	s = subscriber(t, c.Client, "a.b", durableOptions(Lossless))
	if !s.Resumed() {
		t.Error("not resumed")
	}
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 150 })
	must(t, ta.err)
	must(t, s.Forget(bg()))
}

// Fear: the directory is restarted while a durable subscriber comes back. The slots that
// the owner before left open look like those of lanes that this one is done with, and
// the publisher forgets it.
func TestDirectoryRestartsWhileADurableSubscriberComesBack(t *testing.T) {
	watch(t, time.Minute)
	b := newRoughBus(t, control.Policy{Kind: "block", Ns: int64(20 * time.Second)})
	c := b.client()
	p := publisher(t, c.Client, "a.b", PublisherOptions{Source: "s"})
	o := durableOptions(Lossless)
	s := subscriber(t, c.Client, "a.b", o)
	ta := newTally()
	publishN(t, p, 50)
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 50 })
	must(t, s.Close())

	m, f, err := c.request(bg(), nil, &control.Message{Op: control.OpOpenSub,
		OpenSub: &control.OpenSub{Topic: "a.b", Name: o.Name, Mode: o.Mode.layout(), Keep: int64(o.Keep)}})
	must(t, err)
	must(t, segment.Lock(f))
	h, err := segment.ReadCursor(f)
	must(t, err)
	mp, err := segment.Map(f, true)
	must(t, err)
	must(t, f.Close())
	s, err = takeOver(mp.Bytes(), h, o)
	must(t, err)
	s.mapping, s.client = mp, c.Client
	c.mu.Lock()
	c.subs[m.Sub] = s
	c.mu.Unlock()
	b.restart(c)
	s, err = c.subscribed(bg(), s, mp)
	must(t, err)
	done := make(chan error, 1)
	go func() { // more than the ring holds
		b := make([]byte, 64)
		for range 3 * small / 96 {
			stamp(b, p.stampID(), p.Seq())
			if _, err := p.Publish(1, b); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	time.Sleep(20 * time.Millisecond) // the ring is full, or has been overwritten
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 50+3*small/96 })
	must(t, <-done)
	must(t, ta.err)
	must(t, p.Close())
	must(t, s.Forget(bg()))
}

// killHalfWay leaves s as a kill would that has had 20 of 40 frames, with this sequence
// beside its cursor, in the middle of storing its metrics.
func killHalfWay(t *testing.T, p *Publisher, s *Subscriber, ta *tally, seq uint64) {
	t.Helper()
	publishN(t, p, 20)
	readOut(t, s, ta.frame)
	publishN(t, p, 20)
	slot := layout.OffSlots + uint64(s.lanes[0].hdr.Lane)*layout.SlotBytes
	*word64(s.mem, slot+layout.SlotSeq) = seq
	*word64(s.mem, layout.OffSubMetrics)++
	s.opts.Keep = 0 // Close stores no cursors
	s.worked = false
	must(t, s.Close())
}

// Fear: a kill between the two stores of a cursor makes a gap of what was not lost.
func TestTornCursorIsReadFromItsPosition(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a.b", PublisherOptions{})
	s := subscriber(t, c, "a.b", durableOptions(Lossless))
	ta := newTally()
	killHalfWay(t, p, s, ta, 30) // of a cursor that was to come
	s = subscriber(t, c, "a.b", durableOptions(Lossless))
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 40 })
	must(t, ta.err)
	must(t, p.Close())
	must(t, s.Forget(bg()))
}

// Fear: the owner goes away while it reads what lies before J. Its cursor is J, but
// the sequence beside it is not the one of J: whoever comes next finds the lane
// corrupt, or takes for lost what is still there.
func TestDurableSubscriberGoesOnInHistory(t *testing.T) {
	watch(t, time.Minute)
	for _, test := range []struct {
		name   string
		behind int // frames after J
		ended  bool
	}{{"live", 30, false}, {"live, nothing after J", 0, false}, {"ended", 30, true}, {"ended at J", 0, true}} {
		t.Run(test.name, func(t *testing.T) {
			_, c := openBus(t, LocalOptions{RingBytes: small})
			p := publisher(t, c, "a.b", PublisherOptions{})
			publishN(t, p, 100)
			p.Flush() // J is behind them
			o := durableOptions(Lossless)
			o.Start = StartOldest()
			s := subscriber(t, c, "a.b", o)
			ta := newTally()
			for n := 0; n < 40; {
				got, err := s.Poll(ta.frame, 40-n)
				must(t, err)
				n += got
			}
			must(t, s.Close())
			publishN(t, p, test.behind)
			if test.ended {
				must(t, p.Close())
			}
			s = subscriber(t, c, "a.b", o)
			if !test.ended {
				publishN(t, p, 5)
				test.behind += 5
			}
			pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == uint64(100+test.behind) })
			readOut(t, s, ta.frame)
			must(t, ta.err)
			must(t, p.Close())
			must(t, s.Forget(bg()))
		})
	}
}

// Fear: the owner was evicted after it went away in history, and the lane is called
// corrupt because its sequence is older than its cursor.
func TestSequenceBehindTheCursorIsAGap(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a.b", PublisherOptions{})
	s := subscriber(t, c, "a.b", durableOptions(Lossless))
	ta := newTally()
	killHalfWay(t, p, s, ta, 5)
	s = subscriber(t, c, "a.b", durableOptions(Lossless))
	var gap *GapError
	if _, err := s.Poll(ta.frame, 0); !errors.As(err, &gap) || gap.From != 5 || gap.Next != 20 {
		t.Errorf("%v, want a gap from 5 to 20", err)
	}
	pollUntil(t, s, ta.frame, func() bool { n, _ := ta.total(); return n == 40 })
	must(t, ta.err)
	must(t, p.Close())
	must(t, s.Forget(bg()))
}
