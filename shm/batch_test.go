package shm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// Fear: a batch differs from what Poll hands out: another field, another order, a frame less.
func TestBatchesHoldWhatPollHandsOut(t *testing.T) {
	watch(t, time.Minute)
	rnd := rand.New(rand.NewPCG(83, 1))
	_, c := openBus(t, LocalOptions{RingBytes: 1 << 18, MaxMessageBytes: 3000, Policy: Policy{Kind: PolicyFail}})
	one := subscriber(t, c, "a.>", SubscriberOptions{Mode: Lossless})
	many := subscriber(t, c, "a.>", SubscriberOptions{Mode: Lossless})
	var pubs []*Publisher
	for i, topic := range []string{"a.b", "a.b", "a.c"} {
		pubs = append(pubs, publisher(t, c, topic, PublisherOptions{Source: fmt.Sprint(i), Timestamps: TimestampsTSC}))
	}
	kept := func(f Frame) Frame {
		f.Payload = slices.Clone(f.Payload)
		return f
	}
	payload := make([]byte, 3000)
	for i := range payload {
		payload[i] = byte(rnd.Uint32())
	}
	largest := 0
	for range 300 {
		sent, most := 0, 16<<rnd.IntN(7)
		alike, typ := rnd.IntN(2) == 0, uint16(rnd.IntN(3))
		for range rnd.IntN(1000) {
			if !alike && rnd.IntN(3) == 0 {
				most, typ = rnd.IntN(2)*rnd.IntN(cap(payload)+1), uint16(rnd.IntN(2)*rnd.IntN(math.MaxUint16+1))
			}
			at := rnd.IntN(cap(payload) - most + 1)
			if _, err := pubs[rnd.IntN(len(pubs))].Publish(typ, payload[at:at+most]); err != nil {
				break // no room
			}
			sent++
		}
		want := map[SourceID][]Frame{}
		for got := 0; got < sent; {
			n, err := one.Poll(func(f Frame) { want[f.Source] = append(want[f.Source], kept(f)) }, 0)
			must(t, err)
			got += n
		}
		for got := 0; got < sent; {
			handed, limit := 0, []int{0, 1, 1 + rnd.IntN(300)}[rnd.IntN(3)]
			n, err := many.PollBatch(func(fs []Frame) {
				largest = max(largest, len(fs))
				if handed += len(fs); len(fs) == 0 || cap(fs) != len(fs) {
					t.Fatalf("a batch of %d frames, %d at most", len(fs), cap(fs))
				}
				for i, f := range fs {
					w := want[f.Source]
					if len(w) == 0 {
						t.Fatalf("%+v comes, nothing is due", f)
					}
					if w[0].Topic != f.Topic || w[0].Seq != f.Seq || w[0].Time != f.Time || w[0].Type != f.Type || w[0].Flags != f.Flags || !slices.Equal(w[0].Payload, f.Payload) {
						t.Fatalf("%+v comes, %+v is due", f, w[0])
					}
					if cap(f.Payload) != len(f.Payload) {
						t.Fatalf("a payload of %d bytes may grow to %d", len(f.Payload), cap(f.Payload))
					}
					want[f.Source] = w[1:]
					fs[i] = Frame{} // which is the handler's to do
				}
			}, limit)
			must(t, err)
			if n != handed || limit > 0 && n > limit {
				t.Fatalf("a poll of at most %d says %d and hands out %d", limit, n, handed)
			}
			got += n
		}
	}
	if largest < 64 {
		t.Errorf("no batch has more than %d frames", largest)
	}
	if a, b := one.counts, many.counts; a != b {
		t.Errorf("counted %v, and by batches %v", a, b)
	}
}

// Fear: where large frames were, more empty ones come at once than a batch has room for.
func TestABatchHasRoomForAll(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 100 << 10, Step: 256 << 10}, Lossless, Policy{Kind: PolicyFail})
	publishSized(t, p, 2, 90<<10)
	publishSized(t, p, 5000, 0)
	next, largest := uint64(0), 0
	for next < 5002 {
		n, err := s.PollBatch(func(fs []Frame) {
			largest = max(largest, len(fs))
			for _, f := range fs {
				if f.Seq != next {
					t.Fatalf("sequence %d where %d is due", f.Seq, next)
				}
				next++
			}
		}, math.MaxInt)
		if must(t, err); n == 0 {
			t.Fatalf("nothing comes after %d", next)
		}
	}
	if largest != batchMost {
		t.Errorf("no batch was full: %d frames", largest)
	}
}

// Fear: of a batch whose handler panicked something is gone, or counted.
func TestABatchWhoseHandlerPanicsComesAgain(t *testing.T) {
	watch(t, time.Minute)
	for _, size := range []int{0, 40, 1000, 12000} {
		p, s, r := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 16 << 10, Step: 64 << 10}, Lossless, Policy{Kind: PolicyFail})
		n := uint64(200_000 / (size + 32))
		publishSized(t, p, n, size)
		next, calls := uint64(0), 0
		poll := func() {
			defer func() { _ = recover() }()
			_, err := s.PollBatch(func(fs []Frame) {
				if fs[0].Seq != next {
					t.Fatalf("%d bytes: sequence %d where %d is due", size, fs[0].Seq, next)
				}
				if calls++; calls%3 == 0 {
					panic("handler")
				}
				next += uint64(len(fs))
			}, 300)
			must(t, err)
		}
		for next < n {
			if poll(); s.counts[layout.SubFrames] != next {
				t.Fatalf("%d bytes: %d frames are counted, %d were had", size, s.counts[layout.SubFrames], next)
			}
		}
		poll()
		if r.frame != layout.FrameBytes(uint64(size)) {
			t.Errorf("%d bytes: the next stretch is guessed by frames of %d", size, r.frame)
		}
		if got := s.counts; got[layout.SubFrames] != n || got[layout.SubBytes] != n*uint64(size) {
			t.Errorf("%d bytes: %d frames and %d bytes are counted, %d were had", size, got[layout.SubFrames], got[layout.SubBytes], n)
		}
	}
}

// Fear: a handler that unwinds stays, and hears of frames again, or what it had is counted twice.
func TestNothingStaysOfAHandlerThatUnwinds(t *testing.T) {
	watch(t, time.Minute)
	for how, unwind := range map[string]func(){"panic": func() { panic("handler") }, "Goexit": runtime.Goexit} {
		for by, poll := range polls {
			p, s, r := heapPair(t, layout.Geometry{Ring: 1 << 18}, Lossless, Policy{})
			r.neverEvicts = true
			publishN(t, p, 100)
			view := func(n int) {
				got, err := s.View(func(Frame) error { return nil }, n)
				if must(t, err); got != n {
					t.Fatalf("%d of %d frames", got, n)
				}
			}
			view(1)
			calls := 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = s.Protect(func() error {
					defer func() { _ = recover() }()
					_, err := poll(s, func(Frame) {
						if calls++; calls == 10 {
							unwind()
						}
					}, 0)
					return err
				})
			}()
			<-done
			had := uint64(9)
			if by == "PollBatch" {
				had = 0 // all of it comes again
			}
			if s.batched != nil {
				t.Errorf("%s, %s: the handler stays", by, how)
			}
			view(50)
			for n := 1; n > 0; {
				var err error
				n, err = poll(s, func(Frame) { had++ }, 0)
				must(t, err)
			}
			if had+51 != 100 || s.counts[layout.SubFrames] != 100 || s.counts[layout.SubBytes] != 6400 {
				t.Errorf("%s, %s: %d frames were had, %d of %d bytes are counted", by, how, had+51, s.counts[layout.SubFrames], s.counts[layout.SubBytes])
			}
		}
	}
}

// Fear: a frame that comes alone lacks what others have.
func TestAFrameAloneIsWhole(t *testing.T) {
	watch(t, time.Minute)
	for by, poll := range polls {
		p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
		publishN(t, p, 1)
		for n := 1; n > 0 || r.idle == 0; {
			var err error
			n, err = poll(s, func(Frame) {}, 0)
			must(t, err)
		}
		at := p.pos
		_, err := p.Publish(7, []byte("alone"))
		must(t, err)
		*p.ring.word(at + layout.OffLen) |= 3 << 48
		n, err := poll(s, func(f Frame) {
			if f.Topic != r.topic || f.Source != r.source || f.Seq != 1 || f.Type != 7 || f.Flags != 3 || string(f.Payload) != "alone" {
				t.Errorf("%s: %+v", by, f)
			}
		}, 0)
		if must(t, err); n != 1 {
			t.Errorf("%s: %d frames", by, n)
		}
	}
}
