package torqbridge

import (
	"encoding/binary"
	"testing"
	"time"
)

func numbered(n, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b, uint32(n))
	return b
}

func put(h *hub, origin uint32, from, to, size int) {
	for i := from; i < to; i++ {
		h.put(origin, [][]byte{numbered(i, size)})
	}
}

// drain takes what there is without waiting.
func drain(t *tap) (got []int) {
	var b batch
	for !t.idleAt(noIndex) {
		t.h.mu.Lock()
		b.reset()
		t.gather(&b)
		t.h.mu.Unlock()
		if len(b.ends) == 0 {
			return got
		}
		for i := range b.ends {
			got = append(got, int(binary.LittleEndian.Uint32(b.message(i))))
		}
	}
	return got
}

func TestSlowReaderHoldsUpTheOthers(t *testing.T) {
	h := newHub(1 << 16)
	slow, fast := h.tap(100, noIndex, nil), h.tap(1<<20, noIndex, nil)
	put(h, 7, 0, 150, 100)
	got := drain(fast)
	if len(got) != 150 || got[0] != 0 || got[149] != 149 {
		t.Errorf("the fast one got %d", len(got))
	}
	got = drain(slow)
	if _, dropped := slow.at(); len(got) != 100 || got[0] != 50 || dropped != 50 {
		t.Errorf("the slow one got %d from %d on, %d dropped", len(got), got[0], dropped)
	}
	// More than the history holds, of its bytes and of its items.
	put(h, 7, 0, 2000, 200)
	if got := drain(fast); len(got) != (1<<16)/200-1 && len(got) != (1<<16)/200 || got[len(got)-1] != 1999 {
		t.Errorf("got %d of the history", len(got))
	}
	put(h, 7, 0, 3000, 8)
	if got := drain(fast); len(got) != (1<<16)/bytesPerItem || got[len(got)-1] != 2999 {
		t.Errorf("got %d of the history", len(got))
	}
}

func TestLosslessReaderIsOverrun(t *testing.T) {
	h := newHub(1 << 16)
	tap := h.tap(0, noIndex, nil)
	const n = 20000
	done := make(chan struct{})
	go func() {
		put(h, 7, 0, n, 300)
		close(done)
	}()
	var b batch
	next := 0
	for next < n {
		if !tap.take(&b) {
			t.Fatal("ended")
		}
		for i := range b.ends {
			if got := int(binary.LittleEndian.Uint32(b.message(i))); got != next {
				t.Fatalf("got %d, want %d", got, next)
			}
			next++
		}
	}
	<-done
	// One that leaves lets the others go on.
	again := make(chan struct{})
	go func() {
		put(h, 7, 0, 1000, 300)
		close(again)
	}()
	time.Sleep(10 * time.Millisecond)
	tap.close()
	tap.close()
	if tap.take(&b) {
		t.Error("a closed tap gives something")
	}
	<-again
}

func TestReaderThatIsHeldOrEndedGoesTooFar(t *testing.T) {
	h := newHub(1 << 16)
	a, b := h.tap(10, noIndex, nil), h.tap(0, noIndex, func(_ uint64, origin uint32) bool { return origin == originRelay })
	put(h, 7, 0, 5, 50)
	at := h.freeze([]*tap{a, b})
	put(h, 7, 5, 8, 50)
	put(h, originRelay, 8, 10, 50)
	if got := drain(a); len(got) != 5 {
		t.Errorf("held, and got %v", got)
	}
	a.finishAt(at)
	var x batch
	if a.take(&x) {
		t.Error("goes on after its end")
	}
	if got := drain(b); len(got) != 5 {
		t.Errorf("held, and got %v", got)
	}
	b.holdAt(noIndex)
	if got := drain(b); len(got) != 3 || got[0] != 5 {
		t.Errorf("released, and got %v", got)
	}
	// One that begins in the past, as far as there is one.
	if got := drain(h.tap(100, 3, nil)); len(got) != 7 || got[0] != 3 {
		t.Errorf("from 3 on: %v", got)
	}
	if h.position() != 10 {
		t.Errorf("position %d", h.position())
	}
	// A hub that is closed ends who waits.
	go func() {
		time.Sleep(5 * time.Millisecond)
		h.close()
	}()
	if b.take(&x) {
		t.Error("a closed hub gives something")
	}
	h.put(7, [][]byte{numbered(1, 50)})
}

func TestClosedHubHoldsUpItsWriter(t *testing.T) {
	h := newHub(1 << 16)
	h.tap(0, noIndex, nil)
	done := make(chan struct{})
	go func() {
		put(h, 7, 0, 1000, 300)
		close(done)
	}()
	time.Sleep(10 * time.Millisecond)
	h.close()
	<-done
}

func TestBatchIsLargerThanARelayReads(t *testing.T) {
	h := newHub(1 << 20)
	tap := h.tap(1<<20, noIndex, nil)
	put(h, 7, 0, 1, 100_000)
	put(h, 7, 1, 3, 50_000)
	var b batch
	for _, want := range []int{1, 1, 1} {
		if !tap.take(&b) || len(b.ends) != want {
			t.Fatalf("%d messages, %d bytes", len(b.ends), len(b.buf))
		}
	}
}

func TestHubAllocates(t *testing.T) {
	h := newHub(1 << 16)
	tap := h.tap(1<<20, noIndex, nil)
	msgs := [][]byte{numbered(1, 74), numbered(2, 74)}
	var b batch
	tap.h.put(7, msgs)
	tap.take(&b)
	if n := testing.AllocsPerRun(100, func() {
		h.put(7, msgs)
		tap.take(&b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
