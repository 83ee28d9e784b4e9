//go:build !race

#include "textflag.h"

// func fill(to, from unsafe.Pointer, n uint64)
//
// The first and the last store may lie across two lines and overlap their
// neighbours; those between fill a line each.
TEXT ·fill(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ DI, AX
	NEGQ AX
	ANDQ $63, AX               // bytes before the first whole line
	JZ   next
	VMOVDQU64 (SI), Z0
	VMOVDQU64 Z0, (DI)
	ADDQ AX, DI
	ADDQ AX, SI
	SUBQ AX, CX
next:
	SUBQ $64, CX
	JB   rest
line:
	VMOVDQU64 (SI), Z0
	VMOVDQU64 Z0, (DI)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JAE  line
rest:
	ADDQ $64, CX               // bytes after the last whole line
	JZ   done
	VMOVDQU64 -64(SI)(CX*1), Z0
	VMOVDQU64 Z0, -64(DI)(CX*1)
done:
	VZEROUPPER
	RET

// func fetch(p unsafe.Pointer, n uint64)
TEXT ·fetch(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX
	ADDQ AX, CX
	ANDQ $~63, AX
more:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	CMPQ AX, CX
	JB   more
	RET

// func own(p unsafe.Pointer, n uint64)
TEXT ·own(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ p+0(FP), AX
	MOVQ n+8(FP), CX
	ADDQ AX, CX
	ANDQ $~63, AX
more:
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08 // PREFETCHW (AX): nothing, where it is unknown
	ADDQ $64, AX
	CMPQ AX, CX
	JB   more
	RET
