package layout

// Frame header offsets, from the frame's first byte.
const (
	FrameHeaderBytes = 32

	OffCommit  = 0
	OffLen     = 8 // u32 len, u16 type, u8 flags, u8 hops: one 64-bit word
	OffSeq     = 16
	OffTime    = 24
	OffPayload = 32
)

// Kind of a frame, bits 1-2 of its commit word.
type Kind uint64

const (
	KindData Kind = 0
	KindPad  Kind = 1
	KindGap  Kind = 2
	KindEnd  Kind = 3
)

const (
	commitBit  = 1
	kindShift  = 1
	KindMask   = 3 << kindShift
	CommitMask = ^uint64(KindMask) // a commit word without its kind
)

// Commit is the commit word of the frame of that kind at pos. Zero is never a
// commit word, and no two positions share one.
func Commit(pos uint64, kind Kind) uint64 { return pos | uint64(kind)<<kindShift | commitBit }

// KindOf extracts the kind from a valid commit word.
func KindOf(commit uint64) Kind { return Kind(commit&KindMask) >> kindShift }

// Committed reports whether word is a commit word, of any kind, for pos.
func Committed(word, pos uint64) bool { return word&CommitMask == pos|commitBit }

// FrameBytes is the room that a frame with a payload of n bytes takes in the
// ring: header and payload rounded up to Align.
func FrameBytes(n uint64) uint64 { return (FrameHeaderBytes + n + Align - 1) &^ (Align - 1) }

// Meta packs the word at OffLen.
func Meta(n uint32, typ uint16, flags, hops uint8) uint64 {
	return uint64(n) | uint64(typ)<<32 | uint64(flags)<<48 | uint64(hops)<<56
}

// SplitMeta is the inverse of Meta.
func SplitMeta(w uint64) (n uint32, typ uint16, flags, hops uint8) {
	return uint32(w), uint16(w >> 32), uint8(w >> 48), uint8(w >> 56)
}

// Geometry of a ring, in bytes.
type Geometry struct {
	Ring   uint64 // power of two, MinRing..MaxRing
	MaxMsg uint32 // largest payload, at most Ring/8
	Step   uint64 // credit step S: multiple of Align, MaxMsg+64 <= Step <= Ring/4
}

// WithDefaults fills the zero fields: a 1 MiB ring, payloads up to 64 KiB or
// an eighth of the ring, and the 64 KiB step raised to hold one payload or
// lowered to a quarter of the ring.
func (g Geometry) WithDefaults() Geometry {
	if g.Ring == 0 {
		g.Ring = DefaultRing
	}
	if g.MaxMsg == 0 {
		g.MaxMsg = uint32(min(g.Ring/8, 64<<10))
	}
	if g.Step == 0 {
		g.Step = min(max(DefaultStep, (uint64(g.MaxMsg)+64+Align-1)&^(Align-1)), g.Ring/4)
	}
	return g
}

// Check reports the first bound that g breaks.
func (g Geometry) Check() error {
	switch {
	case g.Ring < MinRing || g.Ring > MaxRing || g.Ring&(g.Ring-1) != 0:
		return geometryError("ring of %d bytes: want a power of two from %d to %d", g.Ring, MinRing, MaxRing)
	case uint64(g.MaxMsg) > g.Ring/8 || g.MaxMsg == 0:
		return geometryError("max message of %d bytes: want 1 to an eighth of the ring (%d)", g.MaxMsg, g.Ring/8)
	case g.Step%Align != 0 || g.Step > g.Ring/4 || g.Step < uint64(g.MaxMsg)+64:
		return geometryError("credit step of %d bytes: want a multiple of %d from max message + 64 (%d) to a quarter of the ring (%d)",
			g.Step, Align, uint64(g.MaxMsg)+64, g.Ring/4)
	}
	return nil
}

// BlockShift is log2 of the bytes that one index entry covers.
func (g Geometry) BlockShift() uint32 {
	var s uint32
	for c := g.Ring / IndexEntries; c > 1; c >>= 1 {
		s++
	}
	return s
}

// FirstPosition is where the lane of that number starts: in its first lap, at an
// offset of its own within a page. Rings are page-aligned, so lanes that all
// started at offset 0 and move in step would fall into the same cache sets, and a
// store to one would hold up a load from another whose address ends alike.
func (g Geometry) FirstPosition(lane uint32) uint64 { return g.Ring + uint64(lane*37%64)*64 }

// FileBytes is the size of a lane file.
func (g Geometry) FileBytes() uint64 { return LaneHeaderBytes + g.Ring }

// SlotOff is where the slot of the lane of that number is in a cursor file.
func SlotOff(lane uint32) uint64 { return OffSlots + uint64(lane)*SlotBytes }

// CursorFileBytes is the size of a cursor file with that many slots.
func CursorFileBytes(slots uint32) uint64 {
	return (SlotOff(slots) + PageBytes - 1) &^ (PageBytes - 1)
}
