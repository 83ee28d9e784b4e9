package shm

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// slowed reports whether the race detector or coverage counters make hot paths up to
// 20 times slower. Tests then take small figures; make checkptr takes the large ones.
func slowed() bool { return raceEnabled || testing.CoverMode() != "" }

// frames is how many frames a test moves.
func frames(n int) int {
	if slowed() {
		return n / 40
	}
	return n
}

// drain reads until every publisher's n frames came, and fails on anything else.
func drain(s *Subscriber, lanes, n int) error {
	c := newTally()
	for idle := s.Idler(); ; {
		got, err := s.Poll(c.frame, 0)
		if err != nil {
			return err
		}
		if c.err != nil {
			return c.err
		}
		if r, _ := c.total(); r == uint64(lanes*n) {
			for id, got := range c.received {
				if got != uint64(n) {
					return fmt.Errorf("%d of %d frames of %x", got, n, id)
				}
			}
			return nil
		}
		if got == 0 {
			runtime.Gosched()
		}
		idle.Idle(got)
	}
}

func TestEveryFrameOnceInOrderOnHeap(t *testing.T) {
	for _, c := range []struct{ lanes, subs, frames int }{{1, 1, 5e6}, {1, 4, 1e6}, {4, 1, 1e6}, {4, 4, 2e5}} {
		t.Run(fmt.Sprintf("%dx%d", c.lanes, c.subs), func(t *testing.T) {
			watch(t, 2*time.Minute)
			n := frames(c.frames)
			pubs, subs := heapBus(t, c.lanes, c.subs, layout.Geometry{Ring: small}, Policy{Timeout: -1})
			var done sync.WaitGroup
			for _, p := range pubs {
				done.Go(func() {
					if err := send(p, n); err != nil {
						t.Error(err)
					}
				})
			}
			for _, s := range subs {
				done.Go(func() {
					if err := drain(s, c.lanes, n); err != nil {
						t.Error(err)
					}
				})
			}
			done.Wait()
			for _, p := range pubs {
				if wraps := p.pos / p.hdr.Ring; wraps < 10 {
					t.Errorf("only %d wraps", wraps)
				}
			}
		})
	}
}

func TestEveryFrameOnceInOrderOnMappings(t *testing.T) {
	for _, c := range []struct{ lanes, subs, frames int }{{1, 1, 2e6}, {1, 4, 3e5}, {4, 1, 3e5}, {4, 4, 1e5}} {
		t.Run(fmt.Sprintf("%dx%d", c.lanes, c.subs), func(t *testing.T) {
			watch(t, 2*time.Minute)
			d, pc := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
			sc := dial(t, d)
			n := frames(c.frames)
			var done sync.WaitGroup
			for range c.subs {
				s := subscriber(t, sc, "a.*", SubscriberOptions{Mode: Lossless})
				done.Go(func() {
					if err := drain(s, c.lanes, n); err != nil {
						t.Error(err)
					}
				})
			}
			for i := range c.lanes {
				p := publisher(t, pc, fmt.Sprintf("a.%d", i/2), PublisherOptions{Source: fmt.Sprint("s", i)})
				done.Go(func() {
					if err := send(p, n); err != nil {
						t.Error(err)
					}
					if err := p.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			done.Wait()
		})
	}
}

// Two lanes end in one sweep: the list of lanes shrinks under Poll.
func TestLanesEndDuringASweep(t *testing.T) {
	watch(t, time.Minute)
	pubs, subs := heapBus(t, 5, 1, layout.Geometry{Ring: small}, Policy{})
	for i, p := range pubs {
		for range i {
			_, err := p.Publish(1, nil)
			must(t, err)
		}
		if i != 2 {
			must(t, p.Close())
		}
	}
	n := 0
	readOut(t, subs[0], func(Frame) { n++ })
	if n != 0+1+2+3+4 || len(subs[0].lanes) != 1 {
		t.Fatalf("%d frames, %d lanes left", n, len(subs[0].lanes))
	}
}

// The next incarnation of a source may be there long before the last one is read.
func TestSourceKeepsItsOrderOverARestart(t *testing.T) {
	watch(t, time.Minute)
	d, _ := openBus(t, LocalOptions{RingBytes: small})
	sc := dial(t, d)
	s := subscriber(t, sc, "a", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	const rounds, n = 5, 100
	for i := range rounds {
		c := dial(t, d)
		p := publisher(t, c, "a", PublisherOptions{Source: "one"})
		for range n {
			_, err := p.Publish(uint16(i), nil)
			must(t, err)
		}
		if i%2 == 0 {
			must(t, p.Close())
		} else {
			// As a crash: the lock goes with the mapping, and no END was written.
			must(t, c.Close())
			must(t, p.mapping.Close())
		}
		// The one that crashed is found dead when the next asks for the name.
	}
	var got []uint16
	pollUntil(t, s, func(f Frame) {
		if f.Seq != uint64(len(got)%n) {
			t.Fatalf("sequence %d of incarnation %d at %d", f.Seq, f.Type, len(got))
		}
		got = append(got, f.Type)
	}, func() bool { return len(got) == rounds*n })
	for i, typ := range got {
		if int(typ) != i/n {
			t.Fatalf("frame %d is of incarnation %d", i, typ)
		}
	}
}

func TestSequencesCrossZero(t *testing.T) {
	watch(t, time.Minute)
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	h.FirstSeq = ^uint64(0) - 4999
	h.Encode(mem)
	p, err := newPublisher(mem, h, PublisherOptions{}, Policy{Kind: PolicyFail})
	must(t, err)
	s, r := heapSub(t, p, mem, h, Lossless)
	next := h.FirstSeq
	for range 100 {
		for range 100 {
			seq, err := p.Publish(1, []byte("crossing"))
			must(t, err)
			if seq != p.Seq()-1 {
				t.Fatalf("%d published, %d next", seq, p.Seq())
			}
		}
		readOut(t, s, func(f Frame) {
			if f.Seq != next {
				t.Fatalf("sequence %d where %d is due", f.Seq, next)
			}
			next++
		})
	}
	if next != 5000 || r.pos != p.pos {
		t.Fatalf("read up to %d at %d, tail %d", next, r.pos, p.pos)
	}
	// Every start, on both sides of zero.
	for _, start := range []uint64{h.FirstSeq, ^uint64(0) - 10, 0, 4990} {
		l, err := newReader(mem, h)
		must(t, err)
		l.startAt(start)
		oldest, err := newReader(mem, h)
		must(t, err)
		oldest.startOldest()
		if oldest.fresh || oldest.want-h.FirstSeq > 10000 {
			t.Fatalf("oldest at %d", oldest.want)
		}
		first := oldest.want // what is left in the ring
		switch {
		case start-h.FirstSeq >= first-h.FirstSeq && (l.want != start || l.loose != 0):
			t.Fatalf("start %d: at %d, cause %v, oldest %d", start, l.want, l.loose, first)
		case start-h.FirstSeq < first-h.FirstSeq && (l.want != start || l.loose != CauseStart):
			t.Fatalf("start %d: gap from %d, cause %v, oldest %d", start, l.want, l.loose, first)
		}
	}
	late, err := newReader(mem, h)
	must(t, err)
	late.startLatest()
	if late.want != p.Seq() || late.pos != p.pos {
		t.Fatalf("latest at %d, tail %d", late.want, p.Seq())
	}
}

func TestErrorsNameWhatWhereAndTheWayOut(t *testing.T) {
	for _, c := range []struct {
		err  error
		is   error
		text string
	}{
		{&GapError{From: 3, Next: 7, Cause: CauseLapped}, ErrGap, "gap: 4 frames missing, sequences 3 to 6 (lapped)"},
		{&GapError{From: 3, Next: 4, Cause: CauseEvicted}, ErrGap, "gap: 1 frames missing, sequences 3 to 3 (evicted)"},
		{&GapError{From: 3, Next: 4, Cause: CauseStart}, ErrGap, "gap: 1 frames missing, sequences 3 to 3 (start)"},
		{&GapError{From: 3, Next: 4, Cause: CauseForwarded}, ErrGap, "gap: 1 frames missing, sequences 3 to 3 (forwarded)"},
		{&GapError{From: 3, Next: 4}, ErrGap, "gap: 1 frames missing, sequences 3 to 3 (unknown)"},
		{&EvictedError{NextSeq: 9}, ErrEvicted, "evicted before sequence 9: the subscriber was too slow for the topic's policy; it joins again and reports the gap"},
		{&LaneError{Pos: 64, Reason: "why", Err: ErrCorrupt}, ErrCorrupt, "lane is corrupt at position 64: why; the lane was detached"},
		{&LaneError{Pos: 64, Reason: "why", Err: ErrFault}, ErrFault, "memory fault in a segment at position 64: why; the lane was detached"},
		{&BackpressureError{Subscriber: "x", LagBytes: 5, Waited: time.Second}, ErrBackpressure, "no room after 1s: lossless subscriber x is 5 bytes behind; nothing was published"},
		{&BatchError{Published: 2, Err: ErrBackpressure}, ErrBackpressure, "batch stopped after 2 messages: no room: a lossless subscriber is behind"},
	} {
		if !errors.Is(c.err, c.is) || c.err.Error() != c.text {
			t.Errorf("%q, want %q, is %v: %v", c.err, c.text, c.is, errors.Is(c.err, c.is))
		}
	}
}
