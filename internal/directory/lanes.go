package directory

import (
	"fmt"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// openPub grants a lane.
func (c *core) openPub(s *session, m *control.Message) *control.Error {
	o := m.OpenPub
	if o == nil {
		return refusal(control.CodeInvalid, "", "open-pub without open_pub")
	}
	if err := checkTopic(o.Topic); err != nil {
		return err
	}
	if err := checkName("source", o.Source, 1, layout.MaxSource); err != nil {
		return err
	}
	if err := c.checkMirror(o.Mirror); err != nil {
		return err
	}
	if err := c.authorize(s.peer, o.Topic, VerbPublish); err != nil {
		return err
	}
	cfg, err := c.config(o.Topic)
	if err != nil {
		return err
	}
	if t := c.topics[o.Topic]; cfg.Closed && (t == nil || t.spec == nil) {
		return refusal(control.CodeNotFound, "create it first: myceliumctl topic create "+o.Topic, "no topic %s, and publishers do not create it", o.Topic)
	}
	g, err := geometry(cfg, o.Ring, o.MaxMsg)
	node := c.bus.Node
	if o.Mirror != nil {
		g, err = mirrorGeometry(cfg, o)
		node = o.Mirror.Node
	}
	if err != nil {
		return err
	}
	if s.grants() >= maxGrants {
		return refusal(control.CodeQuota, "answer them first", "%d grants of this connection are not ready", maxGrants)
	}
	prev, err := c.previous(o.Topic, o.Source, node)
	if err != nil {
		return err
	}
	uid := s.peer.UID
	if err := c.room(func() (*control.Error, func(*lane) bool) { return c.fitsLane(uid, o.Topic, g.FileBytes(), cfg) }); err != nil {
		return err
	}
	t, err := c.topicFor(o.Topic)
	if err != nil {
		return err
	}
	readers := c.readers(t)
	if n := lossless(readers); n > c.losslessLimit(cfg) {
		c.sweep(t)
		return refusal(control.CodeQuota, "use lossy subscribers, or raise the limit",
			"%d lossless subscribers wait for %s, a lane holds %d", n, o.Topic, c.losslessLimit(cfg))
	}

	now := c.opt.Now()
	number := c.takeNumber()
	l := &lane{
		head: layout.LaneHeader{
			Geometry: g, TopicID: topic.ID(o.Topic), Topic: o.Topic, Source: o.Source, Lane: number,
			Epoch: newEpoch(), PrevEpoch: prev, UID: uid, GID: s.peer.GID, OriginNode: c.bus.Node, BootID: c.boot,
			FirstPos: g.FirstPosition(number), CreatedWall: now.UnixNano(),
		},
		topic: t, owner: s, policy: cfg.Policy, joins: make(map[*subscriber]*join), bytes: g.FileBytes(),
	}
	found := o.Mirror != nil && c.mirror(&l.head, o.Mirror)
	l.file = laneRef(&l.head)
	if err := c.files.create(l.file); err != nil {
		c.numbers[l.head.Lane] = false
		c.sweep(t)
		return c.failed("create a segment", err)
	}
	c.enter(l)
	s.lanes[l] = struct{}{}

	asks := 0
	for _, u := range readers {
		if u.joins() && c.reaches(u, l) {
			c.ask(c.join(l, u, true))
			asks++
		}
	}
	s.out.push(item{file: l.file, write: true, m: &control.Message{Op: control.OpGranted, ID: m.ID, Lane: l.head.Epoch, LaneGrant: &control.LaneGrant{
		Topic: o.Topic, Source: o.Source, Number: l.head.Lane, UID: uid, GID: s.peer.GID,
		Ring: g.Ring, MaxMsg: g.MaxMsg, Step: g.Step, Node: c.bus.Node, Boot: c.boot, PrevEpoch: prev, FirstSeq: l.head.FirstSeq, Found: found, Policy: l.policy, Joins: asks,
	}}})
	c.after(c.opt.Quotas.HandshakeTimeout, func() { c.look(l) })
	return nil
}

// previous is the epoch of the last lane of a source of that host, which must have
// ended: the probe of its lock decides at this moment.
func (c *core) previous(name, source string, node layout.ID16) (layout.ID16, *control.Error) {
	t := c.topics[name]
	if t == nil {
		return layout.ID16{}, nil
	}
	for _, l := range slices.Backward(t.lanes) {
		if l.head.Source != source || l.head.OriginNode != node {
			continue
		}
		if l.phase == live || l.phase == orphan {
			c.look(l)
		}
		if l.phase != ended {
			e := refusal(control.CodeSourceBusy, "stop it, or publish under another source name",
				"source %q of %s has a live publisher (lane %s, uid %d)", source, name, l.head.Epoch, l.head.UID)
			e.Epoch = l.head.Epoch
			return layout.ID16{}, e
		}
		return l.head.Epoch, nil
	}
	return layout.ID16{}, nil
}

// fitsLane says why one more lane is refused, nil if it is not, and which lanes
// would make room.
func (c *core) fitsLane(uid uint32, name string, bytes uint64, cfg TopicConfig) (*control.Error, func(*lane) bool) {
	q := &c.opt.Quotas
	perTopic := orInt(cfg.MaxLanes, q.MaxLanesPerTopic)
	if t := c.topics[name]; t != nil && len(t.lanes) >= perTopic {
		return refusal(control.CodeQuota, "close a publisher, or raise max_lanes of the topic",
			"%s has %d lanes, the limit is %d", name, len(t.lanes), perTopic), func(l *lane) bool { return l.topic == t }
	}
	if have := c.used(uid).lanes; q.MaxLanesPerUID > 0 && have >= q.MaxLanesPerUID {
		return refusal(control.CodeQuota, "close a publisher, or raise the limit",
			"uid %d has %d lanes, the limit is %d", uid, have, q.MaxLanesPerUID), func(l *lane) bool { return l.head.UID == uid }
	}
	if !slices.Contains(c.numbers[:c.allowedLanes()], false) {
		return refusal(control.CodeQuota, "close a publisher, or raise max_lanes of the bus",
			"all %d lane numbers of the bus are taken", c.allowedLanes()), func(l *lane) bool { return int(l.head.Lane) < c.allowedLanes() }
	}
	return c.fitsBytes(uid, bytes)
}

// allowedLanes is the quota, which after a reload may lie below the numbers
// that cursor files have slots for, never above.
func (c *core) allowedLanes() int { return min(c.opt.Quotas.MaxLanes, int(c.slots)) }

// takeNumber is the smallest free lane number.
//
// Preconditions: fitsLane found one.
func (c *core) takeNumber() uint32 {
	n := slices.Index(c.numbers, false)
	c.numbers[n] = true
	return uint32(n)
}

// enter puts a lane on the books.
func (c *core) enter(l *lane) {
	c.lanes[l.head.Epoch] = l
	c.account(l.head.UID, int64(l.bytes), 1, 0)
	if l.topic != nil {
		l.topic.lanes = append(l.topic.lanes, l)
	}
}

// unlink removes a lane's file, and then frees its number.
func (c *core) unlink(l *lane) bool {
	if err := c.rememberMirror(l); err != nil {
		c.opt.Log.Error("cannot write down how far a mirror lane came: it stays", logLane(l), "error", err)
		return false
	}
	if err := c.files.remove(l.file); err != nil {
		c.opt.Log.Error("cannot remove a lane", logLane(l), "error", err)
		return false
	}
	c.counters["unlinks"]++
	c.disown(l)
	delete(c.lanes, l.head.Epoch)
	c.numbers[l.head.Lane] = false
	c.account(l.head.UID, -int64(l.bytes), -1, 0)
	if t := l.topic; t != nil {
		t.lanes = slices.DeleteFunc(t.lanes, func(x *lane) bool { return x == l })
		c.sweep(t)
	}
	return true
}

// readyPub announces a lane, if its file is what was granted.
func (c *core) readyPub(s *session, m *control.Message) *control.Error {
	l := c.lanes[m.Lane]
	if l == nil {
		return unknownLane(m.Lane)
	}
	if l.phase != granted {
		return c.resumePub(s, m)
	}
	if err := c.mayOwn(s, l); err != nil {
		return err
	}
	if err := c.checkGranted(l); err != nil {
		c.unlink(l)
		return err
	}
	c.own(l, s)
	l.phase, l.born = live, c.bear()
	for i := range m.Joined {
		a := &m.Joined[i]
		if j := l.joins[c.subs[a.Sub]]; j == nil {
			s.leave(m.Lane, a.Sub, "gone")
		} else if j.state != joined {
			j.answer(a)
			c.counters["joins"]++
		}
	}
	// Who became ready since the grant, or whose join was lost with the
	// connection, is asked for before the answer: the publisher joins it before
	// its first frame.
	for _, u := range c.readers(l.topic) {
		if c.reaches(u, l) {
			c.ask(c.join(l, u, true))
		}
	}
	s.ok(m.ID)
	for _, j := range l.joins {
		c.deliver(j)
	}
	c.opt.Log.Debug("lane", logLane(l), "uid", l.head.UID)
	return nil
}

func unknownLane(epoch layout.ID16) *control.Error {
	return refusal(control.CodeNotFound, "open the publisher again", "no lane %s", epoch)
}

// checkGranted compares a file with its grant.
func (c *core) checkGranted(l *lane) *control.Error {
	h, err := c.files.lane(l.file)
	if err != nil {
		return refusal(control.CodeInvalid, "open the publisher again", "lane %s: %v", l.head.Epoch, err)
	}
	want := &l.head
	for _, f := range []struct {
		name       string
		have, want any
	}{
		{"geometry", h.Geometry, want.Geometry},
		{"topic", h.Topic, want.Topic},
		{"topic id", h.TopicID, want.TopicID},
		{"source", h.Source, want.Source},
		{"source id", h.SourceID.Low(), topic.ID(want.Source)},
		{"number", h.Lane, want.Lane},
		{"epoch", h.Epoch, want.Epoch},
		{"previous epoch", h.PrevEpoch, want.PrevEpoch},
		{"uid", h.UID, want.UID},
		{"gid", h.GID, want.GID},
		{"node", h.OriginNode, want.OriginNode},
		{"boot", h.BootID, want.BootID},
		{"first sequence", h.FirstSeq, want.FirstSeq},
		{"mirror", h.Mirror, want.Mirror},
		{"hops", h.Hops, want.Hops},
		{"via", h.Via, want.Via},
		{"origin epoch", !want.Mirror || h.OriginEpoch == want.OriginEpoch, true},
	} {
		if f.have != f.want {
			return refusal(control.CodeInvalid, "write the header as granted", "lane %s: %s is %v, granted was %v", want.Epoch, f.name, f.have, f.want)
		}
	}
	if !c.files.held(l.file) {
		return refusal(control.CodeInvalid, "lock the segment before ready-pub", "lane %s: nobody holds its lock", want.Epoch)
	}
	l.head = h
	return nil
}

// mayOwn reports why a session cannot have a lane.
func (c *core) mayOwn(s *session, l *lane) *control.Error {
	switch {
	case l.head.UID != s.peer.UID:
		return refusal(control.CodePermission, "", "lane %s belongs to uid %d", l.head.Epoch, l.head.UID)
	case l.owner != nil && l.owner != s && l.owner.client != s.client:
		return refusal(control.CodeInUse, "", "lane %s belongs to another connection", l.head.Epoch)
	}
	return nil
}

// own gives a lane to a session.
func (c *core) own(l *lane, s *session) {
	if l.owner != s {
		c.disown(l)
		l.owner = s
		s.lanes[l] = struct{}{}
	}
	l.probe = probe{}
}

// resumePub gives a lane back to its owner after a lost connection, and sends
// the joins that it lacks.
func (c *core) resumePub(s *session, m *control.Message) *control.Error {
	l := c.lanes[m.Lane]
	if l == nil || l.phase == ended || l.phase == unreadable {
		return unknownLane(m.Lane)
	}
	if l.phase == granted {
		return c.readyPub(s, m)
	}
	if err := c.mayOwn(s, l); err != nil {
		return err
	}
	if err := c.authorize(s.peer, l.head.Topic, VerbPublish); err != nil {
		return err
	}
	if !c.files.held(l.file) {
		c.look(l)
		return refusal(control.CodeInvalid, "open the publisher again", "lane %s: nobody holds its lock", m.Lane)
	}
	c.own(l, s)
	l.phase = live
	c.counters["resumed_lanes"]++
	listed := make(map[*subscriber]bool, len(m.Joined))
	for i := range m.Joined {
		a := &m.Joined[i]
		u := c.subs[a.Sub]
		if u == nil || !u.ready() {
			s.leave(m.Lane, a.Sub, "gone")
			continue
		}
		if !c.reaches(u, l) || !c.matches(u, l.topic) {
			continue
		}
		listed[u] = true
		j := c.join(l, u, c.fresh(l, u))
		before := j.ticket
		switch j.answer(a); {
		case j.drained: // it gave the lane up meanwhile
			c.leave(j, "drained")
		case !j.again:
		case j.ticket != before: // joined again, and the answer was lost
			c.tellAgain(j)
		default: // listed before its eviction
			j.state = wanted
		}
	}
	for _, u := range c.readers(l.topic) {
		if !c.reaches(u, l) {
			continue
		}
		j := c.join(l, u, c.fresh(l, u))
		if !listed[u] {
			j.state = wanted
		}
		c.reconcile(j)
	}
	s.ok(m.ID)
	return nil
}

// closePub ends a lane whose publisher says so.
func (c *core) closePub(s *session, m *control.Message) *control.Error {
	l := c.lanes[m.Lane]
	if l == nil || l.phase == ended { // the lock was free before the word came
		s.ok(m.ID)
		return nil
	}
	if c.mayOwn(s, l) != nil {
		return unknownLane(m.Lane)
	}
	if l.phase == granted && l.owner == s {
		c.unlink(l)
		s.ok(m.ID)
		return nil
	}
	st := c.files.state(l.file)
	if (l.phase == live || l.phase == orphan) && (st == layout.LaneClosed || st == layout.LaneFault) {
		c.counters["closes"]++
		c.end(l, false)
	} else if c.look(l); c.lanes[m.Lane] == l && l.phase != ended { // its words say nothing, and its lock is held
		return refusal(control.CodeInvalid, "close the lane first", "lane %s is %v", m.Lane, st)
	}
	s.ok(m.ID)
	return nil
}

// discard takes back a grant. What became ready all the same ends if its lock
// is free.
func (c *core) discard(s *session, m *control.Message) {
	if l := c.lanes[m.Lane]; l != nil && l.owner == s {
		if l.phase == granted {
			c.unlink(l)
		} else {
			c.look(l)
		}
	}
	if u := c.subs[m.Sub]; u != nil && u.session == s {
		if u.phase == granted {
			c.drop(u)
		} else {
			c.lookSub(u)
		}
	}
	if m.ID != 0 {
		s.ok(m.ID)
	}
}

// look probes the lock of a lane without a connection, or not ready in time,
// and acts on what it finds.
func (c *core) look(l *lane) {
	if c.lanes[l.head.Epoch] != l || l.phase == ended {
		return
	}
	held := c.files.held(l.file)
	switch {
	case !held && l.phase == granted:
		c.unlink(l)
	case !held && l.phase == unreadable:
		c.unlink(l)
	case !held:
		c.counters["deaths_publisher"]++
		c.end(l, c.files.state(l.file) != layout.LaneClosed)
	case l.owner == nil || l.phase == granted:
		if l.phase == live {
			l.phase = orphan
		}
		if l.phase == orphan && l.probe.lives(c.opt.Now()) {
			c.opt.Log.Info("publisher lives without a connection", logLane(l))
		}
		c.after(l.probe.pause(c.opt.Now()), func() {
			if (l.owner == nil || l.phase == granted) && !c.opt.Now().Before(l.probe.due) {
				c.look(l)
			}
		})
	}
}

// end records where a lane ends and tells its subscribers.
func (c *core) end(l *lane, dead bool) {
	pos, seq := c.files.end(l.file, &l.head)
	c.disown(l)
	l.phase, l.endedAt = ended, c.opt.Now()
	l.final = &control.Final{Pos: pos, Seq: seq, Dead: dead}
	l.empty = seq == l.head.FirstSeq
	c.opt.Log.Debug("lane ended", logLane(l), "dead", dead, "pos", pos, "seq", seq)
	for _, j := range l.joins {
		if j.sent {
			c.sendFinal(j)
		} else {
			c.deliver(j)
		}
	}
	c.after(c.opt.LaneGrace, func() { c.release(l) })
	c.release(l)
}

func (c *core) sendFinal(j *join) {
	if s := j.sub.session; s != nil && !j.drained {
		s.send(&control.Message{Op: control.OpFinal, Sub: j.sub.head.Epoch, Lane: j.lane.head.Epoch, Final: j.lane.final})
	}
}

// release unlinks an ended lane that nobody needs once its grace is over. A
// lane into which nothing was published needs none.
func (c *core) release(l *lane) {
	if c.lanes[l.head.Epoch] != l || l.phase != ended || c.needed(l) {
		return
	}
	if l.empty || c.opt.Now().Sub(l.endedAt) >= c.opt.LaneGrace {
		c.unlink(l)
	}
}

// needed reports whether a subscriber has to read an ended lane still.
func (c *core) needed(l *lane) bool {
	for _, j := range l.joins {
		if !j.drained && (j.sent || !l.empty) {
			return true
		}
	}
	if l.adopted {
		for _, u := range c.subs {
			if u.unknown && c.matches(u, l.topic) {
				return true
			}
		}
	}
	return false
}

// checkName refuses names that no header or log line should hold.
func checkName(what, s string, least, most int) *control.Error {
	if len(s) < least || len(s) > most {
		return refusal(control.CodeInvalid, "", "%s name of %d bytes: want %d to %d", what, len(s), least, most)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return refusal(control.CodeInvalid, "use printable text", "%s name %q: byte %d is a control character", what, s, i)
		}
	}
	return nil
}

func checkTopic(name string) *control.Error {
	if err := topic.Check(name); err != nil {
		return refusal(control.CodeInvalid, "", "%v", err)
	}
	return nil
}

// geometry of a lane: what the publisher asks for, else what the topic says.
func geometry(cfg TopicConfig, ring uint64, maxMsg uint32) (layout.Geometry, *control.Error) {
	g := cfg.Geometry
	if ring != 0 && ring != g.Ring || maxMsg != 0 && maxMsg != g.MaxMsg {
		g.Step = 0
	}
	if ring != 0 {
		g.Ring = ring
	}
	if maxMsg != 0 {
		g.MaxMsg = maxMsg
	}
	if g.Ring > layout.MaxRing { // before arithmetic with it
		return g, refusal(control.CodeInvalid, "", "ring of %d bytes: the most is %d", g.Ring, uint64(layout.MaxRing))
	}
	if g = g.WithDefaults(); cfg.MaxRing != 0 && g.Ring > cfg.MaxRing {
		return g, refusal(control.CodeInvalid, "ask for less, or raise the topic's limit", "ring of %d bytes: the topic allows %d", g.Ring, cfg.MaxRing)
	}
	if err := g.Check(); err != nil {
		return g, refusal(control.CodeInvalid, "", "%v", err)
	}
	return g, nil
}

func laneRef(h *layout.LaneHeader) ref {
	return ref{laneFile, fmt.Sprintf("%016x.%d.%s.ring", h.TopicID, h.Lane, h.Epoch)}
}

func policyText(p control.Policy) string {
	if p.Ns == 0 {
		return p.Kind
	}
	return p.Kind + ":" + time.Duration(p.Ns).String()
}
