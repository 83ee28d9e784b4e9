package codec

import (
	"encoding/hex"
	"math/bits"
	"strconv"
	"strings"
)

// Uint128 is an unsigned integer of 128 bits, as pool payloads have for amounts
// in a token's own unit.
type Uint128 struct {
	Lo, Hi uint64
}

// String returns the decimal text.
func (u Uint128) String() string { return string(appendDecimal(nil, []uint64{u.Lo, u.Hi})) }

// ParseUint128 converts decimal digits; ok is false if text is anything else or too large.
func ParseUint128(text string) (u Uint128, ok bool) {
	var limbs [2]uint64
	ok = parseDecimal(text, limbs[:])
	return Uint128{limbs[0], limbs[1]}, ok
}

func readUint128(b []byte) Uint128 { return Uint128{le.Uint64(b), le.Uint64(b[8:])} }

func (u Uint128) put(b []byte) {
	le.PutUint64(b, u.Lo)
	le.PutUint64(b[8:], u.Hi)
}

// Uint256 is an unsigned integer of 256 bits, its lowest 64 first.
type Uint256 [4]uint64

// String returns the decimal text.
func (u Uint256) String() string { return string(appendDecimal(nil, u[:])) }

// ParseUint256 converts decimal digits; ok is false if text is anything else or too large.
func ParseUint256(text string) (u Uint256, ok bool) {
	ok = parseDecimal(text, u[:])
	return u, ok
}

func readUint256(b []byte) (u Uint256) {
	for i := range u {
		u[i] = le.Uint64(b[8*i:])
	}
	return u
}

func (u *Uint256) put(b []byte) {
	for i, limb := range u {
		le.PutUint64(b[8*i:], limb)
	}
}

const (
	limbDigits = 19   // decimal digits that a uint64 holds whatever they are
	limbPower  = 1e19 // 10 to that
)

// appendDecimal appends the number whose limbs are given, lowest first, at most four.
func appendDecimal(dst []byte, limbs []uint64) []byte {
	var rest [4]uint64
	n := copy(rest[:], limbs)
	var groups [5]uint64 // of 19 digits, lowest first: 95 digits hold 256 bits
	used := 0
	for {
		var remainder uint64
		for i := n - 1; i >= 0; i-- {
			rest[i], remainder = bits.Div64(remainder, rest[i], limbPower)
		}
		groups[used] = remainder
		used++
		if rest == ([4]uint64{}) {
			break
		}
	}
	dst = strconv.AppendUint(dst, groups[used-1], 10)
	for i := used - 2; i >= 0; i-- {
		start := len(dst)
		dst = append(dst, "0000000000000000000"[:limbDigits]...)
		for at, v := len(dst)-1, groups[i]; at >= start; at, v = at-1, v/10 {
			dst[at] = '0' + byte(v%10)
		}
	}
	return dst
}

// parseDecimal fills limbs from decimal digits and reports whether text is nothing else and fits.
func parseDecimal(text string, limbs []uint64) bool {
	for i := 0; i < len(text); i++ {
		carry := uint64(text[i] - '0')
		if carry > 9 {
			return false
		}
		for j := range limbs {
			hi, lo := bits.Mul64(limbs[j], 10)
			var c uint64
			limbs[j], c = bits.Add64(lo, carry, 0)
			carry = hi + c
		}
		if carry != 0 {
			return false
		}
	}
	return text != ""
}

// AddressSize is the size of an Address in bytes.
const AddressSize = 20

// Address is the address of a contract or a token on an Ethereum-like chain.
type Address [AddressSize]byte

// String returns "0x" and 40 hex digits, as topics have it.
func (a Address) String() string { return "0x" + hex.EncodeToString(a[:]) }

// ParseAddress converts 40 hex digits, with or without "0x" before them.
func ParseAddress(text string) (a Address, ok bool) {
	digits := strings.TrimPrefix(text, "0x")
	if len(digits) != 2*AddressSize {
		return a, false
	}
	_, err := hex.Decode(a[:], []byte(digits))
	return a, err == nil
}
