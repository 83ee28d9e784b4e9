#include "textflag.h"

// func loadLoad()
// Needed: the core may satisfy a younger load first. DMB ISHLD orders every older
// load before every younger load and store, for all cores of the inner shareable
// domain, which is every core that one kernel runs on.
TEXT ·loadLoad(SB),NOSPLIT|NOFRAME,$0-0
	DMB $0x9 // ISHLD
	RET

// func storeStore()
// Needed: stores may become visible in any order, and STLR holds back only what
// is older than itself. DMB ISHST orders every older store before every younger.
TEXT ·storeStore(SB),NOSPLIT|NOFRAME,$0-0
	DMB $0xa // ISHST
	RET

// func pause(n uint32)
TEXT ·pause(SB),NOSPLIT|NOFRAME,$0-4
	MOVWU n+0(FP), R0
	CBZ   R0, done
again:
	YIELD
	SUBW  $1, R0
	CBNZW R0, again
done:
	RET
