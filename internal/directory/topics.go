package directory

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// topicState is one topic: made by create-topic, then it stays until
// delete-topic, or by attaching, then it goes with its last lane and
// subscriber.
type topicState struct {
	name  string
	spec  *control.TopicSpec // nil unless made by create-topic
	lanes []*lane            // in the order of their grants
	exact int                // subscribers to exactly this name
}

// config is how lanes of a topic are made now.
func (c *core) config(name string) (TopicConfig, *control.Error) {
	var cfg TopicConfig
	if c.opt.TopicFor != nil {
		var err error
		if cfg, err = c.opt.TopicFor(name); err != nil {
			var ce *control.Error
			if errors.As(err, &ce) {
				return cfg, ce
			}
			return cfg, refusal(control.CodeNotFound, "add the topic to the configuration", "%s: %v", name, err)
		}
	}
	if t := c.topics[name]; t != nil && t.spec != nil {
		cfg = overlay(cfg, t.spec)
	}
	if cfg.Policy.Kind == "" {
		cfg.Policy = control.Policy{Kind: "evict", Ns: int64(time.Second)}
	}
	return cfg, nil
}

// overlay is a configuration with what create-topic asked for.
func overlay(cfg TopicConfig, spec *control.TopicSpec) TopicConfig {
	if spec.Ring != 0 {
		cfg.Geometry.Ring, cfg.Geometry.Step = spec.Ring, 0
	}
	if spec.MaxMsg != 0 {
		cfg.Geometry.MaxMsg, cfg.Geometry.Step = spec.MaxMsg, 0
	}
	if spec.Policy != nil {
		cfg.Policy = *spec.Policy
	}
	return cfg
}

// topicFor finds or makes a topic.
func (c *core) topicFor(name string) (*topicState, *control.Error) {
	if t := c.topics[name]; t != nil {
		return t, nil
	}
	id := topic.ID(name)
	if other, taken := c.ids[id]; taken {
		return nil, refusal(control.CodeExists, "choose another name", "%s has the topic id of %s", name, other)
	}
	if most := c.opt.Quotas.MaxTopics; len(c.topics) >= most {
		return nil, refusal(control.CodeQuota, "delete a topic, or raise the limit", "the bus has %d topics, the limit is %d", len(c.topics), most)
	}
	t := &topicState{name: name}
	c.topics[name] = t
	c.ids[id] = name
	return t, nil
}

// sweep forgets a topic that nothing keeps.
func (c *core) sweep(t *topicState) {
	if t.spec == nil && len(t.lanes) == 0 && t.exact == 0 {
		delete(c.topics, t.name)
		delete(c.ids, topic.ID(t.name))
	}
}

// plan is what create-topic and plan-topic ask for, with the configuration that
// the topic would have.
func (c *core) plan(s *session, m *control.Message) (spec control.TopicSpec, cfg TopicConfig, err *control.Error) {
	if err = checkTopic(m.Topic); err != nil {
		return
	}
	if err = c.authorize(s.peer, m.Topic, VerbAdmin); err != nil {
		return
	}
	if m.TopicSpec != nil {
		spec = *m.TopicSpec
	}
	if p := spec.Policy; p != nil && (p.Kind != "block" && p.Kind != "evict" && p.Kind != "fail" || p.Ns < 0) {
		err = refusal(control.CodeInvalid, "use block, evict or fail", "policy %q, %d ns", short(p.Kind), p.Ns)
		return
	}
	if cfg, err = c.config(m.Topic); err != nil {
		return
	}
	cfg = overlay(cfg, &spec)
	if cfg.Geometry, err = geometry(cfg, 0, 0); err != nil {
		return
	}
	if t := c.topics[m.Topic]; t != nil && t.spec != nil && !sameSpec(t.spec, &spec) {
		err = refusal(control.CodeExists, "delete it first", "topic %s exists with other settings", m.Topic)
	}
	return
}

// createTopic makes a topic that stays. To ask twice for the same is no error.
func (c *core) createTopic(s *session, m *control.Message) *control.Error {
	spec, _, err := c.plan(s, m)
	if err != nil {
		return err
	}
	t, err := c.topicFor(m.Topic)
	if err != nil {
		return err
	}
	if t.spec == nil {
		t.spec = &spec
		if err := c.saveTopics(); err != nil {
			t.spec = nil
			c.sweep(t)
			return err
		}
	}
	s.ok(m.ID)
	return nil
}

// planTopic tells what createTopic would make, or refuses what it would refuse.
func (c *core) planTopic(s *session, m *control.Message) *control.Error {
	_, cfg, err := c.plan(s, m)
	if err != nil {
		return err
	}
	t, err := c.topicFor(m.Topic)
	if err != nil {
		return err
	}
	c.sweep(t)
	g := cfg.Geometry
	s.send(&control.Message{Op: control.OpOK, ID: m.ID, Topics: []control.TopicInfo{
		{Topic: m.Topic, Ring: g.Ring, MaxMsg: g.MaxMsg, Step: g.Step, Policy: policyText(cfg.Policy)}}})
	return nil
}

func sameSpec(a, b *control.TopicSpec) bool {
	if (a.Policy == nil) != (b.Policy == nil) || a.Policy != nil && *a.Policy != *b.Policy {
		return false
	}
	return a.Ring == b.Ring && a.MaxMsg == b.MaxMsg
}

// deleteTopic removes a topic that nobody is attached to, with what is kept of
// its past.
func (c *core) deleteTopic(s *session, m *control.Message) *control.Error {
	if err := checkTopic(m.Topic); err != nil {
		return err
	}
	if err := c.authorize(s.peer, m.Topic, VerbAdmin); err != nil {
		return err
	}
	t := c.topics[m.Topic]
	if t == nil {
		return refusal(control.CodeNotFound, "see the list of topics", "no topic %s", m.Topic)
	}
	pubs, subs := 0, t.exact
	for _, l := range t.lanes {
		switch {
		case l.phase != ended:
			pubs++
		case c.needed(l):
			subs = max(subs, 1)
		}
	}
	if pubs+subs > 0 {
		return refusal(control.CodeInUse, "close them first", "topic %s has %d publishers and %d subscribers", m.Topic, pubs, subs)
	}
	if spec := t.spec; spec != nil {
		t.spec = nil
		if err := c.saveTopics(); err != nil {
			t.spec = spec
			return err
		}
	}
	for _, l := range slices.Clone(t.lanes) {
		c.unlink(l)
	}
	c.sweep(t)
	s.ok(m.ID)
	return nil
}

// saveTopics writes down which topics stay.
func (c *core) saveTopics() *control.Error {
	c.bus.Topics = make(map[string]control.TopicSpec)
	for name, t := range c.topics {
		if t.spec != nil {
			c.bus.Topics[name] = *t.spec
		}
	}
	if err := c.files.save(c.bus); err != nil {
		return c.failed("write the bus state", err)
	}
	return nil
}

// restoreTopics is the inverse, at start.
func (c *core) restoreTopics() {
	for _, name := range slices.Sorted(maps.Keys(c.bus.Topics)) {
		if topic.Check(name) != nil {
			continue
		}
		if t, err := c.topicFor(name); err == nil {
			spec := c.bus.Topics[name]
			t.spec = &spec
		} else {
			c.opt.Log.Warn("topic not restored", "topic", name, "error", err.Error())
		}
	}
}

// busState is what outlives a directory besides the segments.
type busState struct {
	Incarnation uint64                       `json:"incarnation"`
	Layout      uint16                       `json:"layout"` // major version
	Node        layout.ID16                  `json:"node"`
	Topics      map[string]control.TopicSpec `json:"topics,omitempty"`  // made by create-topic
	Mirrors     map[layout.ID16]mirrorEnd    `json:"mirrors,omitempty"` // by origin epoch: mirror lanes that are gone
}
