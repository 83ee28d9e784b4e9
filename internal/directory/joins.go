package directory

import (
	"slices"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// readers is every ready subscriber of a topic, oldest first.
func (c *core) readers(t *topicState) []*subscriber {
	var all []*subscriber
	for _, u := range c.subs {
		if u.ready() && c.matches(u, t) {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *subscriber) int { return int(int64(a.born - b.born)) })
	return all
}

func lossless(readers []*subscriber) (n int) {
	for _, u := range readers {
		if u.head.Mode == layout.Lossless {
			n++
		}
	}
	return n
}

// losslessLimit of a lane.
func (c *core) losslessLimit(cfg TopicConfig) int {
	return min(orInt(cfg.MaxLossless, c.opt.Quotas.MaxLosslessPerTopic), layout.Notices)
}

// reaches reports whether a subscriber's cursor file has a slot for the lane:
// one from before a restart with more lane numbers may not.
func (c *core) reaches(u *subscriber, l *lane) bool {
	if l.head.Lane < u.head.Slots {
		return true
	}
	c.counters["slots_missing"]++
	c.opt.Log.Warn("the subscriber has no slot for the lane: open it again", logSub(u), logLane(l), "slots", u.head.Slots)
	return false
}

// join finds or makes the join of a subscriber on a lane.
func (c *core) join(l *lane, u *subscriber, fresh bool) *join {
	j := l.joins[u]
	if j == nil {
		j = &join{lane: l, sub: u, fresh: fresh}
		l.joins[u] = j
	}
	return j
}

// ask has the publisher join the subscriber, unless it was asked, has done so,
// need not or cannot.
func (c *core) ask(j *join) {
	if l, u := j.lane, j.sub; j.state == wanted && u.joins() && l.owner != nil {
		c.pushJoin(j, false)
	}
}

func (c *core) pushJoin(j *join, again bool) {
	l, u := j.lane, j.sub
	j.state = asked
	l.owner.out.push(item{file: u.file, m: &control.Message{Op: control.OpJoin, Lane: l.head.Epoch, Sub: u.head.Epoch,
		Join: &control.Join{Mode: u.head.Mode, Park: u.head.Park, Again: again}}})
}

// answer records a publisher's word.
func (j *join) answer(a *control.Joined) {
	j.state, j.pos, j.ticket, j.notice, j.refusal = joined, a.Pos, a.Ticket, a.Notice, short(a.Err)
}

// deliver tells the subscriber of the lane, if it was not told and may be.
func (c *core) deliver(j *join) {
	l, u := j.lane, j.sub
	if j.sent || u.session == nil || u.phase != live || l.phase == granted {
		return
	}
	if u.joins() && l.phase != ended && j.state != joined {
		return
	}
	m := c.laneMessage(j)
	m.LaneInfo = &control.LaneInfo{Topic: l.head.Topic, Number: l.head.Lane, PrevEpoch: l.head.PrevEpoch, New: j.fresh, Policy: l.policy}
	m.Final = l.final
	u.session.out.push(item{m: m, file: l.file})
	j.sent = true
	if j.waited {
		j.waited = false
		if u.wait != nil {
			u.wait.left--
			c.answerWait(u)
		}
	}
}

func (c *core) laneMessage(j *join) *control.Message {
	m := &control.Message{Op: control.OpLane, Sub: j.sub.head.Epoch, Lane: j.lane.head.Epoch}
	if j.state == joined {
		m.Joined = []control.Joined{{Sub: m.Sub, Pos: j.pos, Ticket: j.ticket, Notice: j.notice, Err: j.refusal}}
	}
	return m
}

// reconcile sends what one side lacks after the other has resumed. A
// subscriber that has the lane and is not joined was evicted: it asks itself.
func (c *core) reconcile(j *join) {
	if j.sent || j.sub.session == nil {
		return // resumeSub decides when the subscriber is back
	}
	c.ask(j)
	c.deliver(j)
}

// joined takes a publisher's answer to a join; false if nobody asked.
func (c *core) joined(s *session, m *control.Message) bool {
	l := c.lanes[m.Lane]
	if l == nil || l.owner != s || len(m.Joined) == 0 {
		return false
	}
	a := &m.Joined[0]
	if a.Sub.IsZero() {
		a.Sub = m.Sub
	}
	j := l.joins[c.subs[a.Sub]]
	if j == nil || j.state != asked || l.phase != live {
		return false
	}
	j.answer(a)
	c.counters["joins"]++
	if a.Ticket == 0 {
		c.counters["joins_refused"]++
		c.opt.Log.Warn("publisher refused a subscriber", logLane(l), logSub(j.sub), "why", j.refusal)
	}
	switch u := j.sub; {
	case !j.sent:
		c.deliver(j)
	case u.session != nil: // it has the lane, and asked to be joined again
		u.session.send(c.laneMessage(j))
	}
	return true
}

// rejoin asks the publisher to take an evicted subscriber back.
func (c *core) rejoin(s *session, m *control.Message) {
	u, l := c.subs[m.Sub], c.lanes[m.Lane]
	if u == nil || u.session != s || l == nil {
		return
	}
	j := l.joins[u]
	switch {
	case j == nil || !j.sent || j.drained || !u.joins() || j.state == asked:
	case l.phase == ended:
		c.sendFinal(j)
	case l.owner == nil:
		j.state = wanted
	default:
		c.pushJoin(j, true)
	}
}

// drained takes a subscriber's word that it is done with a lane; false if it
// had no such lane.
func (c *core) drained(s *session, m *control.Message) bool {
	u, l := c.subs[m.Sub], c.lanes[m.Lane]
	if u == nil || u.session != s || l == nil {
		return false
	}
	j := l.joins[u]
	if j == nil || !j.sent || j.drained {
		return false
	}
	j.drained = true
	if u.joins() && l.phase == live && l.owner != nil { // it gave the lane up: nobody needs holding back
		l.owner.send(&control.Message{Op: control.OpLeave, Lane: l.head.Epoch, Sub: u.head.Epoch, Reason: "drained"})
	}
	c.release(l)
	return true
}

// evicted counts: the subscriber finds out from the lane itself.
func (c *core) evicted(s *session, m *control.Message) {
	l := c.lanes[m.Lane]
	if l == nil || l.owner != s {
		return
	}
	c.counters["evictions"]++
	c.opt.Log.Warn("subscriber evicted", logLane(l), "subscriber", m.Sub.String(), "reason", short(m.Reason))
}
