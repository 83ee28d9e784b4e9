package codec

import "iter"

const (
	standardHead = 2 // type, length
	extendedHead = 5 // marker, reserved, type, length
)

// Message is one message: its header, read, and a view over its bytes.
type Message struct {
	Header Header
	bytes  []byte
}

// Parse checks that b is exactly one message: a header, PayloadSize bytes
// after it, and a checksum that satisfies policy. TLVs are checked as they are
// walked. The Message refers to b, which must stay as it is while it is used.
//
// Errors are *Error with reason ErrMessageTooSmall, ErrInvalidMagic,
// ErrLengthMismatch or ErrChecksumMismatch.
func Parse(b []byte, policy ChecksumPolicy) (Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Message{}, err
	}
	if got := uint64(len(b) - HeaderSize); got != uint64(h.PayloadSize) {
		return Message{}, &Error{Reason: ErrLengthMismatch, Offset: offPayloadSize, Got: got, Want: uint64(h.PayloadSize)}
	}
	if policy == ChecksumRequire || policy == ChecksumVerifyIfNonzero && h.Checksum != 0 {
		if sum := Checksum(b); sum != h.Checksum {
			return Message{}, &Error{Reason: ErrChecksumMismatch, Offset: offChecksum, Got: uint64(h.Checksum), Want: uint64(sum)}
		}
	}
	return Message{Header: h, bytes: b}, nil
}

// Bytes returns the message as it was handed to Parse.
func (m *Message) Bytes() []byte { return m.bytes }

// Mode says how strictly TLVs are checked while they are walked.
type Mode uint8

const (
	// ModeBridge checks the framing of TLVs and leaves their sizes to the functions that parse payloads.
	ModeBridge Mode = iota
	// ModeStrict refuses what Torq's own parser refuses: also a standard TLV whose type has a fixed
	// size in the registry and whose payload has another. That includes a Quote of 56 bytes,
	// which producers send and the registry lists as 52. Extended TLVs are not size-checked.
	ModeStrict
)

// TLV is one type-length-value of a message.
type TLV struct {
	Type     TLVType
	Extended bool   // in extended form
	Offset   int    // byte offset of the TLV in the message
	Payload  []byte // view over the message's bytes
}

// PayloadOffset is the byte offset of the payload in the message.
func (t *TLV) PayloadOffset() int {
	if t.Extended {
		return t.Offset + extendedHead
	}
	return t.Offset + standardHead
}

// Cursor walks the TLVs of a message.
//
//	c := m.Cursor(codec.ModeBridge)
//	for c.Next() {
//		use(c.TLV())
//	}
//	if err := c.Err(); err != nil { ... }
type Cursor struct {
	bytes []byte
	off   int // start of the next TLV
	tlv   TLV
	err   error
	mode  Mode
}

// Cursor returns a cursor before the first TLV.
func (m *Message) Cursor(mode Mode) Cursor {
	return Cursor{bytes: m.bytes, off: HeaderSize, mode: mode}
}

// Next moves to the next TLV. It returns false at the end of the message and
// at the first TLV that is wrong; Err tells which.
func (c *Cursor) Next() bool {
	if c.off >= len(c.bytes) || c.err != nil {
		return false
	}
	rest := c.bytes[c.off:]
	if len(rest) < standardHead {
		return c.fail(ErrTruncatedTLV, 0, uint64(len(rest)), standardHead)
	}
	typ, n, head := TLVType(rest[0]), int(rest[1]), standardHead
	extended := typ == TypeExtended
	if extended {
		if len(rest) < extendedHead {
			return c.fail(ErrTruncatedTLV, typ, uint64(len(rest)), extendedHead)
		}
		if n != 0 {
			return c.fail(ErrInvalidExtendedTLV, typ, uint64(n), 0)
		}
		typ, n, head = TLVType(rest[2]), int(le.Uint16(rest[3:])), extendedHead
	}
	end := head + n
	if end > len(rest) {
		return c.fail(ErrTruncatedTLV, typ, uint64(len(rest)), uint64(end))
	}
	if c.mode == ModeStrict && !extended {
		if want := typ.FixedSize(); want != 0 && want != n {
			return c.fail(ErrPayloadSizeMismatch, typ, uint64(n), uint64(want))
		}
	}
	c.tlv = TLV{Type: typ, Extended: extended, Offset: c.off, Payload: rest[head:end:end]}
	c.off += end
	return true
}

//go:noinline
func (c *Cursor) fail(reason error, typ TLVType, got, want uint64) bool {
	c.err = &Error{Reason: reason, Offset: c.off, Type: typ, Got: got, Want: want}
	return false
}

// TLV returns the TLV that the last successful Next moved to.
func (c *Cursor) TLV() TLV { return c.tlv }

// Err returns the *Error that ended the walk, or nil. Its reason is
// ErrTruncatedTLV, ErrInvalidExtendedTLV or, in ModeStrict, ErrPayloadSizeMismatch.
func (c *Cursor) Err() error { return c.err }

// TLVs ranges over the TLVs in ModeBridge. A TLV that is wrong comes last, as
// a zero TLV with the error that Cursor.Err would give.
func (m *Message) TLVs() iter.Seq2[TLV, error] {
	return func(yield func(TLV, error) bool) {
		c := m.Cursor(ModeBridge)
		for c.Next() {
			if !yield(c.tlv, nil) {
				return
			}
		}
		if c.err != nil {
			yield(TLV{}, c.err)
		}
	}
}
