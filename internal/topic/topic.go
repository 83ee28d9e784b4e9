// Package topic holds the grammar of topic names and patterns, the order in which
// patterns apply, and the topic id that goes into lane headers and file names.
//
// A name is 1 to 16 tokens joined by dots, at most 255 bytes in all. A token is one
// or more bytes of A-Z a-z 0-9 _ : @ -.
//
//	market.kraken.BTC-USD      a name
//	market.*.BTC-USD           "*" stands for exactly one token
//	market.>                   ">" stands for one or more tokens and comes last
//
// A pattern is a name in which whole tokens may be wildcards; every name is also a
// pattern that matches only itself. All functions are safe for concurrent use.
package topic

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	MaxBytes  = 255 // longest name or pattern
	MaxTokens = 16  // most tokens of a name or pattern
)

const (
	one  = "*" // exactly one token
	rest = ">" // one or more tokens, last only
)

// An Error says which rule a name or pattern breaks, and where.
type Error struct {
	Topic   string // as given
	Pattern bool   // it was checked as a pattern
	Token   int    // 1 = the first token; 0 = the whole text
	Offset  int    // byte offset of the fault in Topic, from 0
	Rule    string // what is wrong and what to write instead
}

// Error names the topic (cut after 64 bytes), the token, the byte offset and the rule.
func (e *Error) Error() string {
	what, name, dots := "topic", e.Topic, ""
	if e.Pattern {
		what = "pattern"
	}
	if len(name) > 64 {
		name, dots = name[:64], "..."
	}
	if e.Token == 0 {
		return fmt.Sprintf("%s %q%s: %s", what, name, dots, e.Rule)
	}
	return fmt.Sprintf("%s %q%s: token %d, byte %d: %s", what, name, dots, e.Token, e.Offset, e.Rule)
}

// Check returns nil if name is one exact topic name, else an *Error.
func Check(name string) error { return check(name, false) }

// CheckPattern returns nil if p is a topic name or a pattern, else an *Error.
func CheckPattern(p string) error { return check(p, true) }

func check(s string, pattern bool) error {
	fail := func(token, offset int, format string, args ...any) error {
		return &Error{Topic: s, Pattern: pattern, Token: token, Offset: offset, Rule: fmt.Sprintf(format, args...)}
	}
	if s == "" {
		return fail(0, 0, `empty; write tokens joined by dots, as in "market.kraken.BTC-USD"`)
	}
	if len(s) > MaxBytes {
		return fail(0, MaxBytes, "%d bytes long; at most %d are allowed", len(s), MaxBytes)
	}
	more := true
	for token, start := 1, 0; more; token++ {
		var tok string
		tok, _, more = strings.Cut(s[start:], ".")
		switch {
		case token > MaxTokens:
			return fail(token, start, "at most %d tokens are allowed", MaxTokens)
		case tok == "":
			return fail(token, start, "empty token; remove the extra dot")
		case (tok == one || tok == rest) && !pattern:
			return fail(token, start, "%q is a wildcard; one exact name is needed here", tok)
		case tok == rest && more:
			return fail(token, start, `">" must be the last token; use "*" for one token`)
		case tok == one || tok == rest:
		default:
			if i := badByte(tok); i >= 0 {
				if (tok[i:i+1] == one || tok[i:i+1] == rest) && pattern {
					return fail(token, start+i, "%q must be a whole token", tok[i:i+1])
				}
				_, n := utf8.DecodeRuneInString(tok[i:])
				return fail(token, start+i, "%q is not allowed; use A-Z a-z 0-9 _ : @ -", tok[i:i+n])
			}
		}
		start += len(tok) + 1
	}
	return nil
}

// badByte returns the index of the first byte of tok that no token may hold, or -1.
func badByte(tok string) int {
	for i := range len(tok) {
		switch c := tok[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '_', c == ':', c == '@', c == '-':
		default:
			return i
		}
	}
	return -1
}

// IsPattern reports whether p holds a wildcard, that is, whether it can match more
// than one name.
//
// Preconditions: CheckPattern(p) == nil.
func IsPattern(p string) bool { return strings.ContainsAny(p, one+rest) }

// Match reports whether pattern matches name. It does not allocate.
//
// Preconditions: CheckPattern(pattern) == nil and Check(name) == nil; on other input
// the answer means nothing, but nothing panics.
func Match(pattern, name string) bool {
	for {
		p, pNext, pMore := strings.Cut(pattern, ".")
		if p == rest && !pMore {
			return true
		}
		n, nNext, nMore := strings.Cut(name, ".")
		if p != one && p != n {
			return false
		}
		if !pMore || !nMore {
			return pMore == nMore
		}
		pattern, name = pNext, nNext
	}
}

// MoreSpecific reports whether pattern a takes precedence over pattern b. Exact names
// come before patterns; then the first token that differs decides: a literal before
// "*" before ">". Two different patterns that match one name are never equal in this
// order. For the rest it is a total order, so that sorting by it is deterministic:
// literals by their bytes, and a pattern that ends before one that goes on.
func MoreSpecific(a, b string) bool { return compare(a, b) < 0 }

func compare(a, b string) int {
	if pa, pb := IsPattern(a), IsPattern(b); pa != pb {
		if pb {
			return -1
		}
		return 1
	}
	for {
		ta, aNext, aMore := strings.Cut(a, ".")
		tb, bNext, bMore := strings.Cut(b, ".")
		if c := cmp.Or(cmp.Compare(rank(ta), rank(tb)), cmp.Compare(ta, tb)); c != 0 {
			return c
		}
		switch {
		case !aMore && !bMore:
			return 0
		case !aMore:
			return -1
		case !bMore:
			return 1
		}
		a, b = aNext, bNext
	}
}

func rank(token string) int {
	switch token {
	case one:
		return 1
	case rest:
		return 2
	}
	return 0
}

// ID returns the topic id of a name: 64-bit FNV-1a over its bytes. Start with
// 0xcbf29ce484222325; for each byte, exclusive-or it in, then multiply by
// 0x100000001b3 modulo 2^64.
//
// The id is part of the layout: it is stored in every lane header and, as 16
// lower-case hexadecimal digits, begins the name of the segment file. Two names may
// share an id, so whoever creates topics compares names as well.
func ID(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return h
}
