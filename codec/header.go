package codec

import "encoding/binary"

const (
	Magic      = 0xDEADBEEF // first four bytes of a message, EF BE AD DE on the wire
	Version    = 1          // what Torq writes in Header.Version; nobody checks it
	HeaderSize = 32         // bytes
	MaxPayload = 65535      // bytes in one TLV's payload
	MaxMessage = 1 << 20    // bytes in a message that Builder makes; Parse sets no limit
)

// Byte offsets in the header.
const (
	offMagic       = 0
	offDomain      = offMagic + 4
	offVersion     = offDomain + 1
	offSource      = offVersion + 1
	offFlags       = offSource + 1
	offSequence    = offFlags + 1
	offTimestamp   = offSequence + 8
	offPayloadSize = offTimestamp + 8
	offChecksum    = offPayloadSize + 4
)

// The header ends where the TLVs start.
var _ [HeaderSize]byte = [offChecksum + 4]byte{}

var le = binary.LittleEndian

// Header is the message header without its magic.
type Header struct {
	Domain      Domain
	Version     uint8 // set it to the constant Version for a new message
	Source      Source
	Flags       uint8  // no bit has a meaning yet
	Sequence    uint64 // set by the producer, one counter for all its topics: gaps in it mean nothing
	TimestampNs uint64 // since the Unix epoch
	PayloadSize uint32 // bytes after the header; Builder fills it in
	Checksum    uint32 // 0 = not computed; Builder fills it in
}

// ParseHeader reads the header at the start of b. It checks the length of b
// (ErrMessageTooSmall) and the magic (ErrInvalidMagic), nothing else: see
// Parse for a whole message.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || le.Uint32(b) != Magic {
		return Header{}, headerError(b)
	}
	return readHeader(b), nil
}

//go:noinline
func headerError(b []byte) error {
	if len(b) < HeaderSize {
		return &Error{Reason: ErrMessageTooSmall, Got: uint64(len(b)), Want: HeaderSize}
	}
	return &Error{Reason: ErrInvalidMagic, Got: uint64(le.Uint32(b)), Want: Magic}
}

// readHeader reads b[:HeaderSize].
func readHeader(b []byte) Header {
	b = b[:HeaderSize]
	return Header{
		Domain:      Domain(b[offDomain]),
		Version:     b[offVersion],
		Source:      Source(b[offSource]),
		Flags:       b[offFlags],
		Sequence:    le.Uint64(b[offSequence:]),
		TimestampNs: le.Uint64(b[offTimestamp:]),
		PayloadSize: le.Uint32(b[offPayloadSize:]),
		Checksum:    le.Uint32(b[offChecksum:]),
	}
}

// Put writes the magic and all fields of h as they are into b[:HeaderSize].
// It panics if b is shorter.
func (h Header) Put(b []byte) { h.put(b) }

func (h *Header) put(b []byte) {
	b = b[:HeaderSize]
	le.PutUint32(b[offMagic:], Magic)
	b[offDomain] = byte(h.Domain)
	b[offVersion] = h.Version
	b[offSource] = byte(h.Source)
	b[offFlags] = h.Flags
	le.PutUint64(b[offSequence:], h.Sequence)
	le.PutUint64(b[offTimestamp:], h.TimestampNs)
	le.PutUint32(b[offPayloadSize:], h.PayloadSize)
	le.PutUint32(b[offChecksum:], h.Checksum)
}
