package shm

import (
	"fmt"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// PublisherOptions; the zero value is the default.
type PublisherOptions struct {
	// Source is the stable name under which this publisher's order is kept over
	// restarts; one live publisher per (topic, source). "" = the program's name
	// and process id.
	Source string
	// RingBytes and MaxMessageBytes ask for a geometry; 0 = as the topic says.
	// Bounds: see docs/layout.md.
	RingBytes       uint64
	MaxMessageBytes uint32
	Timestamps      Timestamps

	mirror *mirrorRequest // nil = an ordinary lane
}

// Validate reports the first impossible value.
func (o *PublisherOptions) Validate() error {
	if len(o.Source) > layout.MaxSource {
		return fmt.Errorf("%w: source of %d bytes, the most is %d", ErrInvalid, len(o.Source), layout.MaxSource)
	}
	if o.Timestamps > TimestampsClock {
		return fmt.Errorf("%w: timestamps %d", ErrInvalid, o.Timestamps)
	}
	g := layout.Geometry{Ring: o.RingBytes, MaxMsg: o.MaxMessageBytes}
	if g != (layout.Geometry{}) && o.mirror == nil { // for a mirror lane the directory finds the ring
		if err := g.WithDefaults().Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return nil
}

// Mode of a subscriber.
type Mode uint8

const (
	Lossy    Mode = iota // may be lapped; gaps are reported exactly
	Lossless             // holds publishers back, as the topic's policy allows
)

func (m Mode) String() string {
	if m == Lossless {
		return "lossless"
	}
	return "lossy"
}

// UnmarshalText accepts lossless and lossy.
func (m *Mode) UnmarshalText(b []byte) error {
	switch string(b) {
	case "lossy", "":
		*m = Lossy
	case "lossless":
		*m = Lossless
	default:
		return fmt.Errorf("%w: mode %q: want lossless or lossy", ErrInvalid, b)
	}
	return nil
}

func (m Mode) layout() layout.Mode {
	if m == Lossless {
		return layout.Lossless
	}
	return layout.Lossy
}

// Start says where a subscriber begins in the lanes that exist when it
// attaches. Lanes that appear later are read from their first frame. The zero
// Start is StartLatest.
type Start struct {
	kind startKind
	seq  uint64
}

type startKind uint8

const (
	startLatest startKind = iota
	startOldest
	startSeq
)

// StartLatest begins with what is published after attaching.
func StartLatest() Start { return Start{} }

// StartOldest begins with the oldest frame still in the ring. A lossless
// subscriber is protected from the moment it attaches; older history may be
// overwritten before it is read, which is reported as a gap.
func StartOldest() Start { return Start{kind: startOldest} }

// StartSeq begins with a sequence of each lane. What of it is no longer in the
// ring is reported as a gap; a lane that has not got so far begins with what is
// published next.
func StartSeq(seq uint64) Start { return Start{kind: startSeq, seq: seq} }

// SubscriberOptions; the zero value is a lossy subscriber from latest on.
type SubscriberOptions struct {
	Name string // for humans, "" = the program's name
	// Keep makes the subscriber durable: it outlives its process for so long, and
	// whoever asks for the same Name and topic goes on where its cursors are. What was
	// read and not yet stored in a cursor comes again: at least once. Until then it
	// holds publishers back as if it lived. It needs a Name. Close keeps it, Forget
	// ends it. 0 = not durable.
	Keep  time.Duration
	Mode  Mode
	Start Start
	// Idle is what Run and Frames do when there is nothing to read. IdlePark
	// also tells publishers to wake this subscriber.
	Idle Idle
	// LapToLatest makes a lapped lossy subscriber skip to the newest frames it
	// can find rather than the oldest that are left.
	LapToLatest bool
	// OnError is called by Run, on its goroutine, for every gap, eviction and
	// detached lane; nil ends Run at the first.
	OnError func(error)

	acked bool // cursors follow the word of a Relay
}

// Validate reports the first impossible value.
func (o *SubscriberOptions) Validate() error {
	switch {
	case len(o.Name) >= layout.MaxSource:
		return fmt.Errorf("%w: subscriber name of %d bytes, the most is %d", ErrInvalid, len(o.Name), layout.MaxSource-1)
	case o.Keep < 0 || o.Keep > 0 && o.Name == "":
		return fmt.Errorf("%w: a durable subscriber needs a name, and a time to be kept of 0 or more", ErrInvalid)
	case strings.ContainsRune(o.Name, 0):
		return fmt.Errorf("%w: subscriber name with a NUL byte", ErrInvalid)
	case o.Mode > Lossless:
		return fmt.Errorf("%w: mode %d", ErrInvalid, o.Mode)
	case o.Idle > IdlePark:
		return fmt.Errorf("%w: idle strategy %d", ErrInvalid, o.Idle)
	}
	return nil
}
