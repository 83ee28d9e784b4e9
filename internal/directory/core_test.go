package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
)

// fakeFiles is a bus directory in memory.
type fakeFiles struct {
	all    map[ref]*fakeFile
	probes []time.Time // of held
	fail   error       // of create, remove and save
}

type fakeFile struct {
	held   bool
	lane   layout.LaneHeader
	cursor layout.CursorHeader
	seq    uint64
}

func (f *fakeFiles) create(r ref) error {
	if f.fail != nil {
		return f.fail
	}
	f.all[r] = &fakeFile{}
	return nil
}

func (f *fakeFiles) remove(r ref) error {
	if f.fail != nil {
		return f.fail
	}
	delete(f.all, r)
	return nil
}

func (f *fakeFiles) held(r ref) bool {
	f.probes = append(f.probes, time.Now())
	return f.all[r] != nil && f.all[r].held
}

func (f *fakeFiles) lane(r ref) (layout.LaneHeader, error) {
	if f.all[r] == nil || f.all[r].lane.Epoch.IsZero() {
		return layout.LaneHeader{}, fs.ErrNotExist
	}
	return f.all[r].lane, nil
}

func (f *fakeFiles) cursor(r ref) (layout.CursorHeader, error) {
	if f.all[r] == nil || f.all[r].cursor.Epoch.IsZero() {
		return layout.CursorHeader{}, fs.ErrNotExist
	}
	return f.all[r].cursor, nil
}

func (f *fakeFiles) state(ref) layout.LaneState { return layout.LaneActive }

func (f *fakeFiles) end(r ref, h *layout.LaneHeader) (uint64, uint64) {
	return h.FirstPos + 32*f.all[r].seq, f.all[r].seq
}

func (f *fakeFiles) slotEpoch(ref, uint32) uint64 { return 0 }
func (f *fakeFiles) slotLane(ref, uint32) uint64  { return 0 }

func (f *fakeFiles) save(busState) error { return f.fail }

// bench is a core on fake files, driven by the bubble's clock.
type bench struct {
	*core
	t *testing.T
	f *fakeFiles
}

func newBench(t *testing.T, o Options) *bench {
	f := &fakeFiles{all: make(map[ref]*fakeFile)}
	return &bench{newCore(o.withDefaults(), f, busState{Incarnation: 1, Node: newEpoch()}, newEpoch(), 0), t, f}
}

// pass lets time pass, with ticks when they are wanted.
func (b *bench) pass(d time.Duration) {
	for end := time.Now().Add(d); ; b.tick() {
		wait, any := b.next()
		if left := time.Until(end); !any || wait > left {
			time.Sleep(left)
			return
		}
		time.Sleep(wait)
	}
}

func (b *bench) session() *session {
	s := newSession(control.Peer{}, 1000)
	b.attach(s)
	return s
}

// ask handles a request and returns what was sent last.
func (b *bench) ask(s *session, m *control.Message) *control.Message {
	m.ID = 1
	b.handle(s, m)
	all := sent(s)
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}

// sent empties the outbox.
func sent(s *session) (all []*control.Message) {
	for s.out.mu.Lock(); len(s.out.q) > 0; s.out.q = s.out.q[1:] {
		all = append(all, s.out.q[0].m)
	}
	s.out.mu.Unlock()
	return all
}

// pub goes through open-pub, and ready-pub if ready.
func (b *bench) pub(s *session, name string, ready bool) *lane {
	b.t.Helper()
	g := b.ask(s, openPub(name, "s"))
	if g == nil || g.Op != control.OpGranted {
		b.t.Fatalf("open-pub: %+v", g)
	}
	l := b.lanes[g.Lane]
	h := l.head
	id := topic.ID(h.Source)
	for i := range 8 {
		h.SourceID[i] = byte(id >> (8 * i))
	}
	h.CreatedMono = time.Now().UnixNano()
	b.f.all[l.file].lane, b.f.all[l.file].held = h, true
	if ready {
		if a := b.ask(s, &control.Message{Op: control.OpReadyPub, Lane: g.Lane}); a.Op != control.OpOK {
			b.t.Fatalf("ready-pub: %+v", a)
		}
	}
	return l
}

func (b *bench) sub(s *session, pattern string, mode layout.Mode) *subscriber {
	b.t.Helper()
	g := b.ask(s, &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: pattern, Mode: mode}})
	if g == nil || g.Op != control.OpGranted {
		b.t.Fatalf("open-sub: %+v", g)
	}
	u := b.subs[g.Sub]
	b.f.all[u.file].cursor, b.f.all[u.file].held = u.head, true
	return u
}

func TestOrphanIsLookedAtForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{LaneGrace: -1})
		s := b.session()
		l := b.pub(s, "a", true)
		b.pass(time.Hour)
		if len(b.f.probes) != 2 { // at ready-pub, and when the handshake was over
			t.Errorf("%d looks at a lane whose connection is up", len(b.f.probes))
		}
		b.f.probes = nil
		lost := time.Now()
		b.detach(s)
		b.pass(10 * time.Minute)
		var at []time.Duration
		for _, p := range b.f.probes[:11] {
			at = append(at, p.Sub(lost).Round(time.Millisecond))
		}
		want := "[0s 5ms 25ms 275ms 775ms 1.775s 3.775s 7.775s 15.775s 25.775s 35.775s]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("looks at %s, want %s", got, want)
		}
		if n := len(b.f.probes); n > 70 {
			t.Errorf("%d looks in 10 minutes", n)
		}
		if l.phase != orphan || b.lanes[l.head.Epoch] != l {
			t.Errorf("phase %d: time is no proof of death", l.phase)
		}
		// Back, and away again: it starts over.
		s = b.session()
		if a := b.ask(s, &control.Message{Op: control.OpResPub, Lane: l.head.Epoch}); a.Op != control.OpOK {
			t.Fatalf("%+v", a)
		}
		b.f.probes = nil
		b.pass(time.Hour)
		if n := len(b.f.probes); n != 0 {
			t.Errorf("%d looks at a lane that was resumed", n)
		}
		b.detach(s)
		b.f.all[l.file].held = false
		b.pass(20 * time.Millisecond)
		if len(b.lanes) != 0 || len(b.f.all) != 0 {
			t.Errorf("the dead lane stays: %d", len(b.lanes))
		}
	})
}

func TestSubscriberOrphanIsLookedAtForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		s := b.session()
		u := b.sub(s, "a", layout.Lossless)
		b.pass(time.Hour) // granted, locked and never ready: still no proof of death
		if b.subs[u.head.Epoch] != u {
			t.Fatal("a slow subscriber was thrown out")
		}
		if n := len(b.f.probes); n > 3600/10+20 {
			t.Errorf("%d looks in an hour", n)
		}
		b.ask(s, &control.Message{Op: control.OpReadySub, Sub: u.head.Epoch})
		b.detach(s)
		b.pass(time.Hour)
		b.f.all[u.file].held = false
		b.pass(11 * time.Second)
		if len(b.subs) != 0 || len(b.f.all) != 0 || len(b.topics) != 0 {
			t.Error("a dead subscriber stays")
		}
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{})
		s, r := b.session(), b.session()
		l := b.pub(s, "a", false)
		b.f.all[l.file].held = false // never locked
		b.pass(1999 * time.Millisecond)
		if b.lanes[l.head.Epoch] == nil {
			t.Error("removed before its time")
		}
		b.pass(time.Millisecond)
		if b.lanes[l.head.Epoch] != nil {
			t.Error("a grant without an owner outlives the handshake")
		}

		l = b.pub(s, "a", true)
		u := b.sub(r, "a", layout.Lossless)
		if a := b.ask(r, &control.Message{Op: control.OpReadySub, Sub: u.head.Epoch}); a != nil {
			t.Fatalf("answered with %+v while its publisher is silent", a)
		}
		b.pass(1999 * time.Millisecond)
		if all := sent(r); len(all) != 0 {
			t.Fatalf("answered early: %+v", all)
		}
		b.pass(time.Millisecond)
		if all := sent(r); len(all) != 1 || all[0].Op != control.OpOK {
			t.Fatalf("after 2 s: %+v", all)
		}
		b.handle(s, &control.Message{Op: control.OpJoined, Lane: l.head.Epoch, Joined: []control.Joined{{Sub: u.head.Epoch, Ticket: 1}}})
		if all := sent(r); len(all) != 1 || all[0].Op != control.OpLane {
			t.Fatalf("the lane does not follow: %+v", all)
		}

		// The grace of a lane that somebody reads still, and that nobody needs.
		b.f.all[l.file].seq, b.f.all[l.file].held = 5, false
		b.detach(s)
		b.pass(59 * time.Second)
		b.handle(r, &control.Message{Op: control.OpDrained, Lane: l.head.Epoch, Sub: u.head.Epoch})
		if b.lanes[l.head.Epoch] == nil {
			t.Error("removed before its grace was over")
		}
		b.pass(time.Second)
		if b.lanes[l.head.Epoch] != nil {
			t.Error("kept after its grace")
		}
		l = b.pub(b.session(), "a", true)
		if n := len(l.joins); n != 1 {
			t.Errorf("%d joins", n)
		}
		b.f.all[l.file].held = false
		b.look(l)                                                                                // nothing was published: no grace
		if all := sent(r); len(all) != 2 || all[1].Op != control.OpLane || all[1].Final == nil { // after the final of the one before
			t.Errorf("the lane that ended before it was joined: %+v", all)
		}
		b.handle(r, &control.Message{Op: control.OpDrained, Lane: l.head.Epoch, Sub: u.head.Epoch})
		if b.lanes[l.head.Epoch] != nil {
			t.Error("an empty lane is kept")
		}
		b.pass(time.Hour)
		if _, any := b.next(); any {
			t.Error("something is due although nothing goes on")
		}
	})
}

func TestBrokenFileSystem(t *testing.T) {
	b := newBench(t, Options{LaneGrace: -1})
	s := b.session()
	l := b.pub(s, "a", true)
	for err, code := range map[error]control.Code{fmt.Errorf("x: %w", segment.ErrNoSpace): control.CodeNoSpace, errors.New("broken"): control.CodeInternal} {
		b.f.fail = err
		for _, m := range []*control.Message{
			openPub("b", "s"),
			{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "b", Mode: layout.Lossy}},
			{Op: control.OpCreate, Topic: "b"},
		} {
			if a := b.ask(s, m); a == nil || a.Error == nil || a.Error.Code != code {
				t.Errorf("%s: %+v, want %s", m.Op, a, code)
			}
		}
		if len(b.topics) != 1 || len(b.lanes) != 1 || len(b.subs) != 0 {
			t.Errorf("refusals left %d topics, %d lanes, %d subscribers", len(b.topics), len(b.lanes), len(b.subs))
		}
	}
	// What cannot be unlinked stays on the books, and its number taken.
	b.f.all[l.file].held = false
	b.look(l)
	if b.lanes[l.head.Epoch] == nil || !b.numbers[l.head.Lane] {
		t.Error("a file that is still there was forgotten")
	}
	b.f.fail = nil
	b.ask(s, &control.Message{Op: control.OpCreate, Topic: "a"})
	b.f.fail = errors.New("broken")
	if a := b.ask(s, &control.Message{Op: control.OpDelete, Topic: "a"}); a.Error == nil || b.topics["a"].spec == nil {
		t.Errorf("delete: %+v", a)
	}
	b.removeFile(l.file) // logs
	b.f.fail = nil
	b.release(l)
	if len(b.lanes) != 0 || b.counters["unlinks"] == 0 {
		t.Error("the lane stays")
	}
}

func TestCursorFileFromBeforeMoreLanes(t *testing.T) {
	b := newBench(t, Options{})
	s, r := b.session(), b.session()
	u := b.sub(r, "a", layout.Lossy)
	b.ask(r, &control.Message{Op: control.OpReadySub, Sub: u.head.Epoch})
	u.head.Slots = 0 // as adopted from a bus of fewer lanes
	b.pub(s, "a", true)
	if all := sent(r); len(all) != 0 {
		t.Errorf("told of a lane it has no slot for: %+v", all)
	}
	if b.counters["slots_missing"] == 0 {
		t.Error("not counted")
	}
}

func TestRestoreOfTopics(t *testing.T) {
	b := newBench(t, Options{Quotas: Quotas{MaxTopics: 1}})
	b.bus.Topics = map[string]control.TopicSpec{"a..b": {}, "a": {Ring: 1 << 20}, "b": {}}
	b.restoreTopics()
	if len(b.topics) != 1 || b.topics["a"] == nil || b.topics["a"].spec.Ring != 1<<20 {
		t.Errorf("topics %v", b.topics)
	}
}
