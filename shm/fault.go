package shm

import "runtime"

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
