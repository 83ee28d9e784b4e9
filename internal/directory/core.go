package directory

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
)

// files is what the state machine asks of the bus directory. No call waits for
// a client.
type files interface {
	create(ref) error // empty, fails if there
	remove(ref) error // nil if not there
	held(ref) bool    // the owner lives; false if the file is gone, true when in doubt
	lane(ref) (layout.LaneHeader, error)
	cursor(ref) (layout.CursorHeader, error)
	state(ref) layout.LaneState
	end(ref, *layout.LaneHeader) (pos, seq uint64) // first position without a frame, its sequence
	slotEpoch(ref, uint32) uint64                  // low word of the epoch in a cursor file's slot; 0 = none
	slotLane(ref, uint32) uint64                   // low word of the epoch of the lane whose cursor is in a slot; 0 = none
	save(busState) error
}

// core is the state machine. Everything in it is guarded by Server.mu.
type core struct {
	opt   Options
	files files
	bus   busState
	uid   uint32 // the server's
	boot  layout.ID16
	slots uint32

	topics   map[string]*topicState
	ids      map[uint64]string // topic id -> name
	lanes    map[layout.ID16]*lane
	subs     map[layout.ID16]*subscriber
	numbers  []bool // in use
	sessions map[*session]struct{}
	usage    map[uint32]*usage // by uid
	shmBytes uint64
	foreign  []string // files of other layout versions, kept and left alone
	births   uint64
	counters map[string]uint64
	deadlines
}

// usage is what a uid holds.
type usage struct {
	bytes                    uint64
	lanes, subs, connections int
}

func newCore(o Options, f files, bus busState, boot layout.ID16, uid uint32) *core {
	return &core{
		opt: o, files: f, bus: bus, boot: boot, uid: uid,
		slots:    uint32(o.Quotas.MaxLanes),
		topics:   make(map[string]*topicState),
		ids:      make(map[uint64]string),
		lanes:    make(map[layout.ID16]*lane),
		subs:     make(map[layout.ID16]*subscriber),
		numbers:  make([]bool, o.Quotas.MaxLanes),
		sessions: make(map[*session]struct{}),
		usage:    make(map[uint32]*usage),
		counters: make(map[string]uint64),
	}
}

// session is one connection.
type session struct {
	peer   control.Peer
	client layout.ID16 // from hello
	out    *outbox
	lanes  map[*lane]struct{}
	subs   map[*subscriber]struct{}
	part   *control.Message    // of a list whose rest follows; nil = none
	early  map[notice]struct{} // came before their resume-sub
}

// notice is what a subscriber said of a lane.
type notice struct {
	op   control.Op
	sub  *subscriber
	lane *lane
}

func newSession(peer control.Peer, limit int) *session {
	return &session{peer: peer, out: newOutbox(limit), lanes: make(map[*lane]struct{}), subs: make(map[*subscriber]struct{}),
		early: make(map[notice]struct{})}
}

// whole puts the parts of a list together in m; false while more follows.
func (s *session) whole(m *control.Message) (bool, *control.Error) {
	if p := s.part; p != nil {
		s.part = nil
		if p.Op != m.Op || p.Lane != m.Lane || p.Sub != m.Sub {
			return false, refusal(control.CodeInvalid, "send the parts of a list one after the other", "%s follows a part of %s", m.Op, p.Op)
		}
		m.Joined, m.Lanes = append(p.Joined, m.Joined...), append(p.Lanes, m.Lanes...)
	}
	if n := max(len(m.Joined), len(m.Lanes)); n > layout.MaxLanes {
		return false, refusal(control.CodeInvalid, "", "a list of %d entries: the most is %d", n, layout.MaxLanes)
	}
	if m.More {
		s.part = m
		s.ok(m.ID)
	}
	return !m.More, nil
}

func (s *session) send(m *control.Message) { s.out.push(item{m: m}) }

func (s *session) leave(lane, sub layout.ID16, reason string) {
	s.send(&control.Message{Op: control.OpLeave, Lane: lane, Sub: sub, Reason: reason})
}

func (s *session) ok(id uint64) { s.send(&control.Message{Op: control.OpOK, ID: id}) }

// grants counts what was granted and is not ready yet.
func (s *session) grants() int {
	n := 0
	for l := range s.lanes {
		if l.phase == granted {
			n++
		}
	}
	for u := range s.subs {
		if u.phase == granted {
			n++
		}
	}
	return n
}

// maxGrants bounds what one connection leaves unfinished.
const maxGrants = 256

type phase uint8

const (
	granted phase = iota
	live
	orphan
	dormant // a durable subscriber without an owner
	ended
	unreadable
)

// lane is one lane file.
type lane struct {
	head    layout.LaneHeader // as granted, or as read at start
	file    ref
	topic   *topicState // nil while unreadable
	phase   phase
	owner   *session // nil unless its connection is up
	policy  control.Policy
	joins   map[*subscriber]*join
	born    uint64 // order in which lanes and subscribers became ready
	adopted bool   // found at start
	bytes   uint64
	final   *control.Final // ended
	empty   bool           // ended without a data frame
	endedAt time.Time
	probe   probe
}

// subscriber is one cursor file.
type subscriber struct {
	head    layout.CursorHeader
	file    ref
	peer    control.Peer
	phase   phase
	session *session // nil unless its connection is up
	born    uint64
	past    bool
	unknown bool // adopted, and has not said yet which lanes it has
	bytes   uint64
	wait    *wait // ready-sub that is not answered yet
	probe   probe
	since   time.Time // dormant
}

// wait is a ready-sub that is answered when its lanes were sent.
type wait struct {
	id   uint64
	left int
}

// join is one subscriber on one lane.
type join struct {
	lane    *lane
	sub     *subscriber
	state   joinState
	fresh   bool // the subscriber was ready before the lane: it is entitled to all of it
	sent    bool // the subscriber was told of the lane
	drained bool // the subscriber is done with the lane
	again   bool // the subscriber was evicted, asked to be joined again and was not answered
	waited  bool // counted in sub.wait
	notice  uint32
	pos     uint64
	ticket  uint64
	refusal string
}

type joinState uint8

const (
	wanted joinState = iota
	asked
	joined
)

// probe paces the look at an orphan's lock.
type probe struct {
	wait  time.Duration
	since time.Time // of the first look
	due   time.Time
	said  bool // that the owner lives
}

// Pauses between two looks at an orphan's lock: the kernel drops the lock of a
// dying process a moment after its socket, so the first looks come early.
const (
	firstProbe  = 5 * time.Millisecond
	secondProbe = 20 * time.Millisecond
	thirdProbe  = 250 * time.Millisecond
	lastProbe   = 10 * time.Second
)

// pause is how long to wait before the next look.
func (p *probe) pause(now time.Time) time.Duration {
	switch p.wait {
	case 0:
		p.wait, p.since = firstProbe, now
	case firstProbe:
		p.wait = secondProbe
	case secondProbe:
		p.wait = thirdProbe
	default:
		p.wait = min(2*p.wait, lastProbe)
	}
	p.due = now.Add(p.wait)
	return p.wait
}

// lives is true once, when the owner has been without a connection for so long
// that it is not dying.
func (p *probe) lives(now time.Time) bool {
	if p.said || p.wait == 0 || now.Sub(p.since) < firstProbe+secondProbe {
		return false
	}
	p.said = true
	return true
}

// attach counts a connection in.
func (c *core) attach(s *session) {
	c.sessions[s] = struct{}{}
	c.used(s.peer.UID).connections++
}

// welcome decides on a hello.
func (c *core) welcome(s *session, m *control.Message) *control.Error {
	switch {
	case m.Op != control.OpHello || m.Hello == nil:
		return refusal(control.CodeInvalid, "start with hello", "the first message is %q", m.Op)
	case m.Hello.Version != control.Version:
		return refusal(control.CodeVersion, "use matching releases of client and registry",
			"client speaks version %d of the conversation, this directory speaks %d", m.Hello.Version, control.Version)
	case s.peer.UID == NobodyUID:
		return refusal(control.CodePermission, "map the user into this user namespace", "uid %d is the overflow uid: nobody knows who that is", NobodyUID)
	case c.used(s.peer.UID).connections > c.opt.Quotas.MaxConnectionsPerUID:
		return refusal(control.CodeQuota, "share one client per process, or raise the limit",
			"uid %d has %d connections, the limit is %d", s.peer.UID, c.used(s.peer.UID).connections-1, c.opt.Quotas.MaxConnectionsPerUID)
	}
	s.client = m.Hello.Client
	s.send(&control.Message{Op: control.OpWelcome, ID: m.ID, Welcome: &control.Welcome{
		Version: control.Version, Incarnation: c.bus.Incarnation, Bus: c.opt.Bus, Node: c.bus.Node, Slots: c.slots,
	}})
	return nil
}

// detach counts a connection out and looks whether the owners behind it live.
func (c *core) detach(s *session) {
	if _, there := c.sessions[s]; !there {
		return
	}
	delete(c.sessions, s)
	c.used(s.peer.UID).connections--
	c.unused(s.peer.UID)
	for l := range s.lanes {
		c.disown(l)
		c.look(l)
	}
	for u := range s.subs {
		u.session, u.wait = nil, nil
		delete(s.subs, u)
		c.lookSub(u)
	}
}

// disown takes a lane from its connection: what it was asked may be lost.
func (c *core) disown(l *lane) {
	if l.owner == nil {
		return
	}
	delete(l.owner.lanes, l)
	l.owner = nil
	for _, j := range l.joins {
		if j.state == asked {
			j.state = wanted
		}
	}
}

// handle answers one message. It reports whether the client sent it of its own
// accord, rather than because the directory asked.
func (c *core) handle(s *session, m *control.Message) (unasked bool) {
	unasked = true
	switch m.Op {
	case control.OpReadyPub, control.OpResPub, control.OpResSub:
		if whole, err := s.whole(m); err != nil {
			c.refuse(s, m.ID, err)
			return true
		} else if !whole {
			return true
		}
	}
	var err *control.Error
	switch m.Op {
	case control.OpOpenPub:
		err = c.openPub(s, m)
	case control.OpReadyPub:
		err = c.readyPub(s, m)
	case control.OpClosePub:
		err = c.closePub(s, m)
	case control.OpResPub:
		err = c.resumePub(s, m)
	case control.OpOpenSub:
		err = c.openSub(s, m)
	case control.OpReadySub:
		err = c.readySub(s, m)
	case control.OpCloseSub:
		err = c.closeSub(s, m)
	case control.OpResSub:
		err = c.resumeSub(s, m)
	case control.OpDiscard:
		c.discard(s, m)
	case control.OpJoined:
		unasked = !c.joined(s, m)
	case control.OpDrained:
		unasked = !c.drained(s, m)
	case control.OpRejoin:
		c.rejoin(s, m)
	case control.OpEvicted:
		c.evicted(s, m)
	case control.OpCreate:
		err = c.createTopic(s, m)
	case control.OpPlan:
		err = c.planTopic(s, m)
	case control.OpDelete:
		err = c.deleteTopic(s, m)
	default:
		err = refusal(control.CodeInvalid, "use matching releases of client and registry", "unknown operation %q", short(string(m.Op)))
	}
	if err != nil {
		c.refuse(s, m.ID, err)
	}
	return unasked
}

// refuse answers with an error.
func (c *core) refuse(s *session, id uint64, err *control.Error) {
	c.counters["refusals_"+string(err.Code)]++
	c.opt.Log.Info("refused", "code", string(err.Code), "why", err.Message, "uid", s.peer.UID, "pid", s.peer.PID)
	s.send(&control.Message{Op: control.OpError, ID: id, Error: err})
}

func refusal(code control.Code, hint, format string, a ...any) *control.Error {
	e := control.Errorf(code, format, a...)
	e.Hint = hint
	return e
}

// short bounds what is quoted from a client.
func short(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

// authorize asks whether a peer may.
func (c *core) authorize(p control.Peer, name string, verb Verb) *control.Error {
	err := error(nil)
	if c.opt.Authorize != nil {
		err = c.opt.Authorize(p, name, verb)
	} else if p.UID != 0 && p.UID != c.uid {
		err = fmt.Errorf("only root and uid %d may", c.uid)
	}
	if err == nil {
		return nil
	}
	var ce *control.Error
	if errors.As(err, &ce) {
		return ce
	}
	return refusal(control.CodePermission, "ask for an entry in the topic's allow-list",
		"uid %d, gid %d may not %s %s: %v", p.UID, p.GID, verb, name, err)
}

// used is the account of a uid.
func (c *core) used(uid uint32) *usage {
	u := c.usage[uid]
	if u == nil {
		u = new(usage)
		c.usage[uid] = u
	}
	return u
}

// unused closes the account of a uid that holds nothing.
func (c *core) unused(uid uint32) {
	if u := c.usage[uid]; u != nil && *u == (usage{}) {
		delete(c.usage, uid)
	}
}

// account adds to what a uid holds; negative amounts take away.
func (c *core) account(uid uint32, bytes int64, lanes, subs int) {
	u := c.used(uid)
	u.bytes += uint64(bytes)
	u.lanes += lanes
	u.subs += subs
	c.shmBytes += uint64(bytes)
	c.unused(uid)
}

// fitsBytes says why more bytes are refused, nil if they are not, and which
// lanes would make room.
func (c *core) fitsBytes(uid uint32, bytes uint64) (*control.Error, func(*lane) bool) {
	q := &c.opt.Quotas
	if q.MaxShmBytes > 0 && c.shmBytes+bytes > q.MaxShmBytes {
		return refusal(control.CodeQuota, "use smaller rings, or raise max_shm_bytes",
			"%d more bytes of shared memory: the bus has %d of %d", bytes, c.shmBytes, q.MaxShmBytes), func(*lane) bool { return true }
	}
	if have := c.used(uid).bytes; q.MaxShmBytesPerUID > 0 && have+bytes > q.MaxShmBytesPerUID {
		return refusal(control.CodeQuota, "use smaller rings, or raise the limit",
			"%d more bytes of shared memory: uid %d has %d of %d", bytes, uid, have, q.MaxShmBytesPerUID), func(l *lane) bool { return l.head.UID == uid }
	}
	return nil, nil
}

// room makes fits true, by cutting the grace of ended lanes short, oldest
// first, or says why it cannot.
func (c *core) room(fits func() (*control.Error, func(*lane) bool)) *control.Error {
	for {
		err, helps := fits()
		if err == nil {
			return nil
		}
		var oldest *lane
		for _, l := range c.lanes {
			if l.phase == ended && helps(l) && !c.needed(l) && (oldest == nil || l.endedAt.Before(oldest.endedAt)) {
				oldest = l
			}
		}
		if oldest == nil || !c.unlink(oldest) {
			return err
		}
		c.counters["grace_cut"]++
	}
}

// failed turns a failure of the bus directory into an answer.
func (c *core) failed(what string, err error) *control.Error {
	if errors.Is(err, segment.ErrNoSpace) {
		return refusal(control.CodeNoSpace, "free shared memory, or give the bus directory's file system more", "cannot %s: %v", what, err)
	}
	c.opt.Log.Error("cannot "+what, "error", err)
	return refusal(control.CodeInternal, "see the directory's log", "cannot %s: %v", what, err)
}

func (c *core) removeFile(f ref) {
	if err := c.files.remove(f); err != nil {
		c.opt.Log.Error("cannot remove a segment", "file", f.name, "error", err)
		return
	}
	c.counters["unlinks"]++
}

func newEpoch() (id layout.ID16) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// bear numbers what becomes ready.
func (c *core) bear() uint64 {
	c.births++
	return c.births
}

// inOrder is every lane, oldest first.
func (c *core) inOrder() []*lane {
	all := make([]*lane, 0, len(c.lanes))
	for _, l := range c.lanes {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *lane) int { return int(int64(a.born - b.born)) })
	return all
}

// matches reports whether a subscriber gets the lanes of a topic. One that has
// not resumed since a restart has the benefit of the doubt: the groups of its
// process are not known.
func (c *core) matches(u *subscriber, t *topicState) bool {
	return t != nil && topic.Match(u.head.Pattern, t.name) && (u.unknown || c.authorize(u.peer, t.name, VerbSubscribe) == nil)
}

func (u *subscriber) joins() bool { return u.head.Mode == layout.Lossless || u.head.Park }

func (u *subscriber) ready() bool { return u.phase == live || u.phase == orphan || u.phase == dormant }

func logLane(l *lane) slog.Attr {
	return slog.Group("lane", "epoch", l.head.Epoch.String(), "number", l.head.Lane, "topic", l.head.Topic, "source", l.head.Source)
}

func logSub(u *subscriber) slog.Attr {
	return slog.Group("subscriber", "epoch", u.head.Epoch.String(), "pattern", u.head.Pattern, "name", u.head.Name)
}
