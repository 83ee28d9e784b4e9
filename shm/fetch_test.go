package shm

import (
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
		{"one word beyond the tail", 8, gatherBytes + fetchBytes, noFetch},
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

// A publisher whose subscriber is behind takes the lines of small frames to come, each once, as far
// as its credit goes; beside one that keeps up it takes none.
func TestLinesOfFramesToComeAreTakenOnce(t *testing.T) {
	const frame = 96
	p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 1 << 10, Step: 64 << 10}, Lossless, Policy{Timeout: -1})
	publish := func() {
		t.Helper()
		_, err := p.Publish(1, make([]byte, 64))
		must(t, err)
	}
	poll := func() {
		t.Helper()
		_, err := s.Poll(func(Frame) {}, 0)
		must(t, err)
	}
	for p.pos < 2*p.hdr.Ring {
		publish()
		poll()
		poll() // stores the cursor
		if p.streams {
			t.Fatalf("at %d: a subscriber that keeps up is taken to be behind", p.pos)
		}
	}
	for start := p.pos; p.pos < start+p.hdr.Ring/2; {
		publish()
	}
	if !p.streams || p.nextOwn > p.nextBlock || p.nextOwn <= p.pos-frame || p.nextOwn > p.pos+ownBytes {
		t.Fatalf("at %d: behind %v, next lines at %d, block at %d", p.pos, p.streams, p.nextOwn, p.nextBlock)
	}
	limit, streams := p.limit, p.streams
	for _, c := range []struct {
		name       string
		frame      uint64
		limit      uint64
		streams    bool
		at, length uint64
	}{
		{"small frames", frame, limit, true, ownLead, ownBytes},
		{"large ones", layout.FrameBytes(putMax) + layout.Align, limit, true, 0, 0},
		{"all that there is credit for", frame, 1<<20 + ownLead + ownBytes, true, ownLead, ownBytes},
		{"a frame less", frame, 1<<20 + ownLead + ownBytes - frame, true, 0, 0},
		{"nobody behind", frame, limit, false, 0, 0},
	} {
		const part = 1 << 20 // where a part of a block starts
		p.pos, p.limit, p.streams = part+32+c.frame, c.limit, c.streams
		b := p.coming(part + 32)
		if uint64(len(b)) != c.length || c.length > 0 && &b[0] != p.ring.at(part+c.at) {
			t.Errorf("%s: %d bytes of %d, or elsewhere", c.name, len(b), c.length)
		}
		next := uint64(part + ownBytes)
		if c.frame != frame || !c.streams {
			next = part + 1<<p.shift
		}
		if p.nextOwn != next {
			t.Errorf("%s: next at %d, want %d", c.name, p.nextOwn, next)
		}
	}
	p.limit, p.streams = limit, streams
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
