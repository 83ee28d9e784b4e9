package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/shm"
)

func TestHangupTakesAGoodConfigurationAndRefusesABadOne(t *testing.T) {
	b := newBus(t, "", "[[topic]]\nname = \"a.*\"\npublish = [\"uid:4001\"]")
	r := b.start()
	c := b.dial()
	attach := func() error {
		p, err := c.Publisher(testContext(t), "a.b", nil)
		if err == nil {
			err = p.Close()
		}
		return err
	}
	if err := attach(); !errors.Is(err, shm.ErrPermission) {
		t.Fatalf("attach: %v", err)
	}

	// Lists, level and format of the log, and the mode of the socket follow.
	b.configure("access = \"all\"\nlog_level = \"debug\"\nlog_format = \"json\"\nmax_lanes = 100", "")
	r.Signal(syscall.SIGHUP)
	eventually(t, "the reload", func() bool { return b.stats().Counters["reloads"] == 1 })
	if err := attach(); err != nil {
		t.Errorf("attach after the reload: %v", err)
	}
	if info, err := os.Stat(b.socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
	b.awaitLog(`"msg":"lane"`) // at debug
	for _, words := range []string{`topic[a.*]: present -> absent`, `registry.access: \"owner\" -> \"all\"`, `registry.max_lanes: 4096 -> 100 (needs a restart)`} {
		if !strings.Contains(b.logged(), words) {
			t.Errorf("the log does not tell %s:\n%s", words, b.logged())
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(b.logged()), "\n") {
		if strings.HasPrefix(line, "{") && !json.Valid([]byte(line)) {
			t.Errorf("log line %s", line)
		}
	}

	b.configure("log_level = \"info\"", "[[topic]]\nname = \"a.>\"\nretian = 7\nring = \"63KiB\"")
	r.Signal(syscall.SIGHUP)
	eventually(t, "the refusal", func() bool { return b.stats().Counters["reloads_refused"] == 1 })
	for _, words := range []string{b.file + `:7:1: unknown key \"topic.retian\"`, b.file + ":8:8: topic.ring:", "the old one stays"} {
		b.awaitLog(words)
	}
	if err := attach(); err != nil {
		t.Errorf("attach after a configuration that was refused: %v", err)
	}
	must(t, os.Remove(b.file))
	r.Signal(syscall.SIGHUP)
	eventually(t, "the refusal", func() bool { return b.stats().Counters["reloads_refused"] == 2 })
	if st := b.stats(); st.Counters["reloads"] != 1 {
		t.Errorf("counters %v", st.Counters)
	}
}

func TestReloadKeepsWhatIsAttached(t *testing.T) {
	b := newBus(t, "", "[[topic]]\nname = \"load.>\"\npolicy = \"block:10s\"")
	r := b.start()
	l := b.load()
	b.configure("", "[[topic]]\nname = \"load.>\"\npublish = []\nsubscribe = []")
	r.Signal(syscall.SIGHUP)
	eventually(t, "the reload", func() bool { return b.stats().Counters["reloads"] == 1 })
	l.finish()
}

func TestReloadThatCannotBeFollowedChangesNothing(t *testing.T) {
	b := newBus(t, "", "")
	load := loadFile(b.file)
	next := load
	s, err := start(Options{Load: func() (*config.Config, error) { return next() }, Log: discard()})
	must(t, err)
	defer s.close()
	next = func() (*config.Config, error) {
		cfg, err := load()
		cfg.Topics = []config.TopicConfig{{Name: "a", Geometry: config.Geometry{RingBytes: 12345}}}
		return cfg, err
	}
	before := s.cfg
	s.reload()
	if c := s.dir.Stats().Counters; s.cfg != before || c["reloads_refused"] != 1 {
		t.Errorf("impossible geometry: counters %v", c)
	}
	must(t, os.Remove(b.socket))
	must(t, os.WriteFile(b.socket, nil, 0o600))
	next = func() (*config.Config, error) {
		b.configure("access = \"all\"\nmax_lanes = 100", "")
		cfg, err := load()
		cfg.Warnings = []string{"just so"}
		return cfg, err
	}
	s.reload()
	if info, err := os.Stat(b.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a file that is not the socket got its mode: %v %v", info.Mode(), err)
	}
}

func TestWarningsOfTheConfigurationAreLogged(t *testing.T) {
	b := newBus(t, "", "")
	cfg, err := loadFile(b.file)()
	must(t, err)
	cfg.Warnings = []string{"unknown variable MYCELIUM_X"}
	var out bytes.Buffer
	b.serveWith(Options{Config: cfg, Log: slog.New(slog.NewTextHandler(&out, nil))})()
	if !strings.Contains(out.String(), "unknown variable MYCELIUM_X") {
		t.Errorf("log:\n%s", out.String())
	}
}

func TestLogFollowsLevelAndFormat(t *testing.T) {
	var out bytes.Buffer
	var l logging
	l.follow(config.Registry{LogLevel: "warn", LogFormat: "text"})
	log := l.logger(&out).With("a", 1).WithGroup("g")
	log.Info("hidden")
	log.Warn("shown", "b", 2)
	l.follow(config.Registry{LogLevel: "debug", LogFormat: "json"})
	log.Debug("now", slog.Int("b", 3))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN msg=shown a=1 g.b=2") || !strings.Contains(lines[1], `"level":"DEBUG","msg":"now","a":1,"g":{"b":3}`) {
		t.Errorf("log:\n%s", out.String())
	}
}
