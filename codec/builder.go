package codec

// Builder writes one message into bytes of the caller, such as a claim's,
// without allocating. After the first refusal every method returns that error
// and the bytes are undefined.
//
//	b := codec.NewBuilder(dst, header)
//	b.AppendTrade(&trade)
//	n, err := b.Finish(false)
//
// A hot loop keeps one Builder and calls Start for each message.
type Builder struct {
	dst   []byte
	n     int // bytes written
	limit int // bytes that may be written; 0 after a refusal
	err   error
}

// NewBuilder returns a Builder with Start called.
func NewBuilder(dst []byte, h Header) Builder {
	var b Builder
	b.Start(dst, &h)
	return b
}

// Start begins a message with header h in dst; what the Builder did before is
// forgotten. PayloadSize and Checksum of h do not matter, Finish sets them. A
// dst shorter than HeaderSize is ErrBufferTooSmall, reported by the next call.
func (b *Builder) Start(dst []byte, h *Header) {
	b.dst, b.n, b.limit, b.err = dst, HeaderSize, min(len(dst), MaxMessage), nil
	if len(dst) < HeaderSize {
		b.fail(ErrBufferTooSmall, 0, 0, len(dst), HeaderSize)
		return
	}
	h.put(dst)
}

// MessageSize returns the bytes of a message whose only TLV has a payload of
// n bytes: what to claim for it.
func MessageSize(n int) int { return HeaderSize + tlvHead(n) + n }

// tlvHead returns the bytes before a payload of n bytes.
func tlvHead(n int) int {
	if n > maxStandard {
		return extendedHead
	}
	return standardHead
}

// maxStandard is the largest payload of the standard form, in bytes.
const maxStandard = 255

// putHead writes the bytes before a payload of n bytes and returns how many they are.
func putHead(b []byte, typ TLVType, n int, extended bool) int {
	if !extended {
		b[0], b[1] = byte(typ), byte(n)
		return standardHead
	}
	b[0], b[1], b[2] = byte(TypeExtended), 0, byte(typ)
	le.PutUint16(b[3:], uint16(n))
	return extendedHead
}

// Append adds a TLV with a payload as it is, in standard form up to 255 bytes
// and in extended form above. AppendTrade and so on add payloads of known
// layouts. A payload that ModeBridge would not read back is refused. Errors:
// ErrReservedType, ErrPayloadSizeMismatch, ErrPayloadTooLarge,
// ErrMessageTooLarge, ErrBufferTooSmall.
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

// standard is grow for at most maxStandard bytes, which the compiler can inline.
func (b *Builder) standard(typ TLVType, n int) []byte {
	end := b.n + standardHead + n
	if end > b.limit {
		return b.grow(typ, n)
	}
	dst := b.dst[b.n:end]
	le.PutUint16(dst, uint16(typ)|uint16(n)<<8)
	b.n = end
	return dst[standardHead:]
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
	case head == standardHead && !typ.takes(n):
		return b.fail(ErrPayloadSizeMismatch, typ, b.n, n, typ.FixedSize())
	case n > MaxPayload:
		return b.fail(ErrPayloadTooLarge, typ, b.n, n, MaxPayload)
	case end > MaxMessage:
		return b.fail(ErrMessageTooLarge, typ, b.n, end, MaxMessage)
	case end > len(b.dst):
		return b.fail(ErrBufferTooSmall, typ, b.n, len(b.dst), end)
	}
	dst := b.dst[b.n:end]
	putHead(dst, typ, n, head == extendedHead)
	b.n = end
	return dst[head:]
}

//go:noinline
func (b *Builder) fail(reason error, typ TLVType, offset, got, want int) []byte {
	b.err = &Error{Reason: reason, Offset: offset, Type: typ, Got: uint64(got), Want: uint64(want)}
	b.limit = 0
	return nil
}
