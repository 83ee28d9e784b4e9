package model

// State is one state of the whole system: memory, store buffers, the local variables of every thread, and
// the ghosts that assertions compare with. It has no pointers, so it can be hashed; locals that are out of
// scope are zeroed, so that equal situations are equal states.
type State struct {
	Buf     [bufWords]pending
	Mem     [memWords]word
	Writer  [maxLanes]writer
	Control control
	Reader  [maxRead]reader
	Lane    [maxLanes]laneGhost
	BufLen  [numThreads]uint8
	Crashes uint8
	Broken  violation
}

// writer holds the locals of one publishing goroutine (names as in Publish and Refill).
type writer struct {
	snap      [maxRead]word // consumers.Load()
	v         [maxRead]Pos
	last      [maxRead]Pos
	lastOf    [maxRead]uint8 // ticket that last belongs to
	pc        writerPC
	p         Pos
	seq       uint8
	intentL   Pos
	lastBlock Pos
	left      uint8 // publications to go
	op        uint8 // current publication: index into Scenario.Ops, or opClose
	i         uint8 // consumer that Refill looks at, or is evicting
	need      Pos   // argument of Refill
}

type writerPC uint8

const (
	wOff         writerPC = iota // lane not opened yet
	wNext                        // between two publications
	wLoadSet                     // Refill: set = consumers.Load()
	wLoadEpoch                   // Refill: acq epoch_i
	wLoadCursor                  // Refill: acq cursor_i
	wBackpress                   // Refill: lim < need
	wIntent                      // Refill: atomic.Store(&lane.intent, I)
	wEvict                       // Evict: CAS consumer i out of the list
	wWakeFlag                    // Wake: any sleeper?
	wWakeInc                     // Wake: wake_seq++
	wWakeSyscall                 // Wake: FUTEX_WAKE
	wDone                        // lane closed
	wDead                        // crashed
)

// evictReason is why Evict was called.
type evictReason uint8

const (
	evictStalled evictReason = iota + 1
	evictHostile
	dropDead // lock probed FREE: removed without a notice
)

// control holds the locals of the control goroutine.
type control struct {
	snap    [maxRead]word // set read before a plain Store (mutant only)
	i       Pos           // intent of the attempt that failed
	pc      controlPC
	r       uint8 // consumer being joined
	j       Pos
	tickets [maxRead]uint8 // last ticket given to each consumer
}

type controlPC uint8

const (
	cIdle   controlPC = iota
	cAdd              // Join: CAS set -> set + {i, cursor, join=J}
	cStore            // Join: the same as load, then Store (mutant only)
	cCheck            // Join: I = acq intent; I + G - J <= cap?
	cRemove           // Join: CAS remove i
	cRetry            // Join: wait for a newer tail_hint or intent
	cDead             // the process died
)

// reader holds the locals of one consumer thread.
type reader struct {
	pc     readerPC
	lane   uint8 // lane it looks at
	lanes  [maxLanes]follow
	frames [2]copied // copied, not yet validated
	n      uint8     // complete frames
	sp     Pos       // next header to read, not validated
	i      uint8     // payload units copied
	early  bool      // result of an intent check made too early (mutant only)
	missed uint8     // lanes that had nothing in this sweep (bits)
	joins  uint8     // joins still allowed
	save   [maxLanes]uint8
	redone bool // restarted after a crash, has not accepted a frame since
	handed Pos  // sequence after the last message whose handler returned (ghost: survives a crash)
}

// follow is what a consumer knows of one lane.
type follow struct {
	p        Pos
	want     uint8 // next sequence
	cursor   Pos   // last published
	join     Pos   // J: protected from here on
	ticket   uint8
	resync   bool // the next frame may start after a gap
	finished bool
}

// copied is one frame as copied out of the ring.
type copied struct {
	pos     Pos
	kind    kind
	len     uint8
	seq     uint8
	genuine bool // ghost: every word copied was written for the frame at pos
}

type readerPC uint8

const (
	rAsk       readerPC = iota // ask the control goroutine to join
	rWait                      // J has not arrived
	rJoined                    // J has arrived: store the cursor slot
	rHeader                    // Poll: w = acq [p]
	rMeta                      // Poll: copy len, seq
	rCopy                      // Poll: copy the payload
	rCheck                     // Poll: LoadLoad; if overrun(p)
	rBadLen                    // Poll: length out of bounds: overrun or corrupt?
	rMiss                      // Poll: no commit: overrun or nothing there?
	rHandler                   // the handler runs
	rNotice                    // after publishing the cursor: acq evict[slot]
	rOverrun                   // Overrun(): lossless looks for a notice, lossy at the index
	rEvicted                   // the consumer knows: ErrEvicted
	rParkRead                  // Park: read wake_seq of every lane
	rParkFence                 // Park: membarrier
	rParkLook                  // Park: look at every lane again
	rParkSleep                 // Park: futex_waitv
	rAsleep                    // in the kernel
	rWoken                     // woken by FUTEX_WAKE
	rAttack                    // hostile: about to store a bad cursor
	rDone                      // every lane finished
	rGone                      // evicted for good, or its lane died before it joined
	rDead                      // crashed
)

// laneGhost is what really is true of a lane.
type laneGhost struct {
	end      Pos   // end of what is reachable in memory
	endSeq   uint8 // sequence after it
	final    bool  // the registry has announced final_pos
	finalPos Pos
	finalSeq uint8
}

// violation says which promise was broken.
type violation uint8

const (
	fine violation = iota
	tornFrame
	falseCorrupt
	beyondEnd
	wentBack
	wrongMissed
	overrunHonoured
	evictedHonest
	intentTooFar
	wrongFinal
	skippedUnhandled
	oldNotDrained
	ghostMember
	stuck
)

func (v violation) String() string {
	return [...]string{
		fine:             "fine",
		tornFrame:        "I3/I6: a torn or false frame was accepted",
		falseCorrupt:     "an honest lane was declared corrupt",
		beyondEnd:        "I7: a frame beyond the committed end was accepted",
		wentBack:         "a message was delivered twice",
		wrongMissed:      "received + missed is not what was published",
		overrunHonoured:  "I5: a lossless consumer was overrun without an eviction notice",
		evictedHonest:    "I7: an honest consumer was evicted as hostile",
		intentTooFar:     "I5: intent passes an honoured cursor + cap",
		wrongFinal:       "final_pos of a dead lane is not its committed end",
		skippedUnhandled: "a durable consumer restarted after a message whose handler never returned",
		oldNotDrained:    "a new incarnation was read before the old one was drained",
		ghostMember:      "the writer still honours a consumer that was told it is evicted",
		stuck:            "no sequence of steps leads to the end (deadlock or livelock)",
	}[v]
}
