package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func loadForward(t *testing.T, text string) (*Forward, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadForward(file)
}

func TestForwarderConfigurationIsReadWithItsDefaults(t *testing.T) {
	c, err := loadForward(t, `[forward]
node = "host-a"
listen = ["[::]:7373", "localhost:0"]
keep = "10m"
max_body = "1MiB"
[[link]]
peer = "host-b"
address = "127.0.0.1:7373"
export = ["m.>"]
export_lossy = ["m.x"]
import = ["o"]
`)
	if err != nil {
		t.Fatal(err)
	}
	l := c.Links[0]
	if c.Keep != 10*time.Minute || c.MaxBody != 1<<20 || c.Beat != 250*time.Millisecond || l.Name != "main" || l.Start != "latest" || l.Compression != "off" || l.Transit {
		t.Errorf("%+v", c)
	}
	if at := c.Origin("link[0].peer"); !strings.HasSuffix(at, "f.toml:7:8") {
		t.Errorf("origin of link[0].peer: %s", at)
	}
	if c.Origin("forward.beat") != "default" {
		t.Error("a default with a place")
	}
	if ForwardControl("/run/mycelium/registry.sock", "a") != "/run/mycelium/forward.a.sock" {
		t.Error("control socket")
	}
	if DefaultForwardFile(0, os.Getenv) != "/etc/mycelium/forward.toml" || DefaultForwardFile(1, func(string) string { return "" }) != "" {
		t.Error("default file")
	}
	for _, key := range []string{"`dead_after`", "`export_lossy`", "### [[link]]"} {
		if !strings.Contains(ForwardReference(), key) {
			t.Errorf("the reference lacks %s", key)
		}
	}
}

// Fear: a mistake in a forwarder's file is told without its place, or not at all.
func TestMistakesInAForwarderConfigurationAreTold(t *testing.T) {
	const head = "[forward]\nnode = \"a\"\nlisten = [\"127.0.0.1:0\"]\n"
	const link = "[[link]]\npeer = \"b\"\nexport = [\"m\"]\n"
	for name, c := range map[string]struct{ text, want string }{
		"no name":          {"[forward]\nlisten = [\"127.0.0.1:0\"]\n" + link, ":1:2: forward.node: this host has no name"},
		"bad name":         {"[forward]\nnode = \"a b\"\nlisten = [\"127.0.0.1:0\"]\n" + link, `:2:8: forward.node: "a b" is no name`},
		"unknown key":      {head + "keeep = \"1h\"\n" + link, `:4:1: unknown key "forward.keeep" (did you mean "keep"?)`},
		"wrong table":      {head + link + "transitt = true\n", `:7:1: unknown key "link.transitt" (did you mean "transit"?)`},
		"no link":          {head, "no link: write [[link]]"},
		"no peer":          {head + "[[link]]\nexport = [\"m\"]\n", "link.peer: a link has no peer"},
		"itself":           {head + "[[link]]\npeer = \"a\"\nexport = [\"m\"]\n", ":5:8: link.peer: \"a\" is this host"},
		"twice":            {head + link + link, "a second link \"main\" with b"},
		"nothing":          {head + "[[link]]\npeer = \"b\"\n", "it exports and imports nothing"},
		"nobody dials":     {"[forward]\nnode = \"a\"\n" + link, "nobody dials it"},
		"pattern":          {head + link + "import = [\"a..b\", \"c\", \"c\"]\n", `:7:11: link.import: pattern "a..b"`},
		"list":             {head + link + "import = \"c\"\n", "link.import: must be an array of strings"},
		"no string":        {head + link + "import = [1]\n", "link.import: must be a string"},
		"both exports":     {head + link + "export_lossy = [\"m\"]\n", `"m" is in export, too`},
		"address":          {head + link + "address = \"b\"\n", `"b" is no address`},
		"port":             {head + link + "address = \"b:x\"\n", `port "x" of "b:x"`},
		"boolean":          {head + link + "transit = 1\n", "must be true or false"},
		"no certificate":   {head + link + "address = \"10.0.0.1:7373\"\n", "10.0.0.1:7373 is not this host, and there is no certificate"},
		"half a TLS":       {head + "cert = \"/c\"\n" + link, "cert, key and ca belong together"},
		"beats":            {head + "beat = \"2s\"\n" + link, "1s is not more than beat, which is 2s"},
		"odd body":         {head + "max_body = 5001\n" + link, "5001 bytes is no multiple of 8"},
		"syntax":           {head + "[[link]\n", "syntax error"},
		"forward is none":  {"forward = 1\n" + link, "must be a table: write [forward]"},
		"link is a table":  {head + "[link]\npeer = \"b\"\n", "must be an array of tables: write [[link]]"},
		"an unknown table": {head + link + "[lnk]\n", `unknown key "lnk" (did you mean "link"?)`},
	} {
		_, err := loadForward(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := LoadForward(filepath.Join(t.TempDir(), "none.toml")); err == nil {
		t.Error("a file that is not there")
	}
}
