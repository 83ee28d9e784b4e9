package codec

import (
	"errors"
	"fmt"
)

// Reasons for which bytes are refused, by the names that Torq gives them. Test
// with errors.Is; [*Error] carries the place and the numbers.
var (
	ErrMessageTooSmall     = errors.New("MessageTooSmall")     // fewer bytes than a header, or than payload_size says
	ErrInvalidMagic        = errors.New("InvalidMagic")        // not a V2 header in little-endian order
	ErrTrailingBytes       = errors.New("TrailingBytes")       // bytes after what payload_size says; Torq has no name for it
	ErrChecksumMismatch    = errors.New("ChecksumMismatch")    //
	ErrTruncatedTLV        = errors.New("TruncatedTLV")        // a TLV ends after the message
	ErrInvalidExtendedTLV  = errors.New("InvalidExtendedTLV")  // the reserved byte is not 0
	ErrPayloadSizeMismatch = errors.New("PayloadSizeMismatch") // not the size that this TLV type has
	ErrInvalidPayload      = errors.New("InvalidPayload")      // a list says that it has more elements than slots
	ErrUnsupportedVersion  = errors.New("UnsupportedVersion")  // not Version
)

// Reasons for which [Builder] refuses to build, beside ErrPayloadSizeMismatch. ErrPayloadTooLarge is also why
// a [Splitter] and a [SizeLimits] refuse a message.
var (
	ErrBufferTooSmall  = errors.New("BufferTooSmall")
	ErrPayloadTooLarge = errors.New("PayloadTooLarge") // more bytes than a TLV, or a message, may have
	ErrMessageTooLarge = errors.New("MessageTooLarge") // more than MaxMessage bytes
	ErrReservedType    = errors.New("ReservedType")    // 255 marks the extended form
)

// Error says why and where bytes were refused.
type Error struct {
	Reason error   // one of the Err values of this package
	Offset int     // byte offset, in the slice handed in, of what is wrong
	Type   TLVType // type of the TLV concerned, 0 if none
	Got    uint64  // what was found: a length, a checksum, a magic
	Want   uint64  // what was needed, in the same unit
}

func (e *Error) Unwrap() error { return e.Reason }

func (e *Error) Error() string {
	s := fmt.Sprintf("codec: %v at byte %d", e.Reason, e.Offset)
	if e.Type != 0 {
		s += fmt.Sprintf(", TLV %d (%s)", uint8(e.Type), e.Type)
	}
	switch e.Reason {
	case ErrInvalidMagic, ErrChecksumMismatch:
		return s + fmt.Sprintf(": stored 0x%08X, want 0x%08X", e.Got, e.Want)
	case ErrInvalidExtendedTLV:
		return s + fmt.Sprintf(": reserved byte is 0x%02X, want 0", e.Got)
	case ErrReservedType:
		return s + ": 255 marks the extended form, which is chosen by length; use 0 to 254"
	case ErrInvalidPayload:
		return s + fmt.Sprintf(": %d elements, room for %d", e.Got, e.Want)
	case ErrUnsupportedVersion:
		return s + fmt.Sprintf(": version %d, want %d", e.Got, e.Want)
	case ErrUnknownSource:
		return s + fmt.Sprintf(": source %d has no name", e.Got)
	case ErrRelayDomainMismatch:
		return s + fmt.Sprintf(": domain %d, want %d", e.Got, e.Want)
	case ErrTimestampInFuture:
		return s + fmt.Sprintf(": %d ns, at most %d", e.Got, e.Want)
	case ErrTimestampTooOld:
		return s + fmt.Sprintf(": %d ns, at least %d", e.Got, e.Want)
	case ErrPayloadTooLarge, ErrMessageTooLarge:
		return s + fmt.Sprintf(": %d bytes, at most %d", e.Got, e.Want)
	case ErrTrailingBytes:
		return s + fmt.Sprintf(": %d bytes, %d of them the message; hand in one whole message", e.Got, e.Want)
	default:
		return s + fmt.Sprintf(": %d bytes, need %d", e.Got, e.Want)
	}
}

//go:noinline
func wrongSize(typ TLVType, got, want int) error {
	return &Error{Reason: ErrPayloadSizeMismatch, Type: typ, Got: uint64(got), Want: uint64(want)}
}

//go:noinline
func tooMany(typ TLVType, offset int, got uint16, want int) error {
	return &Error{Reason: ErrInvalidPayload, Offset: offset, Type: typ, Got: uint64(got), Want: uint64(want)}
}
