//go:build !race

#include "textflag.h"

// func storeRelease(p *uint64, v uint64)
// Enough: a store becomes visible after every older load and store of its core,
// so a plain aligned MOV already is a release. What it lacks against XCHG is the
// order of this store before *later loads*, which no release promises.
TEXT ·storeRelease(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ p+0(FP), AX
	MOVQ v+8(FP), CX
	MOVQ CX, (AX)
	RET

// func storeRelease32(p *uint32, v uint32)
// Enough: as storeRelease.
TEXT ·storeRelease32(SB),NOSPLIT|NOFRAME,$0-12
	MOVQ p+0(FP), AX
	MOVL v+8(FP), CX
	MOVL CX, (AX)
	RET
