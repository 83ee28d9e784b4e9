package torqbridge

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
)

func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "torq.toml")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	c, err := LoadConfig(file)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), file, "f"))
	}
	return c, err
}

func TestConfigurationWithoutAKeyHasItsDefault(t *testing.T) {
	c, err := loadText(t, "[[domain]]\nname = \"signals\"\n")
	must(t, err)
	d := c.Domains[0]
	if c.Control != DefaultControl() || c.Window != 10*time.Second || c.NoAutoRollback || c.MaxDropPercent != 20 || c.Dialect != DialectTypes {
		t.Errorf("%+v", c)
	}
	if d.Socket != "/tmp/torq/signals.sock" || d.LegacySocket != d.Socket+".legacy" || d.BusSocket != d.Socket+".bus" || d.Mode != ModeLegacy ||
		d.Queue != 10000 || d.NoEcho || len(d.Subscribe) != 1 || d.Subscribe[0] != "signals.>" {
		t.Errorf("%+v", d)
	}
}

func TestConfigurationErrorsHaveTheirPlace(t *testing.T) {
	for text, want := range map[string]string{
		"": "f:1:1: no [[domain]]: name at least one of market_data, signals, execution",
		"[bridge]\nwindw = \"1s\"\n[[domain]]\nname=\"signals\"\n":                                                       `f:2:1: unknown key "bridge.windw" (did you mean "window"?)`,
		"[[domain]]\nname = \"signal\"\n":                                                                                `f:2:8: domain.name: "signal" is unknown; use market_data, signals or execution (did you mean "signals"?)`,
		"[[domain]]\nmode = \"bus\"\n":                                                                                   `f:1:3: a domain has no name: write market_data, signals or execution`,
		"[[domain]]\nname = \"signals\"\n[[domain]]\nname = \"signals\"\nsocket = \"/a\"\n":                              `f:4:8: duplicate domain "signals"`,
		"[[domain]]\nname = \"signals\"\nlegacy_socket = \"/tmp/torq/signals.sock\"\n":                                   `f:3:17: domain.legacy_socket: /tmp/torq/signals.sock is domain[0].socket already`,
		"[[domain]]\nname = \"signals\"\nsubscribe = [\"a.*\", \"a.b\"]\n":                                               `f:3:21: domain.subscribe: "a.*" and "a.b" match the same topics: their messages would come twice`,
		"[[domain]]\nname = \"signals\"\nsubscribe = [\"a..b\", 7]\n":                                                    "f:3:14: domain.subscribe: pattern \"a..b\": token 2, byte 2: empty token; remove the extra dot\nf:3:22: domain.subscribe: must be a string, not the integer 7",
		"[[domain]]\nname = \"signals\"\nsubscribe = \"a\"\n":                                                            `f:3:13: domain.subscribe: must be an array of topics or patterns, as in ["market.>"], not the string "a"`,
		"[[domain]]\nname = \"signals\"\n[[map]]\nmatch = \"a.>\"\n":                                                     `f:3:3: a map needs both match and topic`,
		"[[domain]]\nname = \"signals\"\n[[map]]\nmatch = \"a.>\"\ntopic = \"b.{0}\"\n":                                  `f:5:9: map.topic: "b.{0}": {0} is no token; write {1} to {16}`,
		"[[domain]]\nname = \"signals\"\n[[map]]\nmatch = \"a\"\ntopic = \"b\"\n[[map]]\nmatch = \"a\"\ntopic = \"c\"\n": `f:7:9: duplicate match "a"`,
		"[bridge]\nhistory = \"1MiB\"\n[[domain]]\nname = \"signals\"\n":                                                 `f:2:11: bridge.history: must hold four messages of max_message`,
		"[bridge]\nsource = \"a b\"\nunmapped=\"x.*\"\n[[domain]]\nname = \"signals\"\n": "f:2:10: bridge.source: \"a b\" is no name for a source: it is built like a topic\n" +
			`f:3:10: bridge.unmapped: topic "x.*": token 2, byte 2: "*" is a wildcard; one exact name is needed here`,
	} {
		_, err := loadText(t, text)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
	_, err := LoadConfig(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	var bad *config.Error
	file := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := LoadConfig(file); !errors.As(err, &bad) {
		t.Errorf("%T", err)
	}
	c := Config{}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "no [[domain]]") {
		t.Error(err)
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.>", "a.b.c", true}, {"*.b", "a.*", true},
		{"a.b", "a", false}, {">", "x.y", true}, {"a.*.c", "a.b.d", false}, {"market.>", "system.>", false},
	} {
		if overlap(c.p, c.q) != c.want || overlap(c.q, c.p) != c.want {
			t.Errorf("%s and %s: want %v", c.p, c.q, c.want)
		}
	}
}
