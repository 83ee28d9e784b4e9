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
	c.arrived(j)
}

// arrived takes a lane off the list that a ready-sub waits for.
func (c *core) arrived(j *join) {
	if j.waited {
		j.waited = false
		if u := j.sub; u.wait != nil {
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
	switch {
	case j.sub.session == nil: // resumeSub decides when the subscriber is back
	case j.again:
		c.askAgain(j)
	case !j.sent:
		c.ask(j)
		c.deliver(j)
	}
}

// askAgain has the publisher take an evicted subscriber back, now or when it
// resumes.
func (c *core) askAgain(j *join) {
	j.again = true
	switch {
	case j.lane.owner == nil:
		j.state = wanted
	case j.state != asked:
		c.pushJoin(j, true)
	}
}

// tellAgain sends a subscriber that has the lane its new join, if it is there.
func (c *core) tellAgain(j *join) {
	if s := j.sub.session; s != nil {
		s.send(c.laneMessage(j))
		j.again = false
	}
}

// leave has the publisher forget the subscriber.
func (c *core) leave(j *join, reason string) {
	if s := j.lane.owner; s != nil && j.sub.joins() {
		s.leave(j.lane.head.Epoch, j.sub.head.Epoch, reason)
	}
}

// giveUp records that the subscriber is done with the lane: nobody needs
// holding back for it.
func (c *core) giveUp(j *join) {
	j.sent, j.drained, j.again = true, true, false
	c.arrived(j)
	c.leave(j, "drained")
}

// fresh reports whether a subscriber was there before the lane and so gets all
// of it. The headers of a restarted directory's segments were stamped a little
// before either was ready: in doubt it gets the lane from the start.
func (c *core) fresh(l *lane, u *subscriber) bool {
	return u.born < l.born || l.adopted && l.phase != ended &&
		u.head.CreatedMono-l.head.CreatedMono < c.opt.Quotas.HandshakeTimeout.Nanoseconds()
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
	switch {
	case j.drained: // it was left again
	case j.sent: // the subscriber has the lane, and asked to be joined again
		c.tellAgain(j)
	default:
		c.deliver(j)
	}
	return true
}

// rejoin asks the publisher to take an evicted subscriber back.
func (c *core) rejoin(s *session, m *control.Message) {
	u, l := c.heard(s, m)
	if u == nil {
		return
	}
	j := l.joins[u]
	switch {
	case j == nil || !j.sent || j.drained || !u.joins():
	case l.phase == ended:
		c.sendFinal(j)
	default:
		c.askAgain(j)
	}
}

// drained takes a subscriber's word that it is done with a lane, which it may
// be before it was told of it; false if it has no such lane.
func (c *core) drained(s *session, m *control.Message) bool {
	u, l := c.heard(s, m)
	if u == nil || l.joins[u] == nil || l.joins[u].drained || l.phase == granted {
		return false
	}
	c.giveUp(l.joins[u])
	c.release(l)
	return true
}

// heard is what a subscriber's notice is about, nil if nothing. One that comes
// before its resume-sub is kept until then.
func (c *core) heard(s *session, m *control.Message) (*subscriber, *lane) {
	u, l := c.subs[m.Sub], c.lanes[m.Lane]
	if u == nil || l == nil || c.mayOwnSub(s, u) != nil {
		return nil, nil
	}
	if u.session != s {
		if len(s.early) < 2*int(c.slots) {
			s.early[notice{m.Op, u, l}] = struct{}{}
		}
		return nil, nil
	}
	return u, l
}

// took takes out a notice that came before its resume-sub; false if none did.
func (s *session) took(op control.Op, u *subscriber, l *lane) bool {
	n := notice{op, u, l}
	_, there := s.early[n]
	delete(s.early, n)
	return there
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
