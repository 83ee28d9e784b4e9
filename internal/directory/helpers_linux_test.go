package directory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
)

// watchdog is how long anything may take before a test has failed.
const watchdog = 2 * time.Minute

// eventually waits for cond.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(watchdog); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

func openFDs() int {
	e, _ := os.ReadDir("/proc/self/fd")
	return len(e)
}

// shmDir is a temporary directory, in shared memory where there is some.
func shmDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// bus is a directory under test.
type bus struct {
	t    *testing.T
	o    Options
	s    *Server
	conn sync.WaitGroup
}

// poller has the runtime open its own descriptors, which stay.
var poller = sync.OnceFunc(func() {
	if a, b, err := control.Pair(); err == nil {
		_, _ = a.Close(), b.Close()
	}
})

// newBus opens a directory on real files; when the test ends no descriptor and
// no goroutine may be left.
func newBus(t *testing.T, with func(*Options)) *bus {
	t.Helper()
	poller()
	fds, routines := openFDs(), runtime.NumGoroutine()
	b := &bus{t: t, o: Options{Dir: filepath.Join(shmDir(t), "bus"), Bus: "test", LaneGrace: -1}}
	b.o.TopicFor = func(string) (TopicConfig, error) {
		return TopicConfig{Geometry: layout.Geometry{Ring: layout.MinRing, MaxMsg: 256}}, nil
	}
	if with != nil {
		with(&b.o)
	}
	// A busy machine must not look like a slow client.
	for _, d := range []*time.Duration{&b.o.Quotas.HandshakeTimeout, &b.o.Quotas.WriteTimeout} {
		if *d == 0 {
			*d = watchdog
		}
	}
	b.open()
	t.Cleanup(func() {
		b.close()
		eventually(t, "no leaked descriptors", func() bool { return openFDs() <= fds })
		eventually(t, "no leaked goroutines", func() bool { return runtime.NumGoroutine() <= routines })
	})
	return b
}

func (b *bus) open() {
	b.t.Helper()
	s, err := Open(b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.s = s
}

// handshake changes one timeout from now on.
func (b *bus) handshake(d time.Duration) {
	b.o.Quotas.HandshakeTimeout = d
	b.s.Reconfigure(b.o)
}

func (b *bus) close() {
	if err := b.s.Close(); err != nil {
		b.t.Error(err)
	}
	b.conn.Wait()
}

// restart is a new directory on the old files.
func (b *bus) restart() {
	b.t.Helper()
	b.close()
	b.open()
}

// pair connects without a hello.
func (b *bus) pair() *control.Conn {
	b.t.Helper()
	mine, theirs, err := control.Pair()
	if err != nil {
		b.t.Fatal(err)
	}
	b.conn.Add(1)
	s := b.s
	go func() {
		defer b.conn.Done()
		s.ServeConn(theirs)
	}()
	b.t.Cleanup(func() { _ = mine.Close() })
	return mine
}

func (b *bus) dial() *client { return b.dialAs(newEpoch()) }

func (b *bus) dialAs(id layout.ID16) *client {
	b.t.Helper()
	c := &client{t: b.t, conn: b.pair(), epoch: id}
	w := c.call(&control.Message{Op: control.OpHello, Hello: &control.Hello{Version: control.Version, Client: id}})
	if w.m.Op != control.OpWelcome || w.m.Welcome.Bus != "test" || w.m.Welcome.Incarnation == 0 || w.m.Welcome.Node.IsZero() {
		b.t.Fatalf("welcome: %+v", w.m)
	}
	c.slots = w.m.Welcome.Slots
	return c
}

// segments lists the files of lanes and cursors.
func (b *bus) segments() []string {
	var all []string
	for _, sub := range []string{"l", "c"} {
		e, err := os.ReadDir(filepath.Join(b.o.Dir, sub))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, x := range e {
			all = append(all, sub+"/"+x.Name())
		}
	}
	return all
}

func (b *bus) empty() {
	b.t.Helper()
	eventually(b.t, "an empty bus directory", func() bool { return len(b.segments()) == 0 })
	eventually(b.t, "empty books", func() bool {
		st := b.s.Stats()
		return st.Lanes == 0 && st.Subscribers == 0 && st.ShmBytes == 0
	})
}

// inspect is all of one topic, as this process's user sees it.
func (b *bus) inspect(name string) (control.TopicInfo, error) {
	v, refused := b.s.topic(name, control.Peer{UID: uint32(os.Geteuid())})
	if refused != nil {
		return control.TopicInfo{}, refused
	}
	info, _ := b.s.inspect(&v, 0, 1<<62)
	return info, nil
}

func (b *bus) counter(name string) uint64 { return b.s.Stats().Counters[name] }

func (b *bus) count(name string, want uint64) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("counter %s = %d", name, want), func() bool { return b.counter(name) == want })
}

// client speaks the conversation by hand.
type client struct {
	t     *testing.T
	conn  *control.Conn
	epoch layout.ID16
	id    uint64
	slots uint32
	queue []got
}

type got struct {
	m *control.Message
	f *os.File
}

func (c *client) send(m *control.Message) {
	c.t.Helper()
	_ = c.conn.SetWriteDeadline(time.Now().Add(watchdog))
	if err := c.conn.Send(m, nil); err != nil {
		c.t.Fatalf("send %s: %v", m.Op, err)
	}
}

// next takes the first queued or coming message that pick wants.
func (c *client) next(what string, pick func(*control.Message) bool) got {
	c.t.Helper()
	for i, g := range c.queue {
		if pick(g.m) {
			c.queue = slices.Delete(c.queue, i, i+1)
			return g
		}
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(watchdog))
	for {
		m, f, err := c.conn.Recv()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
		if f != nil {
			c.t.Cleanup(func() { _ = f.Close() })
		}
		if g := (got{m, f}); pick(m) {
			return g
		} else {
			c.queue = append(c.queue, g)
		}
	}
}

// call sends a request and returns its answer.
func (c *client) call(m *control.Message) got {
	c.t.Helper()
	c.id++
	m.ID = c.id
	c.send(m)
	return c.next("the answer to "+string(m.Op), func(a *control.Message) bool { return a.ID == m.ID })
}

// ok is call for what must not be refused.
func (c *client) ok(m *control.Message) got {
	c.t.Helper()
	g := c.call(m)
	if g.m.Error != nil {
		c.t.Fatalf("%s: %v (%s)", m.Op, g.m.Error, g.m.Error.Code)
	}
	return g
}

// refused is call for what must be refused with that code.
func (c *client) refused(m *control.Message, code control.Code) *control.Error {
	c.t.Helper()
	g := c.call(m)
	if g.m.Op != control.OpError || g.m.Error == nil || g.m.Error.Code != code {
		c.t.Fatalf("%s: want a refusal %q, got %+v (%v)", m.Op, code, g.m, g.m.Error)
	}
	return g.m.Error
}

// event waits for an event about a lane or subscriber; zero = any.
func (c *client) event(op control.Op, lane, sub layout.ID16) got {
	c.t.Helper()
	return c.next(string(op), func(m *control.Message) bool {
		return m.Op == op && m.ID == 0 && (lane.IsZero() || m.Lane == lane) && (sub.IsZero() || m.Sub == sub)
	})
}

// settle makes sure that everything decided so far has arrived, and returns how
// many unconsumed events of that kind there are.
func (c *client) settle(op control.Op) int {
	c.t.Helper()
	c.ok(&control.Message{Op: control.OpStats})
	n := 0
	for _, g := range c.queue {
		if g.m.Op == op {
			n++
		}
	}
	return n
}

// pub is a publisher's end by hand: the lock lives as long as its descriptor.
type pub struct {
	*client
	g    *control.LaneGrant
	f    *os.File
	lane layout.ID16
	head layout.LaneHeader
	pos  uint64
	seq  uint64
}

func openPub(name, source string) *control.Message {
	return &control.Message{Op: control.OpOpenPub, OpenPub: &control.OpenPub{Topic: name, Source: source}}
}

// grant asks for a lane and fills its file, up to ready-pub.
func (c *client) grant(name, source string) *pub {
	c.t.Helper()
	return c.fill(c.ok(openPub(name, source)))
}

func (c *client) fill(g got) *pub {
	c.t.Helper()
	lg := g.m.LaneGrant
	if g.m.Op != control.OpGranted || lg == nil || g.f == nil || g.m.Lane.IsZero() {
		c.t.Fatalf("grant: %+v", g.m)
	}
	p := &pub{client: c, g: lg, f: g.f, lane: g.m.Lane, pos: lg.Ring, seq: lg.FirstSeq}
	p.head = layout.LaneHeader{
		Geometry: layout.Geometry{Ring: lg.Ring, MaxMsg: lg.MaxMsg, Step: lg.Step}, TopicID: topic.ID(lg.Topic), Lane: lg.Number,
		Epoch: g.m.Lane, OriginNode: lg.Node, UID: lg.UID, GID: lg.GID, CreatedMono: clock.Mono(), BootID: lg.Boot,
		PrevEpoch: lg.PrevEpoch, FirstPos: lg.Ring, FirstSeq: lg.FirstSeq, Topic: lg.Topic, Source: lg.Source,
	}
	binary.LittleEndian.PutUint64(p.head.SourceID[:], topic.ID(lg.Source))
	p.must(segment.Lock(p.f))
	p.must(segment.Allocate(p.f, p.head.FileBytes()))
	p.writeHeader()
	return p
}

func (p *pub) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pub) writeHeader() {
	b := make([]byte, layout.OffReady)
	p.head.Encode(b)
	p.write(0, b)
	p.word(layout.OffIntent, p.pos)
	p.tail()
	p.word(layout.OffState, uint64(layout.LaneActive)|uint64(os.Getpid())<<32)
	p.word(layout.OffReady, layout.Ready(layout.LaneMagic, p.head.Epoch))
}

func (p *pub) write(off int64, b []byte) {
	p.t.Helper()
	if _, err := p.f.WriteAt(b, off); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pub) word(off int64, v uint64) {
	p.t.Helper()
	p.write(off, binary.LittleEndian.AppendUint64(nil, v))
}

// tail stores the tail cell.
func (p *pub) tail() {
	p.word(layout.OffTail+8, p.pos)
	p.word(layout.OffTail+16, p.seq)
}

// publish appends frames of that many payload bytes, as a publisher that has
// not stored its tail since.
func (p *pub) publish(payloads ...int) {
	p.t.Helper()
	for _, n := range payloads {
		size := layout.FrameBytes(uint64(n))
		if off := p.pos & (p.g.Ring - 1); off+size > p.g.Ring {
			p.frame(layout.KindPad, 0, p.g.Ring-off)
		}
		p.frame(layout.KindData, n, size)
		p.seq++
	}
}

func (p *pub) frame(kind layout.Kind, n int, size uint64) {
	p.t.Helper()
	p.word(layout.OffIntent, p.pos+size)
	b := binary.LittleEndian.AppendUint64(nil, layout.Commit(p.pos, kind))
	b = binary.LittleEndian.AppendUint64(b, layout.Meta(uint32(n), 7, 0, 0))
	b = binary.LittleEndian.AppendUint64(b, p.seq)
	b = binary.LittleEndian.AppendUint64(b, 0)
	p.write(int64(layout.OffRing+p.pos&(p.g.Ring-1)), b)
	p.pos += size
}

// joinedTo answers joins as a publisher would.
func (p *pub) joinedTo(joins ...got) []control.Joined {
	var all []control.Joined
	for i, g := range joins {
		all = append(all, control.Joined{Sub: g.m.Sub, Pos: p.pos, Ticket: 100 + uint64(i), Notice: uint32(i)})
	}
	return all
}

// admit waits for the joins of the grant.
func (p *pub) admit() []control.Joined {
	p.t.Helper()
	var joins []got
	for range p.g.Joins {
		j := p.event(control.OpJoin, p.lane, layout.ID16{})
		if j.f == nil || j.m.Join == nil {
			p.t.Fatalf("join without a cursor file: %+v", j.m)
		}
		joins = append(joins, j)
	}
	return p.joinedTo(joins...)
}

func (p *pub) readyMessage(joined ...control.Joined) *control.Message {
	return &control.Message{Op: control.OpReadyPub, Lane: p.lane, Joined: joined}
}

// publisher goes all the way.
func (c *client) publisher(name, source string) *pub {
	c.t.Helper()
	p := c.grant(name, source)
	p.ok(p.readyMessage(p.admit()...))
	return p
}

// answerJoin takes the next join of the lane and answers it.
func (p *pub) answerJoin(sub layout.ID16) control.Joined {
	p.t.Helper()
	j := p.joinedTo(p.event(control.OpJoin, p.lane, sub))[0]
	p.send(&control.Message{Op: control.OpJoined, Lane: p.lane, Joined: []control.Joined{j}})
	return j
}

// die releases the lock and drops the connection.
func (p *pub) die() {
	_ = p.f.Close()
	_ = p.conn.Close()
}

// finish closes in order.
func (p *pub) finish() {
	p.t.Helper()
	p.tail()
	p.word(layout.OffState, uint64(layout.LaneClosed))
	_ = p.f.Close()
	p.ok(&control.Message{Op: control.OpClosePub, Lane: p.lane})
}

// sub is a subscriber's end by hand.
type sub struct {
	*client
	f    *os.File
	sub  layout.ID16
	head layout.CursorHeader
}

type subOptions struct {
	mode       layout.Mode
	park, past bool
}

func (c *client) grantSub(pattern string, o subOptions) *sub {
	c.t.Helper()
	if o.mode == 0 {
		o.mode = layout.Lossless
	}
	g := c.ok(&control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: pattern, Name: "n", Mode: o.mode, Park: o.park, Past: o.past}})
	if g.m.Op != control.OpGranted || g.m.SubGrant == nil || g.f == nil || g.m.SubGrant.Slots != c.slots {
		c.t.Fatalf("grant: %+v", g.m)
	}
	s := &sub{client: c, f: g.f, sub: g.m.Sub, head: layout.CursorHeader{Epoch: g.m.Sub, UID: g.m.SubGrant.UID, GID: g.m.SubGrant.GID,
		Mode: o.mode, Park: o.park, Slots: g.m.SubGrant.Slots, CreatedMono: clock.Mono(), BootID: g.m.SubGrant.Boot, Name: "n", Pattern: pattern}}
	for _, err := range []error{segment.Lock(s.f), segment.Allocate(s.f, layout.CursorFileBytes(s.head.Slots))} {
		if err != nil {
			c.t.Fatal(err)
		}
	}
	s.writeHeader()
	return s
}

func (s *sub) writeHeader() {
	b := make([]byte, layout.OffReady)
	s.head.Encode(b)
	b = binary.LittleEndian.AppendUint64(b, layout.Ready(layout.CursorMagic, s.head.Epoch))
	if _, err := s.f.WriteAt(b, 0); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sub) readyMessage() *control.Message {
	return &control.Message{Op: control.OpReadySub, Sub: s.sub}
}

func (c *client) subscriber(pattern string, o subOptions) *sub {
	c.t.Helper()
	s := c.grantSub(pattern, o)
	s.ok(s.readyMessage())
	return s
}

// lane waits for a lane message with its file.
func (s *sub) lane(lane layout.ID16) *control.Message {
	s.t.Helper()
	g := s.event(control.OpLane, lane, s.sub)
	if g.f == nil || g.m.LaneInfo == nil {
		s.t.Fatalf("lane without its file: %+v", g.m)
	}
	h, err := segment.ReadLane(g.f)
	if err != nil || h.Epoch != g.m.Lane || h.Lane != g.m.LaneInfo.Number {
		s.t.Fatalf("lane file: %v, %+v", err, h)
	}
	if _, err := g.f.WriteAt([]byte{0}, 0); err == nil {
		s.t.Fatal("a subscriber can write the lane through its descriptor")
	}
	return g.m
}

// slot stores a slot of the cursor file.
func (s *sub) slot(number uint32, lane layout.ID16, cursor, seq uint64) {
	s.t.Helper()
	b := binary.LittleEndian.AppendUint64(nil, lane.Low())
	b = binary.LittleEndian.AppendUint64(b, cursor)
	b = binary.LittleEndian.AppendUint64(b, seq)
	if _, err := s.f.WriteAt(b, layout.OffSlots+int64(number)*layout.SlotBytes); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sub) drained(lane layout.ID16) {
	s.t.Helper()
	s.send(&control.Message{Op: control.OpDrained, Sub: s.sub, Lane: lane})
}

func (s *sub) die() {
	_ = s.f.Close()
	_ = s.conn.Close()
}

// gone checks that the directory ended the connection.
func (c *client) gone() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(watchdog))
	for {
		_, f, err := c.conn.Recv()
		if f != nil {
			_ = f.Close()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatal("the directory kept the connection")
		}
		if control.Gone(err) {
			return
		}
	}
}

func mustContain(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Fatalf("%q does not say %q", text, want)
	}
}
