package directory

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// resumePub declares a lane again on a new connection of the same client.
func (b *bus) resumePub(p *pub, joined ...control.Joined) {
	b.t.Helper()
	p.client = b.dialAs(p.epoch)
	p.ok(&control.Message{Op: control.OpResPub, Lane: p.lane, Joined: joined})
}

func (b *bus) resumeSub(s *sub, lanes ...layout.ID16) {
	b.t.Helper()
	s.client = b.dialAs(s.epoch)
	m := &control.Message{Op: control.OpResSub, Sub: s.sub}
	for _, l := range lanes {
		m.Lanes = append(m.Lanes, control.HeldLane{Lane: l})
	}
	s.ok(m)
}

func TestRestartLosesWhatLives(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.>", subOptions{})
	p := b.dial().publisher("a.b", "s")
	j := s.lane(p.lane).Joined[0]
	quiet := b.dial().publisher("a.c", "s") // closed while nobody serves
	s.lane(quiet.lane)
	deadPub, deadSub := b.dial().publisher("a.d", "s"), b.dial().grantSub("a.d", subOptions{})
	s.lane(deadPub.lane)
	deadPub.publish(3)
	first := b.s.Stats().Incarnation

	b.close()
	quiet.publish(1, 2)
	quiet.tail()
	quiet.word(layout.OffState, uint64(layout.LaneClosed))
	_ = quiet.f.Close()
	_ = deadPub.f.Close()
	_ = deadSub.f.Close()
	b.open()
	st := b.s.Stats()
	if st.Incarnation != first+1 || st.Lanes != 3 || st.Subscribers != 1 || st.Counters["adoptions"] != 2 {
		t.Fatalf("after restart %+v", st)
	}
	// The source of a lane without a connection is busy, and that of a dead one is not.
	c := b.dial()
	c.refused(openPub("a.b", "s"), control.CodeSourceBusy)

	p.publish(4)
	b.resumePub(p, j)
	b.resumeSub(s, p.lane, quiet.lane)
	if f := s.event(control.OpFinal, quiet.lane, s.sub).m.Final; f.Dead || f.Pos != quiet.pos || f.Seq != 2 {
		t.Errorf("final of the closed lane %+v", f)
	}
	// deadPub is not listed and the cursor file has no trace of it: sent again.
	if m := s.lane(deadPub.lane); m.Final == nil || !m.Final.Dead || m.Final.Pos != deadPub.pos || !m.LaneInfo.New {
		t.Errorf("the lane that was never received: %+v", m)
	}
	if n := s.settle(control.OpLane); n != 0 {
		t.Errorf("%d lanes sent that it has", n)
	}
	s.drained(quiet.lane)
	s.drained(deadPub.lane)
	eventually(t, "dead lanes unlinked", func() bool { return b.s.Stats().Lanes == 1 })
	p.finish()
	s.event(control.OpFinal, p.lane, s.sub)
	s.drained(p.lane)
	s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	b.empty()
}

func TestDeadLaneIsUnlinkedUnderWhoHasNotResumed(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.b", subOptions{mode: layout.Lossy})
	gone := b.dial().subscriber("a.*", subOptions{mode: layout.Lossy})
	p := b.dial().publisher("a.b", "s")
	p.publish(1)
	s.slot(p.g.Number, p.lane, p.pos, 1)
	b.close()
	_ = p.f.Close()
	b.open()
	if b.s.Stats().Lanes != 1 {
		t.Fatal("the dead lane is gone before its subscribers came back")
	}
	b.resumeSub(s) // has no lanes any more, but had this one: its slot says so
	if n := s.settle(control.OpLane); n != 0 {
		t.Error("a lane it had drained was sent again")
	}
	if b.s.Stats().Lanes != 1 {
		t.Fatal("the dead lane is gone before its other subscriber came back")
	}
	gone.die()
	eventually(t, "the dead lane unlinked", func() bool { return b.s.Stats().Lanes == 0 })
	s.die()
	b.empty()
}

func TestPublisherComesBackFirst(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.b", subOptions{})
	p := b.dial().publisher("a.b", "s")
	j := s.lane(p.lane).Joined[0]
	b.restart()
	stranger := control.Joined{Sub: newEpoch(), Ticket: 5}
	p.client = b.dialAs(p.epoch)
	p.send(&control.Message{Op: control.OpResPub, ID: 1000, Lane: p.lane, Joined: []control.Joined{j, stranger}})
	p.event(control.OpLeave, p.lane, stranger.Sub)
	p.next("ok", func(m *control.Message) bool { return m.ID == 1000 })
	if n := p.settle(control.OpJoin); n != 0 {
		t.Errorf("%d joins of who is joined", n)
	}
	// The subscriber lost the lane message: it is sent with the join of before.
	b.resumeSub(s)
	if m := s.lane(p.lane); m.Joined[0].Ticket != j.Ticket || !m.LaneInfo.New {
		t.Errorf("lane %+v", m)
	}

	// A publisher that lost the join is asked when both are back.
	q := b.dial().grant("a.b", "q")
	b.restart()
	b.resumeSub(s, p.lane)
	q.client = b.dialAs(q.epoch)
	q.ok(&control.Message{Op: control.OpReadyPub, Lane: q.lane}) // its answer was lost with the directory
	q.answerJoin(s.sub)
	if m := s.lane(q.lane); !m.LaneInfo.New {
		t.Errorf("lane %+v", m.LaneInfo)
	}
	// One that evicted it while the directory was down is not asked: the
	// subscriber finds out itself.
	b.resumePub(p)
	if n := p.settle(control.OpJoin); n != 0 {
		t.Errorf("%d joins", n)
	}
	s.send(&control.Message{Op: control.OpRejoin, Sub: s.sub, Lane: p.lane})
	if !p.event(control.OpJoin, p.lane, s.sub).m.Join.Again {
		t.Error("not again")
	}
}

func TestNewPublisherWhileASubscriberIsAway(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.b", subOptions{})
	_ = s.conn.Close()
	eventually(t, "the subscriber away", func() bool { return b.s.Stats().Connections == 0 })
	pc := b.dial()
	p := pc.publisher("a.b", "s") // joins it all the same
	if p.g.Joins != 1 {
		t.Fatalf("%d joins", p.g.Joins)
	}
	b.resumeSub(s)
	if m := s.lane(p.lane); !m.LaneInfo.New || m.Joined[0].Pos != p.head.FirstPos {
		t.Errorf("lane %+v", m)
	}
	// Away again, and the answer to a rejoin comes meanwhile.
	s.send(&control.Message{Op: control.OpRejoin, Sub: s.sub, Lane: p.lane})
	j := p.event(control.OpJoin, p.lane, s.sub)
	_ = s.conn.Close()
	eventually(t, "the subscriber away", func() bool { return b.s.Stats().Connections == 1 })
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: p.joinedTo(j)})
	p.settle(control.OpJoin)
	b.resumeSub(s, p.lane)
	// And a rejoin while the publisher is away.
	_ = pc.conn.Close()
	eventually(t, "the publisher away", func() bool { return b.s.Stats().Connections == 1 })
	s.send(&control.Message{Op: control.OpRejoin, Sub: s.sub, Lane: p.lane})
	s.settle(control.OpLane)
	b.resumePub(p)
	if !p.event(control.OpJoin, p.lane, s.sub).m.Join.Again {
		t.Error("not again")
	}
	// The answer is lost with the connection, the new ticket is not.
	again := func(what string, ticket uint64) {
		t.Helper()
		if m := s.event(control.OpLane, p.lane, s.sub).m; m.LaneInfo != nil || len(m.Joined) != 1 || m.Joined[0].Ticket != ticket {
			t.Errorf("%s: lane %+v", what, m)
		}
	}
	b.resumePub(p, control.Joined{Sub: s.sub, Pos: p.pos, Ticket: 7})
	again("listed", 7)
	if n := p.settle(control.OpJoin); n != 0 {
		t.Errorf("%d joins of who is joined again", n)
	}
	// Listed as of before the eviction: the ticket says so.
	s.send(&control.Message{Op: control.OpRejoin, Sub: s.sub, Lane: p.lane})
	p.event(control.OpJoin, p.lane, s.sub)
	b.resumePub(p, control.Joined{Sub: s.sub, Pos: p.pos, Ticket: 7})
	j = p.event(control.OpJoin, p.lane, s.sub)
	if !j.m.Join.Again {
		t.Error("not again")
	}
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: []control.Joined{{Sub: s.sub, Pos: p.pos, Ticket: 8}}})
	again("answered", 8)
}

func TestConnectionBreaksBetweenGrantAndReady(t *testing.T) {
	for _, answered := range []bool{true, false} {
		b := newBus(t, nil)
		s, gone := b.dial().subscriber("a.b", subOptions{}), b.dial().subscriber("a.b", subOptions{})
		p := b.dial().grant("a.b", "s")
		joined := p.admit()
		_ = p.conn.Close()
		eventually(t, "the publisher away", func() bool { return b.s.Stats().Connections == 2 })
		gone.die()
		eventually(t, "a subscriber gone", func() bool { return b.s.Stats().Subscribers == 1 })
		p.client = b.dialAs(p.epoch)
		if !answered { // the connection took the joins along
			joined = nil
		}
		p.ok(p.readyMessage(joined...))
		if answered {
			p.event(control.OpLeave, p.lane, gone.sub)
		} else {
			p.answerJoin(s.sub)
		}
		if m := s.lane(p.lane); !m.LaneInfo.New || len(m.Joined) != 1 {
			t.Errorf("answers kept %v: lane %+v", answered, m)
		}
	}
}

func TestPublisherHoldsForWhoHasLeft(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().publisher("a.b", "s")
	// Parked and evicted: not listed any more, and still woken.
	parked := b.dial().subscriberOf(p, subOptions{park: true})
	s := b.dial().subscriberOf(p, subOptions{})
	s.slot(p.g.Number, p.lane, p.pos, 0)
	b.restart()
	b.resumePub(p, control.Joined{Sub: s.sub, Pos: p.pos, Ticket: 5})
	b.resumeSub(parked, p.lane)
	b.resumeSub(s) // its drained was lost with the directory
	if why := p.event(control.OpLeave, p.lane, s.sub).m.Reason; why != "drained" {
		t.Errorf("reason %q", why)
	}
	parked.die()
	p.event(control.OpLeave, p.lane, parked.sub)
}

// subscriberOf goes all the way on a topic with one lane.
func (c *client) subscriberOf(p *pub, o subOptions) *sub {
	c.t.Helper()
	s := c.grantSub(p.g.Topic, o)
	s.send(&control.Message{Op: control.OpReadySub, ID: 1000, Sub: s.sub})
	p.answerJoin(s.sub)
	s.next("ok", func(m *control.Message) bool { return m.ID == 1000 })
	s.lane(p.lane)
	return s
}

func TestNoticesOvertakeTheirResume(t *testing.T) {
	b := newBus(t, nil)
	p, q := b.dial().publisher("a.b", "p"), b.dial().publisher("a.b", "q")
	s := b.dial().grantSub("a.b", subOptions{})
	s.send(&control.Message{Op: control.OpReadySub, ID: 1000, Sub: s.sub})
	jp, jq := p.answerJoin(s.sub), q.answerJoin(s.sub)
	s.next("ok", func(m *control.Message) bool { return m.ID == 1000 })
	b.restart()
	b.resumePub(p, jp)
	b.resumePub(q, jq)
	s.client = b.dialAs(s.epoch)
	for _, n := range []*control.Message{
		{Op: control.OpDrained, Sub: s.sub, Lane: p.lane},
		{Op: control.OpRejoin, Sub: s.sub, Lane: q.lane},
		{Op: control.OpRejoin, Sub: newEpoch(), Lane: q.lane},
	} {
		s.send(n)
	}
	// The list was made before the notices.
	s.ok(&control.Message{Op: control.OpResSub, Sub: s.sub, Lanes: []control.HeldLane{{Lane: p.lane}, {Lane: q.lane}}})
	p.event(control.OpLeave, p.lane, s.sub)
	if !q.event(control.OpJoin, q.lane, s.sub).m.Join.Again {
		t.Error("not again")
	}
	p.finish()
	eventually(t, "the drained lane unlinked", func() bool { return b.s.Stats().Lanes == 1 })
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for ss := range b.s.core.sessions {
		if len(ss.early) != 0 {
			t.Errorf("%d notices are kept for ever", len(ss.early))
		}
	}
}

func TestDrainedBeforeTheLaneWasTold(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().publisher("a.b", "s")
	s := b.dial().grantSub("a.b", subOptions{})
	s.send(&control.Message{Op: control.OpReadySub, ID: 1000, Sub: s.sub})
	j := p.event(control.OpJoin, p.lane, s.sub)
	s.drained(p.lane)
	s.next("ok", func(m *control.Message) bool { return m.ID == 1000 }) // nothing to wait for
	p.event(control.OpLeave, p.lane, s.sub)
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: p.joinedTo(j)})
	p.settle(control.OpLeave)
	if n := s.settle(control.OpLane); n != 0 {
		t.Error("told of a lane that it gave up")
	}
}

func TestClosedWhileReconnecting(t *testing.T) {
	b := newBus(t, nil)
	p, s := b.dial().publisher("a.b", "s"), b.dial().subscriber("x", subOptions{})
	held, heldSub := b.dial().publisher("a.c", "s"), b.dial().subscriber("x", subOptions{})
	now := time.Now()
	b.o.Now = func() time.Time { return now } // no look at the locks but by the close
	b.restart()
	p.word(layout.OffState, uint64(layout.LaneClosed))
	_ = p.f.Close()
	_ = s.f.Close()
	p.client, s.client = b.dialAs(p.epoch), b.dialAs(s.epoch)
	p.ok(&control.Message{Op: control.OpClosePub, Lane: p.lane})
	s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	if n := b.counter("closes"); n != 1 {
		t.Errorf("%d closes", n)
	}
	// Word without deed: its owner lives.
	p.refused(&control.Message{Op: control.OpClosePub, Lane: held.lane}, control.CodeInvalid)
	s.refused(&control.Message{Op: control.OpCloseSub, Sub: heldSub.sub}, control.CodeNotFound)
	if st := b.s.Stats(); st.Lanes != 1 || st.Subscribers != 1 {
		t.Errorf("after the closes: %+v", st)
	}
}

func TestClosedLaneIsTruncated(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().publisher("a.b", "s")
	if err := p.f.Truncate(layout.OffState); err != nil {
		t.Fatal(err)
	}
	_ = p.f.Close()
	p.ok(&control.Message{Op: control.OpClosePub, Lane: p.lane})
	b.empty()
}

func TestGroupsOfAnAdoptedSubscriber(t *testing.T) {
	var forbid atomic.Bool
	b := newBus(t, func(o *Options) {
		o.Authorize = func(p control.Peer, _ string, v Verb) error {
			if v == VerbSubscribe && (p.PID == 0 || forbid.Load()) { // as adopted: what is known only of a connection
				return errors.New("not in the group")
			}
			return nil
		}
	})
	s, barred := b.dial().subscriber("a.b", subOptions{}), b.dial().subscriber("a.b", subOptions{})
	over := b.dial().publisher("a.b", "over")
	over.publish(1)
	b.close()
	_ = over.f.Close()
	b.open()
	if b.s.Stats().Lanes != 1 {
		t.Fatal("a dead lane is gone before its subscribers came back")
	}
	p, q := b.dial().publisher("a.b", "s"), b.dial().grant("a.b", "q")
	if p.g.Joins != 2 || q.g.Joins != 2 {
		t.Fatalf("%d and %d joins, want two each", p.g.Joins, q.g.Joins)
	}
	b.resumeSub(s, over.lane)
	s.lane(p.lane)
	forbid.Store(true)
	b.resumeSubRefused(barred)
	forbid.Store(false)
	b.s.mu.Lock()
	b.s.core.subs[barred.sub].head.Pattern = "a.*"
	b.s.mu.Unlock()
	forbid.Store(true)
	b.resumeSub(barred)
	p.event(control.OpLeave, p.lane, barred.sub)
	q.event(control.OpLeave, q.lane, barred.sub)
	q.ok(q.readyMessage(q.admit()...))
	if n := barred.settle(control.OpLane); n != 0 {
		t.Errorf("told of %d lanes that it may not read", n)
	}
}

func (b *bus) resumeSubRefused(s *sub) {
	b.t.Helper()
	s.client = b.dialAs(s.epoch)
	s.refused(&control.Message{Op: control.OpResSub, Sub: s.sub}, control.CodePermission)
}

func TestWhoWasFirstIsInDoubtAfterARestart(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().grant("a.b", "s") // stamped before the subscriber, ready after it
	old := b.dial().grant("a.b", "old")
	old.head.CreatedMono -= 2 * watchdog.Nanoseconds()
	old.writeHeader()
	s := b.dial().subscriber("a.b", subOptions{mode: layout.Lossy})
	p.ok(p.readyMessage())
	old.ok(old.readyMessage())
	b.restart()
	b.resumePub(p)
	b.resumePub(old)
	b.resumeSub(s)
	if !s.lane(p.lane).LaneInfo.New {
		t.Error("a lane that became ready after the subscriber is read from its end")
	}
	if s.lane(old.lane).LaneInfo.New {
		t.Error("a lane from long before is new")
	}
}

func TestKilledOwnerIsCalledAlive(t *testing.T) {
	var log syncBuffer
	b := newBus(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	now := time.Now()
	b.s.mu.Lock()
	b.s.core.opt.Now = func() time.Time { return now }
	b.s.mu.Unlock()
	p, s := b.dial().publisher("a.b", "s"), b.dial().subscriber("x", subOptions{})
	_, _ = p.conn.Close(), s.conn.Close()
	eventually(t, "the connections gone", func() bool { return b.s.Stats().Connections == 0 })
	look := func(d time.Duration) string {
		b.s.mu.Lock()
		now = now.Add(d)
		b.s.mu.Unlock()
		b.s.tick()
		return log.String()
	}
	if text := look(5*time.Millisecond) + look(10*time.Millisecond); strings.Contains(text, "lives without") {
		t.Errorf("its lock may be about to go: %s", text)
	}
	if text := look(10 * time.Millisecond); strings.Count(text, "lives without a connection") != 2 {
		t.Errorf("never said: %s", text)
	}
	if text := look(time.Hour); strings.Count(text, "lives without a connection") != 2 {
		t.Errorf("said twice: %s", text)
	}
}

func TestSomebodyElseResumes(t *testing.T) {
	b := newBus(t, nil)
	p, s := b.dial().publisher("a.b", "s"), b.dial().subscriber("x", subOptions{})
	thief := b.dial()
	thief.refused(&control.Message{Op: control.OpResPub, Lane: p.lane}, control.CodeInUse)
	thief.refused(&control.Message{Op: control.OpResSub, Sub: s.sub}, control.CodeInUse)
	thief.refused(&control.Message{Op: control.OpClosePub, Lane: p.lane}, control.CodeNotFound)
	thief.refused(&control.Message{Op: control.OpCloseSub, Sub: s.sub}, control.CodeNotFound)
	for _, op := range []control.Op{control.OpResPub, control.OpReadyPub, control.OpResSub, control.OpReadySub} {
		thief.refused(&control.Message{Op: op, Lane: newEpoch(), Sub: newEpoch()}, control.CodeNotFound)
	}
	thief.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: []control.Joined{{Sub: s.sub}}})
	thief.send(&control.Message{Op: control.OpDrained, Lane: p.lane, Sub: s.sub})
	thief.send(&control.Message{Op: control.OpRejoin, Lane: p.lane, Sub: s.sub})
	thief.send(&control.Message{Op: control.OpDiscard, Lane: p.lane, Sub: s.sub})
	thief.refused(&control.Message{Op: control.OpClosePub, Lane: p.lane}, control.CodeNotFound)
	// The same client takes over before the directory has seen its old connection go.
	old := p.client
	b.resumePub(p)
	b.resumeSub(s)
	_ = old.conn.Close()
	eventually(t, "the old connection gone", func() bool { return b.s.Stats().Connections == 4 })
	p.refused(&control.Message{Op: control.OpClosePub, Lane: p.lane}, control.CodeInvalid) // not closed in its words
	p.publish(1)
	_ = p.f.Close()
	p.refused(&control.Message{Op: control.OpResPub, Lane: p.lane}, control.CodeInvalid)
	p.refused(&control.Message{Op: control.OpResPub, Lane: p.lane}, control.CodeNotFound)
	_ = s.f.Close()
	s.refused(&control.Message{Op: control.OpResSub, Sub: s.sub}, control.CodeInvalid)
	b.empty()
}

func TestOtherUserResumes(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Authorize = func(control.Peer, string, Verb) error { return nil } })
	p, s := b.dial().publisher("a.b", "s"), b.dial().subscriber("x", subOptions{})
	g, gs := b.dial().grant("a.c", "s"), b.dial().grantSub("x", subOptions{})
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	other := newSession(control.Peer{UID: 4711}, 100)
	for _, m := range []*control.Message{
		{Op: control.OpResPub, Lane: p.lane}, {Op: control.OpReadyPub, Lane: g.lane},
		{Op: control.OpResSub, Sub: s.sub}, {Op: control.OpReadySub, Sub: gs.sub},
	} {
		b.s.core.handle(other, m)
		it, _ := other.out.pop()
		if it.m.Error == nil || it.m.Error.Code != control.CodePermission {
			t.Errorf("%s by another user: %+v", m.Op, it.m)
		}
	}
}

func TestHalfMadeAndForeignFilesAtStart(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().publisher("a.b", "s")
	s := b.dial().subscriber("x", subOptions{})
	half, halfSub := b.dial().grant("a.c", "s"), b.dial().grantSub("a.c", subOptions{})
	half.word(layout.OffReady, 0)
	_ = halfSub.f.Truncate(8)
	otherBoot, otherBootSub := b.dial().publisher("a.e", "s"), b.dial().subscriber("a.e", subOptions{mode: layout.Lossy})
	otherBoot.head.BootID[3]++
	otherBoot.writeHeader()
	otherBootSub.head.BootID[3]++
	otherBootSub.writeHeader()
	forged, forgedSub := b.dial().publisher("a.f", "s"), b.dial().subscriber("a.f", subOptions{mode: layout.Lossy})
	forged.head.Topic = "secret"
	forged.writeHeader()
	forgedSub.head.Epoch[0]++
	forgedSub.writeHeader()
	future, futureSub := b.dial().publisher("a.g", "s"), b.dial().subscriber("a.g", subOptions{mode: layout.Lossy})
	for _, f := range []*os.File{future.f, futureSub.f} {
		if _, err := f.WriteAt([]byte{9, 0}, 8); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	b.close()
	garbage := []string{"l/readme", "l/0123456789abcdef.1.zz.ring", "l/0123456789abcdef.99999." + newEpoch().String() + ".ring", "c/x.cur", "c/y",
		// A second file with the number of p's.
		"l/0123456789abcdef.0." + newEpoch().String() + ".ring"}
	for _, name := range garbage {
		if err := os.WriteFile(filepath.Join(b.o.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(b.o.Dir, "c", newEpoch().String()+".cur"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.open()
	st := b.s.Stats()
	if st.Counters["foreign"] != 2 || len(b.s.core.foreign) != 2 {
		t.Errorf("foreign: %v", b.s.core.foreign)
	}
	if got := st.Counters["garbage"]; got != uint64(len(garbage)) {
		t.Errorf("%d names were garbage, want %d", got, len(garbage))
	}
	if st.Counters["adoptions"] != 2 {
		t.Errorf("%d adoptions, want p and s", st.Counters["adoptions"])
	}
	c := b.dial()
	if infos := c.ok(&control.Message{Op: control.OpList}).m.Topics; len(infos) != 2 || infos[0].Topic != "a.b" || infos[1].Topic != "x" {
		t.Errorf("topics: %+v", infos)
	}
	// Numbers of files that stay are not given out again, whatever is in them.
	taken := map[uint32]bool{p.g.Number: true, half.g.Number: true, forged.g.Number: true, future.g.Number: true}
	for _, name := range []string{"n.a", "n.b", "n.c"} {
		if n := c.publisher(name, "s").g.Number; taken[n] {
			t.Errorf("number %d is given out twice", n)
		} else {
			taken[n] = true
		}
	}
	b.s.mu.Lock()
	for _, l := range b.s.core.lanes {
		if l.phase == unreadable {
			b.s.core.look(l) // held: stays
		}
	}
	b.s.mu.Unlock()
	if n := b.s.Stats().Lanes; n != 6 {
		t.Errorf("%d lanes", n)
	}
	c.refused(&control.Message{Op: control.OpResPub, Lane: half.lane}, control.CodeNotFound)
	c.refused(&control.Message{Op: control.OpResSub, Sub: halfSub.sub}, control.CodeNotFound)
	_ = half.f.Close()
	_ = halfSub.f.Close()
	_ = forged.f.Close()
	_ = forgedSub.f.Close()
	b.s.mu.Lock()
	for _, l := range b.s.core.lanes {
		if l.phase == unreadable {
			b.s.core.look(l)
		}
	}
	for _, u := range b.s.core.subs {
		if u.phase == unreadable {
			b.s.core.lookSub(u)
		}
	}
	b.s.mu.Unlock()
	// The directory that is named like a cursor file cannot be unlinked.
	if st := b.s.Stats(); st.Lanes != 4 || st.Subscribers != 1 {
		t.Errorf("%d lanes and %d subscribers are left", st.Lanes, st.Subscribers)
	}
	_ = s
}

func TestYoungFileWithoutAHeaderIsTakenAway(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	g, gs := c.ok(openPub("a.b", "s")), c.ok(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a.b", Mode: layout.Lossy}})
	b.close()
	now := time.Now()
	b.o.Now = func() time.Time { return now }
	b.open()
	tick := func(d time.Duration) {
		now = now.Add(d)
		b.s.tick()
	}
	tick(5 * time.Second)
	if n := len(b.segments()); n != 2 {
		t.Fatalf("%d segments after 5 s, want both", n)
	}
	tick(6 * time.Second)
	if n := len(b.segments()); n != 0 {
		t.Fatalf("%d segments after 11 s", n)
	}
	_, _ = g, gs
}

func TestSecondDirectory(t *testing.T) {
	b := newBus(t, nil)
	_, err := Open(b.o)
	var busy *BusyError
	if !errors.Is(err, ErrBusy) || !errors.As(err, &busy) || busy.PID != os.Getpid() || busy.Dir != b.o.Dir {
		t.Fatalf("second directory: %v", err)
	}
	mustContain(t, err.Error(), b.o.Dir)
}

func TestLockFileIsSwapped(t *testing.T) {
	b := newBus(t, nil)
	path := filepath.Join(b.o.Dir, lockName)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if b.s.store.isLockFile(int(b.s.store.lock.Fd())) {
		t.Error("a removed lock file still counts")
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if b.s.store.isLockFile(int(b.s.store.lock.Fd())) {
		t.Error("another file counts")
	}
	if _, err := Open(b.o); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("a link as lock file: %v", err)
	}
}

func TestUnsafeDirectory(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: real}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("mode 0755: %v", err)
	}
	if err := os.Chmod(real, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: link}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("symbolic link: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("file: %v", err)
	}
	if _, err := Open(Options{Dir: filepath.Join(file, "x", "y")}); err == nil {
		t.Error("below a file")
	}
	if _, err := Open(Options{}); err == nil {
		t.Error("no directory named")
	}
	if err := os.WriteFile(filepath.Join(real, "l"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: real}); !errors.Is(err, ErrUnsafe) {
		t.Errorf("l is a file: %v", err)
	}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(dir, "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: theirs}); !errors.Is(err, ErrUnsafe) {
			t.Errorf("another user's: %v", err)
		}
	}
}

func TestDamagedStateGoesBackInTime(t *testing.T) {
	b := newBus(t, nil)
	before := b.s.Stats().Incarnation
	for _, damage := range []string{"", "x", "00000000 {}\n", checksum("{") + " {"} {
		b.close()
		if err := os.WriteFile(filepath.Join(b.o.Dir, stateName), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		b.open()
		after := b.s.Stats().Incarnation
		if after <= before {
			t.Errorf("incarnation %d after %d, state %q", after, before, damage)
		}
		before = after
	}
	b.close()
	path := filepath.Join(b.o.Dir, stateName)
	if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(b.o); err == nil {
		t.Error("opened without a place for the state")
		_ = s.Close()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b.open()
}

func TestCleanUpOnClose(t *testing.T) {
	b := newBus(t, func(o *Options) { o.CleanUp, o.LaneGrace = true, time.Hour })
	p, s := b.dial().publisher("a.b", "s"), b.dial().subscriber("x", subOptions{})
	dead, deadSub := b.dial().publisher("a.c", "s"), b.dial().subscriber("x", subOptions{})
	dead.publish(1)
	_ = dead.f.Close()
	_ = deadSub.f.Close()
	over := b.dial().publisher("a.d", "s")
	over.publish(1)
	over.finish()
	b.close()
	if n := len(b.segments()); n != 2 {
		t.Errorf("%v are left, want those of the living", b.segments())
	}
	_ = p.f.Close()
	_ = s.f.Close()
	b.open()
	b.close()
	if n := len(b.segments()); n != 0 {
		t.Errorf("%v are left", b.segments())
	}
	conn := b.pair() // a closed directory serves nobody
	if _, _, err := conn.Recv(); !control.Gone(err) {
		t.Errorf("a closed directory answers: %v", err)
	}
}

func TestWalkOfADeadLane(t *testing.T) {
	b := newBus(t, nil)
	store := b.s.store
	p := b.dial().publisher("a.b", "s")
	check := func(what string, pos, seq uint64) {
		t.Helper()
		gotPos, gotSeq := store.end(laneRef(&p.head), &p.head)
		if gotPos != pos || gotSeq != seq {
			t.Errorf("%s: ends at %d, sequence %d; want %d, %d", what, gotPos, gotSeq, pos, seq)
		}
	}
	check("nothing", p.pos, 0)
	p.publish(100, 0, 256, 31, 32, 33)
	check("no tail since", p.pos, 6)
	p.tail()
	check("tail at the end", p.pos, 6)
	for p.pos < p.head.FirstPos+3*p.g.Ring {
		if p.publish(250); p.seq%100 == 0 {
			p.tail()
		}
	}
	check("laps, with padding", p.pos, p.seq)
	// Dead in the middle of a frame: intent is ahead.
	p.word(layout.OffIntent, p.pos+4096)
	check("uncommitted frame", p.pos, p.seq)
	end := p.pos
	p.frame(layout.KindEnd, 0, layout.FrameHeaderBytes)
	check("END", p.pos, p.seq)
	// What a hostile publisher leaves.
	commit := int64(layout.OffRing + end&(p.g.Ring-1))
	p.word(commit, layout.Commit(end, layout.KindData))
	p.word(commit+8, layout.Meta(p.g.MaxMsg+1, 0, 0, 0))
	check("too long", end, p.seq)
	p.word(commit+8, 1<<32-1)
	check("far too long", end, p.seq)
	// A torn tail: the pair cannot be trusted, the index is.
	seq := p.seq
	p.word(layout.OffTail, 7)
	check("torn tail, no index", p.head.FirstPos, 0) // overwritten long ago: nothing better is known
	block := end - 320
	i := int64(block >> p.head.BlockShift() % layout.IndexEntries)
	p.word(layout.OffIndex+i*layout.IndexEntryBytes, block)
	p.word(layout.OffIndex+i*layout.IndexEntryBytes+8, seq-10)
	pos, _ := store.end(laneRef(&p.head), &p.head)
	if pos != block && pos != end {
		t.Errorf("torn tail: ends at %d, want %d or %d", pos, block, end)
	}
	p.word(layout.OffTail, 8)
	for _, bad := range []uint64{end + 1, end - 2*p.g.Ring, 0, 1 << 63, end + 64<<10} {
		p.word(layout.OffTail+8, bad)
		check("hostile tail", p.head.FirstPos, 0)
	}
	p.word(layout.OffIntent, 1<<63)
	check("hostile intent", p.head.FirstPos, 0)
	// A ring full of padding that leads nowhere ends after one lap.
	p.word(layout.OffIntent, p.head.FirstPos+p.g.Ring)
	p.word(layout.OffTail+8, p.head.FirstPos)
	p.word(layout.OffRing, layout.Commit(p.head.FirstPos, layout.KindPad))
	check("one pad", p.head.FirstPos+p.g.Ring, 0+p.seqWord())
	_ = p.f.Truncate(layout.OffRing + 16)
	check("truncated ring", p.head.FirstPos, p.seqWord())
	_ = p.f.Truncate(layout.OffTail)
	check("truncated header", p.head.FirstPos, 0)
	_ = p.f.Truncate(16)
	check("truncated", p.head.FirstPos, 0)
	if err := store.remove(laneRef(&p.head)); err != nil {
		t.Fatal(err)
	}
	check("removed", p.head.FirstPos, 0)
	if store.state(laneRef(&p.head)) != 0 || store.held(laneRef(&p.head)) || store.slotEpoch(ref{cursorFile, "x"}, 0) != 0 {
		t.Error("a removed lane has a state or an owner")
	}
	if _, err := store.cursor(ref{cursorFile, "x"}); err == nil {
		t.Error("no cursor file was read")
	}
}

// seqWord is the sequence in the tail cell.
func (p *pub) seqWord() uint64 {
	var b [8]byte
	if _, err := p.f.ReadAt(b[:], layout.OffTail+16); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}
