package shm

import (
	"testing"

	"github.com/torq/mycelium/internal/layout"
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
	r.tail, r.frame = ring, 4*fetchBytes
	if next := r.fetch(0, gatherBytes); next != 4*fetchBytes {
		t.Errorf("a frame of %d bytes: next due at %d, want behind it", 4*fetchBytes, next)
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
