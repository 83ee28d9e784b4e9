package shm

import (
	"runtime"
	"runtime/debug"
)

// faultAddr is the address of a memory fault that became a panic because the
// goroutine asked for it (debug.SetPanicOnFault).
func faultAddr(v any) (uintptr, bool) {
	if _, ok := v.(runtime.Error); !ok {
		return 0, false
	}
	a, ok := v.(interface{ Addr() uintptr })
	if !ok {
		return 0, false
	}
	return a.Addr(), true
}

// shielded runs f, which touches a segment that somebody may have truncated,
// and reports whether all of mem that f touched was there. For whatever is off
// the hot paths: beats, counters, joins.
func shielded(mem []byte, f func()) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			if addr, fault := faultAddr(v); !fault || !addrWithin(addr, mem) {
				panic(v)
			}
		}
	}()
	f()
	return true
}
