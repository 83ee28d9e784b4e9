package directory

import (
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// A durable subscriber is one whose cursor file says keep. The file outlives its
// owner, and whoever asks for the same uid, name and pattern goes on with it:
//
//	        open-sub                ready-sub
//	(none) ----------> granted ---------------> live <-----------------+
//	                                              |                    |
//	                                 lock free,   | close-sub          | open-sub, then
//	                                              v                    | ready-sub
//	                                           dormant ----------------+
//	                                              |
//	                   keep is over, or close-sub | with forget
//	                                              v
//	                                           (none)
//
// A dormant subscriber counts as ready: new lanes join it, and ended ones wait.

// maxKeep bounds how long a dead owner's subscriber may hold others back.
const maxKeep = 7 * 24 * time.Hour

// reopenSub grants the file of a durable subscriber that has no owner; false if
// there is none of that name.
func (c *core) reopenSub(s *session, m *control.Message) (done bool, refused *control.Error) {
	o := m.OpenSub
	switch {
	case o.Keep < 0 || o.Keep > maxKeep.Nanoseconds():
		return false, refusal(control.CodeInvalid, "", "a subscriber kept for %v: want up to %v", time.Duration(o.Keep), maxKeep)
	case o.Name == "":
		return false, refusal(control.CodeInvalid, "name it", "a durable subscriber without a name")
	}
	u := c.durable(s.peer.UID, o.Name, o.Topic)
	if u == nil {
		return false, nil
	}
	if u.session == nil {
		c.lookSub(u) // its owner may have died this moment
	}
	switch {
	case c.durable(s.peer.UID, o.Name, o.Topic) != u: // it was never ready
		return false, nil
	case u.phase != dormant || u.session != nil && u.session != s:
		return false, refusal(control.CodeInUse, "stop it, or choose another name", "durable subscriber %q of %s has an owner", o.Name, o.Topic)
	case u.head.Mode != o.Mode || u.head.Park != o.Park:
		return false, refusal(control.CodeExists, "choose another name, or forget it first", "durable subscriber %q of %s exists with another mode", o.Name, o.Topic)
	}
	c.ownSub(u, s)
	u.past = o.Past
	s.out.push(item{file: u.file, write: true, m: &control.Message{Op: control.OpGranted, ID: m.ID, Sub: u.head.Epoch, SubGrant: &control.SubGrant{
		UID: u.head.UID, GID: u.head.GID, Slots: u.head.Slots, Boot: c.boot, Resumed: true,
	}}})
	c.after(c.opt.Quotas.HandshakeTimeout, func() {
		if u.phase == dormant && u.session == s { // it never said that it is ready
			delete(s.subs, u)
			u.session = nil
		}
	})
	return true, nil
}

func (c *core) durable(uid uint32, name, pattern string) *subscriber {
	for _, u := range c.subs {
		if u.head.Keep > 0 && u.head.UID == uid && u.head.Name == name && u.head.Pattern == pattern {
			return u
		}
	}
	return nil
}

// wakeSub is readySub for a durable subscriber that has a new owner.
func (c *core) wakeSub(s *session, m *control.Message, u *subscriber) *control.Error {
	if err := c.checkGrantedSub(u); err != nil {
		delete(s.subs, u)
		u.session = nil
		return err
	}
	u.phase, u.unknown = live, false
	for _, l := range c.inOrder() {
		if j := l.joins[u]; j != nil && !j.drained {
			j.sent, j.again, j.waited = false, false, false
		}
	}
	c.counters["resumed_durables"]++
	c.tellLanes(u, m.ID, true)
	c.opt.Log.Debug("durable subscriber resumed", logSub(u), "uid", u.head.UID)
	return nil
}

// sleep keeps a durable subscriber whose owner has gone.
func (c *core) sleep(u *subscriber) {
	if u.session != nil {
		delete(u.session.subs, u)
		u.session, u.wait = nil, nil
	}
	if u.phase == dormant {
		return
	}
	c.counters["dormant"]++
	now := c.opt.Now()
	u.phase, u.since, u.probe = dormant, now, probe{}
	c.opt.Log.Info("durable subscriber without an owner: it is kept", logSub(u), "keep", time.Duration(u.head.Keep))
	c.after(time.Duration(u.head.Keep), func() { c.expire(u, now) })
}

// expire removes a subscriber that has been dormant since a time, unless somebody
// is about to take it over.
func (c *core) expire(u *subscriber, since time.Time) {
	switch {
	case c.subs[u.head.Epoch] != u || u.phase != dormant || !u.since.Equal(since):
	case u.session != nil || c.files.held(u.file):
		c.after(c.opt.Quotas.HandshakeTimeout, func() { c.expire(u, since) })
	default:
		c.counters["expired_durables"]++
		c.opt.Log.Warn("durable subscriber forgotten: nobody came back for it", logSub(u))
		c.drop(u)
	}
}

// entitled reports whether a ready subscriber that was not told of a lane gets it:
// what ended before a subscriber came is the past. One that has come back may
// have had the lane before a restart of the directory, which its slot tells.
func (c *core) entitled(u *subscriber, l *lane, back bool) bool {
	if l.phase != ended || u.past && !l.empty {
		return true
	}
	return back && (l.born > u.born || c.files.slotLane(u.file, l.head.Lane) == l.head.Epoch.Low())
}

// adoptDurable restores a durable subscriber whose owner was gone before this
// directory came.
func (c *core) adoptDurable(u *subscriber) {
	if !topic.IsPattern(u.head.Pattern) {
		if _, err := c.topicFor(u.head.Pattern); err != nil {
			c.opt.Log.Warn("topic of a subscriber", "error", err.Error())
		}
	}
	c.enterSub(u)
	c.sleep(u)
}

// mirrorKeep is how long a bus remembers how far a mirror lane came that it has no
// more.
const mirrorKeep = 24 * time.Hour

// maxMirrors bounds how many of them; beyond it the oldest is forgotten.
const maxMirrors = 8192

// mirrorEnd is how far the mirror lanes of one origin epoch came.
type mirrorEnd struct {
	Next uint64 `json:"next,string"`  // sequence that is due
	At   int64  `json:"at_unix_secs"` // when it was written down
}

// resumeMirror is the sequence with which a mirror lane goes on, if this bus has
// had one of that origin epoch.
func (c *core) resumeMirror(epoch layout.ID16) (next uint64, found bool) {
	for _, l := range c.lanes {
		if l.head.Mirror && l.head.OriginEpoch == epoch && l.phase == ended && (!found || int64(l.final.Seq-next) > 0) {
			next, found = l.final.Seq, true
		}
	}
	if m, ok := c.bus.Mirrors[epoch]; ok && (!found || int64(m.Next-next) > 0) {
		next, found = m.Next, true
	}
	return next, found
}

// rememberMirror writes down how far a mirror lane came, before it is unlinked.
func (c *core) rememberMirror(l *lane) error {
	if !l.head.Mirror || l.final == nil {
		return nil
	}
	if have, ok := c.bus.Mirrors[l.head.OriginEpoch]; ok && int64(l.final.Seq-have.Next) <= 0 {
		return nil
	}
	now := c.opt.Now()
	if c.bus.Mirrors == nil {
		c.bus.Mirrors = make(map[layout.ID16]mirrorEnd)
	}
	var oldest layout.ID16
	for e, m := range c.bus.Mirrors {
		if now.Sub(time.Unix(m.At, 0)) > mirrorKeep {
			delete(c.bus.Mirrors, e)
		} else if oldest.IsZero() || m.At < c.bus.Mirrors[oldest].At {
			oldest = e
		}
	}
	if len(c.bus.Mirrors) >= maxMirrors {
		delete(c.bus.Mirrors, oldest)
	}
	c.bus.Mirrors[l.head.OriginEpoch] = mirrorEnd{Next: l.final.Seq, At: now.Unix()}
	return c.files.save(c.bus)
}

// mirror makes a lane's header that of a mirror lane.
func (c *core) mirror(h *layout.LaneHeader, m *control.Mirror) (found bool) {
	h.Mirror, h.Hops, h.OriginNode, h.OriginEpoch = true, m.Hops, m.Node, m.Epoch
	copy(h.Via[:], m.Via)
	h.FirstSeq = m.FirstSeq
	if next, ok := c.resumeMirror(m.Epoch); ok {
		h.FirstSeq = next
		return true
	}
	return false
}

// checkMirror refuses what no forwarder asks for.
func (c *core) checkMirror(m *control.Mirror) *control.Error {
	switch {
	case m == nil:
		return nil
	case m.Node == c.bus.Node:
		return refusal(control.CodeInvalid, "", "a mirror lane of this host's own frames")
	case m.Epoch.IsZero() || m.Node.IsZero():
		return refusal(control.CodeInvalid, "", "a mirror lane without an origin")
	case m.Hops < 1 || m.Hops > layout.MaxHops || len(m.Via) != int(m.Hops)-1:
		return refusal(control.CodeInvalid, "", "a mirror lane over %d links, via %d hosts: the most is %d links", m.Hops, len(m.Via), layout.MaxHops)
	}
	return nil
}

// mirrorGeometry makes room for the origin's largest payload.
func mirrorGeometry(cfg TopicConfig, o *control.OpenPub) (layout.Geometry, *control.Error) {
	g, err := geometry(cfg, 0, 0)
	if err != nil || o.MaxMsg <= g.MaxMsg {
		return g, err
	}
	ring := g.Ring
	for ring < layout.MaxRing && uint64(o.MaxMsg) > ring/8 {
		ring *= 2
	}
	return geometry(cfg, ring, o.MaxMsg)
}
