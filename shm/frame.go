package shm

import (
	"fmt"

	"github.com/torq/mycelium/internal/layout"
)

// TopicID is the 64-bit id of a topic: FNV-1a of its name.
type TopicID uint64

// SourceID is the 64-bit id of a source: FNV-1a of its name.
type SourceID uint64

// Frame is one message as a handler sees it. Payload is valid until the handler
// returns; copy what must live longer.
type Frame struct {
	Topic   TopicID
	Source  SourceID
	Seq     uint64 // +1 per frame within a lane
	Time    int64  // CLOCK_MONOTONIC ns of the publishing host, 0 where the publisher stamps nothing
	Type    uint16 // the publisher's tag
	Flags   uint8
	Payload []byte
}

// Message is one element of a batch.
type Message struct {
	Type    uint16
	Payload []byte
}

// Timestamps says how a publisher stamps its frames.
type Timestamps uint8

const (
	TimestampsOff   = Timestamps(layout.TimestampOff)   // Frame.Time is 0
	TimestampsTSC   = Timestamps(layout.TimestampTSC)   // calibrated cycle counter, about 8 ns a frame
	TimestampsClock = Timestamps(layout.TimestampClock) // CLOCK_MONOTONIC through the vDSO, about 25 ns a frame
)

func (t Timestamps) String() string {
	switch t {
	case TimestampsOff:
		return "off"
	case TimestampsTSC:
		return "tsc"
	case TimestampsClock:
		return "clock"
	}
	return fmt.Sprintf("Timestamps(%d)", uint8(t))
}

// UnmarshalText accepts off, tsc and clock.
func (t *Timestamps) UnmarshalText(b []byte) error {
	switch string(b) {
	case "off", "":
		*t = TimestampsOff
	case "tsc":
		*t = TimestampsTSC
	case "clock":
		*t = TimestampsClock
	default:
		return fmt.Errorf("timestamps %q: %w: want off, tsc or clock", b, ErrInvalid)
	}
	return nil
}
