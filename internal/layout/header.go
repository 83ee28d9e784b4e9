package layout

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
)

// Why a segment was refused. Use errors.Is.
var (
	ErrTruncated = errors.New("segment is truncated")
	ErrMagic     = errors.New("not a Mycelium segment")
	ErrVersion   = errors.New("incompatible layout version")
	ErrChecksum  = errors.New("segment header is corrupt")
	ErrGeometry  = errors.New("impossible geometry")
	ErrNotReady  = errors.New("segment is not ready")
)

// VersionError is an ErrVersion with its numbers.
type VersionError struct{ HaveMajor, HaveMinor, WantMajor uint16 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("layout version %d.%d, this program reads %d.x: use a matching release", e.HaveMajor, e.HaveMinor, e.WantMajor)
}

func (e *VersionError) Unwrap() error { return ErrVersion }

func geometryError(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrGeometry, fmt.Sprintf(format, a...))
}

// ID16 is a 16-byte identity: an epoch, a node, a boot.
type ID16 [16]byte

func (id ID16) String() string { return hex.EncodeToString(id[:]) }

// Low is the first 8 bytes as a word: what slots and tickets compare.
func (id ID16) Low() uint64 { return binary.LittleEndian.Uint64(id[:8]) }

// IsZero reports the absent identity.
func (id ID16) IsZero() bool { return id == ID16{} }

// MarshalText and UnmarshalText use lower-case hex.
func (id ID16) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

func (id *ID16) UnmarshalText(b []byte) error {
	if len(b) != 32 {
		return fmt.Errorf("identity %q: want 32 hex digits", b)
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// LaneHeader is page 0 of a lane file.
type LaneHeader struct {
	Geometry
	TopicID      uint64
	Lane         uint32 // lane number: unique on the bus while the file exists; index into every cursor file
	Epoch        ID16
	SourceID     ID16 // first 8 bytes: topic.ID of the source name
	OriginNode   ID16
	UID, GID     uint32
	Mirror       bool
	Hops         uint8 // links that the frames came over
	CreatedWall  int64 // ns
	CreatedMono  int64 // ns
	BootID       ID16
	PrevEpoch    ID16 // the source's previous lane, zero = none
	FirstPos     uint64
	FirstSeq     uint64
	Timestamp    Timestamp
	OriginEpoch  ID16
	OriginWall   int64
	OriginMono   int64
	Via          [MaxHops - 1]ID16 // hosts between the origin and this one, in order; zero = no more
	Topic        string
	Source       string
	MinorVersion uint16 // as read; written as Minor
}

const (
	topicNameBytes  = 256
	sourceNameBytes = 128

	// MaxTopic and MaxSource are the longest names a header holds, in bytes.
	MaxTopic  = topicNameBytes - 1
	MaxSource = sourceNameBytes - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Ready is the word that makes a segment valid, stored after everything else.
func Ready(magic uint64, epoch ID16) uint64 { return magic ^ epoch.Low() }

// Encode writes the immutable part, without the ready word, to b[:0x400].
func (h *LaneHeader) Encode(b []byte) {
	b = b[:immutableBytes]
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b[0x00:], LaneMagic)
	le.PutUint16(b[0x08:], Major)
	le.PutUint16(b[0x0A:], Minor)
	le.PutUint32(b[0x0C:], LaneHeaderBytes)
	le.PutUint64(b[0x10:], h.FileBytes())
	le.PutUint64(b[0x18:], OffRing)
	le.PutUint64(b[0x20:], h.Ring)
	le.PutUint32(b[0x28:], Align)
	le.PutUint32(b[0x2C:], h.MaxMsg)
	le.PutUint64(b[0x30:], h.TopicID)
	le.PutUint64(b[0x38:], uint64(h.Lane))
	copy(b[0x40:], h.Epoch[:])
	copy(b[0x50:], h.SourceID[:])
	copy(b[0x60:], h.OriginNode[:])
	le.PutUint32(b[0x70:], h.UID)
	le.PutUint32(b[0x74:], h.GID)
	if h.Mirror {
		b[0x78] = 1
	}
	b[0x79] = h.Hops
	le.PutUint32(b[0x7C:], h.BlockShift())
	le.PutUint64(b[0x80:], uint64(h.CreatedWall))
	le.PutUint64(b[0x88:], uint64(h.CreatedMono))
	copy(b[0x90:], h.BootID[:])
	copy(b[0xA0:], h.PrevEpoch[:])
	le.PutUint64(b[0xB0:], h.FirstPos)
	le.PutUint64(b[0xB8:], h.FirstSeq)
	le.PutUint64(b[0xC0:], h.Step)
	le.PutUint32(b[0xC8:], uint32(h.Timestamp))
	copy(b[0xD0:], h.OriginEpoch[:])
	le.PutUint64(b[0xE0:], uint64(h.OriginWall))
	le.PutUint64(b[0xE8:], uint64(h.OriginMono))
	copy(b[0x100:0x100+MaxTopic], h.Topic)
	copy(b[0x200:0x200+MaxSource], h.Source)
	for i := range h.Via {
		copy(b[0x300+16*i:], h.Via[i][:])
	}
	le.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli))
}

// DecodeLane checks a copy of the first 0x408 bytes of a lane file of the
// given size and returns its header. The caller passes a private copy: page 0
// stays writable by its owner.
func DecodeLane(b []byte, fileBytes int64) (LaneHeader, error) {
	var h LaneHeader
	if err := checkCommon(b, LaneMagic, LaneHeaderBytes, fileBytes); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	h = LaneHeader{
		Geometry:     Geometry{Ring: le.Uint64(b[0x20:]), MaxMsg: le.Uint32(b[0x2C:]), Step: le.Uint64(b[0xC0:])},
		TopicID:      le.Uint64(b[0x30:]),
		Epoch:        ID16(b[0x40:0x50]),
		SourceID:     ID16(b[0x50:0x60]),
		OriginNode:   ID16(b[0x60:0x70]),
		UID:          le.Uint32(b[0x70:]),
		GID:          le.Uint32(b[0x74:]),
		Mirror:       b[0x78] != 0,
		Hops:         b[0x79],
		CreatedWall:  int64(le.Uint64(b[0x80:])),
		CreatedMono:  int64(le.Uint64(b[0x88:])),
		BootID:       ID16(b[0x90:0xA0]),
		PrevEpoch:    ID16(b[0xA0:0xB0]),
		FirstPos:     le.Uint64(b[0xB0:]),
		FirstSeq:     le.Uint64(b[0xB8:]),
		Timestamp:    Timestamp(le.Uint32(b[0xC8:])),
		OriginEpoch:  ID16(b[0xD0:0xE0]),
		OriginWall:   int64(le.Uint64(b[0xE0:])),
		OriginMono:   int64(le.Uint64(b[0xE8:])),
		Topic:        text(b[0x100 : 0x100+MaxTopic]),
		Source:       text(b[0x200 : 0x200+MaxSource]),
		MinorVersion: le.Uint16(b[0x0A:]),
	}
	for i := range h.Via {
		h.Via[i] = ID16(b[0x300+16*i : 0x310+16*i])
	}
	if err := h.Check(); err != nil {
		return h, err
	}
	lane := le.Uint64(b[0x38:])
	h.Lane = uint32(lane)
	switch {
	case h.FileBytes() != uint64(fileBytes):
		return h, fmt.Errorf("%w: a ring of %d bytes needs a file of %d, this one has %d", ErrTruncated, h.Ring, h.FileBytes(), fileBytes)
	case le.Uint64(b[0x18:]) != OffRing || le.Uint32(b[0x28:]) != Align || le.Uint32(b[0x7C:]) != h.BlockShift():
		return h, geometryError("ring offset %d, align %d, block shift %d", le.Uint64(b[0x18:]), le.Uint32(b[0x28:]), le.Uint32(b[0x7C:]))
	case lane >= MaxLanes:
		return h, geometryError("lane number %d, the largest is %d", lane, MaxLanes-1)
	case h.FirstPos%Align != 0 || h.FirstPos < h.Ring || h.FirstPos >= 2*h.Ring:
		return h, geometryError("first position %d, want a multiple of %d from the ring size %d to twice that", h.FirstPos, Align, h.Ring)
	case le.Uint64(b[OffReady:]) != Ready(LaneMagic, h.Epoch):
		return h, ErrNotReady
	}
	return h, nil
}

// CursorHeader is page 0 of a cursor file.
type CursorHeader struct {
	Epoch       ID16
	UID, GID    uint32
	Mode        Mode
	Park        bool // publishers wake this subscriber
	Slots       uint32
	CreatedWall int64
	CreatedMono int64
	BootID      ID16
	Keep        int64 // ns that the file outlives its owner, waiting for the next; 0 = not at all
	Name        string
	Pattern     string
}

// Encode writes the immutable part, without the ready word, to b[:0x400].
func (h *CursorHeader) Encode(b []byte) {
	b = b[:immutableBytes]
	clear(b)
	le := binary.LittleEndian
	le.PutUint64(b[0x00:], CursorMagic)
	le.PutUint16(b[0x08:], Major)
	le.PutUint16(b[0x0A:], Minor)
	le.PutUint32(b[0x0C:], CursorHeaderBytes)
	le.PutUint64(b[0x10:], CursorFileBytes(h.Slots))
	le.PutUint32(b[0x18:], h.Slots)
	le.PutUint32(b[0x1C:], SlotBytes)
	copy(b[0x20:], h.Epoch[:])
	le.PutUint32(b[0x30:], h.UID)
	le.PutUint32(b[0x34:], h.GID)
	b[0x38] = byte(h.Mode)
	if h.Park {
		b[0x39] = 1
	}
	le.PutUint64(b[0x40:], uint64(h.CreatedWall))
	le.PutUint64(b[0x48:], uint64(h.CreatedMono))
	copy(b[0x50:], h.BootID[:])
	le.PutUint64(b[0x60:], uint64(h.Keep))
	copy(b[0x80:0x80+MaxSource-1], h.Name)
	copy(b[0x100:0x100+MaxTopic], h.Pattern)
	le.PutUint32(b[offCRC:], crc32.Checksum(b[:offCRC], castagnoli))
}

// DecodeCursor is DecodeLane for a cursor file.
func DecodeCursor(b []byte, fileBytes int64) (CursorHeader, error) {
	var h CursorHeader
	if err := checkCommon(b, CursorMagic, CursorHeaderBytes, fileBytes); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	h = CursorHeader{
		Slots:       le.Uint32(b[0x18:]),
		Epoch:       ID16(b[0x20:0x30]),
		UID:         le.Uint32(b[0x30:]),
		GID:         le.Uint32(b[0x34:]),
		Mode:        Mode(b[0x38]),
		Park:        b[0x39] != 0,
		CreatedWall: int64(le.Uint64(b[0x40:])),
		CreatedMono: int64(le.Uint64(b[0x48:])),
		BootID:      ID16(b[0x50:0x60]),
		Keep:        int64(le.Uint64(b[0x60:])),
		Name:        text(b[0x80 : 0x80+MaxSource-1]),
		Pattern:     text(b[0x100 : 0x100+MaxTopic]),
	}
	switch {
	case h.Slots == 0 || h.Slots > MaxLanes || le.Uint32(b[0x1C:]) != SlotBytes:
		return h, geometryError("%d slots of %d bytes", h.Slots, le.Uint32(b[0x1C:]))
	case CursorFileBytes(h.Slots) != uint64(fileBytes):
		return h, fmt.Errorf("%w: %d slots need a file of %d bytes, this one has %d", ErrTruncated, h.Slots, CursorFileBytes(h.Slots), fileBytes)
	case h.Keep < 0:
		return h, geometryError("kept for %d ns", h.Keep)
	case h.Mode != Lossless && h.Mode != Lossy:
		return h, geometryError("mode %d", h.Mode)
	case le.Uint64(b[OffReady:]) != Ready(CursorMagic, h.Epoch):
		return h, ErrNotReady
	}
	return h, nil
}

// PrefixBytes is how much of a segment DecodeLane and DecodeCursor look at.
const PrefixBytes = OffReady + 8

func checkCommon(b []byte, magic uint64, headerBytes uint32, fileBytes int64) error {
	if len(b) < PrefixBytes || fileBytes < int64(headerBytes) {
		return fmt.Errorf("%w: %d bytes", ErrTruncated, fileBytes)
	}
	le := binary.LittleEndian
	have := le.Uint64(b)
	if have == 0 && le.Uint64(b[OffReady:]) == 0 {
		return ErrNotReady
	}
	if have != magic {
		return fmt.Errorf("%w: magic %016x", ErrMagic, have)
	}
	if major := le.Uint16(b[0x08:]); major != Major {
		return &VersionError{HaveMajor: major, HaveMinor: le.Uint16(b[0x0A:]), WantMajor: Major}
	}
	if sum := crc32.Checksum(b[:offCRC], castagnoli); sum != le.Uint32(b[offCRC:]) {
		return fmt.Errorf("%w: CRC32C %08x, stored %08x", ErrChecksum, sum, le.Uint32(b[offCRC:]))
	}
	if n := le.Uint32(b[0x0C:]); n != headerBytes {
		return geometryError("header of %d bytes, want %d", n, headerBytes)
	}
	if size := le.Uint64(b[0x10:]); size != uint64(fileBytes) {
		return fmt.Errorf("%w: header says %d bytes, file has %d", ErrTruncated, size, fileBytes)
	}
	return nil
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
