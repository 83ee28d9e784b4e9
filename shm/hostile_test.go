package shm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// readAll polls a lane that nobody writes any more, until it is quiet, detached or
// ended. It fails the test if that takes more polls than the ring has frames.
func readAll(t testing.TB, s *Subscriber, h func(Frame)) {
	t.Helper()
	quiet := 0
	for range 3 * small / layout.Align {
		n, err := s.Poll(h, 0)
		var gap *GapError
		var lane *LaneError
		var ev *EvictedError
		switch {
		case err == nil, errors.As(err, &gap), errors.As(err, &ev):
		case errors.As(err, &lane) && errors.Is(err, ErrCorrupt):
		default:
			t.Fatal(err)
		}
		if n == 0 && err == nil {
			quiet++
		}
		if quiet > 4 {
			return
		}
	}
	t.Fatal("still not at rest")
}

// check fails on a frame that cannot have been in the ring.
func check(t testing.TB, maxMsg uint32) func(Frame) {
	return func(f Frame) {
		if len(f.Payload) > int(maxMsg) || len(f.Payload) != cap(f.Payload) {
			t.Fatalf("payload of %d bytes, cap %d", len(f.Payload), cap(f.Payload))
		}
		for _, b := range f.Payload { // every byte can be read
			_ = b
		}
	}
}

// hostileLane is a lane with real frames and its readers: lossy from the first
// frame and oldest, lossless, and one that is evicted.
func hostileLane(t testing.TB) (*Publisher, []byte, layout.LaneHeader) {
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	p, err := newPublisher(mem, h, PublisherOptions{}, Policy{Kind: PolicyFail})
	must(t, err)
	if err := send(p, 900); err != nil {
		t.Fatal(err)
	}
	return p, mem, h
}

func readers(t testing.TB, p *Publisher, mem []byte, h layout.LaneHeader) {
	for kind := range 5 {
		cur := make([]byte, layout.CursorFileBytes(64))
		s, err := newSubscriber(cur, layout.CursorHeader{Epoch: newID(), Slots: 64}, SubscriberOptions{LapToLatest: kind&1 != 0})
		must(t, err)
		r, err := newReader(mem, h)
		must(t, err)
		r.bindSlot(cur)
		switch kind {
		case 1:
			r.startOldest()
		case 2:
			r.startAt(450)
		case 3:
			r.startLatest()
		case 4:
			r.neverEvicts = true
			r.hold(&control.Joined{Pos: p.pos, Ticket: 9, Notice: 200}) // a notice beyond the table is taken modulo its size
		}
		s.post(admission{lane: r})
		readAll(t, s, check(t, h.MaxMsg))
		if kind == 4 {
			for range 10 {
				if _, err := s.View(func(f Frame) error { check(t, h.MaxMsg)(f); return nil }, 0); err != nil {
					break
				}
			}
		}
	}
}

func TestRandomBytesAnywhereInALane(t *testing.T) {
	watch(t, time.Minute)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	rounds := 150
	if slowed() {
		rounds = 15
	}
	spots := []struct{ from, to int }{
		{layout.OffIntent, layout.OffIntent + 8}, {layout.OffTail, layout.OffTail + layout.TailBytes},
		{layout.OffNotices, layout.OffIndex}, {layout.OffIndex, layout.OffRing}, {layout.OffRing, layout.OffRing + small},
	}
	for range rounds {
		p, mem, h := hostileLane(t)
		for _, s := range spots {
			switch rng.IntN(4) {
			case 0: // whole
				for i := s.from; i < s.to; i += 8 {
					binary.LittleEndian.PutUint64(mem[i:], rng.Uint64())
				}
			case 1: // bits
				for range 1 + rng.IntN(64) {
					mem[s.from+rng.IntN(s.to-s.from)] ^= 1 << rng.IntN(8)
				}
			case 2: // words that mean something
				for range 1 + rng.IntN(64) {
					words := []uint64{0, ^uint64(0), 1 << 62, 1 << 63, p.pos, p.pos + small, layout.Commit(p.pos&^31, layout.Kind(rng.IntN(4))), rng.Uint64N(p.pos) &^ 31}
					binary.LittleEndian.PutUint64(mem[s.from+rng.IntN((s.to-s.from)/8)*8:], words[rng.IntN(len(words))])
				}
			}
		}
		readers(t, p, mem, h)
	}
}

// Each header field of a frame, wrong in each way.
func TestFrameHeadersThatLie(t *testing.T) {
	for name, lie := range map[string]func(p *Publisher, pos uint64){
		"length beyond max":     func(p *Publisher, pos uint64) { *p.ring.word(pos + 8) = uint64(p.maxMsg + 1) },
		"length of 4 GiB":       func(p *Publisher, pos uint64) { *p.ring.word(pos + 8) = 0xffffffff },
		"sequence in the past":  func(p *Publisher, pos uint64) { *p.ring.word(pos + 16) = 0 },
		"sequence in future":    func(p *Publisher, pos uint64) { *p.ring.word(pos + 16) += 5 },
		"gap without its range": func(p *Publisher, pos uint64) { *p.ring.word(pos) = layout.Commit(pos, layout.KindGap) },
		"gap that goes back": func(p *Publisher, pos uint64) {
			*p.ring.word(pos) = layout.Commit(pos, layout.KindGap)
			*p.ring.word(pos + 8) = 8
			*p.ring.word(pos + 16) = 100
			*p.ring.word(pos + 32) = 3
		},
	} {
		for _, before := range []int{2, 1000} { // the second within a stretch of which no header was looked at
			for by, poll := range polls {
				t.Run(fmt.Sprint(name, " after ", before, ", ", by), func(t *testing.T) {
					p, s, r := heapPair(t, layout.Geometry{Ring: 1 << 17, MaxMsg: 100}, Lossless, Policy{Kind: PolicyFail})
					for range before + 500 {
						_, err := p.Publish(1, nil)
						must(t, err)
					}
					p.Flush()
					lie(p, r.pos+uint64(before)*layout.FrameHeaderBytes)
					n := 0
					var le *LaneError
					for range 8 {
						_, err := poll(s, func(f Frame) {
							if n++; len(f.Payload) != 0 {
								t.Fatalf("frame %d has %d bytes", f.Seq, len(f.Payload))
							}
						}, 300)
						if before > 300 && n == 900 && !r.bulk {
							t.Fatal("each header was looked at")
						}
						if err != nil && (!errors.As(err, &le) || !errors.Is(err, ErrCorrupt)) {
							t.Fatal(err)
						}
					}
					if n != before || le == nil || len(s.lanes) != 0 || s.Stats().Faults != 1 {
						t.Fatalf("%d frames, then %v, %d lanes", n, le, len(s.lanes))
					}
				})
			}
		}
	}
}

// Fear: the copy differs from what was looked at in the ring, and more is handed out than lies in it.
func TestCopiesThatChangedEndTheLane(t *testing.T) {
	frame := uint64(layout.FrameBytes(40))
	for name, lie := range map[string]func(b []byte){ // of the last of three frames
		"whole":            func([]byte) {},
		"another position": func(b []byte) { b[1] ^= 1 },
		"another kind":     func(b []byte) { binary.LittleEndian.PutUint64(b, layout.Commit(1<<18, layout.KindPad)) },
		"longer":           func(b []byte) { b[layout.OffLen] += 64 },
		"all but endless":  func(b []byte) { binary.LittleEndian.PutUint64(b[layout.OffLen:], math.MaxUint64) },
		"another sequence": func(b []byte) { b[layout.OffSeq]++ },
	} {
		for _, bulk := range []bool{false, true} {
			for by, poll := range map[string]func(s *Subscriber, r *reader, b []byte, h func(Frame)) (int, error){
				"Poll": func(s *Subscriber, r *reader, b []byte, h func(Frame)) (int, error) {
					return s.deliver(r, b, h, math.MaxInt)
				},
				"PollBatch": func(s *Subscriber, r *reader, b []byte, h func(Frame)) (int, error) {
					s.batch, s.batched = new(batch), func(fs []Frame) {
						for _, f := range fs {
							h(f)
						}
					}
					return s.deliver(r, b, nil, math.MaxInt)
				},
			} {
				_, s, r := heapPair(t, layout.Geometry{Ring: 1 << 17}, Lossless, Policy{})
				b := gatherBuffer(int(3 * frame))
				for i := range uint64(3) {
					h := b[i*frame:]
					binary.LittleEndian.PutUint64(h, layout.Commit(r.pos+i*frame, layout.KindData))
					binary.LittleEndian.PutUint64(h[layout.OffLen:], 3<<48|7<<32|40)
					binary.LittleEndian.PutUint64(h[layout.OffSeq:], r.want+i)
				}
				lie(b[2*frame:])
				r.bulk, r.fresh = bulk, false
				got := 0
				n, err := poll(s, r, b, func(f Frame) {
					if got += len(f.Payload); f.Type != 7 || f.Flags != 3 {
						t.Errorf("%s: type %d, flags %d", by, f.Type, f.Flags)
					}
				})
				want, fails := 2, !bulk || name == "another sequence"
				if name == "whole" {
					want, fails = 3, false
				}
				if n != want || got != 40*want || errors.Is(err, ErrCorrupt) != fails {
					t.Errorf("%s, %s, bulk %v: %d frames of %d bytes, %v", by, name, bulk, n, got, err)
				}
			}
		}
	}
}

// GAP frames are written by forwarders: sequences that were missing before.
func TestGapFrameIsReported(t *testing.T) {
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	_, err := p.Publish(1, []byte("a"))
	must(t, err)
	c, err := p.Claim(1, 8)
	must(t, err)
	pos := p.pos
	binary.LittleEndian.PutUint64(c.Bytes(), 9) // 1..9 are missing
	c.Commit()
	*p.ring.word(pos) = layout.Commit(pos, layout.KindGap)
	p.seq = 10
	_, err = p.Publish(1, []byte("b"))
	must(t, err)
	var got []uint64
	var gap *GapError
	for range 5 {
		_, err := s.Poll(func(f Frame) { got = append(got, f.Seq) }, 0)
		if err != nil && !errors.As(err, &gap) {
			t.Fatal(err)
		}
	}
	if gap == nil || gap.From != 1 || gap.Next != 10 || gap.Cause != CauseForwarded || len(got) != 2 || got[1] != 10 {
		t.Fatalf("%v, %v", got, gap)
	}
}

func TestEveryHeaderBitIsGuarded(t *testing.T) {
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	binary.LittleEndian.PutUint64(mem[layout.OffReady:], layout.Ready(layout.LaneMagic, h.Epoch))
	size := int64(len(mem))
	if _, err := layout.DecodeLane(mem[:layout.PrefixBytes], size); err != nil {
		t.Fatal(err)
	}
	for bit := range layout.PrefixBytes * 8 {
		mem[bit/8] ^= 1 << (bit % 8)
		if _, err := layout.DecodeLane(mem[:layout.PrefixBytes], size); err == nil {
			t.Fatalf("bit %d of byte %#x was not noticed", bit%8, bit/8)
		}
		mem[bit/8] ^= 1 << (bit % 8)
	}
}

// FuzzReader lays arbitrary bytes over the words and the ring of a lane.
func FuzzReader(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), []byte{})
	f.Add(uint64(small*2), uint64(small), uint64(3), []byte{1, 0, 1, 0, 0, 0, 0, 0})
	f.Add(^uint64(0), uint64(1)<<62, ^uint64(0), make([]byte, 4096))
	f.Fuzz(func(t *testing.T, intent, tail, at uint64, b []byte) {
		p, mem, h := hostileLane(t)
		if intent != 0 {
			*p.intent = intent
		}
		if tail != 0 {
			*word64(mem, layout.OffTailPos) = tail
		}
		// The first byte says where the rest goes.
		if len(b) > 0 {
			at %= uint64(len(mem) - layout.OffIntent)
			copy(mem[layout.OffIntent+at:], b)
		}
		readers(t, p, mem, h)
	})
}

// Fear: an intent that nobody wrote has a lossy reader look for a valid frame for ever,
// without a word.
func TestIntentBeyondAllReasonIsCorrupt(t *testing.T) {
	watch(t, time.Minute)
	_, mem, h := hostileLane(t)
	for _, intent := range []uint64{h.FirstPos + 1<<40, layout.MaxPos} {
		*word64(mem, layout.OffIntent) = intent
		for _, latest := range []bool{false, true} {
			cur := make([]byte, layout.CursorFileBytes(64))
			s, err := newSubscriber(cur, layout.CursorHeader{Epoch: newID(), Slots: 64}, SubscriberOptions{LapToLatest: latest})
			must(t, err)
			r, err := newReader(mem, h)
			must(t, err)
			r.bindSlot(cur)
			s.post(admission{lane: r})
			var lane *LaneError
			if _, err := s.Poll(func(Frame) { t.Error("a frame that may be overwritten") }, 0); !errors.As(err, &lane) || !errors.Is(err, ErrCorrupt) {
				t.Errorf("intent %#x: %v", intent, err)
			}
		}
	}
}
