package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// rules are what one configuration says of topics and peers. Nobody changes
// them: a reload makes new ones. Safe for concurrent use.
type rules struct {
	cfg    *config.Config
	access config.Access
	uid    uint32 // the registry's
	group  uint32 // the socket's
	topics topic.Set[*rule]
	rest   *rule // topics without an entry
}

// rule is one [[topic]] entry.
type rule struct {
	entry config.TopicConfig
	key   string // of the entry, as config.Config.Origin takes it; "" = no entry
	topic directory.TopicConfig
}

func newRules(cfg *config.Config, uid, group uint32) (*rules, error) {
	r := &rules{cfg: cfg, access: cfg.Registry.WithDefaults().Access, uid: uid, group: group}
	var err error
	if r.rest, err = newRule(cfg, config.TopicConfig{}, ""); err != nil {
		return nil, err
	}
	for i, t := range cfg.Topics {
		e, err := newRule(cfg, t, fmt.Sprintf("topic[%d]", i))
		if err != nil {
			return nil, fmt.Errorf("topic %s: %w", t.Name, err)
		}
		r.topics.Put(t.Name, e)
	}
	return r, nil
}

func newRule(cfg *config.Config, t config.TopicConfig, key string) (*rule, error) {
	t = t.WithDefaults()
	g := layout.Geometry{Ring: t.RingBytes, MaxMsg: uint32(t.MaxMessageBytes), Step: t.StepBytes}
	if err := g.Check(); err != nil {
		return nil, err
	}
	// What nobody asked for follows the ring of a publisher that asks for
	// another one.
	if follows := (config.Geometry{RingBytes: t.RingBytes}).WithDefaults(); t.Geometry == follows && cfg.Origin(key+".max_message") == "default" {
		g = layout.Geometry{Ring: t.RingBytes}
	}
	kinds := map[config.PolicyKind]string{config.PolicyBlock: "block", config.PolicyEvict: "evict", config.PolicyFail: "fail"}
	return &rule{entry: t, key: key, topic: directory.TopicConfig{
		Geometry: g,
		Policy:   control.Policy{Kind: kinds[t.Policy.Kind], Ns: int64(t.Policy.Timeout)},
		Closed:   t.NoCreate,
	}}, nil
}

func (r *rules) of(name string) *rule {
	if _, e, ok := r.topics.Lookup(name); ok {
		return e
	}
	return r.rest
}

func (r *rules) topicFor(name string) (directory.TopicConfig, error) { return r.of(name).topic, nil }

// owner reports whether a peer administers the bus.
func (r *rules) owner(p control.Peer) bool { return p.UID == 0 || p.UID == r.uid }

// authorize decides by the rules of the package comment.
func (r *rules) authorize(p control.Peer, name string, verb directory.Verb) error {
	switch {
	case p.UID == directory.NobodyUID:
		return deny(p, name, verb, "map the user into this user namespace", "uid %d stands for anybody whom the kernel cannot name here", p.UID)
	case !r.admits(p):
		return deny(p, name, verb, "run as that user, or raise registry.access", "registry.access is %q (%s): %s",
			r.access, r.cfg.Origin("registry.access"), r.admitted())
	}
	e := r.of(name)
	list, key := e.entry.Publish, "publish"
	switch verb {
	case directory.VerbSubscribe:
		list, key = e.entry.Subscribe, "subscribe"
	case directory.VerbAdmin:
		if r.owner(p) {
			return nil
		}
		if e.entry.NoCreate {
			return deny(p, name, verb, "ask one of them", "create is false (%s): only root and uid %d create and delete it", r.cfg.Origin(e.key+".create"), r.uid)
		}
	}
	if list == nil || list.Allows(p.UID, p.GID) || list.Allows(p.UID, p.Groups...) {
		return nil
	}
	return deny(p, name, verb, "add the user there", "%s of [[topic]] %s (%s) admits only %s", key, e.entry.Name, r.cfg.Origin(e.key+"."+key), principals(list))
}

// admits reports whether the registry's access rule lets a peer in.
func (r *rules) admits(p control.Peer) bool {
	switch r.access {
	case config.AccessAll:
		return true
	case config.AccessGroup:
		return r.owner(p) || p.GID == r.group || slices.Contains(p.Groups, r.group)
	}
	return r.owner(p)
}

func (r *rules) admitted() string {
	if r.access == config.AccessGroup {
		return fmt.Sprintf("only root, uid %d and gid %d may connect", r.uid, r.group)
	}
	return fmt.Sprintf("only root and uid %d may connect", r.uid)
}

func deny(p control.Peer, name string, verb directory.Verb, hint, format string, a ...any) error {
	what := map[directory.Verb]string{directory.VerbPublish: "publish on", directory.VerbSubscribe: "subscribe to", directory.VerbAdmin: "create or delete"}[verb]
	return &control.Error{
		Code:    control.CodePermission,
		Message: fmt.Sprintf("uid %d may not %s %s: %s", p.UID, what, name, fmt.Sprintf(format, a...)),
		Hint:    hint,
	}
}

func principals(l config.AllowList) string {
	if len(l) == 0 {
		return "nobody"
	}
	texts := make([]string, len(l))
	for i, p := range l {
		texts[i] = p.Text
	}
	return strings.Join(texts, ", ")
}
