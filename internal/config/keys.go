package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/torq/mycelium/internal/topic"
)

// A key is one row of the table: all that is known about one TOML key of a T.
type key[T any] struct {
	name    string
	typ     string // "size", "integer"; tells how to take a value given as text
	builtin string // the default as TOML, or a phrase
	doc     string
	restart bool // a new value takes effect at the next start only
	set     func(t *T, v any) []fault
	check   func(t *T) []fault
	format  func(t *T) string // the value as TOML, "" = leave the key out
	isZero  func(t *T) bool
	fill    func(t *T) // store the default in a zero field
}

// needsRestart marks keys that a running registry cannot change.
func (k key[T]) needsRestart() key[T] { k.restart = true; return k }

// defaultsTo describes a default that depends on other things.
func (k key[T]) defaultsTo(phrase string) key[T] { k.builtin = phrase; return k }

// A kind is a type of value: how to read, check and write it.
type kind[V any] struct {
	typ    string
	parse  func(v any) (V, []fault)
	check  func(V) []fault // nil = anything goes
	format func(V) string
}

// newKey makes a row for the field that at points to; defaults holds its default.
func newKey[T, V any](name string, k kind[V], defaults *T, at func(*T) *V, doc string) key[T] {
	check := func(v V) []fault {
		if k.check == nil {
			return nil
		}
		return k.check(v)
	}
	return key[T]{
		name:    name,
		typ:     k.typ,
		builtin: "`" + k.format(*at(defaults)) + "`",
		doc:     doc,
		set: func(t *T, v any) []fault {
			x, fs := k.parse(v)
			if fs == nil {
				fs = check(x)
			}
			if fs == nil {
				*at(t) = x
			}
			return fs
		},
		check:  func(t *T) []fault { return check(*at(t)) },
		format: func(t *T) string { return k.format(*at(t)) },
		isZero: func(t *T) bool { return reflect.ValueOf(at(t)).Elem().IsZero() },
		fill:   func(t *T) { *at(t) = *at(defaults) },
	}
}

var builtinRegistry = Registry{
	Access:               AccessOwner,
	LogLevel:             "info",
	LogFormat:            "text",
	MaxShmBytes:          1 << 30,
	MaxLanes:             4096,
	MaxLanesPerTopic:     64,
	MaxLosslessPerTopic:  maxLosslessPerTopic,
	MaxSubscribersPerUID: 1024,
	MaxTopics:            4096,
	MaxConnectionsPerUID: 256,
	HandshakeTimeout:     2 * time.Second,
	RequestsPerSecond:    1000,
	LaneGrace:            time.Minute,
}

const (
	maxLosslessPerTopic = 128   // eviction notices in a lane header
	maxLanes            = 16384 // lane slots of a cursor file
	maxSocketBytes      = 100   // the kernel takes 107; the rest is for a temporary name
)

var registryKeys = func() []key[Registry] {
	d := &builtinRegistry
	type R = Registry
	return []key[R]{
		newKey("socket", absPath(maxSocketBytes), d, func(r *R) *string { return &r.Socket },
			"Unix socket on which the registry listens. An absolute path of at most 100 bytes.").
			defaultsTo("`/run/mycelium/registry.sock` for root, else `$XDG_RUNTIME_DIR/mycelium/registry.sock`, else `registry.sock` in the default `shm_dir`").needsRestart(),
		newKey("shm_dir", absPath(4000), d, func(r *R) *string { return &r.ShmDir },
			"Bus directory: holds the segments, belongs to the registry's user, mode 0700. An absolute path on a tmpfs.").
			defaultsTo("`/dev/shm/mycelium` for root, else `/dev/shm/mycelium-UID`").needsRestart(),
		newKey("access", oneOf(AccessOwner, AccessGroup, AccessAll), d, func(r *R) *Access { return &r.Access },
			"Who may connect: `owner`, the registry's own user; `group`, also members of the socket's group; `all`, everybody. Allow-lists of topics narrow it further."),
		newKey("log_level", oneOf("debug", "info", "warn", "error"), d, func(r *R) *string { return &r.LogLevel },
			"Least important messages to log: `debug`, `info`, `warn` or `error`."),
		newKey("log_format", oneOf("text", "json"), d, func(r *R) *string { return &r.LogFormat },
			"`text` or `json`."),
		newKey("max_shm_bytes", sizes(128<<10, 1<<50), d, func(r *R) *uint64 { return &r.MaxShmBytes },
			"Shared memory that all segments may take together."),
		newKey("max_shm_bytes_per_uid", sizes(128<<10, 1<<50), d, func(r *R) *uint64 { return &r.MaxShmBytesPerUID },
			"Shared memory that the segments of one user may take.").defaultsTo("`max_shm_bytes`"),
		newKey("max_lanes", counts(1, maxLanes), d, func(r *R) *int { return &r.MaxLanes },
			"Lanes of all topics together.").needsRestart(),
		newKey("max_lanes_per_uid", counts(1, maxLanes), d, func(r *R) *int { return &r.MaxLanesPerUID },
			"Lanes of one user.").defaultsTo("`max_lanes`"),
		newKey("max_lanes_per_topic", counts(1, maxLanes), d, func(r *R) *int { return &r.MaxLanesPerTopic },
			"Lanes, that is publishers, of one topic. Subscribers poll every lane."),
		newKey("max_lossless_per_topic", counts(1, maxLosslessPerTopic), d, func(r *R) *int { return &r.MaxLosslessPerTopic },
			"Lossless subscribers of one topic. Lossy ones are counted by `max_subscribers_per_uid` only."),
		newKey("max_subscribers_per_uid", counts(1, 1<<20), d, func(r *R) *int { return &r.MaxSubscribersPerUID },
			"Subscribers of one user."),
		newKey("max_topics", counts(1, 1<<20), d, func(r *R) *int { return &r.MaxTopics },
			"Topics that exist at one time."),
		newKey("max_connections_per_uid", counts(1, 1<<16), d, func(r *R) *int { return &r.MaxConnectionsPerUID },
			"Connections of one user."),
		newKey("handshake_timeout", durations(10*time.Millisecond, time.Minute), d, func(r *R) *time.Duration { return &r.HandshakeTimeout },
			"Time in which a client must say hello, and answer each step of an attach."),
		newKey("requests_per_second", counts(1, 1<<20), d, func(r *R) *int { return &r.RequestsPerSecond },
			"Requests that one connection may make per second."),
		newKey("lane_grace", durations(time.Millisecond, 24*time.Hour), d, func(r *R) *time.Duration { return &r.LaneGrace },
			"How long the lane of a closed or dead publisher stays for late readers."),
	}
}()

var topicKeys = func() []key[TopicConfig] {
	builtin := TopicConfig{}.WithDefaults()
	d := &builtin
	type T = TopicConfig
	return []key[T]{
		newKey("name", topicName, d, func(t *T) *string { return &t.Name },
			"Topic name or pattern (`*` one token, `>` all the rest). If several entries match a topic, the most specific one applies as a whole: an exact name before patterns, then token by token a literal before `*` before `>`.").
			defaultsTo("none: required"),
		newKey("ring", kind[uint64]{"size", parseSizeValue, checkRing, quoteSize}, d, func(t *T) *uint64 { return &t.RingBytes },
			"Ring of each lane: a power of two from 64 KiB to 1 GiB. It must hold what is published during the longest pause of a subscriber; which is fastest, `bench throughput --ring` tells.").
			defaultsTo("`\"1MiB\"`, or what `max_message` needs"),
		newKey("max_message", sizes(1, MaxRingBytes/messagesPerRing), d, func(t *T) *uint64 { return &t.MaxMessageBytes },
			"Longest payload, at most an eighth of the ring.").
			defaultsTo("`\"64KiB\"`, or an eighth of the ring"),
		newKey("policy", policies, d, func(t *T) *Policy { return &t.Policy },
			"What a publisher does when the ring is full because a lossless subscriber is stuck: `block:TIME` waits so long, then fails the publish; `evict:TIME` evicts the subscriber after so long without progress, ten times as long while it reads other lanes; `fail` fails the publish at once. `block` and `evict` alone mean one second."),
		newKey("create", negated, d, func(t *T) *bool { return &t.NoCreate },
			"Whether a publisher creates a matching topic by attaching to it. If not, it must be created first."),
		newKey("publish", allowLists, d, func(t *T) *AllowList { return &t.Publish },
			"Who may publish, nobody else: `\"uid:1000\"`, `\"gid:100\"`, `\"user:md\"`, `\"group:trading\"` or a user name.").
			defaultsTo("whoever `access` lets connect"),
		newKey("subscribe", allowLists, d, func(t *T) *AllowList { return &t.Subscribe },
			"Who may subscribe, written like `publish`.").
			defaultsTo("whoever `access` lets connect"),
	}
}()

// typeFault says that v is of the wrong type.
func typeFault(want string, v any) []fault {
	got := fmt.Sprintf("a %T", v)
	switch v := v.(type) {
	case string:
		got = fmt.Sprintf("the string %.64q", v)
	case int64:
		got = fmt.Sprintf("the integer %d", v)
	case bool:
		got = fmt.Sprintf("the boolean %v", v)
	case float64:
		got = fmt.Sprintf("the float %v", v)
	case time.Time:
		got = "a date or time"
	case []any:
		got = "an array"
	case map[string]any:
		got = "a table"
	case []map[string]any:
		got = "an array of tables"
	}
	return faultf("must be %s, not %s", want, got)
}

func parseSizeValue(v any) (uint64, []fault) {
	switch v := v.(type) {
	case string:
		return parseSize(v)
	case int64:
		if v < 0 {
			return 0, faultf("bad size %d: negative", v)
		}
		return uint64(v), nil
	}
	return 0, typeFault(`a size, as in 65536 or "64KiB"`, v)
}

func quoteSize(n uint64) string { return strconv.Quote(FormatSize(n)) }

func sizes(lo, hi uint64) kind[uint64] {
	return kind[uint64]{"size", parseSizeValue, func(n uint64) []fault {
		if n < lo || n > hi {
			return faultf("%s is out of range; %s to %s are allowed", FormatSize(n), FormatSize(lo), FormatSize(hi))
		}
		return nil
	}, quoteSize}
}

func counts(lo, hi int) kind[int] {
	return kind[int]{"integer", func(v any) (int, []fault) {
		n, ok := v.(int64)
		if !ok {
			return 0, typeFault("an integer", v)
		}
		return int(n), nil
	}, func(n int) []fault {
		if n < lo || n > hi {
			return faultf("%d is out of range; %d to %d are allowed", n, lo, hi)
		}
		return nil
	}, strconv.Itoa}
}

func durations(lo, hi time.Duration) kind[time.Duration] {
	return kind[time.Duration]{"duration", func(v any) (time.Duration, []fault) {
		s, ok := v.(string)
		if !ok {
			return 0, typeFault(`a duration, as in "500ms"`, v)
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, faultf(`bad duration %q: write a number and ns, us, ms, s, m or h, as in "500ms"`, s)
		}
		return d, nil
	}, func(d time.Duration) []fault {
		if d < lo || d > hi {
			return faultf("%v is out of range; %s to %s are allowed", d, formatDuration(lo), formatDuration(hi))
		}
		return nil
	}, func(d time.Duration) string { return strconv.Quote(formatDuration(d)) }}
}

// formatDuration writes a duration without trailing zero minutes and seconds.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parseString(v any) (string, []fault) {
	s, ok := v.(string)
	if !ok {
		return "", typeFault("a string", v)
	}
	return s, nil
}

func oneOf[V ~string](values ...V) kind[V] {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	last := len(names) - 1
	list := strings.Join(names[:last], ", ") + " or " + names[last]
	return kind[V]{"string", func(v any) (V, []fault) {
		s, fs := parseString(v)
		return V(s), fs
	}, func(v V) []fault {
		for _, ok := range values {
			if v == ok {
				return nil
			}
		}
		return []fault{{msg: fmt.Sprintf("%q is unknown; use %s", v, list), hint: Nearest(string(v), names)}}
	}, func(v V) string { return strconv.Quote(string(v)) }}
}

func absPath(maxBytes int) kind[string] {
	return kind[string]{"path", parseString, func(s string) []fault {
		switch {
		case !filepath.IsAbs(s):
			return faultf("%q is not an absolute path", s)
		case len(s) > maxBytes:
			return faultf("the path has %d bytes; at most %d are allowed", len(s), maxBytes)
		case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
			return faultf("%q holds control characters", s)
		case strings.HasSuffix(s, "/") || filepath.Clean(s) != s:
			return []fault{{msg: fmt.Sprintf("%q is not written plainly", s), hint: filepath.Clean(s)}}
		}
		return nil
	}, strconv.Quote}
}

var topicName = kind[string]{"topic or pattern", parseString, func(s string) []fault {
	if err := topic.CheckPattern(s); err != nil {
		return faultf("%v", err)
	}
	return nil
}, strconv.Quote}

var policies = kind[Policy]{"string", func(v any) (Policy, []fault) {
	s, fs := parseString(v)
	if fs != nil {
		return Policy{}, fs
	}
	return parsePolicy(s)
}, checkPolicy, func(p Policy) string { return strconv.Quote(p.String()) }}

// negated is a boolean whose field holds the opposite, so that false is the default.
var negated = kind[bool]{"boolean", func(v any) (bool, []fault) {
	b, ok := v.(bool)
	if !ok {
		return false, typeFault("true or false", v)
	}
	return !b, nil
}, nil, func(b bool) string { return strconv.FormatBool(!b) }}

var allowLists = kind[AllowList]{"array of strings", func(v any) (AllowList, []fault) {
	values, ok := v.([]any)
	if !ok {
		return nil, typeFault(`an array of strings, as in ["user:md"]`, v)
	}
	list, fs := AllowList{}, []fault(nil)
	for i, v := range values {
		s, bad := parseString(v)
		if bad == nil {
			p, err := ParsePrincipal(s)
			if err == nil {
				list = append(list, p)
				continue
			}
			bad = faultf("%v", err)
		}
		bad[0].sub = indexPath("", i)
		fs = append(fs, bad...)
	}
	return list, fs
}, nil, func(l AllowList) string {
	if l == nil {
		return "" // an empty list would admit nobody
	}
	texts := make([]string, len(l))
	for i, p := range l {
		texts[i] = strconv.Quote(p.Text)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}}
