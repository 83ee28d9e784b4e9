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

// The hints: nothing; a prefetch of the line at R8, which moves on; one for writing (PREFETCHW),
// which is nothing where the processor does not know it.
#define NONE
#define FETCH \
	PREFETCHT0 (R8) \
	ADDQ $64, R8
#define OWN \
	BYTE $0x41; BYTE $0x0F; BYTE $0x0D; BYTE $0x08 \
	ADDQ $64, R8

// The same of the line so many bytes behind R8.
#define FETCHAT(OFF) PREFETCHT0 OFF(R8)
#define OWNAT(OFF) BYTE $0x41; BYTE $0x0F; BYTE $0x0D; BYTE $0x88; LONG $OFF

// ASK does AT for the lines of CX > 0 bytes from R8 on. The first 16 need no loop: most
// callers want as many.
#define ASK(AT) \
	ADDQ R8, CX \
	ANDQ $~63, R8 \
	LEAQ 1024(R8), DX \
	CMPQ DX, CX \
	JA   more \
	AT(0); AT(64); AT(128); AT(192); AT(256); AT(320); AT(384); AT(448) \
	AT(512); AT(576); AT(640); AT(704); AT(768); AT(832); AT(896); AT(960) \
	MOVQ DX, R8 \
	CMPQ R8, CX \
	JAE  asked \
more: \
	AT(0) \
	ADDQ $64, R8 \
	CMPQ R8, CX \
	JB   more \
asked:

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
	MOVQ p+0(FP), R8
	MOVQ n+8(FP), CX
	ASK(FETCHAT)
	RET

// func own(p unsafe.Pointer, n uint64)
TEXT ·own(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ p+0(FP), R8
	MOVQ n+8(FP), CX
	ASK(OWNAT)
	RET
