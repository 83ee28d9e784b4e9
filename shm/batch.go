package shm

import (
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
)

// batchMost is how many frames a batch has at most: as many empty ones as a stretch holds.
const batchMost = gatherBytes/layout.Align + 1

// batch is what PollBatch hands out. The last frame is a spare one, so that a pointer
// that has passed all others still points into it.
type batch [batchMost + 1]Frame

// PollBatch is Poll for a handler that takes frames by the batch: those of one lane that lie
// together, in order, 1 to 257 of them, at most limit in all batches of a call (0 = 1,024). It spares
// a call of h for each, never waits, and returns how many frames it handed out. h must not keep the slice or
// a payload, but may change the slice. The position moves after h returns, for the whole batch: if h
// panicked, all of it is delivered again. Errors are those of Poll, and calls of both may take
// turns. The first call allocates 18 KiB. Polling goroutine only.
func (s *Subscriber) PollBatch(h func([]Frame), limit int) (n int, err error) {
	if s.batch == nil {
		s.batch = new(batch)
	}
	defer func(outer func([]Frame)) { s.batched = outer }(s.batched) // also if h panics
	s.batched = h
	return s.Poll(nil, limit)
}

// handBatch is hand for PollBatch.
func (r *reader) handBatch(st *stretch, b []byte, fs *batch, h func([]Frame)) (whole bool) {
	l := laidDown{pos: r.pos, want: r.want}
	for whole = true; whole && seqlock.Before(l.want, st.last) && l.pos < st.end; {
		n := l.want - r.want
		if n == batchMost {
			break // gathered again
		}
		if l.pos >= r.due {
			r.due = r.fetch(r.due, st.end-st.start)
		}
		st.stop = min(r.due, st.end, l.pos+min(st.last-l.want, batchMost-n)*layout.Align) // as in hand
		l = r.layDown(headerIn(b, l.pos-st.start), &fs[n], st, l)
		whole = l.pos >= st.stop
	}
	if n := l.want - r.want; n > 0 {
		last := uint64(len(fs[n-1].Payload))
		r.size, r.bytes = l.bytes, l.bytes // if h panics, deliver takes off what was not had
		h(fs[:n:n])
		r.pos, r.size = l.pos, last
		r.want += n // not l.want: if h polled, which it must not, that shows
	}
	return whole
}

// laidDown is how far layDown has come.
type laidDown struct {
	pos, want uint64 // of the next frame
	bytes     uint64 // payloads
}
