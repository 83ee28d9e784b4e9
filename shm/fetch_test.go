package shm

import (
	"math/rand/v2"
	"testing"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
)

// A reader that fetches lines that the publisher is writing slows down both.
func TestFetchLeavesTheWritersLinesAlone(t *testing.T) {
	_, _, r := heapPair(t, layout.Geometry{Ring: 64 << 10, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{})
	ring := r.ring.mask + 1
	for _, c := range []struct {
		name            string
		due, tail, next uint64
	}{
		{"complete", 0, ring, fetchBytes},
		{"up to the tail", 0, gatherBytes + fetchBytes, fetchBytes},
		{"one word beyond the tail", 0, gatherBytes + fetchBytes - 8, noFetch},
		{"in a line's middle", 32, gatherBytes + fetchBytes, 32 + fetchBytes},
		{"tail not known", 0, 0, noFetch},
		{"up to the lap's end", ring - gatherBytes - fetchBytes, 2 * ring, ring - gatherBytes},
		{"across the lap's end", ring - gatherBytes - 8, 2 * ring, noFetch},
		{"from the next lap's start", ring - gatherBytes, 2 * ring, ring - gatherBytes + fetchBytes},
	} {
		r.tail, r.frame = c.tail, layout.FrameBytes(64)
		if next := r.fetch(c.due, gatherBytes); next != c.next {
			t.Errorf("%s: next due at %d, want %d", c.name, next, c.next)
		}
	}
}

// The same of large frames, whose lines are asked for while those before them are copied: none
// where there are no hints.
func TestLinesAheadOfACopyAreComplete(t *testing.T) {
	_, _, r := heapPair(t, layout.Geometry{Ring: 64 << 10, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{})
	const n = 8 * 1056
	ring, none := r.ring.mask+1, ^uint64(0)
	for _, c := range []struct {
		name                   string
		pos, frame, tail, from uint64
	}{
		{"complete", ring, 1056, 2 * ring, ring + fetchLead},
		{"up to the tail", ring, 1056, ring + fetchLead + n, ring + fetchLead},
		{"one word beyond the tail", ring, 1056, ring + fetchLead + n - 8, none},
		{"up to the lap's end", 2*ring - fetchLead - n, 1056, 3 * ring, 2*ring - n},
		{"across the lap's end", 2*ring - fetchLead - n + 32, 1056, 3 * ring, 2 * ring},
		{"of the next lap, not complete", 2*ring - fetchLead - n + 32, 1056, 2*ring + n - 8, none},
		{"from the next lap's start", 2*ring - fetchLead, 1056, 3 * ring, 2 * ring},
		{"small frames", ring, fetchMost, 2 * ring, none},
	} {
		r.pos, r.frame, r.tail = c.pos, c.frame, c.tail
		at := r.ahead(n)
		if c.from == none || !lines.Hints {
			if at != nil {
				t.Errorf("%s: asks for lines", c.name)
			}
		} else if at != r.ring.at(c.from) {
			t.Errorf("%s: not from %d on", c.name, c.from)
		}
	}
}

// A publisher whose subscribers are all behind takes the lines of small frames to come, each once;
// beside one that keeps up it takes none.
func TestLinesOfFramesToComeAreTakenOnce(t *testing.T) {
	const frame = layout.FrameHeaderBytes + 64
	mem, h := heapLane(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 1 << 10, Step: 64 << 10})
	p, err := newPublisher(mem, h, PublisherOptions{}, Policy{Timeout: -1})
	must(t, err)
	slow, _ := heapSub(t, p, mem, h, Lossless)
	fast, _ := heapSub(t, p, mem, h, Lossless)
	publish := func() {
		t.Helper()
		_, err := p.Publish(1, make([]byte, 64))
		must(t, err)
	}
	poll := func(s *Subscriber) {
		t.Helper()
		for n, err := 1, error(nil); n > 0; { // the empty poll stores the cursor
			n, err = s.Poll(func(Frame) {}, 0)
			must(t, err)
		}
	}
	for p.pos < 2*p.hdr.Ring {
		publish()
		poll(fast)
		if p.pos%(p.hdr.Ring/2) < 128 {
			poll(slow)
		}
		if p.streams {
			t.Fatalf("at %d: of two subscribers one keeps up, and is taken to be behind", p.pos)
		}
	}
	poll(slow)
	taken := map[*byte]int{}
	start := p.pos
	for p.pos < start+p.hdr.Ring/2 {
		publish()
		if due := p.pos >= p.nextOwn; due && p.streams { // what attend is about to do after the next one
			p.pos += frame
			for b := p.coming(p.pos - frame); len(b) > 0; b = b[lines.Bytes:] {
				taken[&b[0]]++
			}
			p.pos -= frame
		}
	}
	if !lines.Hints {
		if len(taken) > 0 || p.streams {
			t.Fatal("lines are taken where there are no hints")
		}
		return
	}
	for at, n := range taken {
		if n != 1 {
			t.Fatalf("the line at %p was taken %d times", at, n)
		}
	}
	// From the first refill that saw both behind: all but what there was no credit for.
	if want := int(p.hdr.Ring / 2 / lines.Bytes); len(taken) < want*3/4 {
		t.Errorf("%d lines of %d were taken", len(taken), want)
	}
	for range 100 {
		if publish(); p.nextOwn <= p.pos-frame || p.nextOwn > p.pos+ownBytes {
			t.Fatalf("at %d: lines are due at %d", p.pos, p.nextOwn)
		}
	}
	poll(slow)
	poll(fast)
	for start := p.pos; p.pos < start+p.hdr.Step; {
		publish()
		poll(fast)
	}
	if p.streams {
		t.Error("a subscriber that has caught up is still taken to be behind")
	}
}

// Whatever is published, each block in which a frame starts has its entry: what is due for
// lines to come is never later than what is due for the index.
func TestLinesToComeNeverPassABlock(t *testing.T) {
	rnd := rand.New(rand.NewPCG(79, 1))
	for _, ring := range []uint64{64 << 10, 128 << 10, 1 << 20, 16 << 20} {
		p, s, _ := heapPair(t, layout.Geometry{Ring: ring, MaxMsg: 4 << 10, Step: 8 << 10}, Lossless, Policy{Timeout: -1})
		payload := make([]byte, 4<<10)
		for p.pos < 3*ring {
			size := rnd.IntN(200)
			switch rnd.IntN(10) {
			case 0:
				_, err := p.PublishBatch([]Message{{Payload: payload[:rnd.IntN(4<<10)]}, {Payload: payload[:size]}})
				must(t, err)
			case 1:
				c, err := p.Claim(1, size)
				must(t, err)
				c.Commit()
			case 2:
				size = rnd.IntN(4 << 10)
				fallthrough
			default:
				_, err := p.Publish(1, payload[:size])
				must(t, err)
			}
			last := p.pos - layout.FrameBytes(uint64(size))
			block := last >> p.shift
			if at := *word64(p.mem, layout.OffIndex+block%layout.IndexEntries*layout.IndexEntryBytes); at>>p.shift != block {
				t.Fatalf("ring %d: no entry for the block of the frame at %d", ring, last)
			}
			if p.nextOwn > p.nextBlock {
				t.Fatalf("ring %d, at %d: lines at %d, block at %d", ring, p.pos, p.nextOwn, p.nextBlock)
			}
			if rnd.IntN(500) == 0 || p.intentL-p.pos < 16<<10 { // a claim waits for nobody
				for n := 1; n > 0; {
					var err error
					n, err = s.Poll(func(Frame) {}, 0)
					must(t, err)
				}
			}
		}
	}
}

// What is asked for while a frame is awaited ends with that frame, and with the lap; of a frame
// that is still being written when its first line comes, it is nothing.
func TestAwaitedLinesAreThoseOfTheNextFrame(t *testing.T) {
	_, _, r := heapPair(t, layout.Geometry{Ring: 64 << 10, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{})
	ring := r.ring.mask + 1
	for _, c := range []struct {
		name                    string
		pos, frame, first, upTo uint64
	}{
		{"no frame yet", ring, 0, 0, 0},
		{"within the header's line", ring, 64, 0, 0},
		{"at a line's start", ring, 96, ring + 64, ring + 96},
		{"at a line's middle", ring + 32, 96, ring + 64, ring + 128},
		{"several lines", ring + 32, 288, ring + 64, ring + 320},
		{"as large as may be", ring, fetchMost, ring + 64, ring + fetchMost},
		{"larger", ring, fetchMost + 32, 0, 0},
		{"up to the lap's end", 2*ring - 96, 96, 2*ring - 64, 2 * ring},
		{"across the lap's end", 2*ring - 64, 96, 0, 0},
	} {
		r.pos, r.frame = c.pos, c.frame
		b := r.awaited()
		if uint64(len(b)) != c.upTo-c.first {
			t.Errorf("%s: %d bytes, want %d", c.name, len(b), c.upTo-c.first)
		} else if len(b) > 0 && &b[0] != &r.ring.bytes(c.first, 1)[0] {
			t.Errorf("%s: not from %d on", c.name, c.first)
		}
	}
}

// A reader that was at the front and fell behind since gets a stretch at a time, where
// it could have all that it asks for.
func TestAPollGivesWhatItIsAskedFor(t *testing.T) {
	p, s, r := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 1 << 10, Step: 64 << 10}, Lossless, Policy{})
	poll := func(n int) int {
		t.Helper()
		for range n {
			_, err := p.Publish(1, make([]byte, 64))
			must(t, err)
		}
		p.Flush()
		got, err := s.Poll(func(Frame) {}, 0)
		must(t, err)
		return got
	}
	much := int(gatherBytes / layout.FrameBytes(64) * 3 / 4)
	if got := poll(much); got != much || !r.front || !r.bulk {
		t.Fatalf("%d frames of %d, front %v, bulk %v: want to be at the front, after much", got, much, r.front, r.bulk)
	}
	if got := poll(2 * defaultMax); got != defaultMax {
		t.Errorf("%d frames, want %d", got, defaultMax)
	}
}
