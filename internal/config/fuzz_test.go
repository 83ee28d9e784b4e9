package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/torq/mycelium/internal/topic"
)

// FuzzLoad feeds any text as the file: nothing panics, what is accepted is valid and
// reads back the same from its dump, what is refused has a place inside the text.
func FuzzLoad(f *testing.F) {
	a, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range a.Files {
		if strings.HasSuffix(file.Name, "/in") {
			f.Add(string(file.Data))
		}
	}
	f.Add(everyKey)
	f.Add("a=[{}]\n[a.b]\n")
	f.Add("topic = [{}]\n[[topic]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		paths := DefaultPaths(0, nil)
		c, err := load("f", text, nil, paths, LoadOptions{})
		if err != nil {
			checkError(t, text, err)
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted, yet %v", err)
		}
		for _, tc := range c.Topics {
			g := tc.Geometry
			if g.RingBytes < 64<<10 || g.RingBytes > 1<<30 || g.RingBytes&(g.RingBytes-1) != 0 ||
				g.MaxMessageBytes < 1 || g.MaxMessageBytes > g.RingBytes/8 ||
				g.StepBytes%32 != 0 || g.StepBytes < g.MaxMessageBytes+64 || g.StepBytes > g.RingBytes/4 {
				t.Fatalf("accepted %+v", g)
			}
			if topic.CheckPattern(tc.Name) != nil {
				t.Fatalf("accepted the name %q", tc.Name)
			}
		}
		again, err := load("g", c.Effective(), nil, paths, LoadOptions{})
		if err != nil {
			t.Fatalf("the dump is refused: %v\n%s", err, c.Effective())
		}
		if c.Registry != again.Registry || len(c.Topics)+len(again.Topics) > 0 && !reflect.DeepEqual(c.Topics, again.Topics) {
			t.Fatalf("the dump reads back as\n%s\nfrom\n%s", again.Effective(), c.Effective())
		}
	})
}

func checkError(t *testing.T, text string, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) == 0 || e.Error() == "" {
		t.Fatalf("refused by a %T: %v", err, err)
	}
	lines := strings.Split(strings.TrimPrefix(text, bom), "\n")
	for _, p := range e.Problems {
		if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > len(lines[p.Line-1])+1 || p.Msg == "" {
			t.Fatalf("%+v lies outside the text", p)
		}
	}
}

// FuzzScanAgainstDecoder compares the scan with the decoder: it must know the place of
// every key, array element and table that the decoder finds.
func FuzzScanAgainstDecoder(f *testing.F) {
	for _, s := range []string{
		everyKey, "'\"\"\"' = 5\na.b.\"c d\".'e' = 1\n[x.y]\nz = [[1, 2], [{a = 1}, {b.c = 2}]]\n[[t]]\n[[t.u]]\n[t.u.v]\n[[t.u]]\nk=1\n[[t]]\n[[t.u]]",
		"a = \"\"\"\nx = 1\\\"\"\"\"\"\n'b' = ''''''''\nc = '\\'\nd = [ # ]\n1, # ,\n]\ne = {}\nf = 1979-05-27 07:32:00Z\ng = [\"]\", '}']\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spans, stop := scan(text)
		if stop != nil || strings.Contains(text, `\`) && strings.Contains(text, `"`) { // escaped keys are looked up by their parent
			return
		}
		var root map[string]any
		if _, err := toml.Decode(text, &root); err != nil || strings.HasPrefix(text, bom) {
			return
		}
		var walk func(path string, v any)
		walk = func(path string, v any) {
			if _, ok := spans[path]; !ok && path != "" {
				t.Fatalf("the scan missed %s of\n%s", path, text)
			}
			switch v := v.(type) {
			case map[string]any:
				for name, e := range v {
					walk(joinPath(path, name), e)
				}
			case []map[string]any:
				for i, e := range v {
					walk(indexPath(path, i), e)
				}
			case []any:
				for i, e := range v {
					walk(indexPath(path, i), e)
				}
			}
		}
		walk("", root)
	})
}

func TestKeyIsReportedAtTheWrongPlace(t *testing.T) {
	text := `# [registry]
 registry . socket = "a" # x = 1
"quoted key" = '''
x = 1
[y]
''' # after
[ registry.sub ] # table
k = [ "a", # "b"
      'c' , [1,2],
  { d = 1, e.f = """"q"""" }
]
[[topic]]
n = 1979-05-27 07:32:00Z
	t = ""
[[topic.in]]
[[topic.in]]
x=1
[topic.in.deep]
y = true
[[topic]]
"esc\u0061pe" = 1
`
	spans, stop := scan(text)
	if stop != nil {
		t.Fatal(stop)
	}
	for path, want := range map[string]string{
		"registry":               "2:2",
		"registry.socket":        "2:13 2:22",
		`"quoted key"`:           "3:1 3:16",
		"registry.sub":           "7:12",
		"registry.sub.k":         "8:1 8:5",
		"registry.sub.k[0]":      "8:7 8:7",
		"registry.sub.k[1]":      "9:7 9:7",
		"registry.sub.k[2][1]":   "9:16 9:16",
		"registry.sub.k[3].d":    "10:5 10:9",
		"registry.sub.k[3].e.f":  "10:14 10:18",
		"topic":                  "12:3",
		"topic[0]":               "12:3",
		"topic[0].n":             "13:1 13:5",
		"topic[0].t":             "14:2 14:6",
		"topic[0].in[0]":         "15:9",
		"topic[0].in[1].x":       "17:1 17:3",
		"topic[0].in[1].deep.y":  "19:1 19:5",
		"topic[1]":               "20:3",
		"topic[1].escape":        "21:1 21:17",
		"topic[1].missing":       "20:3", // the nearest parent
		"nowhere.at[7].all":      "1:1",
		"registry.sub.k[3].e.xx": "10:12",
	} {
		key, val := spans.at(path, false), spans.at(path, true)
		got := fmt.Sprintf("%d:%d", key.line, key.col)
		if s := spans[path]; s.val.line > 0 {
			got += fmt.Sprintf(" %d:%d", val.line, val.col)
		}
		if got != want {
			t.Errorf("%s is at %s, want %s", path, got, want)
		}
	}
}
