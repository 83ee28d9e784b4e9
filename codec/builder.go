package codec

// Builder writes one message into bytes of the caller, such as a claim's,
// without allocating. After the first refusal every method returns that error
// and the bytes are undefined.
//
//	b := codec.NewBuilder(dst, header)
//	b.AppendTrade(&trade)
//	n, err := b.Finish(false)
type Builder struct {
	dst []byte
	n   int // bytes written
	err error
}

// NewBuilder starts a message with header h in dst. PayloadSize and Checksum
// of h do not matter, Finish sets them. A dst shorter than HeaderSize is
// ErrBufferTooSmall, reported by the next call.
func NewBuilder(dst []byte, h Header) Builder {
	b := Builder{dst: dst, n: HeaderSize}
	if len(dst) < HeaderSize {
		b.fail(ErrBufferTooSmall, 0, 0, len(dst), HeaderSize)
		return b
	}
	h.Put(dst)
	return b
}

// MessageSize returns the bytes of a message whose only TLV has a payload of
// n bytes: what to claim for it.
func MessageSize(n int) int { return HeaderSize + tlvHead(n) + n }

// tlvHead returns the bytes before a payload of n bytes.
func tlvHead(n int) int {
	if n > 255 {
		return extendedHead
	}
	return standardHead
}

// Append adds a TLV with a payload as it is, in standard form up to 255 bytes
// and in extended form above. AppendTrade and so on add payloads of known
// layouts. Errors: ErrReservedType, ErrPayloadTooLarge, ErrMessageTooLarge,
// ErrBufferTooSmall.
func (b *Builder) Append(typ TLVType, payload []byte) error {
	dst := b.grow(typ, len(payload))
	copy(dst, payload)
	return b.err
}

// Finish sets PayloadSize and the checksum (0 without one) and returns the
// bytes of the message: dst[:n]. A claim must be of exactly n bytes, since
// Parse refuses bytes after a message.
func (b *Builder) Finish(withChecksum bool) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	msg := b.dst[:b.n]
	le.PutUint32(msg[offPayloadSize:], uint32(b.n-HeaderSize))
	var sum uint32
	if withChecksum {
		sum = Checksum(msg)
	}
	le.PutUint32(msg[offChecksum:], sum)
	return b.n, nil
}

// grow writes the head of a TLV and returns the n bytes for its payload, nil if refused.
func (b *Builder) grow(typ TLVType, n int) []byte {
	if b.err != nil {
		return nil
	}
	head := tlvHead(n)
	end := b.n + head + n
	switch {
	case typ == TypeExtended:
		return b.fail(ErrReservedType, typ, b.n, 0, 0)
	case n > MaxPayload:
		return b.fail(ErrPayloadTooLarge, typ, b.n, n, MaxPayload)
	case end > MaxMessage:
		return b.fail(ErrMessageTooLarge, typ, b.n, end, MaxMessage)
	case end > len(b.dst):
		return b.fail(ErrBufferTooSmall, typ, b.n, len(b.dst), end)
	}
	dst := b.dst[b.n:end]
	if head == standardHead {
		dst[0], dst[1] = byte(typ), byte(n)
	} else {
		dst[0], dst[1], dst[2] = byte(TypeExtended), 0, byte(typ)
		le.PutUint16(dst[3:], uint16(n))
	}
	b.n = end
	return dst[head:]
}

//go:noinline
func (b *Builder) fail(reason error, typ TLVType, offset, got, want int) []byte {
	b.err = &Error{Reason: reason, Offset: offset, Type: typ, Got: uint64(got), Want: uint64(want)}
	return nil
}
