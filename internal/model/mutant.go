package model

// Mutant is one deliberate mistake in the protocol. Each must lead to a violation.
type Mutant uint8

const (
	None Mutant = iota

	// Publish
	NoZeroNext      // the word behind the frame is not zeroed
	ZeroAfterCommit // it is zeroed, but after the commit
	CommitFirst     // commit before payload
	IntentAfterData // intent is stored after the bytes it announces
	NeedWithoutZero // the credit does not include the zeroed word

	// PublishBatch
	BatchFirstCommitFirst // m1 is committed before the rest of the batch is there
	IndexEarly            // index entries before the commit

	// Poll
	NoFinalCheck        // no overrun check after the copy
	CheckBeforeCopy     // the check comes before the copy
	PadUnchecked        // a PAD is followed without the check
	MissUnchecked       // no overrun check when no commit is found
	CheckLargest        // frames copied together are checked for the last position, not the first
	CursorBeforeCopy    // the cursor is published before the payload is copied
	CursorBeforeHandler // the cursor is published before the handler returned

	// Refill, Join, Evict
	NoJoinI           // a consumer whose slot is not stored yet does not count
	TailHintAhead     // tail_hint names the end of what is about to be written
	TailHintPastEnd   // closing moves tail_hint behind the END frame
	TailHintForeign   // tail_hint is stored by another goroutine
	TailHintBeforeSeq // tail_hint is stored before tail_seq_hint
	JoinPlainStore    // Join stores the list without a fence
	JoinUnchecked     // Join does not check intent
	JoinNoMargin      // Join checks without the margin G
	SetStored         // the list is changed by load and Store instead of CAS
	StepTooLarge      // S > cap/2
	GrantTooLarge     // messages so long that G > cap/2
	CursorUnclamped   // a cursor is believed whatever it says
	NoticeLate        // the eviction notice is stored after intent was raised
	EvictBySlot       // Evict removes whoever is in the slot, not the ticket
	TicketKept        // a second attempt of Join keeps the ticket of the first
	CursorBelowJ      // a consumer that reads history before J publishes its position there
	RejoinKeepsSlot   // the cursor slot of the earlier join is not cleared before asking again

	// Restart
	RestartClearsSlot   // a durable consumer that comes back clears its slot, as if it joined
	PositionReused      // the next incarnation takes over the file, positions start again
	NewBeforeOldDrained // the next incarnation is read as soon as it appears

	// Park
	NoMembarrier      // sleeping = 1 without membarrier
	NoLookBeforeSleep // no look between membarrier and sleep
	ParkHeaderOnly    // that look only compares headers, not intent
	OneFutexWord      // one futex word for several lanes

	numMutants
)

func (m Mutant) String() string {
	return [...]string{
		None:                  "none",
		NoZeroNext:            "no zero-next",
		ZeroAfterCommit:       "zero after commit",
		CommitFirst:           "commit before payload",
		IntentAfterData:       "intent after data",
		NeedWithoutZero:       "need without the zeroed word",
		BatchFirstCommitFirst: "batch m1 first",
		IndexEarly:            "index entries of a batch early",
		NoFinalCheck:          "no final check",
		CheckBeforeCopy:       "check before copy",
		PadUnchecked:          "no check on PAD",
		MissUnchecked:         "no check on a miss",
		CheckLargest:          "check for the largest position",
		CursorBelowJ:          "cursor below J",
		CursorBeforeCopy:      "cursor before copy",
		CursorBeforeHandler:   "cursor before the handler returned",
		NoJoinI:               "no join_i",
		TailHintAhead:         "tail_hint ahead",
		TailHintPastEnd:       "tail_hint behind END",
		TailHintForeign:       "tail_hint from another goroutine",
		TailHintBeforeSeq:     "tail_hint before tail_seq_hint",
		JoinPlainStore:        "join by plain store",
		JoinUnchecked:         "join without check",
		JoinNoMargin:          "join with margin 0",
		SetStored:             "list changed by Store instead of CAS",
		StepTooLarge:          "S too large",
		CursorUnclamped:       "cursor trusted unclamped",
		NoticeLate:            "eviction notice late",
		GrantTooLarge:         "grant over half the ring",
		RestartClearsSlot:     "durable restart clears the slot",
		EvictBySlot:           "evict by slot instead of ticket",
		TicketKept:            "ticket kept across attempts",
		RejoinKeepsSlot:       "re-join without clearing the slot",
		PositionReused:        "position reused after restart",
		NewBeforeOldDrained:   "new lane before old drained",
		NoMembarrier:          "no membarrier",
		NoLookBeforeSleep:     "no re-check before sleeping",
		ParkHeaderOnly:        "re-check of headers only",
		OneFutexWord:          "one futex word for several lanes",
	}[m]
}
