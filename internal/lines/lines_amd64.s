//go:build !race

#include "textflag.h"

// FILL copies CX >= 64 bytes from SI to DI, a line of DI at a time, and with each does HINT.
// The first and the last may lie across two lines and overlap their neighbours.
#define FILL(HINT, MOVE) \
	MOVQ DI, AX \
	NEGQ AX \
	ANDQ $63, AX \
	JZ   next \
	HINT \
	MOVE \
	ADDQ AX, DI \
	ADDQ AX, SI \
	SUBQ AX, CX \
next: \
	SUBQ $64, CX \
	JB   rest \
line: \
	HINT \
	MOVE \
	ADDQ $64, SI \
	ADDQ $64, DI \
	SUBQ $64, CX \
	JAE  line \
rest: \
	CMPQ CX, $-64 \
	JEQ  done \
	HINT \
	ADDQ CX, SI \
	ADDQ CX, DI \
	MOVE \
done:

// The hints: nothing; a prefetch of the line at R8, which moves on; one for writing, which
// is nothing where the processor does not know it.
#define NONE
#define FETCH \
	PREFETCHT0 (R8) \
	ADDQ $64, R8
#define OWN \
	BYTE $0x41; BYTE $0x0F; BYTE $0x0D; BYTE $0x08 \
	ADDQ $64, R8

// The ways to move a line: with one store, or with four.
#define WHOLE \
	VMOVDQU64 (SI), Z0 \
	VMOVDQU64 Z0, (DI)
#define QUARTERS \
	MOVOU (SI), X0 \
	MOVOU 16(SI), X1 \
	MOVOU 32(SI), X2 \
	MOVOU 48(SI), X3 \
	MOVOU X0, (DI) \
	MOVOU X1, 16(DI) \
	MOVOU X2, 32(DI) \
	MOVOU X3, 48(DI)

// func fill(to, from unsafe.Pointer, n uint64)
TEXT ·fill(SB),NOSPLIT|NOFRAME,$0-24
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	FILL(NONE, WHOLE)
	VZEROUPPER
	RET

// func fillFetch(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)
TEXT ·fillFetch(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), R8
	CMPB ·whole(SB), $0
	JEQ  quarters
	FILL(FETCH, WHOLE)
	VZEROUPPER
	RET
quarters:
	JMP  fetchQuarters<>(SB)

// func fillOwn(to, from unsafe.Pointer, n uint64, ahead unsafe.Pointer)
TEXT ·fillOwn(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ n+16(FP), CX
	MOVQ ahead+24(FP), R8
	CMPB ·whole(SB), $0
	JEQ  quarters
	FILL(OWN, WHOLE)
	VZEROUPPER
	RET
quarters:
	JMP  ownQuarters<>(SB)

// What is jumped to has its arguments in DI, SI, CX and R8.
TEXT fetchQuarters<>(SB),NOSPLIT|NOFRAME,$0-0
	FILL(FETCH, QUARTERS)
	RET

TEXT ownQuarters<>(SB),NOSPLIT|NOFRAME,$0-0
	FILL(OWN, QUARTERS)
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
