package tcp

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// feeder is a link's receiver without a connection.
type feeder struct {
	t *testing.T
	*inbound
	pushed []frame
	ref    uint32
}

func newFeeder(t *testing.T, s *mirrors, link string) *feeder {
	f := &feeder{t: t}
	r := newReceiver(layout.ID16{2}, link, nil, func(b []byte) {
		fr, _, err := decode(b, maxBody)
		must(t, err)
		f.pushed = append(f.pushed, fr)
	})
	f.inbound = &inbound{receiver: r, kick: func() {}, rules: func(string) bool { return true }, shared: s}
	r.host = f.inbound
	return f
}

// ask opens a stream and returns the answer.
func (f *feeder) ask(o open, first uint64) frame {
	f.t.Helper()
	f.ref++
	fr, _, err := decode(o.encode(f.ref, first), maxBody)
	must(f.t, err)
	f.mu.Lock()
	f.pushed = nil
	must(f.t, f.receiver.take(&fr))
	f.mu.Unlock()
	var got []frame
	until(f.t, "an answer", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		got = f.pushed
		return len(got) > 0
	})
	return got[0]
}

func why(t *testing.T, f frame) code {
	t.Helper()
	if f.kind != kindRefuse {
		return 0
	}
	c, _, err := decodeReason(f.body)
	must(t, err)
	return c
}

func (f *feeder) send(from, to uint64) {
	f.t.Helper()
	l := &simLane{sizes: func(uint64) int { return 64 }}
	d := data(l, f.intakes[f.ref].round, from, to)
	d.ref = f.ref
	f.mu.Lock()
	defer f.mu.Unlock()
	must(f.t, f.receiver.take(d))
}

// Fear: two links feed one mirror lane, or the second takes over with a hole.
func TestOneLinkAtATimeFeedsAMirrorLane(t *testing.T) {
	ctx := watch(t, time.Minute)
	b := newBus(t, nil)
	s := newMirrors(ctx, b.Client, Options{}.withDefaults().Log)
	one, two := newFeeder(t, s, "one"), newFeeder(t, s, "two")
	o := open{originEpoch: layout.ID16{7}, originNode: layout.ID16{1}, maxMsg: 64, hops: 1, topic: "m.x", source: "s"}
	if f := one.ask(o, 0); f.kind != kindResume || f.seq != 0 {
		t.Fatalf("%+v", f)
	}
	one.send(0, 10)
	if c := why(t, two.ask(o, 0)); c != codeHave {
		t.Errorf("a second link: %v", c)
	}
	if c := why(t, one.ask(o, 0)); c != codeBusy {
		t.Errorf("the same link again: %v", c)
	}
	next := o
	next.originEpoch = layout.ID16{8}
	if c := why(t, two.ask(next, 0)); c != codeBusy {
		t.Errorf("the next epoch, over another link, while the one before is fed: %v", c)
	}
	one.mu.Lock()
	clear(one.intakes)
	one.mu.Unlock()
	s.release(one.receiver)
	if c := why(t, two.ask(o, 11)); c != codeHave {
		t.Errorf("a link that has a hole: %v", c)
	}
	if f := two.ask(o, 5); f.kind != kindResume || f.seq != 10 {
		t.Errorf("a link that has everything: %+v", f)
	}
	two.send(10, 20)
	two.settle()
	two.settle()
	// The lane is taken away, and asked for again: it goes on where it was.
	two.lost(two.receiver, o.originEpoch)
	two.lost(two.receiver, o.originEpoch)
	s.jobs.Wait()
	two.mu.Lock()
	clear(two.intakes)
	two.mu.Unlock()
	if f := two.ask(o, 0); f.kind != kindResume || f.seq != 20 || word(f.body, 1) != 1 {
		t.Errorf("after it was lost: %+v", f)
	}
	// Larger messages want another lane.
	two.mu.Lock()
	clear(two.intakes)
	two.mu.Unlock()
	s.release(two.receiver)
	larger := o
	larger.maxMsg = 1 << 20
	if f := two.ask(larger, 0); f.kind != kindResume || f.seq != 20 {
		t.Errorf("larger messages: %+v", f)
	}
	// The next epoch waits for the one before, and closes it once nobody feeds it.
	if c := why(t, two.ask(next, 3)); c != codeBusy {
		t.Errorf("the next epoch, while this link feeds the one before: %v", c)
	}
	two.mu.Lock()
	clear(two.intakes)
	two.mu.Unlock()
	s.release(two.receiver)
	if f := two.ask(next, 3); f.kind != kindResume || f.seq != 3 {
		t.Errorf("the next epoch: %+v", f)
	}
	if len(s.all) != 1 {
		t.Errorf("%d mirror lanes", len(s.all))
	}
	// What nobody feeds for long is closed.
	s.expire(time.Now().Add(2 * keptFor))
	if len(s.all) != 1 {
		t.Error("a lane that is fed was closed")
	}
	s.release(two.receiver)
	s.expire(time.Now().Add(2 * keptFor))
	if len(s.all) != 0 {
		t.Error("a lane that nobody feeds was kept")
	}
	// The bus says no.
	local := o
	local.originNode = b.Node()
	if c := why(t, two.ask(local, 0)); c != codeInvalid {
		t.Errorf("the bus's own frames: %v", c)
	}
	must(t, s.close())
}

// Fear: a truncated segment ends the link.
func TestTruncatedLanesEndAlone(t *testing.T) {
	watch(t, time.Minute)
	a, b := newBus(t, nil), newBus(t, nil)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}))
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	s := subscriber(t, b.Client, "m.ok")
	bad, good := publisher(t, a.Client, "m.bad", "s"), publisher(t, a.Client, "m.ok", "s")
	must(t, publishAll(bad, 0, 10, 64))
	must(t, publishAll(good, 0, 10, 64))
	readAll(t, s, 0, 10)
	until(t, "both streams", func() bool { return len(linkOf(fa).Exports) == 2 && arrived(linkOf(fa)) })
	files, err := filepath.Glob(filepath.Join(a.dir.Path(), "l", "*.ring"))
	must(t, err)
	for _, f := range files {
		head := make([]byte, 0x200)
		h, err := os.Open(f)
		must(t, err)
		_, err = h.ReadAt(head, 0)
		must(t, err)
		h.Close()
		if string(head[0x100:0x105]) == "m.bad" {
			must(t, os.Truncate(f, layout.LaneHeaderBytes))
		}
	}
	wait := aside(t, func() error { return publishAll(good, 10, 50_000, 64) })
	readAll(t, s, 10, 50_000)
	wait()
	until(t, "the broken lane to be given up", func() bool { return len(linkOf(fa).Exports) == 1 })
	_ = bad.Close()
	must(t, good.Close())
}
