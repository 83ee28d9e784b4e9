#include "textflag.h"

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
