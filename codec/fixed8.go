package codec

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Reasons for which ParseFixed8 refuses a text.
var (
	ErrFixed8Syntax    = errors.New("not a decimal number") // want digits, optionally '-' before and '.' digits after
	ErrFixed8Precision = errors.New("more than 8 decimals")
	ErrFixed8Range     = errors.New("out of range") // not in -92233720368.54775808 .. 92233720368.54775807
)

const (
	fixed8Decimals = 8
	fixed8One      = 1e8
)

// ParseFixed8 converts a decimal text to an integer times 1e8, exactly:
// "116827.85" gives 11682785000000. It rounds nothing: more than 8 decimals
// are an error, as is a value that int64 cannot hold. The text is an optional
// '-', digits, and optionally '.' and digits; no '+', exponent, or blanks.
func ParseFixed8(text string) (int64, error) {
	digits, negative := strings.CutPrefix(text, "-")
	skipped := len(text) - len(digits)
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	var v uint64
	point := -1 // index of '.' in digits
	for i := 0; i < len(digits); i++ {
		c := digits[i]
		if c == '.' && point < 0 && i > 0 && i+1 < len(digits) {
			point = i
			continue
		}
		if c < '0' || c > '9' {
			return 0, fixed8Error(ErrFixed8Syntax, text, skipped+i)
		}
		if point >= 0 && i-point > fixed8Decimals {
			return 0, fixed8Error(ErrFixed8Precision, text, skipped+i)
		}
		var ok bool
		if v, ok = timesTenPlus(v, uint64(c-'0'), limit); !ok {
			return 0, fixed8Error(ErrFixed8Range, text, skipped+i)
		}
	}
	if digits == "" {
		return 0, fixed8Error(ErrFixed8Syntax, text, skipped)
	}
	decimals := 0
	if point >= 0 {
		decimals = len(digits) - point - 1
	}
	for ; decimals < fixed8Decimals; decimals++ {
		var ok bool
		if v, ok = timesTenPlus(v, 0, limit); !ok {
			return 0, fixed8Error(ErrFixed8Range, text, len(text))
		}
	}
	if negative {
		return -int64(v), nil // also right for v == 1<<63
	}
	return int64(v), nil
}

// timesTenPlus returns v*10+digit, and whether that is within limit.
func timesTenPlus(v, digit, limit uint64) (uint64, bool) {
	if v > limit/10 {
		return 0, false
	}
	v = v*10 + digit
	return v, v <= limit
}

func fixed8Error(reason error, text string, at int) error {
	const shown = 40 // bytes of a long text that are worth repeating
	if len(text) > shown {
		text = text[:shown] + "..."
	}
	return fmt.Errorf("codec: decimal %q: %w at byte %d", text, reason, at)
}

// FormatFixed8 is the inverse of ParseFixed8 without trailing zeros:
// 11682785000000 gives "116827.85", 100000000 gives "1".
func FormatFixed8(v int64) string {
	sign, abs := "", uint64(v)
	if v < 0 {
		sign, abs = "-", -abs
	}
	text := sign + strconv.FormatUint(abs/fixed8One, 10)
	if fraction := abs % fixed8One; fraction != 0 {
		text += strings.TrimRight(fmt.Sprintf(".%08d", fraction), "0")
	}
	return text
}
