package shm

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// follow polls until the lanes have ended and counts what came and what was
// announced as missing.
func follow(t *testing.T, s *Subscriber, c *tally, slow func()) {
	t.Helper()
	seen := false
	for idle := s.Idler(); ; {
		n, err := s.Poll(c.frame, 64)
		if err != nil {
			var gap *GapError
			if !errors.As(err, &gap) {
				t.Fatal(err)
			}
			c.gap(gap)
		}
		if c.err != nil {
			t.Fatal(c.err)
		}
		if seen = seen || len(s.lanes) > 0; seen && len(s.lanes) == 0 {
			return
		}
		if n > 0 && slow != nil {
			slow()
		}
		idle.Idle(n)
	}
}

// Lossy lanes race by design, so these run on mappings, which the race detector
// leaves alone.
func TestSlowReaderKnowsExactlyWhatItMissed(t *testing.T) {
	for _, toLatest := range []bool{false, true} {
		for _, end := range []string{"END", "dead"} {
			t.Run(fmt.Sprint(toLatest, end), func(t *testing.T) {
				watch(t, time.Minute)
				d, _ := openBus(t, LocalOptions{RingBytes: small})
				pc, sc := dial(t, d), dial(t, d)
				s := subscriber(t, sc, "a", SubscriberOptions{LapToLatest: toLatest, Idle: IdleYield})
				p := publisher(t, pc, "a", PublisherOptions{})
				n := frames(400_000)
				sent := make(chan error, 1)
				go func() {
					err := send(p, n)
					if end == "END" {
						err = errors.Join(err, p.Close())
					} else {
						p.Flush()
						err = errors.Join(err, pc.Close(), p.mapping.Close()) // as its death
					}
					sent <- err
				}()
				c := newTally()
				follow(t, s, c, func() { time.Sleep(20 * time.Microsecond) })
				must(t, <-sent)
				received, missed := c.total()
				if received+missed != uint64(n) || missed == 0 || received == 0 {
					t.Fatalf("%d received + %d missed of %d sent", received, missed, n)
				}
				st := s.Stats()
				if st.Frames != received || st.Missed != missed || st.Gaps == 0 || st.OverrunPoll+st.OverrunRead == 0 || st.Lanes != 0 {
					t.Fatalf("stats %+v, received %d, missed %d", st, received, missed)
				}
			})
		}
	}
}

func TestLateJoinerAtLatestSeesAllThatFollows(t *testing.T) {
	watch(t, time.Minute)
	d, pc := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
	p := publisher(t, pc, "a", PublisherOptions{})
	for range 5000 {
		_, err := p.Publish(1, []byte("before"))
		must(t, err)
	}
	for _, mode := range []Mode{Lossy, Lossless} {
		s := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: mode})
		first := p.Seq()
		for range 10 {
			_, err := p.Publish(1, []byte("after"))
			must(t, err)
		}
		next := first
		pollUntil(t, s, func(f Frame) {
			if f.Seq != next || string(f.Payload) != "after" {
				t.Fatalf("%v: sequence %d %q where %d is due", mode, f.Seq, f.Payload, next)
			}
			next++
		}, func() bool { return next == p.Seq() })
		must(t, s.Close())
	}
}

func TestJoinersWhileThePublisherRunsAtFullSpeed(t *testing.T) {
	watch(t, 2*time.Minute)
	d, pc := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
	p := publisher(t, pc, "a", PublisherOptions{})
	stop, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				sent <- nil
				return
			default:
				if err := send(p, 500); err != nil {
					sent <- err
					return
				}
			}
		}
	}()
	for i := range 24 {
		o := SubscriberOptions{Mode: Mode(i % 2), Start: []Start{StartLatest(), StartOldest(), StartSeq(1000)}[i%3], Idle: IdleYield}
		s := subscriber(t, dial(t, d), "a", o)
		c := newTally()
		until := uint64(2000)
		for received := uint64(0); received < until; received, _ = c.total() {
			_, err := s.Poll(c.frame, 0)
			var gap *GapError
			switch {
			case errors.As(err, &gap):
				if o.Mode == Lossless && o.Start == StartLatest() {
					t.Fatalf("a lossless subscriber from latest on lost frames: %v", err)
				}
				if o.Start.kind == startSeq && len(c.next) == 0 && gap.From != 1000 {
					t.Fatalf("asked for 1000: %v", gap)
				}
				c.gap(gap)
			case err != nil:
				t.Fatalf("%+v: %v", o, err)
			}
			if c.err != nil {
				t.Fatalf("%+v: %v", o, c.err)
			}
		}
		must(t, s.Close())
	}
	close(stop)
	must(t, <-sent)
}

func TestStartsInHistory(t *testing.T) {
	watch(t, time.Minute)
	d, pc := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, pc, "a", PublisherOptions{})
	publish := func(n int) {
		for range n {
			_, err := p.Publish(1, []byte("0123456789"))
			must(t, err)
		}
	}
	first := func(start Start) (seq uint64, gap *GapError) {
		s := subscriber(t, dial(t, d), "a", SubscriberOptions{Start: start})
		defer s.Close()
		for got := false; !got; {
			_, err := s.Poll(func(f Frame) {
				if !got {
					seq, got = f.Seq, true
				}
			}, 0)
			if err != nil && !errors.As(err, &gap) {
				t.Fatal(err)
			}
		}
		return seq, gap
	}
	publish(100) // nothing is overwritten yet
	if seq, gap := first(StartOldest()); seq != 0 || gap != nil {
		t.Fatalf("oldest: %d, %v", seq, gap)
	}
	if seq, gap := first(StartSeq(37)); seq != 37 || gap != nil {
		t.Fatalf("37: %d, %v", seq, gap)
	}
	publish(20000)
	oldest, gap := first(StartOldest())
	if oldest < 15000 || oldest > p.Seq() || gap != nil {
		t.Fatalf("oldest: %d of %d, %v", oldest, p.Seq(), gap)
	}
	if seq, gap := first(StartSeq(p.Seq() - 100)); seq != p.Seq()-100 || gap != nil {
		t.Fatalf("inside: %d of %d, %v", seq, p.Seq(), gap)
	}
	seq, gap := first(StartSeq(5))
	if gap == nil || gap.From != 5 || gap.Next != seq || gap.Cause != CauseStart || seq < 15000 {
		t.Fatalf("too old: %d, %v", seq, gap)
	}
	s := subscriber(t, dial(t, d), "a", SubscriberOptions{Start: StartSeq(p.Seq() + 1000)})
	next := p.Seq()
	publish(3)
	for seen := 0; seen < 3; { // what is yet to come starts with what comes
		_, err := s.Poll(func(f Frame) {
			if f.Seq != next {
				t.Fatalf("%d where %d is due", f.Seq, next)
			}
			next++
			seen++
		}, 0)
		must(t, err)
	}
}

// Fear: a start that is yet to come, lapped before it was found: what comes is older
// than what was asked for, and the lane is called corrupt.
func TestStartAheadIsLapped(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a", PublisherOptions{})
	s := subscriber(t, c, "a", SubscriberOptions{})
	must(t, s.admit())
	must(t, send(p, 5000))
	r := s.lanes[0]
	r.pos, r.want, r.loose = r.hdr.FirstPos, 1<<40, CauseStart // as startAt leaves it
	seen := 0
	pollUntil(t, s, func(Frame) { seen++ }, func() bool {
		must(t, send(p, 1))
		return seen > 0
	})
	must(t, s.Close())
	must(t, p.Close())
}

// History before the join is not held: what of it goes is a gap, what was joined
// stays.
func TestLosslessReaderOfHistory(t *testing.T) {
	watch(t, time.Minute)
	d, pc := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
	p := publisher(t, pc, "a", PublisherOptions{})
	for range 500 {
		_, err := p.Publish(1, []byte("0123456789"))
		must(t, err)
	}
	s := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: Lossless, Start: StartOldest()})
	joined := p.Seq()
	for {
		if _, err := p.Publish(1, []byte("0123456789")); errors.Is(err, ErrBackpressure) {
			break
		} else {
			must(t, err)
		}
	}
	next, missed := uint64(0), uint64(0)
	for next < p.Seq() {
		_, err := s.Poll(func(f Frame) {
			if f.Seq != next {
				t.Fatalf("%d where %d is due", f.Seq, next)
			}
			next++
		}, 0)
		var gap *GapError
		if errors.As(err, &gap) {
			if gap.From != next || gap.Next > joined || gap.Cause != CauseLapped {
				t.Fatalf("%v at %d, joined at %d", gap, next, joined)
			}
			next = gap.Next
			missed += gap.Missed()
			continue
		}
		must(t, err)
	}
	if missed == 0 {
		t.Fatal("the ring came round and no history was lost")
	}
}
