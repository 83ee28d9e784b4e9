package shm

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// A protected poll loop gives the fault of a lane back, and may be run again.
func TestProtectedPollLoop(t *testing.T) {
	watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, dial(t, d), "*", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	p, q := publisher(t, c, "broken", PublisherOptions{}), publisher(t, c, "whole", PublisherOptions{})
	stop := errors.New("stop")
	n := 0
	loop := func() error {
		idle := s.Idler()
		for {
			got, err := s.Poll(func(Frame) { n++ }, 0)
			if err != nil {
				return err
			}
			if n >= 2 {
				return s.Protect(func() error { return stop }) // inside another it is just f
			}
			idle.Idle(got)
		}
	}
	for _, x := range []*Publisher{p, q} {
		_, err := x.Publish(1, nil)
		must(t, err)
	}
	if err := s.Protect(loop); err != stop {
		t.Fatal(err)
	}
	n = 0
	must(t, os.Truncate(laneFile(t, d, p), 0))
	var le *LaneError
	if err := s.Protect(loop); !errors.As(err, &le) || !errors.Is(err, ErrFault) {
		t.Fatal(err)
	}
	for range 2 {
		_, err := q.Publish(1, nil)
		must(t, err)
	}
	if err := s.Protect(loop); err != stop {
		t.Fatal(err)
	}
	if err := s.Protect(func() error { _, err := s.View(func(Frame) error { return nil }, 0); return err }); err != nil {
		t.Fatal(err)
	}
	// Close from elsewhere ends a protected loop that is parked.
	ended := make(chan error, 1)
	n = -1 << 60
	go func() { ended <- s.Protect(loop) }()
	time.Sleep(2 * time.Millisecond)
	must(t, s.Close())
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// Words that the directory gave up, or that stand in the wrong memory.
func TestMemoryThatCannotHoldALane(t *testing.T) {
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	odd := make([]byte, len(mem)+8)[1:][:len(mem)]
	if _, err := newPublisher(odd, h, PublisherOptions{}, Policy{}); err == nil {
		t.Error("a publisher on odd memory")
	}
	if _, err := newReader(odd, h); err == nil {
		t.Error("a reader on odd memory")
	}
	if _, err := newSubscriber(odd, layout.CursorHeader{Slots: 1}, SubscriberOptions{}); err == nil {
		t.Error("cursors on odd memory")
	}
	if addrWithin(1, nil) {
		t.Error("an address in nothing")
	}
}

func TestLaneThatTheDirectoryGaveUp(t *testing.T) {
	p, _, _ := heapPair(t, geo, Lossless, Policy{})
	_, err := p.Publish(1, nil)
	must(t, err)
	p.lost.Store(true)
	for err == nil {
		_, err = p.Publish(1, make([]byte, 1000))
	}
	if !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// A lane whose publisher is dead has nobody to join: an evicted reader reads on.
func TestEvictedFromALaneThatDied(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	must(t, send(p, 50))
	p.evict(p.set.Load().lossless[0], evictStalled)
	must(t, send(p, 50))
	c := newTally()
	evicted := false
	for range 10 {
		_, err := s.Poll(c.frame, 10)
		if errors.Is(err, ErrEvicted) {
			evicted = true
			break
		}
		must(t, err)
	}
	s.post(admission{epoch: r.hdr.Epoch, final: &control.Final{Pos: p.pos, Seq: p.seq}})
	for range 20 {
		_, err := s.Poll(c.frame, 0)
		var gap *GapError
		if errors.As(err, &gap) {
			c.gap(gap)
		} else {
			must(t, err)
		}
	}
	if received, missed := c.total(); !evicted || received+missed != 100 || len(s.lanes) != 0 || c.err != nil {
		t.Fatal(evicted, received, missed, len(s.lanes), c.err)
	}
}

// A batch too, and a claim, may meet a full ring at their second step.
func TestBatchWithoutRoom(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	for fill(t, p); ; {
		if _, err := p.Publish(1, nil); err != nil {
			break
		}
	}
	seq := p.Seq()
	for _, msgs := range [][]Message{{{1, nil}}, {{1, nil}, {1, make([]byte, 4000)}}} {
		if _, err := p.PublishBatch(msgs); !errors.Is(err, ErrBackpressure) || p.Seq() != seq {
			t.Fatal(err)
		}
	}
	// Room for the first frame of a batch, not for all.
	_, err := s.Poll(func(Frame) {}, 4)
	must(t, err)
	_, err = s.Poll(func(Frame) {}, 4)
	must(t, err)
	_, err = s.Poll(func(Frame) {}, 1)
	must(t, err)
	if _, err := p.PublishBatch([]Message{{1, nil}, {1, make([]byte, 8000)}}); !errors.Is(err, ErrBackpressure) || p.Seq() != seq {
		t.Fatal(err, p.Seq(), seq)
	}
	for want := seq; want > 0; {
		n, err := s.Poll(func(f Frame) {
			if f.Seq >= seq {
				t.Fatal("a part of the batch was seen")
			}
		}, 0)
		must(t, err)
		if n == 0 {
			break
		}
	}
}

func TestViewMeetsLies(t *testing.T) {
	for name, lie := range map[string]func(p *Publisher, pos uint64){
		"sequence": func(p *Publisher, pos uint64) { *p.ring.word(pos + 16) += 5 },
		"length":   func(p *Publisher, pos uint64) { *p.ring.word(pos + 8) = 1 << 30 },
	} {
		p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
		r.neverEvicts = true
		for range 3 {
			_, err := p.Publish(1, nil)
			must(t, err)
		}
		lie(p, r.pos+32)
		n, err := s.View(func(Frame) error { return nil }, 0)
		for err == nil {
			var m int
			m, err = s.View(func(Frame) error { return nil }, 0)
			n += m
		}
		if n != 1 || !errors.Is(err, ErrCorrupt) {
			t.Fatal(name, n, err)
		}
	}
}
