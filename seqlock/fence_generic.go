//go:build !amd64 && !arm64

package seqlock

import "sync/atomic"

// fence orders loads before loads and stores before stores on architectures
// without a file of their own. On each of them Go compiles an atomic add to an
// instruction, or to a sequence between barriers, that no older access sinks below
// and no younger one rises above (riscv64: AMOADD.aqrl; ppc64: LWSYNC on both
// sides; loong64, mips, arm: barriers of their own; 386, s390x: ordered anyway;
// wasm: one thread). The word is private to the call, so nothing is contended.
// This leans on what the compiler emits: the Go memory model knows no fences.
func fence() {
	var word atomic.Uint32
	word.Add(1)
}

func loadLoad()    { fence() }
func storeStore()  { fence() }
func pause(uint32) {}
