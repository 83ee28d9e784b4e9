package directory

import (
	"maps"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// openSub grants a cursor file.
func (c *core) openSub(s *session, m *control.Message) *control.Error {
	o := m.OpenSub
	if o == nil {
		return refusal(control.CodeInvalid, "", "open-sub without open_sub")
	}
	if err := topic.CheckPattern(o.Topic); err != nil {
		return refusal(control.CodeInvalid, "", "%v", err)
	}
	if err := checkName("subscriber", o.Name, 0, layout.MaxSource-1); err != nil {
		return err
	}
	if o.Mode != layout.Lossless && o.Mode != layout.Lossy {
		return refusal(control.CodeInvalid, "use lossless (1) or lossy (2)", "mode %d", o.Mode)
	}
	exact := !topic.IsPattern(o.Topic)
	if exact || c.opt.Authorize == nil {
		if err := c.authorize(s.peer, o.Topic, VerbSubscribe); err != nil {
			return err
		}
	}
	if o.Keep != 0 {
		if done, err := c.reopenSub(s, m); done || err != nil {
			return err
		}
	}
	if s.grants() >= maxGrants {
		return refusal(control.CodeQuota, "answer them first", "%d grants of this connection are not ready", maxGrants)
	}
	uid := s.peer.UID
	if have, most := c.used(uid).subs, c.opt.Quotas.MaxSubscribersPerUID; have >= most {
		return refusal(control.CodeQuota, "close a subscriber, or raise the limit", "uid %d has %d subscribers, the limit is %d", uid, have, most)
	}
	bytes := layout.CursorFileBytes(c.slots)
	if err := c.room(func() (*control.Error, func(*lane) bool) { return c.fitsBytes(uid, bytes) }); err != nil {
		return err
	}
	if exact {
		if _, err := c.config(o.Topic); err != nil {
			return err
		}
	}
	u := &subscriber{
		head: layout.CursorHeader{Epoch: newEpoch(), UID: uid, GID: s.peer.GID, Mode: o.Mode, Park: o.Park, Slots: c.slots,
			BootID: c.boot, Keep: o.Keep, Name: o.Name, Pattern: o.Topic, CreatedWall: c.opt.Now().UnixNano()},
		peer: s.peer, session: s, past: o.Past, bytes: bytes,
	}
	u.file = cursorRef(u.head.Epoch)
	if o.Mode == layout.Lossless {
		if err := c.fitsLossless(u); err != nil {
			return err
		}
	}
	var t *topicState
	if exact {
		var err *control.Error
		if t, err = c.topicFor(o.Topic); err != nil {
			return err
		}
	}
	if err := c.files.create(u.file); err != nil {
		if t != nil {
			c.sweep(t)
		}
		return c.failed("create a segment", err)
	}
	c.enterSub(u)
	s.subs[u] = struct{}{}
	s.out.push(item{file: u.file, write: true, m: &control.Message{Op: control.OpGranted, ID: m.ID, Sub: u.head.Epoch, SubGrant: &control.SubGrant{
		UID: uid, GID: s.peer.GID, Slots: c.slots, Boot: c.boot,
	}}})
	c.after(c.opt.Quotas.HandshakeTimeout, func() { c.lookSub(u) })
	return nil
}

// fitsLossless says why one more lossless subscriber is refused: each holds a
// place on every lane it matches.
func (c *core) fitsLossless(u *subscriber) *control.Error {
	full := func(t *topicState) *control.Error {
		cfg, err := c.config(t.name)
		if err != nil {
			return nil // no new lanes there, and for the old ones it was counted
		}
		n := 0
		for _, x := range c.subs {
			if x.head.Mode == layout.Lossless && c.matches(x, t) {
				n++
			}
		}
		if limit := c.losslessLimit(cfg); n >= limit {
			return refusal(control.CodeQuota, "subscribe lossy, or raise the limit", "%s has %d lossless subscribers, the limit is %d", t.name, n, limit)
		}
		return nil
	}
	if t := c.topics[u.head.Pattern]; t != nil {
		return full(t)
	}
	if !topic.IsPattern(u.head.Pattern) {
		return nil
	}
	for _, t := range c.topics {
		if c.matches(u, t) {
			if err := full(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// enterSub puts a subscriber on the books.
func (c *core) enterSub(u *subscriber) {
	c.subs[u.head.Epoch] = u
	c.account(u.head.UID, int64(u.bytes), 0, 1)
	if t := c.topics[u.head.Pattern]; t != nil {
		t.exact++
	}
}

// drop removes a subscriber: its cursor file, its joins, and what only it
// still needed.
func (c *core) drop(u *subscriber) {
	c.removeFile(u.file)
	delete(c.subs, u.head.Epoch)
	c.account(u.head.UID, -int64(u.bytes), 0, -1)
	if u.session != nil {
		delete(u.session.subs, u)
		u.session = nil
	}
	for _, l := range c.inOrder() {
		if j := l.joins[u]; j != nil {
			c.leave(j, "gone")
			delete(l.joins, u)
		}
		c.release(l)
	}
	if t := c.topics[u.head.Pattern]; t != nil {
		t.exact--
		c.sweep(t)
	}
}

// readySub tells a new subscriber of every lane there is.
func (c *core) readySub(s *session, m *control.Message) *control.Error {
	u := c.subs[m.Sub]
	if u == nil {
		return unknownSub(m.Sub)
	}
	if u.phase == dormant && u.session == s {
		return c.wakeSub(s, m, u)
	}
	if u.phase != granted {
		return c.resumeSub(s, m)
	}
	if err := c.mayOwnSub(s, u); err != nil {
		return err
	}
	if err := c.checkGrantedSub(u); err != nil {
		c.drop(u)
		return err
	}
	c.ownSub(u, s)
	u.phase, u.born = live, c.bear()
	c.tellLanes(u, m.ID, false)
	c.opt.Log.Debug("subscriber", logSub(u), "uid", u.head.UID)
	return nil
}

// tellLanes sends a ready subscriber every lane there is, and then the answer to
// its ready-sub. A durable one has come back to them.
func (c *core) tellLanes(u *subscriber, id uint64, back bool) {
	w := &wait{id: id}
	u.wait = w
	for _, l := range c.inOrder() {
		if l.phase == granted || l.phase == unreadable || !c.matches(u, l.topic) || !c.reaches(u, l) {
			continue
		}
		j := l.joins[u]
		if j == nil {
			if !c.entitled(u, l, back) {
				continue
			}
			j = c.join(l, u, back && c.fresh(l, u))
		}
		if j.drained {
			continue
		}
		c.ask(j)
		c.deliver(j)
		if !j.sent {
			j.waited = true
			w.left++
		}
	}
	c.answerWait(u)
	if u.wait != nil {
		c.after(c.opt.Quotas.HandshakeTimeout, func() {
			if u.wait == w {
				w.left = 0
				c.answerWait(u)
			}
		})
	}
}

// answerWait answers ready-sub when no lane is missing.
func (c *core) answerWait(u *subscriber) {
	if u.wait != nil && u.wait.left == 0 {
		u.session.ok(u.wait.id)
		u.wait = nil
	}
}

func unknownSub(epoch layout.ID16) *control.Error {
	return refusal(control.CodeNotFound, "open the subscriber again", "no subscriber %s", epoch)
}

func (c *core) checkGrantedSub(u *subscriber) *control.Error {
	h, err := c.files.cursor(u.file)
	if err != nil {
		return refusal(control.CodeInvalid, "open the subscriber again", "cursor file %s: %v", u.head.Epoch, err)
	}
	want := u.head
	want.CreatedWall, want.CreatedMono = h.CreatedWall, h.CreatedMono
	if h != want {
		return refusal(control.CodeInvalid, "write the header as granted", "cursor file %s: header %+v, granted was %+v", u.head.Epoch, h, want)
	}
	if !c.files.held(u.file) {
		return refusal(control.CodeInvalid, "lock the segment before ready-sub", "cursor file %s: nobody holds its lock", u.head.Epoch)
	}
	u.head = h
	return nil
}

func (c *core) mayOwnSub(s *session, u *subscriber) *control.Error {
	switch {
	case u.head.UID != s.peer.UID:
		return refusal(control.CodePermission, "", "subscriber %s belongs to uid %d", u.head.Epoch, u.head.UID)
	case u.session != nil && u.session != s && u.session.client != s.client:
		return refusal(control.CodeInUse, "", "subscriber %s belongs to another connection", u.head.Epoch)
	}
	return nil
}

func (c *core) ownSub(u *subscriber, s *session) {
	if u.session != nil {
		delete(u.session.subs, u)
	}
	u.session, u.wait, u.peer, u.probe = s, nil, s.peer, probe{}
	s.subs[u] = struct{}{}
}

// resumeSub gives a subscriber back to its owner after a lost connection. The
// owner lists the lanes it has; it is sent those it lacks.
func (c *core) resumeSub(s *session, m *control.Message) *control.Error {
	u := c.subs[m.Sub]
	if u == nil || u.phase == unreadable {
		return unknownSub(m.Sub)
	}
	if u.phase == granted {
		return c.readySub(s, m)
	}
	if err := c.mayOwnSub(s, u); err != nil {
		return err
	}
	if !topic.IsPattern(u.head.Pattern) || c.opt.Authorize == nil {
		if err := c.authorize(s.peer, u.head.Pattern, VerbSubscribe); err != nil {
			return err
		}
	}
	if !c.files.held(u.file) {
		c.lookSub(u)
		return refusal(control.CodeInvalid, "open the subscriber again", "subscriber %s: nobody holds its lock", m.Sub)
	}
	c.ownSub(u, s)
	u.phase, u.unknown = live, false
	c.counters["resumed_subscribers"]++
	back := m.Back || m.Op == control.OpReadySub // open slots may be those of an owner before
	listed := make(map[layout.ID16]bool, len(m.Lanes))
	for _, h := range m.Lanes {
		listed[h.Lane] = true
	}
	for _, l := range c.inOrder() {
		j := l.joins[u]
		if !c.matches(u, l.topic) {
			if j != nil && !j.sent { // joined while its groups were not known
				if !listed[l.head.Epoch] { // else it had the lane before: nothing is taken away
					c.leave(j, "not allowed")
				}
				delete(l.joins, u)
				c.release(l)
			}
			continue
		}
		if l.phase == granted || l.phase == unreadable || !c.reaches(u, l) {
			continue
		}
		entitled := j != nil || l.phase != ended || u.past || l.born > u.born
		if listed[l.head.Epoch] || entitled {
			j = c.join(l, u, c.fresh(l, u))
		}
		switch {
		case j == nil || j.drained && !listed[l.head.Epoch]:
		case s.took(control.OpDrained, u, l):
			c.giveUp(j)
		case listed[l.head.Epoch]:
			j.sent, j.drained, j.again = true, false, false // it repeats its rejoin itself
			if l.phase == ended {
				c.sendFinal(j)
			} else if s.took(control.OpRejoin, u, l) {
				c.askAgain(j)
			}
		case !back && c.files.slotEpoch(u.file, l.head.Lane) == l.head.Epoch.Low(): // it had the lane, and has left it
			c.giveUp(j)
		default:
			j.sent, j.again = false, false
			c.reconcile(j)
		}
		c.release(l)
	}
	maps.DeleteFunc(s.early, func(n notice, _ struct{}) bool { return n.sub == u })
	s.ok(m.ID)
	return nil
}

// closeSub removes a subscriber that says it is done.
func (c *core) closeSub(s *session, m *control.Message) *control.Error {
	u := c.subs[m.Sub]
	switch {
	case u == nil: // its lock was free before the word came
	case u.session == s && u.head.Keep > 0 && !m.Forget:
		c.sleep(u)
	case u.session == s:
		c.drop(u)
	case c.mayOwnSub(s, u) != nil:
		return unknownSub(m.Sub)
	default: // not resumed on this connection: its lock decides
		if c.lookSub(u); c.subs[m.Sub] != nil {
			return unknownSub(m.Sub)
		}
	}
	s.ok(m.ID)
	return nil
}

// lookSub is look for a cursor file.
func (c *core) lookSub(u *subscriber) {
	if c.subs[u.head.Epoch] != u {
		return
	}
	held := c.files.held(u.file)
	switch {
	case !held && u.ready() && u.head.Keep > 0:
		c.sleep(u)
	case !held && u.ready():
		c.counters["deaths_subscriber"]++
		c.drop(u)
	case !held:
		c.drop(u)
	case u.session == nil || u.phase == granted:
		if u.phase == live {
			u.phase = orphan
		}
		if u.phase == orphan && u.probe.lives(c.opt.Now()) {
			c.opt.Log.Info("subscriber lives without a connection", logSub(u))
		}
		c.after(u.probe.pause(c.opt.Now()), func() {
			if (u.session == nil || u.phase == granted) && !c.opt.Now().Before(u.probe.due) {
				c.lookSub(u)
			}
		})
	}
}

func cursorRef(epoch layout.ID16) ref { return ref{cursorFile, epoch.String() + ".cur"} }
