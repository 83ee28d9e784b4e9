package seqlock

import (
	"math"
	"sync/atomic"
	"testing"
)

func TestReleaseStoreWritesItsWordAndNoNeighbour(t *testing.T) {
	for _, v := range []uint64{0, 1, 0x0123_4567_89ab_cdef, math.MaxUint64} {
		m := [3]uint64{^v, ^v, ^v}
		StoreRelease(&m[1], v)
		if m != [3]uint64{^v, v, ^v} {
			t.Errorf("StoreRelease of %#x left %#x", v, m)
		}
		w := uint32(v)
		n := [3]uint32{^w, ^w, ^w}
		StoreRelease32(&n[1], w)
		if n != [3]uint32{^w, w, ^w} {
			t.Errorf("StoreRelease32 of %#x left %#x", w, n)
		}
	}
}

func TestPauseEndsForEveryCount(t *testing.T) {
	endsWithin(t, func() {
		for _, n := range []uint32{0, 1, 2, pauseChunk - 1, pauseChunk, pauseChunk + 1, 2 * pauseChunk, 10*pauseChunk + 7} {
			Pause(n)
		}
	})
}

func TestNothingAllocates(t *testing.T) {
	var (
		p   uint64
		p32 uint32
		w   Word
	)
	c := newCell(t, 8)
	v := make([]uint64, 8)
	for name, f := range map[string]func(){
		"StoreRelease":   func() { StoreRelease(&p, 1) },
		"StoreRelease32": func() { StoreRelease32(&p32, 1) },
		"fences":         func() { LoadLoad(); StoreStore(); Pause(3) },
		"Word write":     func() { w.WriteBegin(); w.WriteEnd() },
		"Word read":      func() { seq, _ := w.ReadBegin(); w.ReadRetry(seq) },
		"Cell.Store":     func() { c.Store(v) },
		"Cell.Load":      func() { c.Load(v) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

// The sink keeps the compiler from dropping what a benchmark does.
var sink atomic.Uint64

func BenchmarkStore(b *testing.B) {
	// The payload word before each store gives the store buffer something to drain.
	m := make([]uint64, 32)
	b.Run("StoreRelease", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m[16] = uint64(i)
			StoreRelease(&m[0], uint64(i))
		}
	})
	b.Run("atomic.Store", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			m[16] = uint64(i)
			atomic.StoreUint64(&m[0], uint64(i))
		}
	})
	sink.Add(m[0] + m[16])
}

func BenchmarkLoadLoad(b *testing.B) {
	for b.Loop() {
		LoadLoad()
	}
}

func BenchmarkStoreStore(b *testing.B) {
	for b.Loop() {
		StoreStore()
	}
}

func BenchmarkPause(b *testing.B) {
	for _, n := range []uint32{1, 100} {
		b.Run(map[uint32]string{1: "1", 100: "100"}[n], func(b *testing.B) {
			for b.Loop() {
				Pause(n)
			}
		})
	}
}
