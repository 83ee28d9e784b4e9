package codec

import (
	"errors"
	"fmt"
)

// Reasons for which a message is refused. Test with errors.Is; [*Error] carries the place and the numbers.
var (
	ErrMessageTooSmall     = errors.New("message too small")                     // fewer bytes than a header
	ErrInvalidMagic        = errors.New("invalid magic")                         // not a V2 header in little-endian order
	ErrLengthMismatch      = errors.New("payload_size does not match the bytes") // truncated, or trailing bytes
	ErrChecksumMismatch    = errors.New("checksum mismatch")
	ErrTruncatedTLV        = errors.New("truncated TLV")
	ErrInvalidExtendedTLV  = errors.New("invalid extended TLV")  // reserved byte is not 0
	ErrPayloadSizeMismatch = errors.New("payload size mismatch") // not the size this TLV type has
)

// Reasons for which [Builder] refuses to build.
var (
	ErrBufferTooSmall  = errors.New("buffer too small")
	ErrPayloadTooLarge = errors.New("payload too large") // more than MaxPayload bytes
	ErrMessageTooLarge = errors.New("message too large") // more than MaxMessage bytes
	ErrReservedType    = errors.New("reserved TLV type") // 255 marks the extended form
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
		s += fmt.Sprintf(", TLV %d (%s)", e.Type, e.Type)
	}
	switch e.Reason {
	case ErrInvalidMagic, ErrChecksumMismatch:
		return s + fmt.Sprintf(": stored 0x%08X, want 0x%08X", e.Got, e.Want)
	case ErrInvalidExtendedTLV:
		return s + fmt.Sprintf(": reserved byte is 0x%02X, want 0", e.Got)
	case ErrReservedType:
		return s + ": 255 marks the extended form, which is chosen by length; use 0 to 254"
	case ErrPayloadTooLarge, ErrMessageTooLarge:
		return s + fmt.Sprintf(": %d bytes, at most %d", e.Got, e.Want)
	case ErrLengthMismatch:
		return s + fmt.Sprintf(": %d bytes follow the header, payload_size says %d; hand in one whole message", e.Got, e.Want)
	default:
		return s + fmt.Sprintf(": %d bytes, need %d", e.Got, e.Want)
	}
}
