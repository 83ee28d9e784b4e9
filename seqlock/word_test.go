package seqlock

import (
	"math"
	"testing"
)

func TestWordIsOddExactlyWhileItIsWritten(t *testing.T) {
	for _, start := range []Word{0, 2, 1<<63 - 2, 1 << 63, math.MaxUint64 - 1} { // the last one wraps to 0
		w := start
		before, ok := w.ReadBegin()
		if !ok || before != uint64(start) {
			t.Fatalf("at rest on %#x: ReadBegin = %#x, %v", start, before, ok)
		}
		if w.ReadRetry(before) {
			t.Errorf("from %#x: retry asked for though nothing was written", start)
		}
		w.WriteBegin()
		if w != start+1 {
			t.Errorf("from %#x: WriteBegin made %#x", start, w)
		}
		if _, ok := w.ReadBegin(); ok {
			t.Errorf("from %#x: a reader may begin while the writer is at it", start)
		}
		if !w.ReadRetry(before) {
			t.Errorf("from %#x: a reader that began earlier is not told of the write", start)
		}
		w.WriteEnd()
		if w != start+2 {
			t.Errorf("from %#x: WriteEnd made %#x", start, w)
		}
		if !w.ReadRetry(before) {
			t.Errorf("from %#x: a reader that slept through the write is not told of it", start)
		}
	}
}

func TestDeadWritersSuccessorKeepsReadersOff(t *testing.T) {
	for _, start := range []Word{0, 6, math.MaxUint64 - 1} {
		w := start
		before, _ := w.ReadBegin()
		w.WriteBegin() // and dies
		w.WriteBegin() // the successor
		if _, ok := w.ReadBegin(); ok {
			t.Errorf("from %#x: a reader may begin between the two writers' values", start)
		}
		w.WriteEnd()
		if _, ok := w.ReadBegin(); !ok || !w.ReadRetry(before) {
			t.Errorf("from %#x: the word %#x hides the successor's write", start, w)
		}
	}
}

func TestWordWrapsAPlainPointer(t *testing.T) {
	var m [3]uint64
	w := (*Word)(&m[1])
	w.WriteBegin()
	w.WriteEnd()
	if m != [3]uint64{0, 2, 0} {
		t.Errorf("one write left %v", m)
	}
}
