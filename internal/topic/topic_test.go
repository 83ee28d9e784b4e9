package topic

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.fuzz"); f == nil || f.Value.String() == "" {
		time.AfterFunc(2*time.Minute, func() { panic("watchdog: the tests of internal/topic hang") })
	}
	os.Exit(m.Run())
}

var (
	long255 = strings.Repeat("a", 255)
	tok16   = strings.Repeat("a.", 15) + "a"
)

func TestBadNameIsRefusedWithItsPlaceAndRule(t *testing.T) {
	for _, c := range []struct {
		in      string
		name    string // error of Check, "" = accepted
		pattern string // error of CheckPattern
	}{
		{"a", "", ""},
		{"market.kraken.BTC-USD", "", ""},
		{"A_z:0@9-.x", "", ""},
		{long255, "", ""},
		{tok16, "", ""},
		{"*", `topic "*": token 1, byte 0: "*" is a wildcard; one exact name is needed here`, ""},
		{">", `topic ">": token 1, byte 0: ">" is a wildcard; one exact name is needed here`, ""},
		{"a.*.b", `topic "a.*.b": token 2, byte 2: "*" is a wildcard; one exact name is needed here`, ""},
		{"a.>", `topic "a.>": token 2, byte 2: ">" is a wildcard; one exact name is needed here`, ""},
		{"*.*.>", `topic "*.*.>": token 1, byte 0: "*" is a wildcard; one exact name is needed here`, ""},
		{"", `topic "": empty; write tokens joined by dots, as in "market.kraken.BTC-USD"`,
			`pattern "": empty; write tokens joined by dots, as in "market.kraken.BTC-USD"`},
		{long255 + "a", `topic "` + long255[:64] + `"...: 256 bytes long; at most 255 are allowed`,
			`pattern "` + long255[:64] + `"...: 256 bytes long; at most 255 are allowed`},
		{tok16 + ".b", `topic "` + tok16 + `.b": token 17, byte 32: at most 16 tokens are allowed`,
			`pattern "` + tok16 + `.b": token 17, byte 32: at most 16 tokens are allowed`},
		{".a", `topic ".a": token 1, byte 0: empty token; remove the extra dot`,
			`pattern ".a": token 1, byte 0: empty token; remove the extra dot`},
		{"a..b", `topic "a..b": token 2, byte 2: empty token; remove the extra dot`,
			`pattern "a..b": token 2, byte 2: empty token; remove the extra dot`},
		{"a.", `topic "a.": token 2, byte 2: empty token; remove the extra dot`,
			`pattern "a.": token 2, byte 2: empty token; remove the extra dot`},
		{"a/b", `topic "a/b": token 1, byte 1: "/" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern "a/b": token 1, byte 1: "/" is not allowed; use A-Z a-z 0-9 _ : @ -`},
		{"a.bé", `topic "a.bé": token 2, byte 3: "é" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern "a.bé": token 2, byte 3: "é" is not allowed; use A-Z a-z 0-9 _ : @ -`},
		{"a.b\xff", `topic "a.b\xff": token 2, byte 3: "\xff" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern "a.b\xff": token 2, byte 3: "\xff" is not allowed; use A-Z a-z 0-9 _ : @ -`},
		{"a.b*", `topic "a.b*": token 2, byte 3: "*" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern "a.b*": token 2, byte 3: "*" must be a whole token`},
		{">b", `topic ">b": token 1, byte 0: ">" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern ">b": token 1, byte 0: ">" must be a whole token`},
		{">.b", `topic ">.b": token 1, byte 0: ">" is a wildcard; one exact name is needed here`,
			`pattern ">.b": token 1, byte 0: ">" must be the last token; use "*" for one token`},
		{"a\x00", `topic "a\x00": token 1, byte 1: "\x00" is not allowed; use A-Z a-z 0-9 _ : @ -`,
			`pattern "a\x00": token 1, byte 1: "\x00" is not allowed; use A-Z a-z 0-9 _ : @ -`},
	} {
		for _, k := range []struct {
			check func(string) error
			want  string
		}{{Check, c.name}, {CheckPattern, c.pattern}} {
			got := ""
			if err := k.check(c.in); err != nil {
				got = err.Error()
				var e *Error
				if !errors.As(err, &e) || e.Topic != c.in {
					t.Errorf("%q: error is %T %+v", c.in, err, err)
				}
			}
			if got != k.want {
				t.Errorf("%q:\n got %s\nwant %s", c.in, got, k.want)
			}
		}
	}
}

func TestWildcardMatchesTooMuchOrTooLittle(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"*.*", "a", false},
		{"*.b", "a.b", true},
		{"*.b", "a.c", false},
		{"a.*", "a", false},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{">", "a", true},
		{">", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "b.b", false},
		{"*.>", "a", false},
		{"*.>", "a.b", true},
		{"*.*.>", "a.b", false},
		{"market.*.BTC-USD", "market.kraken.BTC-USD", true},
		{"market.*.BTC-USD", "market.kraken.BTC-EUR", false},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
	for p, want := range map[string]bool{"a.b": false, "a.*": true, ">": true} {
		if got := IsPattern(p); got != want {
			t.Errorf("IsPattern(%q) = %v", p, got)
		}
	}
}

func TestMatchAllocates(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { Match("market.*.>", "market.kraken.BTC-USD.trades") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPrecedenceDependsOnOrderOfEntry(t *testing.T) {
	want := []string{
		"a.b", "a.b.c", "b", // exact names first
		"a.b.*", "a.b.*.d", "a.b.>", "a.*", "a.*.c", "a.>", "b.*", "*", "*.b", "*.>", ">",
	}
	got := slices.Clone(want)
	for seed := range 50 {
		slices.SortFunc(got, func(x, y string) int { // an order unlike the wanted one
			return strings.Compare(fmt.Sprint(ID(x)>>(seed%32)&0xff, x), fmt.Sprint(ID(y)>>(seed%32)&0xff, y))
		})
		slices.SortFunc(got, func(x, y string) int {
			switch {
			case MoreSpecific(x, y):
				return -1
			case MoreSpecific(y, x):
				return 1
			}
			return 0
		})
		if !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
	if MoreSpecific("a.*", "a.*") {
		t.Error("a pattern is more specific than itself")
	}
}

// Any other implementation of the layout must compute the same ids.
func TestIDDiffersFromPublishedFNV(t *testing.T) {
	for name, want := range map[string]uint64{
		"":       0xcbf29ce484222325,
		"a":      0xaf63dc4c8601ec8c,
		"foobar": 0x85944171f73967e8,
	} {
		if got := ID(name); got != want {
			t.Errorf("ID(%q) = %#x, want %#x", name, got, want)
		}
	}
	for _, name := range []string{"market.kraken.BTC-USD", long255, "a\xff\x80"} {
		h := fnv.New64a()
		h.Write([]byte(name))
		if got := ID(name); got != h.Sum64() {
			t.Errorf("ID(%q) = %#x, want %#x", name, got, h.Sum64())
		}
	}
}

func TestSetFindsTheWrongEntry(t *testing.T) {
	var s Set[int]
	if p, v, ok := s.Lookup("a"); ok || p != "" || v != 0 {
		t.Error("an empty set found something")
	}
	for i, p := range []string{">", "a.>", "*.b", "a.*", "a.b", "a.b.*", "x"} {
		s.Put(p, i)
	}
	s.Put("a.>", 10) // replaced
	s.Put("x", 60)
	all := func(name string) string {
		var got []string
		for p, v := range s.Matching(name) {
			got = append(got, fmt.Sprint(p, "=", v))
		}
		return strings.Join(got, " ")
	}
	for name, want := range map[string]string{
		"a":     ">=0",
		"a.b":   "a.b=4 a.*=3 a.>=10 *.b=2 >=0",
		"a.c":   "a.*=3 a.>=10 >=0",
		"a.b.c": "a.b.*=5 a.>=10 >=0",
		"q.b":   "*.b=2 >=0",
		"x":     "x=60 >=0",
	} {
		if got := all(name); got != want {
			t.Errorf("Matching(%q) = %s, want %s", name, got, want)
		}
		p, v, ok := s.Lookup(name)
		if got := fmt.Sprint(p, "=", v); !ok || got != strings.Fields(want)[0] {
			t.Errorf("Lookup(%q) = %s %v, want %s", name, got, ok, want)
		}
	}
	for range s.Matching("a.c") {
		break // at a pattern
	}
}

// grammar is the rule of doc.go as one expression, apart from the length.
var (
	grammar        = regexp.MustCompile(`^[A-Za-z0-9_:@-]+(\.[A-Za-z0-9_:@-]+){0,15}$`)
	patternGrammar = regexp.MustCompile(`^(([A-Za-z0-9_:@-]+|\*)\.){0,15}([A-Za-z0-9_:@-]+|\*|>)$`)
)

func FuzzCheckAgainstGrammar(f *testing.F) {
	for _, s := range []string{"", "a", "a.b", "a..b", ".", "*", "a.>", ">.a", "a*", "a\n", long255, long255 + "a", tok16, tok16 + ".*", "é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		short := len(s) <= MaxBytes
		for _, c := range []struct {
			check func(string) error
			want  bool
		}{{Check, short && grammar.MatchString(s)}, {CheckPattern, short && patternGrammar.MatchString(s)}} {
			err := c.check(s)
			if (err == nil) != c.want {
				t.Fatalf("%q: %v, the grammar says %v", s, err, c.want)
			}
			var e *Error
			if errors.As(err, &e) && (e.Offset > len(s) || e.Error() == "") {
				t.Fatalf("%q: offset %d of %d bytes", s, e.Offset, len(s))
			}
		}
	})
}

func naiveMatch(pattern, name string) bool {
	p, n := strings.Split(pattern, "."), strings.Split(name, ".")
	for i := range p {
		if p[i] == ">" {
			return len(n) > i
		}
		if i >= len(n) || p[i] != "*" && p[i] != n[i] {
			return false
		}
	}
	return len(p) == len(n)
}

func FuzzMatchAgainstReference(f *testing.F) {
	for _, s := range [][3]string{
		{"a.*", "a.>", "a.b"}, {"*.b", "a.*", "a.b"}, {">", "*", "a"}, {"a.>", "a.b.>", "a.b.c"}, {"a.", ">.a", "a..b"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, p, q, name string) {
		got := Match(p, name) // must not panic, whatever the input
		if CheckPattern(p) != nil || Check(name) != nil {
			return
		}
		if want := naiveMatch(p, name); got != want {
			t.Fatalf("Match(%q, %q) = %v", p, name, got)
		}
		if !Match(">", name) || !Match(name, name) {
			t.Fatalf("%q does not match itself or >", name)
		}
		if CheckPattern(q) != nil {
			return
		}
		if a, b := MoreSpecific(p, q), MoreSpecific(q, p); a && b || (p == q) == (a || b) {
			t.Fatalf("%q and %q: more specific %v and %v", p, q, a, b)
		}
		// The winner in a set is the most specific of those that match.
		var s Set[string]
		s.Put(q, q)
		s.Put(p, p)
		win, _, ok := s.Lookup(name)
		mp, mq := got, naiveMatch(q, name)
		want := ""
		switch {
		case mp && (!mq || MoreSpecific(p, q)):
			want = p
		case mq:
			want = q
		}
		if win != want || ok != (mp || mq) {
			t.Fatalf("%q and %q on %q: %q wins, want %q", p, q, name, win, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Match("market.*.BTC-USD", "market.kraken.BTC-USD")
	}
}

func BenchmarkSetLookupThousandNamesHundredPatterns(b *testing.B) {
	var s Set[int]
	for i := range 1000 {
		s.Put(fmt.Sprintf("market.v%d.BTC-USD", i), i)
	}
	for i := range 100 {
		s.Put(fmt.Sprintf("market.w%d.*", i), i)
	}
	s.Put(">", 0)
	b.ReportAllocs()
	for b.Loop() {
		s.Lookup("market.kraken.BTC-USD")
	}
}
