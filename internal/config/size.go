package config

import (
	"fmt"
	"strconv"
	"strings"
)

var units = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseSize reads a size in bytes: decimal digits and an optional unit, no space
// between them.
func ParseSize(s string) (uint64, error) {
	n, fs := parseSize(s)
	if fs != nil {
		return 0, fs[0]
	}
	return n, nil
}

func parseSize(s string) (uint64, []fault) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
	unit, factor := s[len(digits):], uint64(0)
	hint := ""
	for _, u := range units {
		if unit == u.name || unit == "" && u.name == "B" {
			factor = u.bytes
		}
		if word := strings.TrimSpace(unit); word != "" && strings.EqualFold(word[:1], u.name[:1]) {
			hint = digits + u.name
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	switch {
	case factor == 0 && err == nil:
		return 0, []fault{{msg: fmt.Sprintf("bad size %q: the units are B, KiB, MiB, GiB and TiB", s), hint: hint}}
	case err != nil && !isAll(digits, "0123456789"):
		return 0, faultf(`bad size %q: write whole bytes or a unit, as in 65536 or "64KiB"`, s)
	case err != nil, n*factor/factor != n:
		return 0, faultf("bad size %q: more than 64 bits", s)
	}
	return n * factor, nil
}

func isAll(s, set string) bool { return s != "" && strings.Trim(s, set) == "" }

// FormatSize writes a size with the largest unit that divides it.
func FormatSize(n uint64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return "0B"
}
