//go:build !race

#include "textflag.h"

// func storeRelease(p *uint64, v uint64)
// Enough: STLR becomes visible after every older load and store. It pairs with
// LDAR, which is what atomic.LoadUint64 compiles to.
TEXT ·storeRelease(SB),NOSPLIT|NOFRAME,$0-16
	MOVD p+0(FP), R0
	MOVD v+8(FP), R1
	STLR R1, (R0)
	RET

// func storeRelease32(p *uint32, v uint32)
// Enough: as storeRelease.
TEXT ·storeRelease32(SB),NOSPLIT|NOFRAME,$0-12
	MOVD  p+0(FP), R0
	MOVWU v+8(FP), R1
	STLRW R1, (R0)
	RET
