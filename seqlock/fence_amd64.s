#include "textflag.h"

// func loadLoad()
// Enough: an x86 core performs loads in program order (as far as any other core
// can tell), so only the compiler has to be held back, and the call does that.
TEXT ·loadLoad(SB),NOSPLIT|NOFRAME,$0-0
	RET

// func storeStore()
// Enough: stores leave the store buffer in program order. The package issues no
// non-temporal stores, the only ones that would need SFENCE.
TEXT ·storeStore(SB),NOSPLIT|NOFRAME,$0-0
	RET

// func pause(n uint32)
TEXT ·pause(SB),NOSPLIT|NOFRAME,$0-4
	MOVL n+0(FP), CX
	TESTL CX, CX
	JZ   done
again:
	PAUSE
	DECL CX
	JNZ  again
done:
	RET
