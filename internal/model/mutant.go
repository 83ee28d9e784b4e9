package model

// Mutant is one deliberate mistake in the protocol. Each must lead to a violation.
type Mutant uint8

const (
	None Mutant = iota

	// Publish
	NoZeroNext      // the word behind the frame is not zeroed
	ZeroAfterCommit // it is zeroed, but after the commit
	ClearDataOnly   // it is zeroed if it passes for a DATA commit only, not for a PAD, GAP or END
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

// mutants holds the name of each mutant, a scenario that kills it, and the promise that is broken there.
var mutants = [numMutants]struct {
	name, scenario string
	breaks         violation
}{
	NoZeroNext:            {"no zero-next", "lap", tornFrame},
	ZeroAfterCommit:       {"zero after commit", "lap", tornFrame},
	ClearDataOnly:         {"zero-next for DATA commits only", "lap, other kinds", tornFrame},
	CommitFirst:           {"commit before payload", "lap", tornFrame},
	IntentAfterData:       {"intent after data", "lap", tornFrame},
	NeedWithoutZero:       {"need without the zeroed word", "lap", stuck},
	BatchFirstCommitFirst: {"batch m1 first", "batch", wrongFinal},
	IndexEarly:            {"index entries of a batch early", "batch", beyondEnd},
	NoFinalCheck:          {"no final check", "lap", tornFrame},
	CheckBeforeCopy:       {"check before copy", "lap", tornFrame},
	PadUnchecked:          {"no check on PAD", "lap", tornFrame},
	MissUnchecked:         {"no check on a miss", "writer crash", stuck},
	CheckLargest:          {"check for the largest position", "lap long", tornFrame},
	CursorBeforeCopy:      {"cursor before copy", "lossless", intentTooFar},
	CursorBeforeHandler:   {"cursor before the handler returned", "durable", skippedUnhandled},
	NoJoinI:               {"no join_i", "join", intentTooFar},
	TailHintAhead:         {"tail_hint ahead", "lap", tornFrame},
	TailHintPastEnd:       {"tail_hint behind END", "join", stuck},
	TailHintForeign:       {"tail_hint from another goroutine", "writer crash", wrongFinal},
	TailHintBeforeSeq:     {"tail_hint before tail_seq_hint", "writer crash", wrongFinal},
	JoinPlainStore:        {"join by plain store", "join", intentTooFar},
	JoinUnchecked:         {"join without check", "join", intentTooFar},
	JoinNoMargin:          {"join with margin 0", "join", intentTooFar},
	SetStored:             {"list changed by Store instead of CAS", "join and evict", overrunHonoured},
	StepTooLarge:          {"S too large", "join", stuck},
	GrantTooLarge:         {"grant over half the ring", "writer crash", stuck},
	CursorUnclamped:       {"cursor trusted unclamped", "hostile", stuck},
	NoticeLate:            {"eviction notice late", "evict", overrunHonoured},
	EvictBySlot:           {"evict by slot instead of ticket", "evict", overrunHonoured},
	TicketKept:            {"ticket kept across attempts", "join, policy evict", evictedHonest},
	CursorBelowJ:          {"cursor below J", "history", evictedHonest},
	RejoinKeepsSlot:       {"re-join without clearing the slot", "evict", evictedHonest},
	RestartClearsSlot:     {"durable restart clears the slot", "durable", evictedHonest},
	PositionReused:        {"position reused after restart", "restart", tornFrame},
	NewBeforeOldDrained:   {"new lane before old drained", "restart", oldNotDrained},
	NoMembarrier:          {"no membarrier", "park", stuck},
	NoLookBeforeSleep:     {"no re-check before sleeping", "park on two lanes", stuck},
	ParkHeaderOnly:        {"re-check of headers only", "park", stuck},
	OneFutexWord:          {"one futex word for several lanes", "park on two lanes", stuck},
}

func (m Mutant) String() string { return mutants[m].name }
