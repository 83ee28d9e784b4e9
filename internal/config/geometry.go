package config

import (
	"fmt"
	"math/bits"
)

const (
	MinRingBytes            = 64 << 10
	MaxRingBytes            = 1 << 30
	DefaultRingBytes        = 1 << 20
	DefaultMaxMessageBytes  = 64 << 10
	defaultStepBytes        = 64 << 10
	frameAlignBytes         = 32       // frames and credit steps are multiples of this
	laneHeaderBytes         = 16 << 10 // what a segment file holds before its ring
	messagesPerRing         = 8        // a ring holds at least so many of the longest messages
	stepsPerRing            = 4        // and at least so many credit steps
	frameHeaderAndNextBytes = 64       // header of a frame and of the one after it
)

// Geometry is the shape of the lanes of a topic, in bytes. Zero fields mean defaults
// that depend on the other fields; see WithDefaults.
type Geometry struct {
	RingBytes       uint64 // power of two, 64 KiB to 1 GiB
	MaxMessageBytes uint64 // longest payload, at most an eighth of the ring
	StepBytes       uint64 // credit step: multiple of 32, MaxMessageBytes+64 to a quarter of the ring
}

// WithDefaults fills the zero fields. The ring is 1 MiB, or larger if the longest
// message needs it; the longest message is 64 KiB, or an eighth of the ring if that is
// less; the credit step is 64 KiB, raised to hold the longest message and lowered to a
// quarter of the ring.
func (g Geometry) WithDefaults() Geometry {
	if g.RingBytes == 0 {
		g.RingBytes = max(DefaultRingBytes, ringFor(g.MaxMessageBytes))
	}
	if g.MaxMessageBytes == 0 {
		g.MaxMessageBytes = min(DefaultMaxMessageBytes, g.RingBytes/messagesPerRing)
	}
	if g.StepBytes == 0 {
		message := min(g.MaxMessageBytes, MaxRingBytes) // keep nonsense from wrapping; Validate refuses it
		need := (message + frameHeaderAndNextBytes + frameAlignBytes - 1) / frameAlignBytes * frameAlignBytes
		g.StepBytes = max(min(defaultStepBytes, g.RingBytes/stepsPerRing), need)
	}
	return g
}

// ringFor returns the smallest ring for a longest message, or the largest if none is.
func ringFor(maxMessageBytes uint64) uint64 {
	if maxMessageBytes > MaxRingBytes/messagesPerRing {
		return MaxRingBytes
	}
	return max(MinRingBytes, uint64(1)<<bits.Len64(max(maxMessageBytes, 1)*messagesPerRing-1))
}

// Validate reports what is wrong with g after WithDefaults.
func (g Geometry) Validate() error {
	if fs := g.faults(); fs != nil {
		return fault{msg: fs[0].sub[1:] + ": " + fs[0].msg, hint: fs[0].hint}
	}
	return nil
}

// faults returns the first fault, for the other limits follow from what is wrong then.
func (g Geometry) faults() []fault {
	g = g.WithDefaults()
	if fs := checkRing(g.RingBytes); fs != nil {
		fs[0].sub = ".ring"
		return fs
	}
	if limit := g.RingBytes / messagesPerRing; g.MaxMessageBytes > limit {
		msg := fmt.Sprintf("%s is more than an eighth of the ring (%s / 8 = %s); ",
			FormatSize(g.MaxMessageBytes), FormatSize(g.RingBytes), FormatSize(limit))
		if ring := ringFor(g.MaxMessageBytes); ring/messagesPerRing >= g.MaxMessageBytes {
			msg += fmt.Sprintf("use ring = %q or more", FormatSize(ring))
		} else {
			msg += fmt.Sprintf("the largest ring, %s, takes %s", FormatSize(MaxRingBytes), FormatSize(MaxRingBytes/messagesPerRing))
		}
		return []fault{{sub: ".max_message", msg: msg}}
	}
	lo, hi := g.MaxMessageBytes+frameHeaderAndNextBytes, g.RingBytes/stepsPerRing
	if g.StepBytes%frameAlignBytes != 0 || g.StepBytes < lo || g.StepBytes > hi {
		return []fault{{sub: ".step", msg: fmt.Sprintf("%d bytes; a multiple of 32 from %d to %d is needed", g.StepBytes, lo, hi)}}
	}
	return nil
}

func checkRing(n uint64) []fault {
	if n >= MinRingBytes && n <= MaxRingBytes && n&(n-1) == 0 {
		return nil
	}
	fs := faultf("%s is not a power of two from %s to %s", FormatSize(n), FormatSize(MinRingBytes), FormatSize(MaxRingBytes))
	n = min(max(n, MinRingBytes), MaxRingBytes)
	fs[0].hint = FormatSize(1 << bits.Len64(n-1))
	return fs
}
