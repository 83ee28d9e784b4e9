package config

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLessSpecificEntryApplies(t *testing.T) {
	c := mustLoad(t, LoadOptions{File: write(t, `
[[topic]]
name = ">"
max_message = "1KiB"
[[topic]]
name = "market.>"
max_message = "2KiB"
[[topic]]
name = "market.kraken.BTC-USD"
max_message = "3KiB"
[[topic]]
name = "market.*.BTC-USD"
max_message = "4KiB"
[[topic]]
name = "market.kraken.*"
policy = "fail"
`)})
	for name, want := range map[string]string{
		"x":                       ">",
		"market.kraken":           "market.>",
		"market.kraken.BTC-USD":   "market.kraken.BTC-USD",
		"market.kraken.BTC-USD.x": "market.>",
		"market.kraken.ETH-USD":   "market.kraken.*",
		"market.other.BTC-USD":    "market.*.BTC-USD",
	} {
		got, ok := c.TopicFor(name)
		if !ok || got.Name != want {
			t.Errorf("%s: entry %q, want %q", name, got.Name, want)
		}
	}
	if got, _ := c.TopicFor("market.kraken.ETH-USD"); got.MaxMessageBytes != 64<<10 || got.Policy.Kind != PolicyFail {
		t.Errorf("entries add up, or lose a key: %+v", got)
	}
	got, ok := (&Config{}).TopicFor("a.b")
	want := TopicConfig{Name: "a.b", Geometry: Geometry{1 << 20, 64 << 10, 64<<10 + 64}, Policy: Policy{PolicyBlock, time.Second}}
	if ok || !reflect.DeepEqual(got, want) {
		t.Errorf("no entry: %+v %v", got, ok)
	}
}

func TestConfigMadeInGoIsNotChecked(t *testing.T) {
	good := Config{Topics: []TopicConfig{{Name: "a.>", Publish: AllowList{}}}}
	if err := good.Validate(); err != nil {
		t.Errorf("zero fields are refused: %v", err)
	}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Registry: Registry{Socket: "x", MaxLanes: -1}, Topics: []TopicConfig{
			{Name: "a..b"}, {Name: "a", Policy: Policy{Kind: 3}}, {Name: "b", Geometry: Geometry{RingBytes: 1}},
			{Name: "c", Policy: Policy{Timeout: -1}}}}, `
registry.socket: "x" is not an absolute path
registry.max_lanes: -1 is out of range; 1 to 16384 are allowed
topic.name: pattern "a..b": token 2, byte 2: empty token; remove the extra dot
topic.policy: policy(3) is unknown
topic.ring: 1B is not a power of two from 64KiB to 1GiB (did you mean "64KiB"?)
topic.policy: bad policy "block:-1ns": the time must be from 1ms to 1h`},
		{Config{Registry: Registry{MaxLanes: 1, MaxLanesPerUID: 2}, Topics: []TopicConfig{{Name: "a"}, {}, {Name: "a"},
			{Name: "b", Geometry: Geometry{StepBytes: 33}}, {Name: "c", Geometry: Geometry{RingBytes: 1 << 16, MaxMessageBytes: 8193}}}}, `
registry.max_lanes_per_uid: 2 is more than max_lanes, which is 1
a topic has no name
duplicate topic "a", first defined as entry 1
topic.step: 33 bytes; a multiple of 32 from 65600 to 262144 is needed
topic.max_message: 8193B is more than an eighth of the ring (64KiB / 8 = 8KiB); use ring = "128KiB" or more`},
	} {
		wantError(t, c.config.Validate(), c.want)
	}
}

func TestDerivedGeometryIsInvalid(t *testing.T) {
	for _, c := range []struct{ in, want Geometry }{
		{Geometry{}, Geometry{1 << 20, 64 << 10, 64<<10 + 64}},
		{Geometry{RingBytes: 64 << 10}, Geometry{64 << 10, 8 << 10, 16 << 10}},
		{Geometry{RingBytes: 512 << 10}, Geometry{512 << 10, 64 << 10, 64<<10 + 64}},
		{Geometry{RingBytes: 1 << 30}, Geometry{1 << 30, 64 << 10, 64<<10 + 64}},
		{Geometry{MaxMessageBytes: 1}, Geometry{1 << 20, 1, 64 << 10}},
		{Geometry{MaxMessageBytes: 128 << 10}, Geometry{1 << 20, 128 << 10, 128<<10 + 64}},
		{Geometry{MaxMessageBytes: 128<<10 + 1}, Geometry{2 << 20, 128<<10 + 1, 128<<10 + 96}},
		{Geometry{MaxMessageBytes: 128 << 20}, Geometry{1 << 30, 128 << 20, 128<<20 + 64}},
		{Geometry{StepBytes: 128 << 10}, Geometry{1 << 20, 64 << 10, 128 << 10}},
	} {
		got := c.in.WithDefaults()
		if got != c.want || c.in.Validate() != nil {
			t.Errorf("%+v: %+v, want %+v (%v)", c.in, got, c.want, c.in.Validate())
		}
	}
	for _, c := range []struct {
		in   Geometry
		want string
	}{
		{Geometry{RingBytes: 2 << 30}, `ring: 2GiB is not a power of two from 64KiB to 1GiB (did you mean "1GiB"?)`},
		{Geometry{RingBytes: 32 << 10}, `ring: 32KiB is not a power of two from 64KiB to 1GiB (did you mean "64KiB"?)`},
		{Geometry{RingBytes: 100_000}, `ring: 100000B is not a power of two from 64KiB to 1GiB (did you mean "128KiB"?)`},
		{Geometry{MaxMessageBytes: 1 << 28}, `max_message: 256MiB is more than an eighth of the ring (1GiB / 8 = 128MiB); the largest ring, 1GiB, takes 128MiB`},
		{Geometry{MaxMessageBytes: math.MaxUint64}, `max_message: 18446744073709551615B is more than an eighth of the ring (1GiB / 8 = 128MiB); the largest ring, 1GiB, takes 128MiB`},
		{Geometry{StepBytes: 64 << 10}, `step: 65536 bytes; a multiple of 32 from 65600 to 262144 is needed`},
		{Geometry{StepBytes: 256<<10 + 32}, `step: 262176 bytes; a multiple of 32 from 65600 to 262144 is needed`},
	} {
		if err := c.in.Validate(); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.in, err, c.want)
		}
	}
}

func TestSizeIsMisread(t *testing.T) {
	for _, c := range []struct {
		in      string
		want    uint64
		errText string
	}{
		{"0", 0, ""},
		{"65536", 65536, ""},
		{"7B", 7, ""},
		{"64KiB", 64 << 10, ""},
		{"3MiB", 3 << 20, ""},
		{"1GiB", 1 << 30, ""},
		{"16777215TiB", 16777215 << 40, ""},
		{"18446744073709551615", math.MaxUint64, ""},
		{"", 0, `bad size "": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"KiB", 0, `bad size "KiB": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"1.5GiB", 0, `bad size "1.5GiB": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"-1", 0, `bad size "-1": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"+1", 0, `bad size "+1": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"1_000", 0, `bad size "1_000": write whole bytes or a unit, as in 65536 or "64KiB"`},
		{"64 KiB", 0, `bad size "64 KiB": the units are B, KiB, MiB, GiB and TiB (did you mean "64KiB"?)`},
		{"64kib", 0, `bad size "64kib": the units are B, KiB, MiB, GiB and TiB (did you mean "64KiB"?)`},
		{"64k", 0, `bad size "64k": the units are B, KiB, MiB, GiB and TiB (did you mean "64KiB"?)`},
		{"1MB", 0, `bad size "1MB": the units are B, KiB, MiB, GiB and TiB (did you mean "1MiB"?)`},
		{"1XB", 0, `bad size "1XB": the units are B, KiB, MiB, GiB and TiB`},
		{"16777216TiB", 0, `bad size "16777216TiB": more than 64 bits`},
		{"18446744073709551616", 0, `bad size "18446744073709551616": more than 64 bits`},
	} {
		got, err := ParseSize(c.in)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || text != c.errText {
			t.Errorf("%q: %d, %s; want %d, %s", c.in, got, text, c.want, c.errText)
		}
		if err == nil {
			if back, err := ParseSize(FormatSize(got)); back != got || err != nil {
				t.Errorf("%d is written %s and read %d, %v", got, FormatSize(got), back, err)
			}
		}
	}
}

func TestPolicyIsMisread(t *testing.T) {
	for in, want := range map[string]Policy{
		"block":       {PolicyBlock, time.Second},
		"block:500ms": {PolicyBlock, 500 * time.Millisecond},
		"evict":       {PolicyEvict, time.Second},
		"evict:1h":    {PolicyEvict, time.Hour},
		"fail":        {PolicyFail, 0},
	} {
		got, err := ParsePolicy(in)
		if got != want || err != nil {
			t.Errorf("%q: %v, %v", in, got, err)
		}
		if back, err := ParsePolicy(got.String()); back != got || err != nil {
			t.Errorf("%q is written %s and read %v, %v", in, got, back, err)
		}
	}
	for in, want := range map[string]string{
		"":            `bad policy "": use "block", "block:500ms", "evict", "evict:1s" or "fail"`,
		"blok":        `bad policy "blok": use "block", "block:500ms", "evict", "evict:1s" or "fail" (did you mean "block"?)`,
		"block:5":     `bad policy "block:5": write a time after the colon, as in "block:500ms"`,
		"evict:500us": `bad policy "evict:500µs": the time must be from 1ms to 1h`,
		"block:-1s":   `bad policy "block:-1s": the time must be from 1ms to 1h`,
	} {
		if _, err := ParsePolicy(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
	if got := (Policy{}).String(); got != "block:1s" {
		t.Errorf("the zero policy is %s", got)
	}
}

func TestWrongUserIsAdmitted(t *testing.T) {
	for in, want := range map[string]Principal{
		"uid:0":          {false, 0, "uid:0"},
		"uid:4294967294": {false, 4294967294, "uid:4294967294"},
		"gid:100":        {true, 100, "gid:100"},
		"user:root":      {false, 0, "user:root"},
		"group:root":     {true, 0, "group:root"},
		"root":           {false, 0, "root"},
	} {
		if got, err := ParsePrincipal(in); got != want || err != nil {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{
		"":                `bad entry "": the name is missing`,
		"uid:":            `bad entry "uid:": the name is missing`,
		"uid:-1":          `bad entry "uid:-1": "-1" is not a number from 0 to 4294967294`,
		"uid:4294967295":  `bad entry "uid:4294967295": "4294967295" is not a number from 0 to 4294967294`,
		"gid:65534":       `bad entry "gid:65534": 65534 stands for users unknown to this host and is never admitted`,
		"pid:1":           `bad entry "pid:1": write "uid:N", "gid:N", "user:NAME", "group:NAME" or a user name`,
		"user:no such":    `bad entry "user:no such": this host has no such user`,
		"group:no such":   `bad entry "group:no such": this host has no such group`,
		"no such user 77": `bad entry "no such user 77": this host has no such user`,
	} {
		if _, err := ParsePrincipal(in); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
	list := AllowList{{false, 1000, ""}, {true, 100, ""}, {false, overflowID, ""}}
	for _, c := range []struct {
		uid  uint32
		gids []uint32
		want bool
	}{
		{1000, nil, true},
		{1000, []uint32{5}, true},
		{100, nil, false}, // a uid is no gid
		{5, []uint32{1000}, false},
		{5, []uint32{7, 100}, true},
		{0, []uint32{0}, false},
		{overflowID, []uint32{100}, false},
	} {
		if got := list.Allows(c.uid, c.gids...); got != c.want {
			t.Errorf("uid %d, gids %v: %v", c.uid, c.gids, got)
		}
	}
	if (AllowList{}).Allows(0, 0) {
		t.Error("an empty list admits root")
	}
}

func TestReloadHidesAChange(t *testing.T) {
	before := mustLoad(t, LoadOptions{File: write(t, everyKey)})
	if changes := Diff(before, before); len(changes) != 0 {
		t.Errorf("a configuration differs from itself: %v", changes)
	}
	text := strings.NewReplacer(
		`"/run/x.sock"`, `"/run/y.sock"`,
		"max_lanes = 100", "max_lanes = 101",
		"max_topics = 9", "max_topics = 10",
		`"/dev/shm/x"`, `"/dev/shm/y"`,
		`ring = "1GiB"`, `ring = "1MiB"`,
		"subscribe = []", "",
		`"market.>"`, `"other"`,
	).Replace(everyKey)
	after := mustLoad(t, LoadOptions{File: write(t, text)})
	var got []string
	for _, c := range Diff(before, after) {
		got = append(got, c.String())
	}
	want := []string{
		`registry.socket: "/run/x.sock" -> "/run/y.sock" (needs a restart)`,
		`registry.shm_dir: "/dev/shm/x" -> "/dev/shm/y" (needs a restart)`,
		`registry.max_lanes: 100 -> 101 (needs a restart)`,
		`registry.max_topics: 9 -> 10`,
		`topic[market.*.*].ring: "1GiB" -> "1MiB"`,
		`topic[market.*.*].subscribe: [] -> absent`,
		`topic[other]: absent -> present`,
		`topic[market.>]: present -> absent`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Each key must be documented, and its documented default must be the one that applies.
func TestReferenceLies(t *testing.T) {
	text := Reference()
	var zero Config
	registry, entry := zero.Registry.WithDefaults(), TopicConfig{}.WithDefaults()
	row := func(name, typ, builtin, value, doc string) {
		if !strings.Contains(text, "\n| `"+name+"` | "+typ+" | "+builtin+" | ") || !strings.Contains(text, doc) {
			t.Errorf("%s is not in the reference", name)
		}
		if doc == "" || strings.Contains(doc, "|") {
			t.Errorf("%s: bad explanation %q", name, doc)
		}
		if strings.HasPrefix(builtin, "`") && !strings.ContainsAny(builtin, " _") && builtin != "`"+value+"`" {
			t.Errorf("%s: the default is %s, documented is %s", name, value, builtin)
		}
	}
	for _, k := range registryKeys {
		row(k.name, k.typ, k.builtin, k.format(&registry), k.doc)
	}
	for _, k := range topicKeys {
		row(k.name, k.typ, k.builtin, k.format(&entry), k.doc)
	}
	for _, name := range envAll() {
		if !strings.HasPrefix(name, "MYCELIUM_REGISTRY__") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("%s is not in the reference", name)
		}
	}
	for _, want := range []string{
		"| `socket` | path |", "| `lane_grace` | duration | `\"1m\"` | live |", "| `max_lanes` | integer | `4096` | restart |",
		"| `policy` | string | `\"block:1s\"` | live |", "| `create` | boolean | `true` | live |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestHintIsNonsense(t *testing.T) {
	keys := []string{"ring", "max_message", "policy", "publish", "subscribe", "create"}
	for word, want := range map[string]string{
		"rng": "ring", "rnig": "ring", "rings": "ring", "polcy": "policy", "max-message": "max_message",
		"": "", "x": "", "retain": "", "frobnicate": "", "pub": "",
	} {
		if got := Nearest(word, keys); got != want {
			t.Errorf("%q: hint %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want || distance(c.b, c.a) != got {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestDurationIsWrittenDifferently(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Millisecond, time.Second, 10 * time.Second, time.Minute, 90 * time.Second,
		10 * time.Minute, time.Hour, time.Hour + time.Second, 20 * time.Hour, 24*time.Hour + 10*time.Minute} {
		if back, err := time.ParseDuration(formatDuration(d)); back != d || err != nil {
			t.Errorf("%v is written %s", d, formatDuration(d))
		}
	}
	if got := formatDuration(time.Hour); got != "1h" {
		t.Errorf("an hour is written %s", got)
	}
}

func TestErrorLosesItsPlace(t *testing.T) {
	e := &Error{File: "f", Problems: []Problem{{Msg: "m"}, {Line: 1, Col: 2, Msg: "m", Hint: "h"}, {Origin: "o", Msg: "m"}}}
	if got, want := e.Error(), "f: m\nf:1:2: m (did you mean \"h\"?)\no: m"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := report("f", nil); err != nil {
		t.Errorf("no problems, yet %v", err)
	}
}
