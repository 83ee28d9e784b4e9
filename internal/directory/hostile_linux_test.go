package directory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"golang.org/x/sys/unix"
)

func TestClientNeverSaysHello(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Quotas.HandshakeTimeout = 20 * time.Millisecond })
	silent := &client{t: t, conn: b.pair()}
	silent.gone()
	b.handshake(watchdog)
	for _, m := range []*control.Message{
		{Op: control.OpList, ID: 5},
		{Op: control.OpHello, ID: 5},
	} {
		c := &client{t: t, conn: b.pair()}
		c.send(m)
		if g := c.next("a refusal", func(m *control.Message) bool { return m.ID == 5 }); g.m.Error == nil || g.m.Error.Code != control.CodeInvalid {
			t.Errorf("%s first: %+v", m.Op, g.m)
		}
		c.gone()
	}
	old := &client{t: t, conn: b.pair()}
	old.refused(&control.Message{Op: control.OpHello, Hello: &control.Hello{Version: control.Version + 1}}, control.CodeVersion)
	old.gone()
	b.count("refusals_version", 1)
}

func TestConnectionsOfOneUser(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Quotas.MaxConnectionsPerUID = 3 })
	cs := []*client{b.dial(), b.dial(), b.dial()}
	hello := func() *control.Message {
		return &control.Message{Op: control.OpHello, Hello: &control.Hello{Version: control.Version}}
	}
	over := &client{t: t, conn: b.pair()}
	mustContain(t, over.refused(hello(), control.CodeQuota).Message, "3 connections")
	over.gone()
	eventually(t, "the one too many let go", func() bool { return b.s.Stats().Connections == 3 })
	// Those that wait to hear why are bounded, too.
	var waiting []*control.Conn
	for range overQuota {
		waiting = append(waiting, b.pair())
	}
	eventually(t, "all counted", func() bool { return b.s.Stats().Connections == 3+overQuota })
	refused := &client{t: t, conn: b.pair()}
	refused.gone()
	for _, c := range waiting {
		_ = c.Close()
	}
	_ = cs[0].conn.Close()
	eventually(t, "room again", func() bool { return b.s.Stats().Connections == 2 })
	b.dial()
}

func TestOverflowUser(t *testing.T) {
	b := newBus(t, func(o *Options) { o.Authorize = func(control.Peer, string, Verb) error { return nil } })
	c := b.s.core
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	s := newSession(control.Peer{UID: NobodyUID}, 10)
	c.attach(s)
	err := c.welcome(s, &control.Message{Op: control.OpHello, Hello: &control.Hello{Version: control.Version}})
	if err == nil || err.Code != control.CodePermission {
		t.Errorf("uid 65534: %v", err)
	}
	c.detach(s)
	c.detach(s) // once is enough
	if len(c.usage) != 0 || len(c.sessions) != 0 {
		t.Errorf("%d accounts, %d sessions are left", len(c.usage), len(c.sessions))
	}
}

func TestWhoMayWithoutALists(t *testing.T) {
	b := newBus(t, nil)
	c := b.s.core
	for uid, want := range map[uint32]bool{0: true, c.uid: true, c.uid + 1: false} {
		if got := c.authorize(control.Peer{UID: uid}, "a", VerbPublish) == nil; got != want {
			t.Errorf("uid %d may: %v", uid, got)
		}
	}
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	s := newSession(control.Peer{UID: c.uid + 1}, 10)
	c.handle(s, &control.Message{Op: control.OpOpenSub, ID: 1, OpenSub: &control.OpenSub{Topic: ">", Mode: layout.Lossy}})
	if it, _ := s.out.pop(); it.m.Error == nil || it.m.Error.Code != control.CodePermission {
		t.Errorf("a pattern of a stranger: %+v", it.m)
	}
}

func TestNonsenseOnAConnection(t *testing.T) {
	b := newBus(t, nil)
	raw, mine, theirs := rawPair(t)
	defer unix.Close(raw)
	defer mine.Close()
	b.conn.Add(1)
	go func() {
		defer b.conn.Done()
		b.s.ServeConn(theirs)
	}()
	write := func(p []byte) {
		t.Helper()
		if _, err := unix.Write(raw, p); err != nil {
			t.Fatal(err)
		}
	}
	read := func() *control.Message {
		t.Helper()
		_ = mine.SetReadDeadline(time.Now().Add(watchdog))
		m, _, err := mine.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	write([]byte(`{"op":"hello","id":1,"hello":{"version":1}}`))
	if m := read(); m.Op != control.OpWelcome {
		t.Fatalf("%+v", m)
	}
	for _, p := range []string{"{", "null", "[]", `{"op":5}`, `{"op":"open-pub","open_pub":{"ring":-1}}`, `{"lane":"xyz"}`, strings.Repeat(" ", control.MaxMessageBytes+1), `{"op":"joined"}`} {
		write([]byte(p))
		if p == `{"op":"joined"}` {
			continue // a notice is not answered
		}
		if m := read(); m.Op != control.OpError || m.Error.Code != control.CodeInvalid {
			t.Errorf("%.20q: %+v", p, m)
		}
	}
	// A descriptor is closed, whatever comes with it.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(raw, []byte(`{"op":"stats","id":2}`), unix.UnixRights(int(w.Fd()), int(w.Fd())), nil, 0); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	if m := read(); m.Stats == nil || m.ID != 2 {
		t.Errorf("%+v", m)
	}
	_ = r.SetReadDeadline(time.Now().Add(watchdog))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the descriptor is open still: %v", err)
	}
	_ = r.Close()
	b.count("descriptors_refused", 1)
}

// rawPair is two ends of a connection, and the bare descriptor of the first.
func rawPair(t *testing.T) (raw int, mine, theirs *control.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = unix.Dup(fds[0]); err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(raw)
	var conns [2]*control.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "control")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = control.NewConn(c.(*net.UnixConn))
	}
	return raw, conns[0], conns[1]
}

func TestSlowClientHoldsUpOthers(t *testing.T) {
	var log syncBuffer
	b := newBus(t, func(o *Options) {
		o.Quotas.MaxLanes = 16
		o.Quotas.RequestsPerSecond = -1
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	c := b.dial() // on a busy machine it must not be taken for slow
	b.o.Quotas.WriteTimeout = 50 * time.Millisecond
	b.s.Reconfigure(b.o)
	slow := b.dial().subscriber(">", subOptions{mode: layout.Lossy})
	for i := 0; b.s.Stats().Connections == 2; i++ { // until the slow one is cut off
		p := c.publisher("a.b", "s")
		p.publish(1)
		_ = p.f.Close()
		c.ok(&control.Message{Op: control.OpDiscard, Lane: p.lane})
		// The slow one does not drain: take its lanes away by its death.
		b.s.mu.Lock()
		for _, l := range b.s.core.lanes {
			for _, j := range l.joins {
				j.drained = true
			}
			b.s.core.release(l)
		}
		b.s.mu.Unlock()
	}
	b.count("slow_clients", 1)
	mustContain(t, log.String(), "disconnected")
	_ = slow.f.Close()
	eventually(t, "the slow subscriber gone", func() bool { return b.s.Stats().Subscribers == 0 })
}

func TestFullOutbox(t *testing.T) {
	o := newOutbox(2)
	o.push(item{m: &control.Message{ID: 1}})
	o.push(item{m: &control.Message{ID: 2}})
	done := make(chan bool)
	go func() { done <- o.waitBelow(2) }()
	if it, ok := o.pop(); !ok || it.m.ID != 1 {
		t.Fatalf("popped %+v", it)
	}
	if !<-done {
		t.Error("waitBelow gave up")
	}
	o.push(item{})
	go func() { done <- o.waitBelow(1) }()
	o.push(item{}) // one too many
	if <-done {
		t.Error("a broken box has room")
	}
	if _, ok := o.pop(); ok || !o.overflowed() {
		t.Error("a full box goes on")
	}
	o.push(item{})
	if _, ok := o.pop(); ok {
		t.Error("a broken box takes more")
	}

	o = newOutbox(2)
	o.push(item{m: &control.Message{ID: 1}})
	o.end()
	o.push(item{})
	if it, ok := o.pop(); !ok || it.m.ID != 1 {
		t.Error("what was queued before the end is lost")
	}
	if _, ok := o.pop(); ok || o.overflowed() {
		t.Error("something came after the end")
	}
}

func TestRequestsWithoutPause(t *testing.T) {
	b := newBucket(1000)
	start := time.Now()
	for range 1200 {
		b.take()
	}
	if d := time.Since(start); d < 150*time.Millisecond {
		t.Errorf("1200 requests at 1000 a second with a burst of 1000 took %v", d)
	}
	free := newBucket(-1)
	for range 100_000 {
		free.take()
	}
}

func TestQuotas(t *testing.T) {
	lane := layout.Geometry{Ring: layout.MinRing}.FileBytes()
	b := newBus(t, func(o *Options) {
		o.LaneGrace = time.Hour
		o.Quotas = Quotas{MaxLanes: 6, MaxLanesPerUID: 5, MaxLanesPerTopic: 2, MaxLosslessPerTopic: 2, MaxSubscribersPerUID: 4,
			MaxShmBytes: 20 * lane, MaxShmBytesPerUID: 19 * lane}
	})
	c := b.dial()
	set := func(change func(q *Quotas)) {
		o := b.o
		change(&o.Quotas)
		b.s.Reconfigure(o)
	}
	past := func(name, source string) {
		p := c.publisher(name, source)
		p.publish(1)
		p.finish()
	}
	// Per topic: the past makes room, what lives does not.
	past("a", "1")
	past("a", "2")
	a3 := c.publisher("a", "3")
	a4 := c.publisher("a", "4")
	if n := b.s.Stats().Counters["grace_cut"]; n != 2 {
		t.Errorf("%d lanes were cut short, want 2", n)
	}
	mustContain(t, c.refused(openPub("a", "5"), control.CodeQuota).Message, "2 lanes")
	// Per uid.
	past("b", "1")
	past("b", "2")
	b3 := c.publisher("c", "1")
	c.publisher("d", "1")
	set(func(q *Quotas) { q.MaxLanesPerUID = 4 })
	mustContain(t, c.refused(openPub("e", "1"), control.CodeQuota).Message, "uid")
	// Numbers of the bus: never above what cursor files have slots for.
	set(func(q *Quotas) { q.MaxLanes, q.MaxLanesPerUID = 60, 100 })
	c.publisher("e", "1")
	e2 := c.publisher("e", "2")
	mustContain(t, c.refused(openPub("f", "1"), control.CodeQuota).Message, "all 6 lane numbers")
	if e2.g.Number >= 6 {
		t.Errorf("number %d", e2.g.Number)
	}
	e2.publish(1)
	e2.finish()
	if f := c.publisher("f", "1"); f.g.Number != e2.g.Number {
		t.Errorf("number %d, the smallest free one is %d", f.g.Number, e2.g.Number)
	}
	// Bytes.
	a3.finish()
	b3.finish()
	set(func(q *Quotas) { q.MaxShmBytes = lane })
	mustContain(t, c.refused(openPub("g", "1"), control.CodeQuota).Message, "the bus has")
	set(func(q *Quotas) { q.MaxShmBytesPerUID = lane })
	mustContain(t, c.refused(openPub("g", "1"), control.CodeQuota).Message, "uid")
	ask := func(mode layout.Mode, pattern string) *control.Message {
		return &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: pattern, Mode: mode}}
	}
	c.refused(ask(layout.Lossy, "g"), control.CodeQuota)
	set(func(q *Quotas) { q.MaxLanesPerUID = 100 })
	// Subscribers.
	s1, s2 := c.grantSub("a", subOptions{}), c.grantSub("a", subOptions{})
	for _, s := range []*sub{s1, s2} {
		ready := s.readyMessage()
		ready.ID = 9000
		s.send(ready)
		a4.answerJoin(s.sub)
		s.next("ok", func(m *control.Message) bool { return m.ID == 9000 })
	}
	mustContain(t, c.refused(ask(layout.Lossless, "a"), control.CodeQuota).Message, "2 lossless subscribers")
	mustContain(t, c.refused(ask(layout.Lossless, ">"), control.CodeQuota).Message, "2 lossless subscribers")
	s3 := c.subscriber("later", subOptions{})
	c.subscriber("later", subOptions{})
	c.refused(ask(layout.Lossy, "later"), control.CodeQuota)
	// Lossless subscribers that wait for a topic may be too many for a lane.
	b.o.TopicFor = func(string) (TopicConfig, error) {
		return TopicConfig{Geometry: layout.Geometry{Ring: layout.MinRing, MaxMsg: 256}, MaxLossless: 1, MaxLanes: 3}, nil
	}
	set(func(q *Quotas) { q.MaxShmBytesPerUID, q.MaxLanesPerUID = 0, 100 })
	a4.finish() // makes room for a number
	mustContain(t, c.refused(openPub("later", "1"), control.CodeQuota).Message, "a lane holds 1")
	s3.ok(&control.Message{Op: control.OpCloseSub, Sub: s3.sub})
	c.grant("later", "1")
}

func TestUnfinishedGrantsOfOneConnection(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Quotas.MaxLanesPerTopic = 1000
		o.Quotas.RequestsPerSecond = -1
		o.Quotas.HandshakeTimeout = time.Minute
	})
	c := b.dial()
	for i := range maxGrants {
		if i%2 == 0 {
			_ = c.ok(openPub("a", fmt.Sprint(i))).f.Close()
		} else {
			_ = c.ok(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "b", Mode: layout.Lossy}}).f.Close()
		}
	}
	c.refused(openPub("a", "x"), control.CodeQuota)
	c.refused(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "b", Mode: layout.Lossy}}, control.CodeQuota)
	_ = c.conn.Close()
	b.empty()
}

func TestFullFileSystem(t *testing.T) {
	dir := shmDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=12"); err != nil {
		if !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
		t.Log("may not mount: the answer to a full file system is tested with a fake one only")
		return
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	b := newBus(t, func(o *Options) { o.Dir = filepath.Join(dir, "bus") })
	c := b.dial()
	var last *control.Error
	for i := range 20 { // inodes run out
		g := c.call(openPub("a", fmt.Sprint(i)))
		if last = g.m.Error; last != nil {
			break
		}
		_ = g.f.Close()
	}
	if last == nil || last.Code != control.CodeNoSpace {
		t.Fatalf("full: %v", last)
	}
	before := len(b.segments())
	c.refused(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "b", Mode: layout.Lossy}}, control.CodeNoSpace)
	if after := len(b.segments()); after != before {
		t.Errorf("%d segments after a refusal, %d before", after, before)
	}
	// A topic cannot be written down, and none is half made.
	c.refused(&control.Message{Op: control.OpCreate, Topic: "t"}, control.CodeNoSpace)
	if _, err := b.inspect("t"); err == nil {
		t.Error("a refused topic exists")
	}
	_ = c.conn.Close()
	b.empty()
	d := b.dial()
	d.ok(&control.Message{Op: control.OpCreate, Topic: "t"})
	d.publisher("a", "s")
}

func TestListsInParts(t *testing.T) {
	b := newBus(t, nil)
	s := b.dial().subscriber("a.*", subOptions{mode: layout.Lossy})
	p, q := b.dial().publisher("a.b", "s"), b.dial().publisher("a.c", "s")
	s.lane(p.lane)
	s.lane(q.lane)
	b.restart()
	s.client = b.dialAs(s.epoch)
	part := func(more bool, lanes ...layout.ID16) *control.Message {
		m := &control.Message{Op: control.OpResSub, Sub: s.sub, More: more}
		for _, l := range lanes {
			m.Lanes = append(m.Lanes, control.HeldLane{Lane: l})
		}
		return m
	}
	s.ok(part(true, p.lane))
	s.ok(part(false, q.lane))
	if n := s.settle(control.OpLane); n != 0 {
		t.Errorf("%d lanes were sent that it has", n)
	}
	s.ok(part(true, p.lane))
	s.refused(&control.Message{Op: control.OpResPub, Lane: p.lane}, control.CodeInvalid)
	many := part(true, make([]layout.ID16, 1000)...)
	for range layout.MaxLanes / 1000 {
		s.ok(many)
		many = part(true, make([]layout.ID16, 1000)...)
	}
	s.refused(many, control.CodeInvalid)
}

func TestDescriptorsRunOut(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	now := was
	now.Cur = 4 // every number below is taken
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, (*syscall.Rlimit)(&now)); err != nil {
		t.Fatal(err)
	}
	pub := c.call(openPub("a", "s"))
	sub := c.call(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a", Mode: layout.Lossy}})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, (*syscall.Rlimit)(&was)); err != nil {
		t.Fatal(err)
	}
	for _, g := range []got{pub, sub} {
		if g.m.Error == nil || g.m.Error.Code != control.CodeInternal {
			t.Errorf("without descriptors: %+v", g.m)
		}
	}
	_ = c.conn.Close()
	b.empty()
	b.dial().publisher("a", "s")
}

// FuzzHandle: whatever comes on a connection, nothing panics, no descriptor
// leaks, and the connection's end leaves an empty bus.
func FuzzHandle(f *testing.F) {
	seed := func(ms ...string) { f.Add([]byte(strings.Join(ms, "\n"))) }
	seed(`{"op":"open-pub","id":1,"open_pub":{"topic":"a.b","source":"s"}}`, `{"op":"ready-pub","id":2,"lane":"$LANE"}`, `{"op":"close-pub","id":3,"lane":"$LANE"}`)
	seed(`{"op":"open-sub","id":1,"open_sub":{"topic":"a.>","mode":1,"park":true,"past":true}}`, `{"op":"ready-sub","id":2,"sub":"$SUB"}`, `{"op":"rejoin","sub":"$SUB","lane":"$LANE"}`, `{"op":"drained","sub":"$SUB","lane":"$LANE"}`)
	seed(`{"op":"create-topic","id":1,"topic":"x","topic_spec":{"ring":65536,"policy":{"kind":"block"}}}`, `{"op":"list","id":2,"topic":">","cursor":"a"}`, `{"op":"inspect","id":3,"topic":"x","cursor":"1"}`, `{"op":"delete-topic","id":4,"topic":"x"}`)
	seed(`{"op":"resume-pub","id":1,"lane":"$LANE","joined":[{"sub":"$SUB","pos":18446744073709551615,"ticket":1}],"more":true}`, `{"op":"resume-pub","id":2,"lane":"$LANE"}`)
	seed(`{"op":"resume-sub","id":1,"sub":"$SUB","lanes":[{"lane":"$LANE","number":4294967295}]}`, `{"op":"discard","lane":"$LANE","sub":"$SUB"}`, `{"op":"evicted","lane":"$LANE"}`, `{"op":"joined","lane":"$LANE","joined":[{"sub":"$SUB"}]}`, `{"op":"stats","id":9}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		poller()
		fds := openFDs()
		s, err := Open(Options{Dir: filepath.Join(shmDir(t), "b"), LaneGrace: -1, Quotas: Quotas{RequestsPerSecond: -1, MaxLanes: 8}})
		if err != nil {
			t.Fatal(err)
		}
		raw, mine, theirs := rawPair(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.ServeConn(theirs)
		}()
		hello := &control.Message{Op: control.OpHello, ID: 1, Hello: &control.Hello{Version: control.Version}}
		if err := mine.Send(hello, nil); err != nil {
			t.Fatal(err)
		}
		var lane, sub layout.ID16
		recv := func() *control.Message {
			_ = mine.SetReadDeadline(time.Now().Add(watchdog))
			m, file, err := mine.Recv()
			if err != nil {
				t.Fatalf("after %q: %v", data, err)
			}
			if file != nil {
				_ = file.Close()
			}
			if m.Op == control.OpGranted {
				lane, sub = firstOf(lane, m.Lane), firstOf(sub, m.Sub)
			}
			return m
		}
		recv()
		for i, line := range bytes.Split(data, []byte("\n")) {
			if i > 30 || len(line) == 0 {
				continue
			}
			line = bytes.ReplaceAll(line, []byte("$LANE"), []byte(lane.String()))
			line = bytes.ReplaceAll(line, []byte("$SUB"), []byte(sub.String()))
			if len(line) > 1<<17 {
				continue // does not fit the socket
			}
			if _, err := unix.Write(raw, line); err != nil {
				t.Fatal(err)
			}
			if err := mine.Send(&control.Message{Op: control.OpStats, ID: 1 << 60}, nil); err != nil {
				t.Fatal(err)
			}
			for m := recv(); m.ID != 1<<60 || m.Stats == nil; m = recv() {
			}
		}
		_ = unix.Close(raw)
		_ = mine.Close()
		<-served
		s.mu.Lock()
		for _, l := range s.core.lanes {
			s.core.look(l)
		}
		if n := len(s.core.lanes) + len(s.core.subs) + len(s.core.sessions) + len(s.core.usage); n != 0 || s.core.shmBytes != 0 {
			t.Errorf("%d entries and %d bytes are left on the books", n, s.core.shmBytes)
		}
		s.mu.Unlock()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for end := time.Now().Add(watchdog); openFDs() > fds; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d descriptors are open, %d were", openFDs(), fds)
			}
		}
	})
}

func firstOf(a, b layout.ID16) layout.ID16 {
	if a.IsZero() {
		return b
	}
	return a
}

// syncBuffer collects a log.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestCursorFileVanishesBeforeItsJoin(t *testing.T) {
	b := newBus(t, nil)
	gone, s := b.dial().subscriber("a", subOptions{}), b.dial().subscriber("a", subOptions{})
	name := func(s *sub) string { return filepath.Join(b.o.Dir, "c", cursorRef(s.sub).name) }
	if err := os.Remove(name(gone)); err != nil {
		t.Fatal(err)
	}
	p := b.dial().grant("a", "s")
	if p.g.Joins != 1 {
		t.Errorf("%d joins are announced, one was sent", p.g.Joins)
	}
	p.ok(p.readyMessage(p.admit()...))
	s.lane(p.lane)
	// A descriptor that cannot be had ends the connection: its client comes
	// back and is sent what it lacks.
	if err := errors.Join(os.Remove(name(s)), os.Symlink("x", name(s))); err != nil {
		t.Fatal(err)
	}
	c := b.dial()
	c.send(openPub("a", "t"))
	c.gone()
	b.count("slow_clients", 1)
	_ = os.Remove(name(s))
}

func TestPanicTakesTheServerAlong(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Authorize = func(_ control.Peer, name string, _ Verb) error {
			if name == "bomb" {
				panic(name)
			}
			return nil
		}
	})
	b.s.mu.Lock()
	if _, err := b.s.core.topicFor("bomb"); err != nil {
		t.Error(err)
	}
	b.s.mu.Unlock()
	for i, m := range []*control.Message{openPub("bomb", "s"), {Op: control.OpList}, {Op: control.OpInspect, Topic: "bomb"}} {
		c := b.dial()
		c.send(m)
		c.gone()
		b.count("panics", uint64(i+1))
	}
	b.dial().publisher("a", "s")
}
