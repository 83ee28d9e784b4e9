package config

import (
	"cmp"
	"fmt"
)

// A Change is one difference between two configurations.
type Change struct {
	Key      string // "registry.max_topics", "topic[market.>].ring", "topic[market.>]"
	Old, New string // as TOML; "absent" and "present" for a whole topic entry or allow-list
	Restart  bool   // takes effect at the next start only; else at once
}

// String writes the change for a log or a terminal.
func (c Change) String() string {
	when := ""
	if c.Restart {
		when = " (needs a restart)"
	}
	return fmt.Sprintf("%s: %s -> %s%s", c.Key, c.Old, c.New, when)
}

// Diff lists what differs between two configurations, defaults filled: [registry] in the
// order of its keys, then the topics of the new configuration, then those that are gone.
func Diff(before, after *Config) []Change {
	b, a := before.Registry.WithDefaults(), after.Registry.WithDefaults()
	changes := diffKeys("registry", registryKeys, &b, &a)

	old := make(map[string]TopicConfig)
	for _, t := range before.Topics {
		old[t.Name] = t.WithDefaults()
	}
	for _, t := range after.Topics {
		t = t.WithDefaults()
		path := "topic[" + t.Name + "]"
		if o, ok := old[t.Name]; ok {
			changes = append(changes, diffKeys(path, topicKeys, &o, &t)...)
		} else {
			changes = append(changes, Change{Key: path, Old: "absent", New: "present"})
		}
		delete(old, t.Name)
	}
	for _, t := range before.Topics {
		if _, gone := old[t.Name]; gone {
			changes = append(changes, Change{Key: "topic[" + t.Name + "]", Old: "present", New: "absent"})
		}
	}
	return changes
}

func diffKeys[T any](path string, keys []key[T], before, after *T) (changes []Change) {
	for _, k := range keys {
		b, a := k.format(before), k.format(after)
		if a != b {
			b, a = cmp.Or(b, "absent"), cmp.Or(a, "absent")
			changes = append(changes, Change{Key: path + "." + k.name, Old: b, New: a, Restart: k.restart})
		}
	}
	return changes
}
