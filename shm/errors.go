package shm

import (
	"errors"
	"fmt"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

// Sentinels. Errors returned by this package wrap one of them; use errors.Is.
var (
	// ErrTooLarge: the payload exceeds the topic's max message.
	ErrTooLarge = errors.New("payload is larger than the topic's max message")
	// ErrBackpressure: a lossless subscriber has not read far enough. Nothing
	// was published; try again, or let the topic's policy decide.
	ErrBackpressure = errors.New("no room: a lossless subscriber is behind")
	// ErrClosed: the handle, its client or its bus connection was closed.
	ErrClosed = errors.New("closed")
	// ErrClaimOpen: the previous claim was neither committed nor aborted.
	ErrClaimOpen = errors.New("the previous claim is still open: commit or abort it first")
	// ErrGap: sequences are missing. See GapError.
	ErrGap = errors.New("gap")
	// ErrEvicted: a publisher stopped honouring this lossless subscriber. See EvictedError.
	ErrEvicted = errors.New("evicted")
	// ErrCorrupt: a lane breaks the protocol; it was detached. See LaneError.
	ErrCorrupt = errors.New("lane is corrupt")
	// ErrFault: the memory under a lane went away (a truncated segment); it was detached. See LaneError.
	ErrFault = errors.New("memory fault in a segment")
	// ErrViewRefused: View is for lossless subscribers of topics that never evict.
	ErrViewRefused = errors.New("view refused: this subscriber can be lapped; use Poll")
	// ErrSourceBusy: the source already has a live publisher on the topic.
	ErrSourceBusy = errors.New("source already publishes on this topic")
	// ErrRegistryDown: the directory cannot be reached; what is attached goes on.
	ErrRegistryDown = errors.New("registry is down")
	// ErrPermission: the topic's allow-lists say no.
	ErrPermission = errors.New("permission denied")
	// ErrNotFound: no such topic.
	ErrNotFound = errors.New("not found")
	// ErrExists: the topic exists with other settings, or is in use.
	ErrExists = errors.New("exists")
	// ErrInvalid: a name or an option breaks a rule.
	ErrInvalid = errors.New("invalid")
	// ErrQuota: a limit of the bus or of the user is reached.
	ErrQuota = errors.New("quota exceeded")
	// ErrNoSpace: the shared-memory file system is full.
	ErrNoSpace = segment.ErrNoSpace
	// ErrVersion: a segment or the registry speaks another version.
	ErrVersion = layout.ErrVersion
)

// Cause says why sequences are missing.
type Cause uint8

const (
	CauseLapped    Cause = 1 + iota // a lossy subscriber was overtaken by the publisher
	CauseEvicted                    // a lossless subscriber was evicted and joined again
	CauseStart                      // the requested start is no longer in the ring
	CauseForwarded                  // lost before it reached this host
)

func (c Cause) String() string {
	switch c {
	case CauseLapped:
		return "lapped"
	case CauseEvicted:
		return "evicted"
	case CauseStart:
		return "start"
	case CauseForwarded:
		return "forwarded"
	}
	return "unknown"
}

// GapError reports that the sequences From..Next-1 of a lane are missing. The
// subscriber has already resynchronised: poll again and go on. It is an ErrGap.
type GapError struct {
	Topic  TopicID
	Source SourceID
	From   uint64 // first missing sequence
	Next   uint64 // sequence of the next frame
	Cause  Cause
}

// Missed is how many frames are missing.
func (e *GapError) Missed() uint64 { return e.Next - e.From }

func (e *GapError) Error() string {
	return fmt.Sprintf("gap: %d frames missing, sequences %d to %d (%s)", e.Missed(), e.From, e.Next-1, e.Cause)
}

func (e *GapError) Unwrap() error { return ErrGap }

// EvictedError reports that a publisher stopped waiting for this lossless
// subscriber. Frames up to NextSeq-1 were delivered; the subscriber joins the
// lane again by itself and a GapError tells what was missed. It is an ErrEvicted.
type EvictedError struct {
	Topic   TopicID
	Source  SourceID
	NextSeq uint64
}

func (e *EvictedError) Error() string {
	return fmt.Sprintf("evicted before sequence %d: the subscriber was too slow for the topic's policy; it joins again and reports the gap", e.NextSeq)
}

func (e *EvictedError) Unwrap() error { return ErrEvicted }

// LaneError reports a lane that was detached for good, or could not be followed
// at all; every other lane goes on. It is an ErrCorrupt or an ErrFault, or what
// kept the lane from being attached (ErrQuota for the 129th lossless subscriber).
type LaneError struct {
	Topic  TopicID
	Source SourceID
	Pos    uint64
	Reason string
	Err    error
}

func (e *LaneError) Error() string {
	return fmt.Sprintf("%v at position %d: %s; the lane was detached", e.Err, e.Pos, e.Reason)
}

func (e *LaneError) Unwrap() error { return e.Err }

// BackpressureError is an ErrBackpressure after waiting, with the subscriber
// that the publisher waited for.
type BackpressureError struct {
	Subscriber string // epoch of its cursor file
	LagBytes   uint64
	Waited     time.Duration
}

func (e *BackpressureError) Error() string {
	return fmt.Sprintf("no room after %v: lossless subscriber %s is %d bytes behind; nothing was published", e.Waited.Round(time.Microsecond), e.Subscriber, e.LagBytes)
}

func (e *BackpressureError) Unwrap() error { return ErrBackpressure }

// BatchError is a batch that was split and failed after its first part.
type BatchError struct {
	Published int // messages that were published, from the first on
	Err       error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("batch stopped after %d messages: %v", e.Published, e.Err)
}

func (e *BatchError) Unwrap() error { return e.Err }
