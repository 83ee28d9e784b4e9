package directory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
	"golang.org/x/sys/unix"
)

// words is a cell: a sequence word and what it guards.
func words(seq uint64, w ...uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, seq)
	for _, v := range w {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func TestInspectTellsWhatTheWordsSay(t *testing.T) {
	b := newBus(t, func(o *Options) { o.LaneGrace = time.Hour })
	s := b.dial().subscriber("a.b", subOptions{})
	lossy := b.dial().subscriber("a.*", subOptions{mode: layout.Lossy})
	p := b.dial().publisher("a.b", "s")
	p.publish(100, 100, 100)
	p.write(layout.OffMetrics, words(2, 2, 200, 0, 0, 7)) // before the third
	p.write(layout.OffLaneBeat, words(4, uint64(clock.Mono()-int64(time.Second))))
	s.slot(p.g.Number, p.lane, p.head.FirstPos+160, 1)
	lossy.slot(p.g.Number, p.lane, p.pos+160, 9) // ahead of what it can have read
	if _, err := s.f.WriteAt([]byte{1}, layout.OffSleeping); err != nil {
		t.Fatal(err)
	}
	if _, err := s.f.WriteAt(words(2, 11, 22), layout.OffSubMetrics); err != nil {
		t.Fatal(err)
	}
	closed := b.dial().publisher("a.b", "closed")
	closed.publish(1)
	closed.finish()
	dead := b.dial().publisher("a.b", "dead")
	dead.publish(1)
	dead.die()
	away := b.dial().publisher("a.b", "away")
	_ = away.conn.Close()
	fresh := b.dial().grant("a.b", "fresh")
	torn := b.dial().publisher("a.b", "torn")
	torn.write(layout.OffMetrics, words(3, 1))
	torn.write(layout.OffLaneBeat, words(3, 1))
	b.count("deaths_publisher", 1)
	eventually(t, "the orphan", func() bool { return b.s.Stats().Connections == 6 })

	info, err := b.inspect("a.b")
	if err != nil {
		t.Fatal(err)
	}
	if info.LaneCount != 6 || info.Publishers != 3 || info.Subscribers != 2 || info.Frames != 5 || info.Bytes != 301 || info.Policy != "evict:1s" || info.Ring != layout.MinRing {
		t.Errorf("topic %+v", info)
	}
	states := map[string]string{}
	for _, l := range info.Lanes {
		states[l.Source] = l.State
		switch l.Source {
		case "s":
			if l.NextSeq != 3 || l.Tail != p.pos || l.PID != uint32(os.Getpid()) || l.Metrics["frames"] != 3 || l.Metrics["bytes"] != 300 || l.Metrics["backpressure"] != 7 ||
				l.BeatAgeNs < int64(time.Second) || l.BeatAgeNs > int64(time.Minute) || l.Intent < l.Tail || l.Epoch != p.lane {
				t.Errorf("lane %+v", l)
			}
		case "torn":
			if l.Metrics != nil || l.BeatAgeNs != -1 {
				t.Errorf("torn cells were believed: %+v", l)
			}
		}
	}
	if got := fmt.Sprint(states); got != "map[away:orphan closed:closed dead:dead fresh:new s:active torn:active]" {
		t.Errorf("states %v", got)
	}
	if len(info.Subs) != 2 {
		t.Fatalf("subscribers %+v", info.Subs)
	}
	u, v := info.Subs[0], info.Subs[1]
	if u.Mode != "lossless" || !u.Sleeping || u.Metrics["bytes"] != 22 || u.BeatAge != -1 || len(u.Lanes) != 5 ||
		u.Lanes[0].LagFrames != 2 || u.Lanes[0].LagBytes != p.pos-p.head.FirstPos-160 {
		t.Errorf("subscriber %+v", u)
	}
	// What it was joined for and has not got to yet holds the publisher, too.
	if got := u.Lanes[1]; got.Lane != closed.lane || got.Seq != 0 || got.LagFrames != 1 || got.LagBytes != 64 {
		t.Errorf("a lane that the subscriber has not opened: %+v", got)
	}
	if v.Mode != "lossy" || v.Sleeping || len(v.Lanes) != 1 || v.Lanes[0].LagFrames != 0 || v.Lanes[0].LagBytes != 0 {
		t.Errorf("subscriber %+v", v)
	}
	c := b.dial()
	if infos := c.ok(&control.Message{Op: control.OpList}).m.Topics; len(infos) != 1 || infos[0].Frames != 5 || infos[0].Lanes != nil {
		t.Errorf("list: %+v", infos)
	}
	c.refused(&control.Message{Op: control.OpList, Topic: "a..b"}, control.CodeInvalid)
	if _, err := b.inspect("nope"); !errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		t.Errorf("inspect of nothing: %v", err)
	}
	// Files that vanish under the directory are not an error to tell.
	for _, f := range b.segments() {
		_ = os.Remove(filepath.Join(b.o.Dir, f))
	}
	if info, err := b.inspect("a.b"); err != nil || len(info.Lanes) != 6 || info.Lanes[0].State != "new" {
		t.Errorf("inspect without files: %v %+v", err, info)
	}
	_ = fresh
}

func TestABusOnADiskIsSlowAndNobodyKnowsWhy(t *testing.T) {
	for _, base := range []string{"/dev/shm", os.TempDir()} {
		var at unix.Statfs_t
		if err := unix.Statfs(base, &at); err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp(base, "mycelium-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		var log bytes.Buffer
		newBus(t, func(o *Options) {
			o.Dir = filepath.Join(dir, "bus")
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		if warned := strings.Contains(log.String(), "on a disk"); warned != (at.Type != unix.TMPFS_MAGIC) {
			t.Errorf("in %s, type %#x, warned %v: %s", base, at.Type, warned, log.String())
		}
	}
}

func TestAPlanIsNotWhatCreateMakes(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Quotas.MaxTopics = 1
		o.Authorize = func(_ control.Peer, name string, v Verb) error {
			if name == "secret" {
				return control.Errorf(control.CodePermission, "no")
			}
			return nil
		}
	})
	c := b.dial()
	spec := &control.TopicSpec{Ring: 1 << 20, Policy: &control.Policy{Kind: "block", Ns: int64(time.Second)}}
	planned := c.ok(&control.Message{Op: control.OpPlan, Topic: "a", TopicSpec: spec}).m.Topics
	if st := b.s.Stats(); len(planned) != 1 || st.Topics != 0 || st.ShmFreeBytes == 0 {
		t.Fatalf("plan %+v, bus %+v", planned, st)
	}
	c.ok(&control.Message{Op: control.OpCreate, Topic: "a", TopicSpec: spec})
	made, err := b.inspect("a")
	if p := planned[0]; err != nil || p.Ring != made.Ring || p.MaxMsg != made.MaxMsg || p.Step != made.Step || p.Policy != made.Policy || p.Policy != "block:1s" {
		t.Errorf("planned %+v, made %+v, %v", p, made, err)
	}
	c.ok(&control.Message{Op: control.OpPlan, Topic: "a", TopicSpec: spec})
	c.refused(&control.Message{Op: control.OpPlan, Topic: "a"}, control.CodeExists)
	c.refused(&control.Message{Op: control.OpPlan, Topic: "b"}, control.CodeQuota)
	c.refused(&control.Message{Op: control.OpPlan, Topic: "a..b"}, control.CodeInvalid)
	c.refused(&control.Message{Op: control.OpPlan, Topic: "secret"}, control.CodePermission)
	c.refused(&control.Message{Op: control.OpPlan, Topic: "b", TopicSpec: &control.TopicSpec{Ring: 3}}, control.CodeInvalid)
}

func TestListIsTooLongForOnePacket(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Quotas.RequestsPerSecond = -1 })
	c := b.dial()
	const n = 150
	long := strings.Repeat("x", 200)
	for i := range n {
		c.ok(&control.Message{Op: control.OpCreate, Topic: fmt.Sprintf("%s.%03d", long, i)})
	}
	seen, cursor, pages := 0, "", 0
	for {
		a := c.ok(&control.Message{Op: control.OpList, Topic: long + ".*", Cursor: cursor}).m
		pages++
		for _, info := range a.Topics {
			if want := fmt.Sprintf("%s.%03d", long, seen); info.Topic != want {
				t.Fatalf("%s where %s is due", info.Topic, want)
			}
			seen++
		}
		if cursor = a.Cursor; cursor == "" {
			break
		}
	}
	if seen != n || pages != 3 {
		t.Errorf("%d topics in %d pages", seen, pages)
	}
	c.refused(&control.Message{Op: control.OpList, Topic: "a.>.b"}, control.CodeInvalid)
}

func TestWhoMayNotReadATopicIsNotTold(t *testing.T) {
	deny := map[string]bool{}
	b := newBus(t, func(o *Options) {
		o.Authorize = func(_ control.Peer, name string, verb Verb) error {
			if deny[name+" "+string(verb)] {
				return errors.New("no")
			}
			return nil
		}
	})
	c := b.dial()
	for _, name := range []string{"a.hidden", "a.open", "a.secret"} {
		c.ok(&control.Message{Op: control.OpCreate, Topic: name})
	}
	b.s.mu.Lock() // Authorize is called under it
	for _, verb := range []Verb{VerbSubscribe, VerbPublish, VerbAdmin} {
		deny["a.hidden "+string(verb)] = true
	}
	deny["a.secret "+string(VerbSubscribe)] = true
	b.s.mu.Unlock()
	infos := c.ok(&control.Message{Op: control.OpList, Topic: "a.*"}).m.Topics
	if len(infos) != 2 || infos[0].Topic != "a.open" || infos[0].Unreadable || infos[1].Topic != "a.secret" || !infos[1].Unreadable {
		t.Errorf("list: %+v", infos)
	}
	for _, i := range infos {
		if one := c.ok(&control.Message{Op: control.OpInspect, Topic: i.Topic}).m.Topics; one[0].Unreadable != i.Unreadable {
			t.Errorf("inspect: %+v", one)
		}
	}
	c.refused(&control.Message{Op: control.OpInspect, Topic: "a.hidden"}, control.CodeNotFound)
}

func TestInspectIsTooLongForOnePacket(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Quotas.MaxLanesPerTopic = 200
		o.Quotas.RequestsPerSecond = -1
		o.Authorize = func(_ control.Peer, name string, _ Verb) error {
			if name == "secret" {
				return errors.New("no")
			}
			return nil
		}
	})
	c := b.dial()
	var pubs []*pub
	for i := range 150 {
		pubs = append(pubs, c.publisher("a.b", fmt.Sprintf("%03d%s", i, strings.Repeat("<", 120))))
	}
	s := c.subscriber("a.b", subOptions{mode: layout.Lossy})
	for _, p := range pubs {
		s.slot(p.g.Number, p.lane, p.pos, 0)
	}
	c.subscriber("a.>", subOptions{mode: layout.Lossy}) // holds nothing
	lanes, slots, subs, pages, cursor := 0, 0, 0, 0, ""
	for {
		a := c.ok(&control.Message{Op: control.OpInspect, Topic: "a.b", Cursor: cursor}).m
		pages++
		info := a.Topics[0]
		if info.LaneCount != 150 {
			t.Fatalf("%d lanes", info.LaneCount)
		}
		for _, l := range info.Lanes {
			if want := fmt.Sprintf("%03d", lanes); !strings.HasPrefix(l.Source, want) {
				t.Fatalf("lane of %s where %s is due", l.Source, want)
			}
			lanes++
		}
		for _, u := range info.Subs {
			subs++
			slots += len(u.Lanes)
		}
		if cursor = a.Cursor; cursor == "" {
			break
		}
	}
	if lanes != 150 || slots != 150 || subs != 3 || pages < 3 {
		t.Errorf("%d lanes, %d slots in %d subscriber entries, %d pages", lanes, slots, subs, pages)
	}
	c.refused(&control.Message{Op: control.OpInspect, Topic: "a.b", Cursor: "-1"}, control.CodeInvalid)
	c.refused(&control.Message{Op: control.OpInspect, Topic: "a.b", Cursor: "x"}, control.CodeInvalid)
	c.refused(&control.Message{Op: control.OpInspect, Topic: "a.c"}, control.CodeNotFound)
	// What a peer may not touch it does not see either.
	b.s.mu.Lock()
	if _, err := b.s.core.topicFor("secret"); err != nil {
		t.Error(err)
	}
	b.s.mu.Unlock()
	c.refused(&control.Message{Op: control.OpInspect, Topic: "secret"}, control.CodeNotFound)
	if n := len(c.ok(&control.Message{Op: control.OpList}).m.Topics); n != 1 {
		t.Errorf("%d topics are seen", n)
	}
}

func TestCreatedTopicIsForgotten(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	spec := &control.TopicSpec{Ring: 128 << 10, MaxMsg: 1024, Policy: &control.Policy{Kind: "block", Ns: int64(2 * time.Second)}}
	create := func(s *control.TopicSpec) *control.Message {
		return &control.Message{Op: control.OpCreate, Topic: "a.b", TopicSpec: s}
	}
	c.ok(create(spec))
	c.ok(create(spec)) // again
	c.refused(create(nil), control.CodeExists)
	c.refused(create(&control.TopicSpec{Ring: 128 << 10, MaxMsg: 1024}), control.CodeExists)
	b.restart()
	c = b.dial()
	p := c.publisher("a.b", "s")
	if p.g.Ring != 128<<10 || p.g.MaxMsg != 1024 || p.g.Policy.Kind != "block" {
		t.Errorf("grant %+v", p.g)
	}
	if info, err := b.inspect("a.b"); err != nil || info.Policy != "block:2s" || info.Ring != 128<<10 {
		t.Errorf("%v %+v", err, info)
	}
	del := &control.Message{Op: control.OpDelete, Topic: "a.b"}
	mustContain(t, c.refused(del, control.CodeInUse).Message, "1 publishers")
	s := c.grantSub("a.b", subOptions{mode: layout.Lossy})
	s.ok(s.readyMessage())
	s.lane(p.lane)
	p.publish(1)
	p.finish()
	mustContain(t, c.refused(del, control.CodeInUse).Message, "1 subscribers")
	s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	if info, err := b.inspect("a.b"); err != nil || info.LaneCount != 0 {
		t.Errorf("the topic went with its last lane: %v %+v", err, info)
	}
	c.ok(del)
	c.refused(del, control.CodeNotFound)
	b.restart()
	if st := b.s.Stats(); st.Topics != 0 {
		t.Errorf("%d topics after delete and restart", st.Topics)
	}
}

func TestDeleteTakesThePastAlong(t *testing.T) {
	b := newBus(t, func(o *Options) { o.LaneGrace = time.Hour })
	c := b.dial()
	p := c.publisher("a.b", "s")
	s := c.subscriber("a.*", subOptions{mode: layout.Lossy})
	s.lane(p.lane)
	p.publish(1)
	p.finish()
	del := &control.Message{Op: control.OpDelete, Topic: "a.b"}
	c.refused(del, control.CodeInUse) // somebody reads it still
	s.drained(p.lane)
	c.ok(del)
	if n := len(b.segments()); n != 1 {
		t.Errorf("segments %v", b.segments())
	}
}

func TestBadTopics(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Authorize = func(p control.Peer, name string, v Verb) error {
			if strings.HasPrefix(name, "secret") || v == VerbAdmin && name == "users" {
				return errors.New("not on the list")
			}
			return nil
		}
		o.TopicFor = func(name string) (TopicConfig, error) {
			switch name {
			case "unknown":
				return TopicConfig{}, errors.New("no such topic in the configuration")
			case "coded":
				return TopicConfig{}, control.Errorf(control.CodeExists, "coded")
			}
			return TopicConfig{Geometry: layout.Geometry{Ring: 1 << 20, MaxMsg: 1000}, MaxRing: 2 << 20}, nil
		}
		o.Quotas.MaxTopics = 2
	})
	c := b.dial()
	sub := func(pattern string) *control.Message {
		return &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: pattern, Mode: layout.Lossless}}
	}
	pub := func(name string, ring uint64, msg uint32) *control.Message {
		return &control.Message{Op: control.OpOpenPub, OpenPub: &control.OpenPub{Topic: name, Source: "s", Ring: ring, MaxMsg: msg}}
	}
	topicOp := func(op control.Op, name string, s *control.TopicSpec) *control.Message {
		return &control.Message{Op: op, Topic: name, TopicSpec: s}
	}
	for _, x := range []struct {
		m    *control.Message
		code control.Code
		says string
	}{
		{&control.Message{Op: control.OpOpenPub}, control.CodeInvalid, "open_pub"},
		{&control.Message{Op: control.OpOpenSub}, control.CodeInvalid, "open_sub"},
		{openPub("a..b", "s"), control.CodeInvalid, "token 2"},
		{openPub("a.*", "s"), control.CodeInvalid, "wildcard"},
		{openPub("a", ""), control.CodeInvalid, "source name of 0 bytes"},
		{openPub("a", strings.Repeat("s", 128)), control.CodeInvalid, "128 bytes"},
		{openPub("a", "s\x00"), control.CodeInvalid, "control character"},
		{openPub("secret.b", "s"), control.CodePermission, "may not publish secret.b"},
		{openPub("unknown", "s"), control.CodeNotFound, "no such topic in the configuration"},
		{openPub("coded", "s"), control.CodeExists, "coded"},
		{pub("a", 12345, 0), control.CodeInvalid, "power of two"},
		{pub("a", 1<<62, 0), control.CodeInvalid, "the most is"},
		{pub("a", 4<<20, 0), control.CodeInvalid, "the topic allows 2097152"},
		{pub("a", 0, 1<<30), control.CodeInvalid, "max message"},
		{sub("a.>.b"), control.CodeInvalid, "last token"},
		{sub("secret"), control.CodePermission, "may not subscribe secret"},
		{sub("unknown"), control.CodeNotFound, "unknown"},
		{&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a", Mode: 3}}, control.CodeInvalid, "mode 3"},
		{&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a", Mode: 1, Name: "\n"}}, control.CodeInvalid, "control character"},
		{topicOp(control.OpCreate, "", nil), control.CodeInvalid, "empty"},
		{topicOp(control.OpCreate, "users", nil), control.CodePermission, "may not admin"},
		{topicOp(control.OpCreate, "unknown", nil), control.CodeNotFound, "unknown"},
		{topicOp(control.OpCreate, "a", &control.TopicSpec{Ring: 7}), control.CodeInvalid, "ring of 7"},
		{topicOp(control.OpCreate, "a", &control.TopicSpec{Policy: &control.Policy{Kind: "pray"}}), control.CodeInvalid, "pray"},
		{topicOp(control.OpDelete, "", nil), control.CodeInvalid, "empty"},
		{topicOp(control.OpDelete, "users", nil), control.CodePermission, "may not admin"},
		{&control.Message{Op: "dance" + control.Op(strings.Repeat("!", 100))}, control.CodeInvalid, "dance"},
	} {
		mustContain(t, c.refused(x.m, x.code).Error(), x.says)
	}
	if st := b.s.Stats(); st.Topics != 0 || st.Lanes != 0 || len(b.segments()) != 0 {
		t.Errorf("refusals left %+v", st)
	}
	if st := b.s.Stats(); st.Counters["refusals_permission"] != 4 {
		t.Errorf("counters %v", st.Counters)
	}
	if g := c.grant("a", "s").g; g.Ring != 1<<20 || g.MaxMsg != 1000 {
		t.Errorf("grant %+v", g)
	}
	if g := c.fill(c.ok(pub("b", 2<<20, 2000))).g; g.Ring != 2<<20 || g.MaxMsg != 2000 {
		t.Errorf("grant %+v", g)
	}
	c.refused(openPub("c", "s"), control.CodeQuota)
	c.refused(sub("c"), control.CodeQuota)
	c.refused(topicOp(control.OpCreate, "c", nil), control.CodeQuota)

	// A pattern subscriber gets what it may read, and only that.
	b.s.mu.Lock()
	b.s.core.opt.Quotas.MaxTopics = 10
	b.s.core.opt.Authorize = func(_ control.Peer, name string, v Verb) error {
		if strings.HasPrefix(name, "secret") && v == VerbSubscribe {
			return errors.New("no")
		}
		return nil
	}
	b.s.mu.Unlock()
	s := b.dial().subscriber(">", subOptions{mode: layout.Lossy})
	c.publisher("secret.b", "s")
	open := c.publisher("open.b", "s")
	s.lane(open.lane)
	if n := s.settle(control.OpLane); n != 0 {
		t.Error("a secret was told")
	}
}

func TestTopicIDsCollide(t *testing.T) {
	b := newBus(t, nil)
	b.s.mu.Lock()
	b.s.core.ids[topic.ID("a.b")] = "other" // as far as the books go
	b.s.mu.Unlock()
	mustContain(t, b.dial().refused(openPub("a.b", "t"), control.CodeExists).Message, "other")
}
