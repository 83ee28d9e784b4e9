package codec

import "iter"

const (
	standardHead = 2 // type, length
	extendedHead = 5 // marker, reserved, type, length
)

// Message is a view over the bytes of one message, as Parse made it. The zero
// Message has no bytes, a zero header and no TLVs.
type Message struct {
	bytes []byte // nil, or at least a header
}

// Parse checks that b is exactly one message: a header, PayloadSize bytes
// after it, and a checksum that satisfies policy. TLVs are checked as they are
// walked. The Message refers to b, which must stay as it is while it is used.
//
// Errors are *Error with reason ErrMessageTooSmall, ErrInvalidMagic,
// ErrTrailingBytes or ErrChecksumMismatch. With ChecksumRequire the checksum
// comes before the length and covers all of b, as in Torq's strict parser:
// bytes after the message are then an ErrChecksumMismatch.
func Parse(b []byte, policy ChecksumPolicy) (Message, error) {
	if len(b) < HeaderSize || le.Uint32(b) != Magic {
		return Message{}, headerError(b)
	}
	if policy != ChecksumIgnore || len(b)-HeaderSize != int(le.Uint32(b[offPayloadSize:])) {
		if err := checkBody(b, policy); err != nil {
			return Message{}, err
		}
	}
	return Message{bytes: b}, nil
}

// View takes b for a message whatever its payload_size and checksum say, as
// Torq's relays do with what one read brought: only the header must be there and
// have the magic. It is for looking at what Parse refuses.
func View(b []byte) (Message, error) {
	if len(b) < HeaderSize || le.Uint32(b) != Magic {
		return Message{}, headerError(b)
	}
	return Message{bytes: b}, nil
}

// checkBody checks what follows the magic.
func checkBody(b []byte, policy ChecksumPolicy) error {
	if policy == ChecksumRequire {
		if err := checkSum(b); err != nil {
			return err
		}
	}
	got, want := uint64(len(b)), HeaderSize+uint64(le.Uint32(b[offPayloadSize:]))
	switch {
	case got < want:
		return &Error{Reason: ErrMessageTooSmall, Offset: offPayloadSize, Got: got, Want: want}
	case got > want:
		return &Error{Reason: ErrTrailingBytes, Offset: int(want), Got: got, Want: want}
	case policy == ChecksumVerifyIfNonzero && le.Uint32(b[offChecksum:]) != 0:
		return checkSum(b)
	}
	return nil
}

func checkSum(b []byte) error {
	if stored, sum := le.Uint32(b[offChecksum:]), Checksum(b); sum != stored {
		return &Error{Reason: ErrChecksumMismatch, Offset: offChecksum, Got: uint64(stored), Want: uint64(sum)}
	}
	return nil
}

// Header reads the header.
func (m Message) Header() Header {
	if m.bytes == nil {
		return Header{}
	}
	return readHeader(m.bytes)
}

// Bytes returns the message as it was handed to Parse.
func (m Message) Bytes() []byte { return m.bytes }

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
//		use(c.TLV.Type, c.TLV.Payload)
//	}
//	if err := c.Err(); err != nil { ... }
type Cursor struct {
	TLV   TLV // where the last successful Next moved to
	bytes []byte
	next  int // offset of the next TLV; len(bytes) after the last one and after an error
	err   error
	mode  Mode
}

// Cursor returns a cursor before the first TLV.
func (m Message) Cursor(mode Mode) Cursor {
	return Cursor{bytes: m.bytes, next: HeaderSize, mode: mode}
}

// Next moves to the next TLV. It returns false at the end of the message and
// at the first TLV that is wrong; Err tells which.
func (c *Cursor) Next() bool { return c.next < len(c.bytes) && c.advance() }

// advance is Next before the end; the common case is the whole of it, for speed.
func (c *Cursor) advance() bool {
	b, at := c.bytes, c.next
	if len(b)-at < standardHead {
		return c.fail(ErrTruncatedTLV, 0, uint64(len(b)-at), standardHead)
	}
	typ, n := TLVType(b[at]), int(b[at+1])
	if typ == TypeExtended {
		return c.advanceExtended(b[at:])
	}
	payload := at + standardHead
	end := payload + n
	if end > len(b) {
		return c.fail(ErrTruncatedTLV, typ, uint64(len(b)-at), uint64(end-at))
	}
	if want := int(fixedSizes[typ]); want != n && want != 0 && !c.tolerates(typ, n) {
		return c.fail(ErrPayloadSizeMismatch, typ, uint64(n), uint64(want))
	}
	// Field by field: copying a literal that was just stored in parts costs more than the rest of Next.
	c.TLV.Type = typ
	c.TLV.Extended = false
	c.TLV.Offset = at
	c.TLV.Payload = b[payload:end:end]
	c.next = end
	return true
}

// advanceExtended is advance for a TLV in extended form.
func (c *Cursor) advanceExtended(rest []byte) bool {
	if len(rest) < extendedHead {
		return c.fail(ErrTruncatedTLV, TypeExtended, uint64(len(rest)), extendedHead)
	}
	if rest[1] != 0 {
		return c.fail(ErrInvalidExtendedTLV, TypeExtended, uint64(rest[1]), 0)
	}
	typ, end := TLVType(rest[2]), extendedHead+int(le.Uint16(rest[3:]))
	if end > len(rest) {
		return c.fail(ErrTruncatedTLV, typ, uint64(len(rest)), uint64(end))
	}
	c.TLV.Type = typ
	c.TLV.Extended = true
	c.TLV.Offset = c.next
	c.TLV.Payload = rest[extendedHead:end:end]
	c.next += end
	return true
}

// tolerates reports whether the mode takes a payload of n bytes in a standard TLV of a type whose fixed size is another.
//
//go:noinline
func (c *Cursor) tolerates(typ TLVType, n int) bool {
	return c.mode == ModeRelay || c.mode == ModeBridge && typ.takes(n)
}

//go:noinline
func (c *Cursor) fail(reason error, typ TLVType, got, want uint64) bool {
	c.err = &Error{Reason: reason, Offset: c.next, Type: typ, Got: got, Want: want}
	c.next = len(c.bytes)
	return false
}

// Err returns the *Error that ended the walk, or nil. Its reason is
// ErrTruncatedTLV, ErrInvalidExtendedTLV or, but for ModeRelay, ErrPayloadSizeMismatch.
func (c *Cursor) Err() error { return c.err }

// Find returns the first TLV of a type, in either form and of any size; what
// follows it is not looked at. ok is false if there is none before the end or
// before a TLV that runs over it.
func (m Message) Find(typ TLVType) (t TLV, ok bool) {
	c := m.Cursor(ModeRelay)
	for c.Next() {
		if c.TLV.Type == typ {
			return c.TLV, true
		}
	}
	return TLV{}, false
}

// TLVs ranges over the TLVs in ModeBridge. A TLV that is wrong comes last, as
// a zero TLV with the error that Cursor.Err would give.
func (m Message) TLVs() iter.Seq2[TLV, error] {
	return func(yield func(TLV, error) bool) {
		c := m.Cursor(ModeBridge)
		for c.Next() {
			if !yield(c.TLV, nil) {
				return
			}
		}
		if c.err != nil {
			yield(TLV{}, c.err)
		}
	}
}
