package directory

import (
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

func TestSubscriberBeforePublisherMissesTheFirstFrame(t *testing.T) {
	b := newBus(t, nil)
	sc, pc := b.dial(), b.dial()
	lossless := sc.subscriber("a.*", subOptions{})
	parked := sc.subscriber("a.b", subOptions{mode: layout.Lossy, park: true})
	lossy := sc.subscriber("a.>", subOptions{mode: layout.Lossy})
	other := sc.subscriber("x.>", subOptions{})

	p := pc.grant("a.b", "s")
	if p.g.Joins != 2 {
		t.Fatalf("%d joins, want those of the lossless and the parked subscriber", p.g.Joins)
	}
	joined := p.admit()
	if n := sc.settle(control.OpLane); n != 0 {
		t.Fatalf("%d lanes were announced before ready-pub", n)
	}
	p.ok(p.readyMessage(joined...))
	for _, s := range []*sub{lossless, parked, lossy} {
		m := s.lane(p.lane)
		if !m.LaneInfo.New || m.LaneInfo.Topic != "a.b" || m.LaneInfo.Policy.Kind != "evict" {
			t.Errorf("lane info %+v", m.LaneInfo)
		}
		if held := s != lossy; held != (len(m.Joined) == 1 && m.Joined[0].Pos == p.head.FirstPos && m.Joined[0].Ticket >= 100) {
			t.Errorf("joined: %+v", m.Joined)
		}
	}
	if n := sc.settle(control.OpLane); n != 0 {
		t.Errorf("%d lanes to a subscriber of %s", n, other.head.Pattern)
	}

	p.publish(10, 20, 30)
	p.finish()
	for _, s := range []*sub{lossless, parked, lossy} {
		if f := s.event(control.OpFinal, p.lane, s.sub).m.Final; f.Pos != p.pos || f.Seq != 3 || f.Dead {
			t.Errorf("final %+v, want position %d", f, p.pos)
		}
	}
	lossless.drained(p.lane)
	parked.drained(p.lane)
	sc.settle(control.OpLane)
	if len(b.segments()) != 5 {
		t.Errorf("segments: %v: the lane must stay until the lossy subscriber is done", b.segments())
	}
	lossy.drained(p.lane)
	lossy.drained(p.lane) // once more does no harm
	eventually(t, "the lane unlinked", func() bool { return b.s.Stats().Lanes == 0 })
	for _, s := range []*sub{lossless, parked, lossy, other} {
		s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
		s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	}
	pc.ok(&control.Message{Op: control.OpClosePub, Lane: p.lane})
	b.empty()
	if st := b.s.Stats(); st.Topics != 0 || st.Counters["joins"] != 2 || st.Counters["closes"] != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestPublisherBeforeSubscriber(t *testing.T) {
	b := newBus(t, nil)
	sc, pc := b.dial(), b.dial()
	p := pc.publisher("a.b", "s")
	s := sc.grantSub("a.b", subOptions{})
	ready := s.readyMessage()
	ready.ID = 77
	s.send(ready)
	join := p.event(control.OpJoin, p.lane, s.sub)
	if h, err := segment.ReadCursor(join.f); err != nil || h.Epoch != s.sub {
		t.Fatalf("cursor file in the join: %v", err)
	}
	if _, err := join.f.WriteAt([]byte{0}, 0); err == nil {
		t.Error("a publisher can write a cursor file through its descriptor")
	}
	if s.settle(control.OpOK) != 0 || s.settle(control.OpLane) != 0 {
		t.Fatal("ready-sub was answered before its lane was joined")
	}
	p.publish(8)
	j := p.joinedTo(join)[0]
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Sub: s.sub, Joined: []control.Joined{{Pos: j.Pos, Ticket: j.Ticket}}})
	m := s.lane(p.lane)
	if m.LaneInfo.New || m.Joined[0].Pos != p.pos || m.Joined[0].Sub != s.sub {
		t.Errorf("lane %+v %+v", m.LaneInfo, m.Joined)
	}
	s.next("ok", func(m *control.Message) bool { return m.ID == 77 })

	// A lossy one is told at once.
	lossy := sc.subscriber("a.*", subOptions{mode: layout.Lossy})
	if m := lossy.lane(p.lane); len(m.Joined) != 0 || m.LaneInfo.New {
		t.Errorf("lane %+v %+v", m.LaneInfo, m.Joined)
	}
	// Who leaves is taken from the publisher.
	s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	p.event(control.OpLeave, p.lane, s.sub)
	p.die()
	if f := lossy.event(control.OpFinal, p.lane, lossy.sub).m.Final; !f.Dead || f.Pos != p.pos || f.Seq != 1 {
		t.Errorf("final %+v", f)
	}
	lossy.die()
	b.empty()
	b.count("deaths_publisher", 1)
	b.count("deaths_subscriber", 1)
}

func TestStoppedPublisherHoldsUpASubscription(t *testing.T) {
	b := newBus(t, nil)
	pc := b.dial()
	p := pc.publisher("a.b", "s")
	q := b.dial().publisher("a.c", "s")
	s := b.dial().grantSub("a.*", subOptions{})
	b.handshake(50 * time.Millisecond)
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.answerJoin(s.sub)
	}()
	s.ok(s.readyMessage()) // although p says nothing
	<-done
	s.lane(q.lane)
	p.publish(1)
	p.answerJoin(s.sub)
	if m := s.lane(p.lane); m.LaneInfo.New || m.Joined[0].Pos != p.pos {
		t.Errorf("lane %+v %+v", m.LaneInfo, m.Joined)
	}
}

func TestSubscriberBetweenGrantAndReadyIsForgotten(t *testing.T) {
	b := newBus(t, nil)
	pc, sc := b.dial(), b.dial()
	p := pc.grant("a.b", "s")
	gone := sc.subscriber("a.b", subOptions{})
	gone.ok(&control.Message{Op: control.OpCloseSub, Sub: gone.sub})
	s := sc.subscriber("a.b", subOptions{})
	lossy := sc.subscriber("a.b", subOptions{mode: layout.Lossy})
	ready := p.readyMessage()
	ready.ID = 500
	p.send(ready)
	// The join comes before the answer, so that it is done before the first frame.
	first := p.next("a join or the answer", func(m *control.Message) bool { return m.Op == control.OpJoin || m.ID == 500 })
	if first.m.Op != control.OpJoin || first.m.Sub != s.sub {
		t.Fatalf("%+v came first", first.m)
	}
	p.next("ok", func(m *control.Message) bool { return m.ID == 500 })
	lossy.lane(p.lane)
	if s.settle(control.OpLane) != 0 {
		t.Fatal("the lane was announced before it was joined")
	}
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: p.joinedTo(first)})
	if m := s.lane(p.lane); !m.LaneInfo.New || m.Joined[0].Pos != p.head.FirstPos {
		t.Errorf("lane %+v %+v", m.LaneInfo, m.Joined)
	}
}

func TestPastIsLost(t *testing.T) {
	b := newBus(t, func(o *Options) { o.LaneGrace = time.Hour })
	pc := b.dial()
	var lanes []layout.ID16
	for range 3 {
		p := pc.publisher("a.b", "s")
		if len(lanes) > 0 && p.g.PrevEpoch != lanes[len(lanes)-1] || len(lanes) == 0 && !p.g.PrevEpoch.IsZero() {
			t.Fatalf("previous epoch %s after %v", p.g.PrevEpoch, lanes)
		}
		p.publish(5)
		p.finish()
		lanes = append(lanes, p.lane)
	}
	empty := pc.publisher("a.b", "other")
	empty.finish() // nothing in it: gone at once
	s := b.dial().subscriber("a.b", subOptions{past: true})
	for i, want := range lanes {
		m := s.lane(layout.ID16{})
		if m.Lane != want || m.Final == nil || m.Final.Dead || m.Final.Seq != 1 {
			t.Fatalf("lane %d: %+v", i, m)
		}
	}
	if n := s.settle(control.OpLane); n != 0 {
		t.Errorf("%d lanes too many", n)
	}
	now := b.dial().subscriber("a.b", subOptions{})
	if n := now.settle(control.OpLane); n != 0 {
		t.Errorf("%d lanes of the past to who did not ask", n)
	}
	b.o.LaneGrace = time.Nanosecond // from now on
	b.s.Reconfigure(b.o)
	for _, l := range lanes {
		s.drained(l)
	}
	eventually(t, "lanes unlinked", func() bool { return b.s.Stats().Lanes == 0 })
}

func TestSourceIsTakenTwice(t *testing.T) {
	b := newBus(t, nil)
	p := b.dial().publisher("a.b", "s")
	c := b.dial()
	if e := c.refused(openPub("a.b", "s"), control.CodeSourceBusy); e.Epoch != p.lane {
		t.Errorf("busy with %s, not %s", e.Epoch, p.lane)
	}
	c.publisher("a.b", "t")
	c.publisher("a.c", "s")
	// A grant keeps the name too.
	g := c.grant("a.d", "s")
	c.refused(openPub("a.d", "s"), control.CodeSourceBusy)
	g.finish()
	// The lock decides, not the connection.
	p.publish(1)
	_ = p.f.Close()
	if q := c.publisher("a.b", "s"); q.g.PrevEpoch != p.lane && !q.g.PrevEpoch.IsZero() {
		t.Errorf("previous epoch %s", q.g.PrevEpoch)
	}
	b.count("deaths_publisher", 1)
}

func TestEvictedSubscriberCannotComeBack(t *testing.T) {
	b := newBus(t, func(o *Options) { o.LaneGrace = time.Hour })
	s := b.dial().subscriber("a.b", subOptions{})
	p := b.dial().publisher("a.b", "s")
	s.lane(p.lane)
	p.send(&control.Message{Op: control.OpEvicted, Lane: p.lane, Sub: s.sub, Reason: "stalled"})
	s.send(&control.Message{Op: control.OpEvicted, Lane: p.lane, Sub: s.sub, Reason: "not mine to say"})
	rejoin := &control.Message{Op: control.OpRejoin, Sub: s.sub, Lane: p.lane}
	s.send(rejoin)
	s.send(rejoin) // twice asks once
	s.settle(control.OpLane)
	j := p.event(control.OpJoin, p.lane, s.sub)
	if !j.m.Join.Again {
		t.Errorf("join %+v", j.m.Join)
	}
	p.publish(1, 1)
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: p.joinedTo(j)})
	g := s.event(control.OpLane, p.lane, s.sub)
	if g.f != nil || g.m.LaneInfo != nil || len(g.m.Joined) != 1 || g.m.Joined[0].Pos != p.pos {
		t.Errorf("answer to rejoin %+v", g.m)
	}
	if p.settle(control.OpJoin) != 0 {
		t.Error("joined twice")
	}
	b.count("evictions", 1)

	// A refusal is passed on.
	s.send(rejoin)
	j = p.event(control.OpJoin, p.lane, s.sub)
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: []control.Joined{{Sub: s.sub, Err: "no notice left"}}})
	if g := s.event(control.OpLane, p.lane, s.sub); g.m.Joined[0].Ticket != 0 || g.m.Joined[0].Err != "no notice left" {
		t.Errorf("refused: %+v", g.m.Joined)
	}
	b.count("joins_refused", 1)

	// On a lane that has ended there is nothing to join.
	p.finish()
	s.event(control.OpFinal, p.lane, s.sub)
	s.send(rejoin)
	s.event(control.OpFinal, p.lane, s.sub)
}

func TestDeadPublisherOwesAJoin(t *testing.T) {
	b := newBus(t, func(o *Options) { o.LaneGrace = time.Hour })
	p := b.dial().publisher("a.b", "s")
	p.publish(9)
	s := b.dial().grantSub("a.b", subOptions{})
	ready := s.readyMessage()
	ready.ID = 9
	s.send(ready)
	p.event(control.OpJoin, p.lane, s.sub)
	p.die()
	if m := s.lane(p.lane); m.Final == nil || !m.Final.Dead || len(m.Joined) != 0 {
		t.Errorf("lane %+v", m)
	}
	s.next("ok", func(m *control.Message) bool { return m.ID == 9 })
}

func TestGrantIsNeverUsed(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Quotas.HandshakeTimeout = 30 * time.Millisecond })
	c := b.dial()
	p := c.ok(openPub("a.b", "s"))
	_ = p.f.Close()
	s := c.ok(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a.b", Mode: layout.Lossy}})
	_ = s.f.Close()
	b.empty()

	// A slow owner that holds the lock is waited for.
	b.handshake(watchdog)
	slow, slowSub := c.grant("a.b", "s"), c.grantSub("a.b", subOptions{})
	b.s.mu.Lock()
	b.s.core.look(b.s.core.lanes[slow.lane])
	b.s.core.lookSub(b.s.core.subs[slowSub.sub])
	b.s.mu.Unlock()
	slow.ok(slow.readyMessage())
	slowSub.send(slowSub.readyMessage())
	slow.answerJoin(slowSub.sub)
	slowSub.lane(slow.lane)

	// Discarded at once, ready or not.
	for _, m := range []*control.Message{
		{Op: control.OpDiscard, Lane: c.grant("a.c", "s").lane},
		{Op: control.OpDiscard, Sub: c.grantSub("a.c", subOptions{}).sub},
	} {
		before := len(b.segments())
		c.ok(m)
		if after := len(b.segments()); after != before-1 {
			t.Errorf("%d segments after discard, %d before", after, before)
		}
	}
	_ = slow.f.Close()
	_ = slowSub.f.Close()
	c.send(&control.Message{Op: control.OpDiscard, Lane: slow.lane})
	c.send(&control.Message{Op: control.OpDiscard, Sub: slowSub.sub})
	b.empty()
}

func TestConnectionLostWithAGrant(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	g, gs := c.grant("a.b", "s"), c.grantSub("a.b", subOptions{mode: layout.Lossy})
	_ = c.conn.Close()
	eventually(t, "the connection counted out", func() bool { return b.s.Stats().Connections == 0 })
	if n := len(b.segments()); n != 2 {
		t.Fatalf("%d segments, want both: their locks are held", n)
	}
	again := b.dialAs(c.epoch)
	g.client, gs.client = again, again
	g.ok(&control.Message{Op: control.OpResPub, Lane: g.lane})
	gs.ok(&control.Message{Op: control.OpResSub, Sub: gs.sub})
	gs.lane(g.lane)
	g.die()
	gs.die()
	b.empty()
}

func TestReadyWithAnotherHeader(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	for name, change := range map[string]func(*pub){
		"geometry":       func(p *pub) { p.head.Step += 32 },
		"topic id":       func(p *pub) { p.head.TopicID++ },
		"topic":          func(p *pub) { p.head.Topic = "a.c" },
		"source":         func(p *pub) { p.head.Source = "r" },
		"source id":      func(p *pub) { p.head.SourceID[0]++ },
		"number":         func(p *pub) { p.head.Lane++ },
		"epoch":          func(p *pub) { p.head.Epoch[0]++ },
		"previous epoch": func(p *pub) { p.head.PrevEpoch[0]++ },
		"uid":            func(p *pub) { p.head.UID++ },
		"gid":            func(p *pub) { p.head.GID++ },
		"node":           func(p *pub) { p.head.OriginNode[0]++ },
		"boot":           func(p *pub) { p.head.BootID[0]++ },
		"first sequence": func(p *pub) { p.head.FirstSeq++ },
	} {
		p := c.grant("a.b", "s")
		change(p)
		p.writeHeader()
		mustContain(t, p.refused(p.readyMessage(), control.CodeInvalid).Message, name)
		_ = p.f.Close()
	}
	p := c.grant("a.b", "s")
	p.word(layout.OffReady, 0)
	mustContain(t, p.refused(p.readyMessage(), control.CodeInvalid).Message, "not ready")
	p = c.grant("a.b", "s")
	c.settle(control.OpOK) // the directory has closed its copy of the descriptor
	_ = p.f.Close()
	mustContain(t, p.refused(p.readyMessage(), control.CodeInvalid).Message, "lock")

	s := c.grantSub("a.b", subOptions{})
	s.head.Mode = layout.Lossy
	s.writeHeader()
	s.refused(s.readyMessage(), control.CodeInvalid)
	s = c.grantSub("a.b", subOptions{})
	c.settle(control.OpOK)
	_ = s.f.Close()
	mustContain(t, s.refused(s.readyMessage(), control.CodeInvalid).Message, "lock")
	s = c.grantSub("a.b", subOptions{})
	_ = s.f.Truncate(100)
	s.refused(s.readyMessage(), control.CodeInvalid)
	b.empty()
}

func TestGivenUpLaneHoldsItsPublisher(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.b", subOptions{})
	p := b.dial().publisher("a.b", "s")
	j := s.lane(p.lane).Joined[0]
	s.drained(p.lane)
	p.event(control.OpLeave, p.lane, s.sub)
	// The publisher is away when the next one gives up: it learns on its return.
	q := b.dial().publisher("a.b", "q")
	s.lane(q.lane)
	_ = q.conn.Close()
	eventually(t, "the publisher away", func() bool { return b.s.Stats().Connections == 2 })
	s.drained(q.lane)
	s.settle(control.OpLane)
	b.resumePub(q, j)
	q.event(control.OpLeave, q.lane, s.sub)
}
