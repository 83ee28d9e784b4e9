package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.fuzz"); f == nil || f.Value.String() == "" {
		time.AfterFunc(2*time.Minute, func() { panic("watchdog: the tests of internal/config hang") })
	}
	os.Exit(m.Run())
}

// write returns the path of a new file.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mycelium.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// wantError fails unless err is an *Error of exactly these lines; FILE is its file.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("error is %T: %v\nwant\n%s", err, err, want)
		return
	}
	got := e.Error()
	if e.File != "" {
		got = strings.ReplaceAll(got, e.File, "FILE")
	}
	if want = strings.TrimSpace(want); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func mustLoad(t *testing.T, opts LoadOptions) *Config {
	t.Helper()
	if opts.Environ == nil {
		opts.Environ = []string{}
	}
	if opts.File == "" {
		opts.File = write(t, "")
	}
	c, err := Load(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadFileIsAcceptedOrMisreported(t *testing.T) {
	a, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(a.Files); i += 2 {
		in, want := a.Files[i], a.Files[i+1]
		name := strings.TrimSuffix(in.Name, "/in")
		if want.Name != name+"/want" {
			t.Fatalf("%s is followed by %s", in.Name, want.Name)
		}
		t.Run(name, func(t *testing.T) {
			_, err := Load(LoadOptions{File: write(t, string(in.Data)), Environ: []string{}})
			wantError(t, err, string(want.Data))
		})
	}
}

// Inputs that a text archive cannot hold.
func TestBytesThatAreNoTOMLAreAccepted(t *testing.T) {
	deep := "x = " + strings.Repeat("[", 200_000)
	for _, c := range []struct{ name, in, want string }{
		{"utf-16", "\xff\xfex\x00", `FILE:1:1: byte 0xff: the file must be UTF-8`},
		{"latin-1", "[registry]\n# caf\xe9\n", `FILE:2:6: byte 0xe9: the file must be UTF-8`},
		{"nul", "x\x00y", `FILE:1:2: syntax error: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8`},
		{"control", "# \x01\n", `FILE:1:2: syntax error: TOML files cannot contain control characters: '0x01'`},
		{"crlf", "\ufeff[registry]\r\n\r\nsockt = 'a'\r\n", `FILE:3:1: unknown key "registry.sockt" (did you mean "socket"?)`},
		{"huge", strings.Repeat("\n", 1<<20+1), `FILE:1:1: the file has more than 1MiB`},
		{"deep arrays", deep, `FILE:1:90: "x[0][0][0][0][0][0][0][0][0][0]["... is too long or nested too deeply: its path has more than 255 bytes`},
		{"deep tables", "x" + strings.Repeat(" = { y", 100_000), `FILE:1:769: "x.y.y.y.y.y.y.y.y.y.y.y.y.y.y.y."... is too long or nested too deeply: its path has more than 255 bytes`},
		{"dotted key", strings.Repeat("y.", 200_000) + "y = 1", `FILE:1:257: "y.y.y.y.y.y.y.y.y.y.y.y.y.y.y.y."... is too long or nested too deeply: its path has more than 255 bytes`},
		{"long header", "[a]\n[" + strings.Repeat("y", 256) + "]", `FILE:2:2: "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"... is too long or nested too deeply: its path has more than 255 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(LoadOptions{File: write(t, c.in), Environ: []string{}})
			wantError(t, err, c.want)
		})
	}
}

const everyKey = `
[registry]
socket = "/run/x.sock"
shm_dir = "/dev/shm/x"
access = "group"
log_level = "debug"
log_format = "json"
max_shm_bytes = "2GiB"
max_shm_bytes_per_uid = 1073758208
max_lanes = 100
max_lanes_per_uid = 50
max_lanes_per_topic = 8
max_lossless_per_topic = 4
max_subscribers_per_uid = 7
max_topics = 9
max_connections_per_uid = 11
handshake_timeout = "1500ms"
requests_per_second = 13
lane_grace = "1m30s"

[[topic]]
name = "market.*.*"
ring = "1GiB"
max_message = 131072
policy = "evict:250ms"
create = false
publish = ["uid:1000", "gid:100", "user:root", "group:root", "root"]
subscribe = []

[[topic]]
name = "market.>"
policy = "fail"
create = true
`

func TestGoodFileIsMisread(t *testing.T) {
	c := mustLoad(t, LoadOptions{File: write(t, everyKey)})
	wantRegistry := Registry{
		Socket: "/run/x.sock", ShmDir: "/dev/shm/x", Access: AccessGroup, LogLevel: "debug", LogFormat: "json",
		MaxShmBytes: 2 << 30, MaxShmBytesPerUID: 1<<30 + 16<<10, MaxLanes: 100, MaxLanesPerUID: 50, MaxLanesPerTopic: 8,
		MaxLosslessPerTopic: 4, MaxSubscribersPerUID: 7, MaxTopics: 9, MaxConnectionsPerUID: 11,
		HandshakeTimeout: 1500 * time.Millisecond, RequestsPerSecond: 13, LaneGrace: 90 * time.Second,
	}
	if c.Registry != wantRegistry {
		t.Errorf("got  %+v\nwant %+v", c.Registry, wantRegistry)
	}
	wantTopics := []TopicConfig{{
		Name:     "market.*.*",
		Geometry: Geometry{RingBytes: 1 << 30, MaxMessageBytes: 128 << 10, StepBytes: 128<<10 + 64},
		Policy:   Policy{PolicyEvict, 250 * time.Millisecond},
		NoCreate: true,
		Publish: AllowList{{false, 1000, "uid:1000"}, {true, 100, "gid:100"}, {false, 0, "user:root"},
			{true, 0, "group:root"}, {false, 0, "root"}},
		Subscribe: AllowList{},
	}, {
		Name:     "market.>",
		Geometry: Geometry{RingBytes: 1 << 20, MaxMessageBytes: 64 << 10, StepBytes: 64<<10 + 64},
		Policy:   Policy{Kind: PolicyFail},
	}}
	if !reflect.DeepEqual(c.Topics, wantTopics) {
		t.Errorf("got  %+v\nwant %+v", c.Topics, wantTopics)
	}
	for key, want := range map[string]string{
		"registry.socket":     c.File + ":3:10",
		"topic[0].ring":       c.File + ":23:8",
		"topic[1].name":       c.File + ":31:8",
		"topic[1].ring":       "default",
		"registry.log_level":  c.File + ":6:13",
		"registry.lane_grace": c.File + ":19:14",
	} {
		if got := c.Origin(key); got != want {
			t.Errorf("%s comes from %s, want %s", key, got, want)
		}
	}
	if c := mustLoad(t, LoadOptions{File: write(t, "topic = []")}); len(c.Topics) != 0 {
		t.Errorf("an empty list became %d topics", len(c.Topics))
	}
}

// A dump that reads back differently would document something else than what runs.
func TestEffectiveReadsBackDifferently(t *testing.T) {
	first := mustLoad(t, LoadOptions{File: write(t, everyKey)})
	text := first.Effective()
	second := mustLoad(t, LoadOptions{File: write(t, text)})
	if first.Registry != second.Registry || !reflect.DeepEqual(first.Topics, second.Topics) {
		t.Errorf("read back as\n%s\nfrom\n%s", second.Effective(), text)
	}
	for _, want := range []string{
		"\nlane_grace = \"1m30s\" # " + first.File + ":19:14\n",
		"\nring = \"1MiB\" # default\n",
		"\nsubscribe = [] # " + first.File + ":28:13\n",
		"\npolicy = \"fail\" # ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "publish = "); n != 1 {
		t.Errorf("%d publish lists, want 1: an absent one must stay absent", n)
	}
	odd := mustLoad(t, LoadOptions{Flags: map[string]string{"registry.max_lanes": "3"}})
	odd.origins["registry.max_lanes"] = place{origin: "a\nb\xff"}
	if text := odd.Effective(); !strings.Contains(text, "max_lanes = 3 # a?b?\n") {
		t.Errorf("an origin breaks the comment:\n%s", text)
	}
}

func TestWrongLayerWins(t *testing.T) {
	file := write(t, "[registry]\nmax_lanes = 1\nmax_topics = 1\nlog_level = 'warn'\nlog_format = 'json'\n")
	c := mustLoad(t, LoadOptions{
		File: file,
		Set:  []string{"registry.max_topics=2", "registry.log_level=error", "registry.max_lanes=2", "registry.max_lanes=3"},
		Environ: []string{"MYCELIUM_LOG_LEVEL=debug", "MYCELIUM_REGISTRY__MAX_LANES=4", "MYCELIUM_REGISTRY__LANE_GRACE=5s",
			"MYCELIUM_REGISTRY=/env.sock", "MYCELIUM_REGISTRY__SOCKET=/env.sock", "MYCELIUM_SHM_DIR=", "MYCELIUM_OUTPUT=json", "PATH=/bin"},
		Flags:  map[string]string{"registry.max_lanes": "5"},
		Strict: true,
	})
	for _, k := range []struct{ key, value, origin string }{
		{"registry.log_format", `"json"`, file + ":5:14"},
		{"registry.max_topics", "2", "--set registry.max_topics"},
		{"registry.log_level", `"debug"`, "MYCELIUM_LOG_LEVEL"},
		{"registry.lane_grace", `"5s"`, "MYCELIUM_REGISTRY__LANE_GRACE"},
		{"registry.socket", `"/env.sock"`, "MYCELIUM_REGISTRY__SOCKET"},
		{"registry.max_lanes", "5", "flag for registry.max_lanes"},
		{"registry.access", `"owner"`, "default"},
	} {
		line := fmt.Sprintf("\n%s = %s # %s\n", strings.TrimPrefix(k.key, "registry."), k.value, k.origin)
		if text := c.Effective(); !strings.Contains(text, line) || c.Origin(k.key) != k.origin {
			t.Errorf("%q (origin %s) is not in\n%s", line, c.Origin(k.key), text)
		}
	}
	if c.Registry.MaxLanesPerUID != 5 {
		t.Errorf("max_lanes_per_uid is %d: its default must follow max_lanes", c.Registry.MaxLanesPerUID)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestBadOverrideIsAcceptedOrMisreported(t *testing.T) {
	for _, c := range []struct {
		name string
		opts LoadOptions
		want string
	}{
		{"set", LoadOptions{Set: []string{"registry.max_lanes", "registry.max_lane=1", "x=1", "registry=1", "topic[0].ring=1", "topic.ring=1", "ring=1", "registry.access=al"}}, `
--set registry: unknown key "registry"
--set registry.access: registry.access: "al" is unknown; use owner, group or all (did you mean "all"?)
--set registry.max_lane: unknown key "registry.max_lane" (did you mean "max_lanes"?)
--set registry.max_lanes: "registry.max_lanes" is not of the form key=value
--set ring: unknown key "ring" (did you mean "topic.ring"?)
--set topic.ring: topics can be set in the file only
--set topic[0].ring: topics can be set in the file only
--set x: unknown key "x"`},
		{"environment", LoadOptions{Environ: []string{"MYCELIUM_REGISTRY__MAX_LANES=many", "MYCELIUM_REGISTRY__HANDSHAKE_TIMEOUT=3"}}, `
MYCELIUM_REGISTRY__HANDSHAKE_TIMEOUT: registry.handshake_timeout: bad duration "3": write a number and ns, us, ms, s, m or h, as in "500ms"
MYCELIUM_REGISTRY__MAX_LANES: registry.max_lanes: must be an integer, not the string "many"`},
		{"two variables", LoadOptions{Environ: []string{"MYCELIUM_REGISTRY=/a", "MYCELIUM_REGISTRY__SOCKET=/b"}},
			`MYCELIUM_REGISTRY__SOCKET: registry.socket is set differently by MYCELIUM_REGISTRY; unset one of them`},
		{"unknown variables", LoadOptions{Strict: true, KnownEnv: []string{"MYCELIUM_FAILPOINT"},
			Environ: []string{"MYCELIUM_REGISTRY__MAX_LANE=1", "MYCELIUM_=1", "MYCELIUM_FAILPOINT=1"}}, `
environment: unknown variable MYCELIUM_
environment: unknown variable MYCELIUM_REGISTRY__MAX_LANE (did you mean "MYCELIUM_REGISTRY__MAX_LANES"?)`},
		{"flags", LoadOptions{Flags: map[string]string{"registry.socket": "x", "registry.shm": "/y"}}, `
flag for registry.shm: unknown key "registry.shm"
flag for registry.socket: registry.socket: "x" is not an absolute path`},
		{"limits", LoadOptions{Flags: map[string]string{"registry.max_shm_bytes_per_uid": "2GiB"}},
			`flag for registry.max_shm_bytes_per_uid: registry.max_shm_bytes_per_uid: 2GiB is more than max_shm_bytes, which is 1GiB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.File = write(t, "")
			if c.opts.Environ == nil {
				c.opts.Environ = []string{}
			}
			_, err := Load(c.opts)
			wantError(t, err, c.want)
		})
	}
}

func TestUnknownVariableStopsATool(t *testing.T) {
	t.Setenv("MYCELIUM_LOG_LEVL", "debug") // the environment of the process is the default
	c, err := Load(LoadOptions{File: write(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	want := `environment: unknown variable MYCELIUM_LOG_LEVL (did you mean "MYCELIUM_LOG_LEVEL"?)`
	if len(c.Warnings) != 1 || c.Warnings[0] != want {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

func TestMissingFileIsIgnored(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.toml")
	for name, opts := range map[string]LoadOptions{
		"named by flag":        {File: missing, Environ: []string{}},
		"named by environment": {Environ: []string{"MYCELIUM_CONFIG=" + missing}},
	} {
		if _, err := Load(opts); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(LoadOptions{File: t.TempDir(), Environ: []string{}}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}

	a, b := write(t, "a"), write(t, "b")
	for _, c := range []struct{ flag, env, fallback, name, text string }{
		{a, b, missing, a, "a"},
		{"", b, a, b, "b"},
		{"", "", b, b, "b"},
		{"", "", missing, "", ""},
		{"", "", "", "", ""},
	} {
		name, text, err := readFile(c.flag, c.env, c.fallback)
		if name != c.name || text != c.text || err != nil {
			t.Errorf("%+v: read %q from %q, %v", c, text, name, err)
		}
	}
}

func TestPathsOfUsersCollide(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	for _, c := range []struct {
		uid  int
		env  map[string]string
		want Paths
	}{
		{0, map[string]string{"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"},
			Paths{"/run/mycelium/registry.sock", "/dev/shm/mycelium", "/etc/mycelium/mycelium.toml"}},
		{1000, map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000", "HOME": "/home/u"},
			Paths{"/run/user/1000/mycelium/registry.sock", "/dev/shm/mycelium-1000", "/home/u/.config/mycelium/mycelium.toml"}},
		{1000, map[string]string{"XDG_CONFIG_HOME": "/cfg", "HOME": "/home/u"},
			Paths{"/dev/shm/mycelium-1000/registry.sock", "/dev/shm/mycelium-1000", "/cfg/mycelium/mycelium.toml"}},
		{1001, map[string]string{"XDG_RUNTIME_DIR": "relative", "XDG_CONFIG_HOME": "relative", "HOME": "relative"},
			Paths{"/dev/shm/mycelium-1001/registry.sock", "/dev/shm/mycelium-1001", ""}},
	} {
		env = c.env
		if got := DefaultPaths(c.uid, getenv); got != c.want {
			t.Errorf("uid %d, %v: %+v, want %+v", c.uid, c.env, got, c.want)
		}
	}
	d, p := Default(), DefaultPaths(os.Getuid(), os.Getenv)
	if d.Registry.Socket != p.Socket || d.Registry.ShmDir != p.ShmDir || d.Registry.LaneGrace != time.Minute {
		t.Errorf("Default: %+v", d.Registry)
	}
	if err := d.Validate(); err != nil {
		t.Errorf("the default is invalid: %v", err)
	}
}
