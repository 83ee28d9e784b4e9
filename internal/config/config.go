package config

import (
	"fmt"
	"os"
	"time"

	"github.com/torq/mycelium/internal/topic"
)

// Access says who may connect to the registry.
type Access string

const (
	AccessOwner Access = "owner" // the registry's own user
	AccessGroup Access = "group" // also members of the socket's group
	AccessAll   Access = "all"   // everybody
)

// Registry holds the keys of [registry]. Zero fields mean defaults; [Reference] explains
// every key.
type Registry struct {
	Socket               string
	ShmDir               string
	Access               Access
	LogLevel             string
	LogFormat            string
	MaxShmBytes          uint64
	MaxShmBytesPerUID    uint64
	MaxLanes             int
	MaxLanesPerUID       int
	MaxLanesPerTopic     int
	MaxLosslessPerTopic  int
	MaxSubscribersPerUID int
	MaxTopics            int
	MaxConnectionsPerUID int
	HandshakeTimeout     time.Duration
	RequestsPerSecond    int // of one connection
	LaneGrace            time.Duration
}

// WithDefaults fills the zero fields, with the paths of this process's user.
func (r Registry) WithDefaults() Registry {
	return r.withDefaults(DefaultPaths(os.Getuid(), os.Getenv))
}

func (r Registry) withDefaults(paths Paths) Registry {
	for _, k := range registryKeys {
		if k.isZero(&r) {
			k.fill(&r)
		}
	}
	if r.Socket == "" {
		r.Socket = paths.Socket
	}
	if r.ShmDir == "" {
		r.ShmDir = paths.ShmDir
	}
	if r.MaxShmBytesPerUID == 0 {
		r.MaxShmBytesPerUID = r.MaxShmBytes
	}
	if r.MaxLanesPerUID == 0 {
		r.MaxLanesPerUID = r.MaxLanes
	}
	return r
}

// TopicConfig holds the keys of one [[topic]]. Zero fields mean defaults.
type TopicConfig struct {
	Name      string // topic or pattern
	Geometry         // ring, max_message and the credit step that follows from them
	Policy    Policy
	NoCreate  bool      // the negation of create
	Publish   AllowList // nil = the registry's access rule
	Subscribe AllowList // nil = the registry's access rule
}

// WithDefaults fills the zero fields, except the name.
func (t TopicConfig) WithDefaults() TopicConfig {
	t.Geometry = t.Geometry.WithDefaults()
	t.Policy = t.Policy.WithDefaults()
	return t
}

// Config is a whole configuration. It is safe for concurrent use while nobody changes it.
type Config struct {
	Registry Registry
	Topics   []TopicConfig

	File     string   // the file that was read, or ""
	Warnings []string // unknown environment variables, unless LoadOptions.Strict

	origins map[string]place // by key, for keys that are not defaults
}

// Default returns the built-in configuration for this process's user: no topics, and
// every other key filled.
func Default() *Config { return &Config{Registry: Registry{}.WithDefaults()} }

// TopicFor returns the entry that applies to a topic, with its defaults filled. If no
// entry matches it returns the built-in one under this name, and false. Entries do not
// add up: the most specific one applies as a whole.
//
// Preconditions: topic.Check(name) == nil.
func (c *Config) TopicFor(name string) (TopicConfig, bool) {
	best := -1
	for i := range c.Topics {
		p := c.Topics[i].Name
		if topic.Match(p, name) && (best < 0 || topic.MoreSpecific(p, c.Topics[best].Name)) {
			best = i
		}
	}
	if best < 0 {
		return TopicConfig{Name: name}.WithDefaults(), false
	}
	return c.Topics[best].WithDefaults(), true
}

// Origin tells where the value of a key comes from: "default", "file:line:column", an
// environment variable, --set or a flag. Keys are written "registry.socket" and
// "topic[0].ring".
func (c *Config) Origin(key string) string {
	if p, ok := c.origins[key]; ok {
		return p.in(c.File)
	}
	return "default"
}

// Validate checks a configuration made in Go; Load has checked what it returns. Zero
// fields count as their defaults. The error is an *Error whose problems have no place.
func (c *Config) Validate() error {
	var problems []Problem
	add := func(path, label string, fs []fault) {
		for _, f := range fs {
			problems = append(problems, Problem{Key: path + f.sub, Msg: label + f.sub + ": " + f.msg, Hint: f.hint})
		}
	}
	for _, k := range registryKeys {
		if r := c.Registry; !k.isZero(&r) {
			add("registry."+k.name, "registry."+k.name, k.check(&r))
		}
	}
	for i, t := range c.Topics {
		for _, k := range topicKeys {
			if !k.isZero(&t) {
				add(indexPath("topic", i)+"."+k.name, "topic."+k.name, k.check(&t))
			}
		}
	}
	if len(problems) == 0 {
		c.crossCheck(func(key string) bool { return true }, func(key, msg, hint string) {
			problems = append(problems, Problem{Key: key, Msg: msg, Hint: hint})
		})
	}
	return report("", problems)
}

// crossCheck finds what is wrong between keys that are right by themselves. good tells
// whether a key, or all keys of a table, could be read.
func (c *Config) crossCheck(good func(key string) bool, add func(key, msg, hint string)) {
	r := c.Registry.WithDefaults()
	budget := good("registry.max_shm_bytes") && good("registry.max_shm_bytes_per_uid")
	if budget && r.MaxShmBytesPerUID > r.MaxShmBytes {
		add("registry.max_shm_bytes_per_uid", fmt.Sprintf("registry.max_shm_bytes_per_uid: %s is more than max_shm_bytes, which is %s",
			FormatSize(r.MaxShmBytesPerUID), FormatSize(r.MaxShmBytes)), "")
		budget = false
	}
	if good("registry.max_lanes") && good("registry.max_lanes_per_uid") && r.MaxLanesPerUID > r.MaxLanes {
		add("registry.max_lanes_per_uid", fmt.Sprintf("registry.max_lanes_per_uid: %d is more than max_lanes, which is %d",
			r.MaxLanesPerUID, r.MaxLanes), "")
	}
	first := make(map[string]int) // topic name -> its first entry
	for i, t := range c.Topics {
		path := indexPath("topic", i)
		if j, twice := first[t.Name]; twice && t.Name != "" {
			add(path+".name", fmt.Sprintf("duplicate topic %q, first defined %s", t.Name, c.entryPlace(j)), "")
		} else {
			first[t.Name] = i
		}
		if t.Name == "" && good(path+".name") {
			add(path, "a topic has no name", "")
		}
		if !good(path+".ring") || !good(path+".max_message") {
			continue
		}
		fs := t.Geometry.faults()
		for _, f := range fs {
			add(path+f.sub, "topic"+f.sub+": "+f.msg, f.hint)
		}
		if lane := t.Geometry.WithDefaults().RingBytes + laneHeaderBytes; fs == nil && budget && lane > r.MaxShmBytesPerUID {
			add(path+".ring", fmt.Sprintf("topic.ring: a lane takes %s, more than registry.max_shm_bytes_per_uid, which is %s",
				FormatSize(lane), FormatSize(r.MaxShmBytesPerUID)), "")
		}
	}
}

// entryPlace says where the name of topic entry i was given.
func (c *Config) entryPlace(i int) string {
	if p, ok := c.origins[indexPath("topic", i)+".name"]; ok {
		return fmt.Sprintf("on line %d", p.line)
	}
	return fmt.Sprintf("as entry %d", i+1)
}
