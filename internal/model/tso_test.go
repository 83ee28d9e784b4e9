package model

import "testing"

// The machine itself: what x86-TSO allows and what it forbids.

func TestStoreMayPassLaterLoadUnlessFenced(t *testing.T) {
	const x, y = addr(0), addr(1)
	var s State
	s.store(tWriter0, x, 1)
	s.store(tReader0, y, 1)
	if s.load(tWriter0, y) != 0 || s.load(tReader0, x) != 0 {
		t.Error("a buffered store was seen by another thread")
	}
	if s.load(tWriter0, x) != 1 {
		t.Error("a thread does not see its own store")
	}
	s.membarrier()
	if s.load(tWriter0, y) != 1 || s.load(tReader0, x) != 1 {
		t.Error("membarrier left a store in a buffer")
	}
	s.store(tWriter0, x, 2)
	s.xchg(tWriter0, y, 2)
	if s.load(tReader0, x) != 2 || s.load(tReader0, y) != 2 {
		t.Error("XCHG left a store in the buffer")
	}
}

func TestStoresLeaveInProgramOrder(t *testing.T) {
	const x, y = addr(0), addr(1)
	var s State
	s.store(tWriter0, x, 1)
	s.store(tWriter0, y, 1)
	s.store(tWriter0, x, 2)
	if s.load(tWriter0, x) != 2 {
		t.Error("a load does not see the newest own store")
	}
	for i, want := range [][2]word{{1, 0}, {1, 1}, {2, 1}} {
		s.flush(tWriter0)
		if got := [2]word{s.load(tReader0, x), s.load(tReader0, y)}; got != want {
			t.Errorf("after %d flushes memory is %v, want %v", i+1, got, want)
		}
	}
}

func TestCrashLosesOnlyWhatWasNotExecuted(t *testing.T) {
	for k := range 3 {
		var s State
		s.store(tWriter0, 0, 1)
		s.store(tWriter0, 1, 1)
		s.die(tWriter0, k)
		if s.BufLen[tWriter0] != 0 {
			t.Error("a dead thread still has stores to come")
		}
		if got := int(s.Mem[0] + s.Mem[1]); got != k {
			t.Errorf("crash after %d stores left %d in memory", k, got)
		}
	}
}
