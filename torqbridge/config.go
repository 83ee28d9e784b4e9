package torqbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/registry"
)

// Mode says who serves the peers of a domain.
type Mode string

const (
	// ModeLegacy leaves the domain to the old relay; the bridge does nothing.
	ModeLegacy Mode = "legacy"
	// ModeShadow leaves the socket to the old relay. The bridge mirrors it to the
	// bus and back, and compares what both deliver.
	ModeShadow Mode = "shadow"
	// ModeBus has the bridge serve the socket. The old relay, if it runs, is
	// mirrored still.
	ModeBus Mode = "bus"
)

// Dialect is one of the two ways in which Torq numbers domains.
type Dialect string

const (
	DialectTypes Dialect = "types" // MarketData is 0
	DialectCodec Dialect = "codec" // MarketData is 1
)

// Config is a bridge's configuration. Zero fields mean defaults; [ConfigReference]
// explains every key.
type Config struct {
	Registry       string // "" = the default one
	Control        string
	Source         string
	Dialect        Dialect
	Unmapped       string
	History        uint64 // bytes, per domain
	MaxMessage     uint64 // bytes
	Window         time.Duration
	Hold           time.Duration
	Replay         time.Duration
	NoAutoRollback bool
	MaxDropPercent int
	MaxCrashes     int
	CrashWindow    time.Duration

	Domains []DomainConfig
	Maps    []MapConfig
}

// DomainConfig is one relay's domain.
type DomainConfig struct {
	Name         string
	Mode         Mode
	Socket       string // where peers connect
	LegacySocket string // the old relay's while the bridge serves Socket
	BusSocket    string // the bridge's while the old relay serves Socket
	NoEcho       bool
	Greeting     string // absorb or forward
	DomainFilter string // off, types or codec
	Queue        int    // messages a client may be behind
	Join         uint64 // bytes
	Subscribe    []string
}

// MapConfig renames topics.
type MapConfig struct {
	Match string // pattern of the topic that the built-in rules give
	Topic string // with {1} to {16} for its tokens
}

const (
	greetAbsorb  = "absorb"
	greetForward = "forward"
	filterOff    = "off"
)

var builtin = Config{
	Source:         "torqbridge",
	Dialect:        DialectTypes,
	Unmapped:       "torq.unmapped",
	History:        16 << 20,
	MaxMessage:     1 << 20,
	Window:         10 * time.Second,
	Hold:           6 * time.Second,
	Replay:         10 * time.Second,
	MaxDropPercent: 20,
	MaxCrashes:     3,
	CrashWindow:    10 * time.Minute,
}

var builtinDomain = DomainConfig{
	Mode:         ModeLegacy,
	Greeting:     greetAbsorb,
	DomainFilter: filterOff,
	Queue:        10_000,
	Join:         16 << 10,
}

// DefaultControl is where a bridge listens for commands, and where commands look.
func DefaultControl() string {
	return filepath.Join(filepath.Dir(registry.DefaultSocket()), "torq.sock")
}

var bridgeKeys = func() []config.Key[Config] {
	d := &builtin
	type C = Config
	return []config.Key[C]{
		config.NewKey("registry", config.SocketPath(), d, func(c *C) *string { return &c.Registry },
			"Socket of the bus's registry.").DefaultsTo("`MYCELIUM_REGISTRY`, else this user's bus"),
		config.NewKey("control", config.SocketPath(), d, func(c *C) *string { return &c.Control },
			"Socket on which `myceliumctl torq` reaches the bridge; what must survive a restart is kept beside it, in `CONTROL.state`.").
			DefaultsTo("`torq.sock` beside the registry's default socket"),
		config.NewKey("source", config.Texts(checkSource), d, func(c *C) *string { return &c.Source },
			"Name of the bridge on the bus; a domain publishes as `SOURCE.DOMAIN`. Two bridges on buses that are linked need two names."),
		config.NewKey("dialect", config.OneOf(DialectTypes, DialectCodec), d, func(c *C) *Dialect { return &c.Dialect },
			"How domains, sources and venues are numbered: `types` (MarketData is 0), as all producers do, or `codec` (MarketData is 1). Only topic names depend on it; bytes are never changed."),
		config.NewKey("unmapped", config.Names(), d, func(c *C) *string { return &c.Unmapped },
			"Topic of messages for which there is no other, or that are too large for it."),
		config.NewKey("history", config.Sizes(1<<20, 1<<30), d, func(c *C) *uint64 { return &c.History },
			"Bytes of messages that each domain keeps for slow clients and for replays after a move. At least four times `max_message`."),
		config.NewKey("max_message", config.Sizes(1<<10, 16<<20), d, func(c *C) *uint64 { return &c.MaxMessage },
			"Longest message. A header that announces a longer one is none, and the next one is looked for."),
		config.NewKey("window", config.Durations(100*time.Millisecond, time.Hour), d, func(c *C) *time.Duration { return &c.Window },
			"How long old and new are compared for one verdict, and throughput is measured."),
		config.NewKey("hold", config.Durations(time.Millisecond, 6500*time.Millisecond), d, func(c *C) *time.Duration { return &c.Hold },
			"How long a rollback waits at most for consumers to connect to the old relay before messages flow again. Torq's dashboard comes back after 5 s."),
		config.NewKey("replay", config.Durations(time.Millisecond, time.Minute), d, func(c *C) *time.Duration { return &c.Replay },
			"How long after the old relay's end a process that was connected to it may come and get what it missed."),
		config.NewKey("auto_rollback", config.Switches(), d, func(c *C) *bool { return &c.NoAutoRollback },
			"Whether a domain goes back to the old relay by itself when the bridge loses messages, or slows down, or keeps crashing."),
		config.NewKey("max_drop_percent", config.Counts(1, 100), d, func(c *C) *int { return &c.MaxDropPercent },
			"Throughput may be this much lower than before the cutover; three windows in a row below that are a reason to roll back."),
		config.NewKey("max_crashes", config.Counts(1, 1000), d, func(c *C) *int { return &c.MaxCrashes },
			"So many crashes within `crash_window` while serving a socket are a reason to roll back."),
		config.NewKey("crash_window", config.Durations(time.Second, 24*time.Hour), d, func(c *C) *time.Duration { return &c.CrashWindow },
			"See `max_crashes`."),
	}
}()

var domainKeys = func() []config.Key[DomainConfig] {
	d := &builtinDomain
	type D = DomainConfig
	return []config.Key[D]{
		config.NewKey("name", config.OneOf(domainNames...), d, func(d *D) *string { return &d.Name },
			"`market_data`, `signals` or `execution`. Torq has no relay for its fourth domain, System.").DefaultsTo("none: required"),
		config.NewKey("mode", config.OneOf(ModeLegacy, ModeShadow, ModeBus), d, func(d *D) *Mode { return &d.Mode },
			"Where the domain begins: `legacy`, `shadow` or `bus`. A mode set by `myceliumctl torq` lasts over restarts until this key is changed."),
		config.NewKey("socket", config.SocketPath(), d, func(d *D) *string { return &d.Socket },
			"Where Torq's services connect.").DefaultsTo("`/tmp/torq/NAME.sock`"),
		config.NewKey("legacy_socket", config.SocketPath(), d, func(d *D) *string { return &d.LegacySocket },
			"Where the old relay's socket is put while the bridge serves `socket`; on the same file system.").DefaultsTo("`socket` and `.legacy`"),
		config.NewKey("bus_socket", config.SocketPath(), d, func(d *D) *string { return &d.BusSocket },
			"Where the bridge listens while the old relay serves `socket`: for services that move first. On the same file system.").DefaultsTo("`socket` and `.bus`"),
		config.NewKey("echo", config.Switches(), d, func(d *D) *bool { return &d.NoEcho },
			"Whether a client gets its own messages back, as from the old relay."),
		config.NewKey("greeting", config.OneOf(greetAbsorb, greetForward), d, func(d *D) *string { return &d.Greeting },
			"What becomes of the 32 bytes that producers send on connecting: `absorb`, or `forward` to the clients of the socket. They never reach the bus."),
		config.NewKey("domain_filter", config.OneOf(filterOff, string(DialectTypes), string(DialectCodec)), d, func(d *D) *string { return &d.DomainFilter },
			"Refuse messages whose header names another domain than the socket's, in this dialect."),
		config.NewKey("queue", config.Counts(1, 1<<24), d, func(d *D) *int { return &d.Queue },
			"Messages that a client may be behind before it loses the oldest."),
		config.NewKey("join", config.Sizes(0, 1<<30), d, func(d *D) *uint64 { return &d.Join },
			"Each message is written by itself to a client that keeps up. One that has so many bytes in its socket unread gets what is queued for it in one piece, which it cannot tell apart."),
		config.NewKey("subscribe", config.PatternLists(), d, func(d *D) *[]string { return &d.Subscribe },
			"Topics whose messages from publishers on the bus go to the clients of the socket. Those on `system.>` go to the socket of the domain that their header names.").DefaultsTo("all below the domain's prefix: `market.>`, `signals.>` or `execution.>`"),
	}
}()

var mapKeys = func() []config.Key[MapConfig] {
	d := &MapConfig{}
	type M = MapConfig
	return []config.Key[M]{
		config.NewKey("match", config.Patterns(), d, func(m *M) *string { return &m.Match },
			"Topic or pattern, matched against the topic that the built-in rules give. The most specific entry applies.").DefaultsTo("none: required"),
		config.NewKey("topic", config.Texts(checkTemplate), d, func(m *M) *string { return &m.Topic },
			"The topic instead. `{1}` to `{16}` stand for the tokens of the built-in one.").DefaultsTo("none: required"),
	}
}()

// checkSource accepts what can be part of a source's name.
func checkSource(s string) error {
	if err := topic.Check(s); err != nil {
		return fmt.Errorf("%q is no name for a source: it is built like a topic", s)
	}
	return nil
}

// ConfigReference documents every key as Markdown.
func ConfigReference() string {
	return `# The bridge's configuration

Generated from the tables of keys in ` + "`torqbridge`" + `; do not edit.

` + "`myceliumctl torq serve --config FILE`" + ` reads it, ` + "`myceliumctl torq check FILE`" + ` reports every
problem with line and column. Sizes and durations are written as in [config.md](config.md). What it all is for:
[migration.md](migration.md).

` + "## [bridge]\n\n" + config.Document(bridgeKeys) +
		"\n## [[domain]]\n\nOne for each of Torq's relays that is to move.\n\n" + config.Document(domainKeys) +
		"\n## [[map]]\n\nTopics other than the built-in rules give.\n\n" + config.Document(mapKeys)
}

// LoadConfig reads a file. Its error is a *config.Error with every problem and its
// place, or that of reading the file.
func LoadConfig(file string) (*Config, error) {
	c := &Config{}
	f, err := config.ReadFile(file, config.One("bridge", bridgeKeys, c), config.Many("domain", domainKeys, &c.Domains), config.Many("map", mapKeys, &c.Maps))
	if err != nil {
		return nil, err
	}
	c.fill()
	c.check(f.Failed, f.Add)
	if err := f.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// fill stores the defaults.
func (c *Config) fill() {
	config.Fill(bridgeKeys, c)
	if c.Control == "" {
		c.Control = DefaultControl()
	}
	for i := range c.Domains {
		d := &c.Domains[i]
		config.Fill(domainKeys, d)
		def := func(s *string, v string) {
			if *s == "" {
				*s = v
			}
		}
		def(&d.Socket, "/tmp/torq/"+d.Name+".sock")
		def(&d.LegacySocket, d.Socket+".legacy")
		def(&d.BusSocket, d.Socket+".bus")
		if len(d.Subscribe) == 0 && d.Name != "" {
			d.Subscribe = []string{domainOf(d.Name).prefix + ".>"}
		}
	}
}

// check finds what is wrong between keys that are right by themselves; bad tells
// which are not.
func (c *Config) check(bad func(key string) bool, add func(key, msg string)) {
	if len(c.Domains) == 0 {
		add("domain", "no [[domain]]: name at least one of "+strings.Join(domainNames, ", "))
	}
	if c.History < 4*c.MaxMessage {
		add("bridge.history", "bridge.history: must hold four messages of max_message")
	}
	paths := map[string]string{c.Control: "bridge.control"}
	first := map[string]bool{}
	for i := range c.Domains {
		d := &c.Domains[i]
		at := fmt.Sprintf("domain[%d]", i)
		if d.Name == "" {
			if bad(at + ".name") {
				continue
			}
			add(at, "a domain has no name: write market_data, signals or execution")
		}
		if first[d.Name] {
			add(at+".name", fmt.Sprintf("duplicate domain %q", d.Name))
		}
		first[d.Name] = true
		for _, p := range []struct{ key, path string }{{"socket", d.Socket}, {"legacy_socket", d.LegacySocket}, {"bus_socket", d.BusSocket}} {
			key := at + "." + p.key
			if other := paths[p.path]; other != "" {
				add(key, fmt.Sprintf("domain.%s: %s is %s already", p.key, p.path, other))
			}
			paths[p.path] = key
		}
		for j, p := range d.Subscribe {
			for _, q := range d.Subscribe[:j] {
				if overlap(p, q) {
					add(fmt.Sprintf("%s.subscribe[%d]", at, j), fmt.Sprintf("domain.subscribe: %q and %q match the same topics: their messages would come twice", q, p))
				}
			}
		}
	}
	seen := map[string]bool{}
	for i, m := range c.Maps {
		at := fmt.Sprintf("map[%d]", i)
		if (m.Match == "" || m.Topic == "") && !bad(at+".match") && !bad(at+".topic") {
			add(at, "a map needs both match and topic")
		}
		if seen[m.Match] && m.Match != "" {
			add(at+".match", fmt.Sprintf("duplicate match %q", m.Match))
		}
		seen[m.Match] = true
	}
}

// Validate fills the defaults of a configuration made in Go and checks it.
func (c *Config) Validate() error {
	c.fill()
	var all []string
	c.check(func(string) bool { return false }, func(key, msg string) { all = append(all, msg) })
	if len(all) > 0 {
		return fmt.Errorf("torqbridge: configuration: %s", strings.Join(all, "; "))
	}
	return nil
}

// overlap reports whether some topic matches both patterns.
func overlap(p, q string) bool {
	for {
		a, pNext, pMore := strings.Cut(p, ".")
		b, qNext, qMore := strings.Cut(q, ".")
		switch {
		case a == ">" || b == ">":
			return true
		case a != b && a != "*" && b != "*":
			return false
		case !pMore || !qMore:
			return pMore == qMore
		}
		p, q = pNext, qNext
	}
}

// makeDir makes the directory of a socket, open to all as the old relay's is.
func makeDir(path string) error { return os.MkdirAll(filepath.Dir(path), 0o755) }
