package main

import (
	"strings"
	"testing"
)

func TestWideNamesDoNotShiftColumns(t *testing.T) {
	tb := newTable("NAME", ">COUNT", "STATE")
	tb.row("市場", 7, "up")
	tb.row("x", 1234, "")
	tb.row("cafe\u0301")
	var b strings.Builder
	tb.write(&b, "  ", func(s string) string { return "<" + s + ">" })
	want := "  <NAME  COUNT  STATE>\n" +
		"  市場      7  up\n" +
		"  x      1234\n" +
		"  cafe\u0301\n"
	if b.String() != want {
		t.Errorf("have\n%swant\n%s", b.String(), want)
	}
}
