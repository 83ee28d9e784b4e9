//go:build !race

#include "textflag.h"

// FILL copies CX >= 64 bytes from SI to DI, each whole line of DI with one store, and
// with each does HINT. The first and the last store may lie across two lines and overlap
// their neighbours.
#define FILL(HINT) \
	MOVQ DI, AX \
	NEGQ AX \
	ANDQ $63, AX \
	JZ   next \
	HINT \
	VMOVDQU64 (SI), Z0 \
	VMOVDQU64 Z0, (DI) \
	ADDQ AX, DI \
	ADDQ AX, SI \
	SUBQ AX, CX \
next: \
	SUBQ $64, CX \
	JB   rest \
line: \
	HINT \
	VMOVDQU64 (SI), Z0 \
	VMOVDQU64 Z0, (DI) \
	ADDQ $64, SI \
	ADDQ $64, DI \
	SUBQ $64, CX \
	JAE  line \
rest: \
	ADDQ $64, CX \
	JZ   done \
	HINT \
	VMOVDQU64 -64(SI)(CX*1), Z0 \
	VMOVDQU64 Z0, -64(DI)(CX*1) \
done: \
	VZEROUPPER \
	RET

// The hints: nothing; a prefetch of the line at R8, which moves on; one for writing, which
// is nothing where the processor does not know it.
#define NONE
#define FETCH \
	PREFETCHT0 (R8) \
	ADDQ $64, R8
#define OWN \
	BYTE $0x41; BYTE $0x0F; BYTE $0x0D; BYTE $0x08 \
	ADDQ $64, R8

// func fill(to, from unsafe.Pointer, n uint64)
TEXT ·fill(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	FILL(NONE)

// func fillFetch(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)
TEXT ·fillFetch(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), R8
	FILL(FETCH)

// func fillOwn(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)
TEXT ·fillOwn(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), R8
	FILL(OWN)

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
