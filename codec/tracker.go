package codec

import (
	"errors"
	"fmt"
	"time"
)

// Reasons of a *SequenceError.
var (
	ErrSequenceGap       = errors.New("SequenceGap")       // more are missing than the limit allows
	ErrDuplicateSequence = errors.New("DuplicateSequence") // it was there before, or is too old to tell
	ErrSequenceReset     = errors.New("SequenceReset")     // the source counts anew: it was restarted
)

// SequenceError is a fault in the sequences of a source.
type SequenceError struct {
	Reason   error // ErrSequenceGap, ErrDuplicateSequence or ErrSequenceReset
	Source   Source
	Sequence uint64 // of the message
	Expected uint64 // one after the highest so far
}

func (e *SequenceError) Unwrap() error { return e.Reason }

func (e *SequenceError) Error() string {
	s := fmt.Sprintf("codec: %v at byte %d: source %v, sequence %d, expected %d", e.Reason, offSequence, e.Source, e.Sequence, e.Expected)
	if n := e.Missed(); n > 0 {
		s += fmt.Sprintf(": %d missing", n)
	}
	return s
}

// Missed returns the sequences that are missing, 0 if this is no gap.
func (e *SequenceError) Missed() uint64 {
	if e.Reason != ErrSequenceGap {
		return 0
	}
	return e.Sequence - e.Expected
}

// SequenceTracker is a Check of the sequences of each source. Sources are told
// apart by the header's byte alone, and Torq's producers share one counter
// among everything that they send: gaps say something only where all messages
// of a source are seen. Sequence 0 means that the producer does not count; it
// is passed over.
//
//	sequence        seen before    timestamp
//	above the last                             new; a gap if more than the limit are missing
//	in the window   no                         late: fills a gap that was counted
//	in the window   yes            not newer   duplicate
//	below           unknown        not newer   duplicate
//	anything else                  newer       reset: the source counts anew from here
//
// It takes 1 bit for each sequence in the window and source, and allocates at
// the first message of a source only. One goroutine at a time.
type SequenceTracker struct {
	maxGap  uint64
	tracked int
	window  uint64 // nanoseconds
	sources [256]*tracked
}

// SequenceStats are what a tracker knows of a source.
type SequenceStats struct {
	Last       uint64 // highest sequence since the last reset
	Messages   uint64 // with a sequence
	Gaps       uint64 // of any size
	Missed     uint64 // sequences that have not come, or not yet
	Late       uint64 // came after a higher one
	Duplicates uint64
	Resets     uint64
}

// tracked is one source.
type tracked struct {
	SequenceStats
	newestNs uint64   // highest timestamp of a header
	lastNs   uint64   // time of the last message
	seen     []uint64 // a bit for each of the last len*64 sequences, by sequence modulo that
}

// NewSequenceTracker returns a tracker that reports gaps of more than maxGap
// sequences (negative = none) and duplicates among the last sequences of a
// source (0 or less = none). After silence for longer than window (negative =
// no limit) a source may begin anew without a report.
func NewSequenceTracker(maxGap int64, sequences int, window time.Duration) *SequenceTracker {
	t := &SequenceTracker{maxGap: uint64(maxGap), tracked: max(sequences, 0), window: uint64(window)}
	if maxGap < 0 {
		t.maxGap = ^uint64(0)
	}
	if window < 0 {
		t.window = ^uint64(0)
	}
	return t
}

// Stats returns what is known of a source; ok is false if nothing is.
func (t *SequenceTracker) Stats(source Source) (s SequenceStats, ok bool) {
	if st := t.sources[source]; st != nil {
		return st.SequenceStats, true
	}
	return s, false
}

// Check notes the message and returns nil or a *SequenceError.
func (t *SequenceTracker) Check(m Message, _ Domain, nowNs uint64) error {
	h := m.Header()
	if h.Sequence == 0 {
		return nil
	}
	st := t.sources[h.Source]
	if st == nil {
		st = &tracked{seen: make([]uint64, (t.tracked+63)/64)}
		t.sources[h.Source] = st
		st.begin(&h)
	}
	quiet := nowNs > st.lastNs && nowNs-st.lastNs > t.window && st.lastNs != 0
	newer := h.TimestampNs > st.newestNs
	st.lastNs = nowNs
	st.newestNs = max(st.newestNs, h.TimestampNs)
	st.Messages++
	expected := st.Last + 1
	var reason error
	switch {
	case h.Sequence >= expected:
		missed := h.Sequence - expected
		if missed > 0 {
			st.Gaps++
			st.Missed += missed
		}
		st.advance(h.Sequence)
		if missed > t.maxGap {
			reason = ErrSequenceGap
		}
	case quiet:
		st.Resets++
		st.begin(&h)
		st.advance(h.Sequence)
	case st.late(h.Sequence):
		st.Late++
		st.Missed = max(st.Missed, 1) - 1
	case newer:
		st.Resets++
		st.begin(&h)
		st.advance(h.Sequence)
		reason = ErrSequenceReset
	default:
		st.Duplicates++
		if t.tracked > 0 {
			reason = ErrDuplicateSequence
		}
	}
	if reason == nil {
		return nil
	}
	return &SequenceError{reason, h.Source, h.Sequence, expected}
}

// begin makes the sequence of h the one expected next.
func (st *tracked) begin(h *Header) {
	st.Last = h.Sequence - 1
	for i := range st.seen {
		st.seen[i] = ^uint64(0) // what was before is too old to tell
	}
}

// advance makes seq, which is above the last, the last.
func (st *tracked) advance(seq uint64) {
	window := uint64(64 * len(st.seen))
	if seq-st.Last >= window {
		clear(st.seen)
	} else {
		for s := st.Last + 1; s < seq; s++ {
			st.seen[s%window/64] &^= 1 << (s % 64)
		}
	}
	st.Last = seq
	if window > 0 {
		st.seen[seq%window/64] |= 1 << (seq % 64)
	}
}

// late reports whether seq, which is not above the last, is in the window and new, and notes it.
func (st *tracked) late(seq uint64) bool {
	window := uint64(64 * len(st.seen))
	if st.Last-seq >= window {
		return false
	}
	word, bit := &st.seen[seq%window/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}
