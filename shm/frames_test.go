package shm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// A loop over Frames that is left anywhere, by a break or a panic, or whose body reads in any
// other way, loses nothing and repeats nothing.
func TestFramesAmongOtherReads(t *testing.T) {
	ctx := watch(t, time.Minute)
	rnd := rand.New(rand.NewPCG(82, 1))
	_, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
	s := subscriber(t, c, "a.>", SubscriberOptions{Mode: Lossless})
	var pubs []*Publisher
	for i, topic := range []string{"a.b", "a.b", "a.c"} {
		pubs = append(pubs, publisher(t, c, topic, PublisherOptions{Source: fmt.Sprint("source ", i)}))
	}
	ta := newTally()
	left := 0
	take := func(f Frame) { ta.frame(f); left-- }
	poll := func() {
		before := left
		n, err := [...]func(*Subscriber, func(Frame), int) (int, error){(*Subscriber).Poll, pollBatch}[rnd.IntN(2)](s, take, 1+rnd.IntN(20))
		must(t, err)
		if n != before-left {
			t.Fatalf("a poll says %d and hands out %d", n, before-left)
		}
	}
	view := func() {
		_, err := s.View(func(f Frame) error { take(f); return nil }, 1+rnd.IntN(20))
		must(t, err)
	}
	var loop func(depth int) error
	loop = func(depth int) error {
		for f, err := range s.Frames(ctx) {
			must(t, err)
			take(f)
			switch rnd.IntN(60) {
			case 0:
				poll()
			case 1:
				view()
			case 2:
				if depth < 3 && left > 0 {
					must(t, loop(depth+1))
				}
			case 3:
				if depth < 3 && left > 0 {
					must(t, s.Protect(func() error { return loop(depth + 1) }))
				}
			case 4:
				panic("the loop's body")
			case 5:
				return nil
			}
			if left == 0 {
				break
			}
		}
		return nil
	}
	sent := 0
	for range 3000 {
		for _, p := range pubs {
			n := rnd.IntN(100)
			publishN(t, p, n)
			left, sent = left+n, sent+n
		}
		for left > 0 {
			func() {
				defer func() {
					if v := recover(); v != nil && v != "the loop's body" {
						panic(v)
					}
				}()
				must(t, loop(0))
			}()
			switch rnd.IntN(3) {
			case 0:
				poll()
			case 1:
				view()
			}
		}
	}
	must(t, ta.err)
	must(t, s.Close())
	received, _ := ta.total()
	if st := s.Stats(); received != uint64(sent) || st.Frames != received || st.Bytes != 64*received {
		t.Fatalf("%d of %d, %+v", received, sent, st)
	}
}

// Whenever a durable subscriber is closed, in a loop's body or beside it, its next owner gets
// exactly what the loop did not.
func TestCloseAmongFrames(t *testing.T) {
	ctx := watch(t, time.Minute)
	rnd := rand.New(rand.NewPCG(82, 2))
	_, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a", PublisherOptions{})
	next := uint64(0)
	for round := range 200 {
		s := subscriber(t, c, "a", durableOptions(Lossless))
		publishN(t, p, 300)
		had, stop, kind := make(chan struct{}), 1+rnd.Uint64N(299), round%4
		first := next
		take := func(f Frame) {
			if f.Seq != next {
				t.Errorf("round %d: sequence %d where %d is due", round, f.Seq, next)
			}
			next++
		}
		var loop sync.WaitGroup
		loop.Go(func() {
			defer func() {
				if v := recover(); v != nil && v != "the loop's body" {
					panic(v)
				}
			}()
			for f, err := range s.Frames(ctx) {
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					break
				}
				if take(f); next == first+stop {
					close(had)
					switch kind {
					case 0:
						if err := s.Close(); err != nil {
							t.Error(err)
						}
					case 1:
						panic("the loop's body")
					}
				}
				if kind == 2 && next > first+stop {
					_, _ = s.Poll(take, 3)
				}
			}
		})
		<-had
		must(t, s.Close())
		loop.Wait()
		if st := s.Stats(); st.Frames != next-first {
			t.Fatalf("round %d: %d frames counted, %d had", round, st.Frames, next-first)
		}
		if kind < 2 && next != first+stop {
			t.Fatalf("round %d: the loop went on, to %d from %d", round, next, first+stop)
		}
		s = subscriber(t, c, "a", durableOptions(Lossless)) // takes the rest, so that there is room
		for next != p.Seq() {
			_, err := s.Poll(take, 0)
			must(t, err)
		}
		must(t, s.Close())
	}
}

// The cursor follows each step: however slow a loop's body is, its publisher sees it move, and
// who is killed in it gets one frame again.
func TestCursorFollowsEachStep(t *testing.T) {
	ctx := watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	publishN(t, p, 50)
	n, due := 0, r.pos
	for _, err := range s.Frames(ctx) {
		must(t, err)
		if stored := *r.slotPos; stored != due || *r.slotSeq != uint64(n) {
			t.Fatalf("frame %d: the cursor is at %d, sequence %d; %d is due", n, stored, *r.slotSeq, due)
		}
		due = r.pos
		if n++; n == 50 {
			break
		}
	}
	// An eviction is told before the next frame, in the middle of the stretch.
	publishN(t, p, 50)
	n = 0
	for _, err := range s.Frames(ctx) {
		var e *EvictedError
		if errors.As(err, &e) {
			if n != 10 || e.NextSeq != 60 {
				t.Fatal(n, e)
			}
			break
		}
		must(t, err)
		if n++; n == 10 {
			atomic.StoreUint64(r.notice, r.ticket)
		}
	}
	if st := statsOf(s.counts[:]); st.Frames != 60 || st.Evictions != 1 {
		t.Fatal(st)
	}
}

// A loop with much to read turns to the other lanes soon, and shows with each step that it reads:
// while it is slow, the publisher of another lane waits for it under evict.
func TestLanesTakeTurnsUnderFrames(t *testing.T) {
	ctx := watch(t, time.Minute)
	pubs, subs := heapBus(t, 3, 1, layout.Geometry{Ring: small}, Policy{})
	for _, p := range pubs {
		publishN(t, p, 200)
	}
	s := subs[0]
	turn, n, from := 0, 0, SourceID(0)
	activity, before := word64(s.mem, layout.OffSubMetrics), uint64(0)
	for f, err := range s.Frames(ctx) {
		must(t, err)
		if f.Source != from {
			from, turn = f.Source, 0
		}
		if turn++; turn > laidMost {
			t.Fatalf("%d frames in a row of one lane", turn)
		}
		now := atomic.LoadUint64(activity)
		if n > 3 && now == before { // the first ones may come alone, and be the first of all
			t.Fatalf("frame %d came without a sign of activity", n)
		}
		if before = now; n == 3*200-1 {
			break
		}
		n++
	}
}

// What a loop's body does to ctx counts at once, in the middle of a stretch.
func TestFramesEndWithTheirContext(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	publishN(t, p, 100)
	ctx, cancel := context.WithCancel(bg())
	defer cancel()
	n, ends := 0, 0
	for _, err := range s.Frames(ctx) {
		if errors.Is(err, context.Canceled) {
			ends++
			continue
		}
		must(t, err)
		if n++; n == 50 {
			cancel()
		}
	}
	if n != 50 || ends != 1 {
		t.Fatal(n, ends)
	}
	if n, err := s.Poll(func(Frame) {}, 0); n != 50 || err != nil {
		t.Fatal(n, err)
	}
}

// A copy that does not hold what gather saw ends the lane, or is gathered again where it may
// have ended within a frame; the loop never turns in place.
func TestFramesOfCopiesThatChanged(t *testing.T) {
	frame := layout.FrameBytes(64)
	for name, lie := range map[string]struct {
		at   int // how many frames come before it
		tell func(h []byte)
	}{
		"another position":       {3, func(h []byte) { h[1] ^= 1 }},
		"longer than messages":   {3, func(h []byte) { h[layout.OffLen] = 120 }},
		"longer than the copy":   {9, func(h []byte) { h[layout.OffLen] = 100 }},
		"another sequence":       {3, func(h []byte) { h[layout.OffSeq]++ }},
		"the sequence of before": {3, func(h []byte) { h[layout.OffSeq]-- }},
	} {
		for _, bulk := range []bool{false, true} {
			ctx := watch(t, time.Minute)
			p, s, r := heapPair(t, layout.Geometry{Ring: small, MaxMsg: 100}, Lossless, Policy{})
			publishN(t, p, 10)
			n, gone, again := 0, error(nil), bulk && !strings.Contains(name, "sequence")
			for _, err := range s.Frames(ctx) {
				if err != nil {
					gone = err
					break
				}
				if n++; n == 3 {
					lie.tell(s.laid.copy[uint64(lie.at)*frame:])
					r.bulk = bulk
				}
				if n == 10 {
					break
				}
			}
			var le *LaneError
			if again && (n != 10 || gone != nil) || !again && (n != lie.at || !errors.As(gone, &le) || !errors.Is(gone, ErrCorrupt)) {
				t.Errorf("%s, bulk %v: %d frames, %v", name, bulk, n, gone)
			}
			if s.laid.lane != nil && !again {
				t.Errorf("%s, bulk %v: the stretch stays", name, bulk)
			}
		}
	}
}

// A lane that is truncated under a loop is an error in its place; the loop and the other lane go on.
func TestTruncatedLaneUnderFrames(t *testing.T) {
	ctx := watch(t, time.Minute)
	for _, protect := range []bool{false, true} {
		d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
		s := subscriber(t, dial(t, d), "*", SubscriberOptions{Idle: IdleSpin})
		p, other := publisher(t, c, "broken", PublisherOptions{}), publisher(t, c, "whole", PublisherOptions{})
		publishN(t, p, 200)
		n, alive := 0, 0
		var le *LaneError
		loop := func() error {
			for f, err := range s.Frames(ctx) {
				switch {
				case errors.As(err, &le):
				case err != nil:
					return err
				case f.Type == 2:
					if alive++; le != nil {
						return nil
					}
				default:
					if n++; n == 100 {
						must(t, os.Truncate(laneFile(t, d, p), layout.LaneHeaderBytes))
					}
				}
				if n >= 100 {
					_, err := other.Publish(2, []byte("alive"))
					must(t, err)
				}
			}
			return nil
		}
		if !protect {
			must(t, loop())
		} else {
			for alive == 0 || le == nil {
				if err := s.Protect(loop); !errors.As(err, &le) {
					must(t, err)
				}
			}
		}
		if !errors.Is(le, ErrFault) || alive == 0 || n < 100 {
			t.Fatalf("protect %v: %v, %d frames and %d of the other lane", protect, le, n, alive)
		}
		_, err := other.Publish(2, []byte("alive"))
		must(t, err)
		for n, got := 0, 0; got == 0; {
			n, err = s.Poll(func(Frame) { got++ }, 0)
			if must(t, err); n != got {
				t.Fatalf("protect %v: a poll after the loop says %d and hands out %d", protect, n, got)
			}
		}
	}
}

// A View on its own lets go of what it holds on to, whether memory is there or not.
func TestCloseAfterAView(t *testing.T) {
	for _, whole := range []bool{true, false} {
		watch(t, time.Minute)
		d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
		s := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: Lossless})
		p := publisher(t, c, "a", PublisherOptions{})
		publishN(t, p, 10)
		n := 0
		var err error
		for n == 0 && err == nil { // until the lane is there
			n, err = s.View(func(Frame) error { return nil }, 1)
		}
		if !whole {
			must(t, os.Truncate(laneFile(t, d, p), 0))
		}
		for n = 0; n == 0 && err == nil; {
			n, err = s.View(func(Frame) error { return nil }, 0)
		}
		if whole != (err == nil) || !whole && !errors.Is(err, ErrFault) || atomic.LoadUint32(&s.busy) != 0 || s.protected {
			t.Fatalf("whole %v: %d, %v, busy %d", whole, n, err, s.busy)
		}
		must(t, s.Close())
	}
}

// A cursor file that is truncated in the middle of a stretch ends the loop with its subscriber; a
// panic of the body that is none of ours passes through whatever the memory does.
func TestTruncatedCursorFileUnderFrames(t *testing.T) {
	ctx := watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, dial(t, d), "a", SubscriberOptions{})
	publishN(t, publisher(t, c, "a", PublisherOptions{}), 100)
	n, gone := 0, 0
	func() {
		defer func() {
			if v := recover(); v != "mine" {
				panic(v)
			}
		}()
		for range s.Frames(ctx) {
			if n++; n == 10 {
				panic("mine")
			}
		}
	}()
	for _, err := range s.Frames(ctx) {
		if errors.Is(err, ErrFault) {
			gone++
			continue
		}
		must(t, err)
		if n++; n == 20 {
			must(t, os.Truncate(files(t, d, "c")[0], 0))
		}
	}
	if n != 20 || gone != 1 || debug.SetPanicOnFault(false) {
		t.Fatal(n, gone)
	}
}

// Fear: Run sets up less than each of its polls would: a truncated lane kills the process, a panic
// leaves the subscriber as if it were polling, or what runs between polls cannot close it.
func TestRunLeavesWhatAPollLeaves(t *testing.T) {
	ctx := watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
	var le *LaneError
	s := subscriber(t, dial(t, d), "*", SubscriberOptions{Idle: IdleSpin, OnError: func(err error) {
		if !errors.As(err, &le) {
			t.Error(err)
		}
	}})
	p, other := publisher(t, c, "broken", PublisherOptions{}), publisher(t, c, "whole", PublisherOptions{})
	publishN(t, p, 200)
	n, alive := 0, 0
	then := ""
	take := func(f Frame) {
		if f.Type == 2 {
			alive++
		} else if n++; n == 100 {
			must(t, os.Truncate(laneFile(t, d, p), layout.LaneHeaderBytes))
		}
		if then == "panic in the handler" {
			panic(then)
		}
	}
	idle := idler(func() {
		if n >= 100 {
			_, err := other.Publish(2, []byte("alive"))
			must(t, err)
		}
		switch {
		case le == nil || alive == 0:
		case then == "":
			then = "panic in the handler"
		case then == "close":
			must(t, s.Close())
		default:
			panic(then)
		}
	})
	for _, next := range []string{"panic in the idler", "close"} {
		func() {
			defer func() {
				if v := recover(); v != then {
					t.Errorf("%v, recovered %v", then, v)
				}
			}()
			t.Error(s.Run(ctx, idle, take))
		}()
		if s.protected || atomic.LoadUint32(&s.busy) != 0 {
			t.Errorf("after %s: protected %v, busy %d", then, s.protected, s.busy)
		}
		then = next
	}
	if err := s.Run(ctx, idle, take); !errors.Is(err, ErrClosed) || !errors.Is(le, ErrFault) || s.protected {
		t.Errorf("%v, %v, protected %v", err, le, s.protected)
	}
}

type idler func()

func (i idler) Idle(int) { i() }
