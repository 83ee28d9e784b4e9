package shm

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

// script is a directory whose every answer the test decides. What answer returns is
// sent with the request's ID; nil is silence.
type script struct {
	answer func(m *control.Message) (*control.Message, *os.File)

	mu    sync.Mutex
	conn  *control.Conn // to the client, of the last connection
	dials int
	told  chan *control.Message // notices

	silent atomic.Bool // nobody listens any more
}

func (s *script) dial(context.Context) (*control.Conn, error) {
	if s.silent.Load() {
		return nil, errors.New("nobody listens")
	}
	a, b, err := control.Pair()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = a
	s.dials++
	go func() {
		defer a.Close()
		for {
			m, f, err := a.Recv()
			if err != nil {
				return
			}
			if f != nil {
				f.Close()
			}
			if m.ID == 0 {
				select {
				case s.told <- m:
				default:
				}
				continue
			}
			r, file := s.answer(m)
			if r == nil && m.Op == control.OpHello {
				r = &control.Message{Op: control.OpWelcome, Welcome: &control.Welcome{Version: control.Version, Incarnation: uint64(s.dials)}}
			}
			if r != nil {
				r.ID = m.ID
				_ = a.Send(r, file)
			}
			if file != nil {
				file.Close()
			}
		}
	}()
	return b, nil
}

// event sends what nobody asked for.
func (s *script) event(t *testing.T, m *control.Message, f *os.File) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	must(t, s.conn.Send(m, f))
}

func scripted(t *testing.T, answer func(m *control.Message) (*control.Message, *os.File)) (*script, *Client) {
	t.Helper()
	s := &script{answer: answer, told: make(chan *control.Message, 1000)}
	c, err := Connect(bg(), s.dial, &ClientOptions{Program: "test", Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return s, c
}

func newFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp("", "mycelium-segment-") // also from a directory's goroutine, after the test
	must(t, err)
	t.Cleanup(func() { os.Remove(f.Name()) })
	return f
}

// Whoever attaches while the registry restarts hears from the one that comes back, also if the
// question was under way; and asks nobody whose connection is gone.
func TestAttachAsksAgainWhereTheConnectionIsLost(t *testing.T) {
	watch(t, time.Minute)
	var asked atomic.Int32
	s := &script{told: make(chan *control.Message, 1000)}
	s.answer = func(m *control.Message) (*control.Message, *os.File) {
		if m.Op == control.OpHello {
			return nil, nil
		}
		if m.Op != control.OpOpenPub && m.Op != control.OpOpenSub { // of a client that is back
			return &control.Message{Op: control.OpOK}, nil
		}
		if asked.Add(1) <= 2 {
			s.mu.Lock()
			defer s.mu.Unlock()
			_ = s.conn.Close()
			return nil, nil
		}
		return &control.Message{Op: control.OpError, Error: control.Errorf(control.CodePermission, "no")}, nil
	}
	c, err := Connect(bg(), s.dial, &ClientOptions{Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer func() { must(t, c.Close()) }()
	if _, err := c.Publisher(bg(), "a.b", nil); !errors.Is(err, ErrPermission) || asked.Load() < 3 {
		t.Errorf("publisher: asked %d times: %v", asked.Load(), err)
	}
	asked.Store(0)
	if _, err := c.Subscriber(bg(), "a.b", nil); !errors.Is(err, ErrPermission) || asked.Load() < 3 {
		t.Errorf("subscriber: asked %d times: %v", asked.Load(), err)
	}
	// Where none comes back, the deadline says why.
	asked.Store(0)
	ctx, cancel := context.WithTimeout(bg(), 500*time.Millisecond) // a busy machine takes its time to see the end
	defer cancel()
	s.silent.Store(true)
	if _, err := c.Publisher(ctx, "a.b", nil); !errors.Is(err, ErrRegistryDown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestConnectTellsWhyNot(t *testing.T) {
	watch(t, time.Minute)
	internal := control.Errorf(control.CodeInternal, "oops")
	for name, c := range map[string]struct {
		answer *control.Message
		want   error
	}{
		"refused":  {&control.Message{Op: control.OpError, Error: control.Errorf(control.CodePermission, "no")}, ErrPermission},
		"version":  {&control.Message{Op: control.OpError, Error: control.Errorf(control.CodeVersion, "no")}, ErrVersion},
		"internal": {&control.Message{Op: control.OpError, Error: internal}, internal},
		"nonsense": {&control.Message{Op: control.OpOK}, ErrVersion},
	} {
		s := &script{answer: func(*control.Message) (*control.Message, *os.File) { return c.answer, newFile(t) }}
		if _, err := Connect(bg(), s.dial, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, dial := range map[string]Dialer{
		"no socket": func(context.Context) (*control.Conn, error) { return nil, os.ErrNotExist },
		"closed here": func(context.Context) (*control.Conn, error) {
			_, b, err := control.Pair()
			b.Close()
			return b, err
		},
		"closed there": func(context.Context) (*control.Conn, error) {
			a, b, err := control.Pair()
			go func() { _, _, _ = a.Recv(); a.Close() }()
			return b, err
		},
	} {
		if _, err := Connect(bg(), dial, nil); !errors.Is(err, ErrRegistryDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectWaitsOnlyAsLongAsItShould(t *testing.T) {
	watch(t, time.Minute)
	s := &script{answer: func(*control.Message) (*control.Message, *os.File) { return nil, nil }}
	late := func(n int) Dialer { // nobody is there n times
		return func(ctx context.Context) (*control.Conn, error) {
			if n--; n >= 0 {
				return nil, os.ErrNotExist
			}
			return s.dial(ctx)
		}
	}
	asked := 0
	again := func(limit int) *ClientOptions {
		asked = 0
		return &ClientOptions{Again: func(why error) bool {
			if !errors.Is(why, ErrRegistryDown) || !errors.Is(why, os.ErrNotExist) {
				t.Errorf("asked about %v", why)
			}
			asked++
			return asked < limit
		}}
	}
	c, err := Connect(bg(), late(3), again(100))
	if err != nil || asked != 3 {
		t.Fatalf("%v after %d questions", err, asked)
	}
	must(t, c.Close())
	if _, err := Connect(bg(), late(100), again(3)); !errors.Is(err, os.ErrNotExist) || asked != 3 {
		t.Errorf("given up: %v after %d questions", err, asked)
	}
	ctx, cancel := context.WithCancelCause(bg())
	o, why := again(100), errors.New("enough")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	if _, err := Connect(ctx, late(1000), o); !errors.Is(err, ErrRegistryDown) || !errors.Is(err, why) || asked == 0 {
		t.Errorf("ended: %v after %d questions", err, asked)
	}
	if _, err := Connect(ctx, late(1000), again(100)); !errors.Is(err, ErrRegistryDown) || asked != 0 {
		t.Errorf("ended before: %v after %d questions", err, asked)
	}
}

// Grants that cannot be used are given back, with the reason.
func TestGrantsThatCannotBeUsed(t *testing.T) {
	watch(t, time.Minute)
	g := layout.Geometry{Ring: small}.WithDefaults()
	lane := control.LaneGrant{Topic: "a", Source: "s", Ring: g.Ring, MaxMsg: g.MaxMsg, Step: g.Step, Policy: control.Policy{Kind: "evict", Ns: 5}}
	locked := func() *os.File {
		f := newFile(t)
		other, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
		must(t, err)
		must(t, segment.Lock(other))
		t.Cleanup(func() { other.Close() })
		return f
	}
	readOnly := func() *os.File {
		f, err := os.Open(newFile(t).Name())
		must(t, err)
		return f
	}
	for name, c := range map[string]struct {
		ring  uint64
		slots uint32
		file  func() *os.File
		want  error
	}{
		"no descriptor":  {small, 10, func() *os.File { return nil }, errNoDescriptor},
		"geometry":       {12345, layout.MaxLanes + 1, func() *os.File { return newFile(t) }, layout.ErrGeometry},
		"owned":          {small, 10, locked, segment.ErrLocked},
		"read-only":      {small, 10, readOnly, os.ErrInvalid},
		"never answered": {small, 10, func() *os.File { return newFile(t) }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := scripted(t, func(m *control.Message) (*control.Message, *os.File) {
				switch m.Op {
				case control.OpOpenPub:
					l := lane
					l.Ring = c.ring
					return &control.Message{Op: control.OpGranted, Lane: layout.ID16{1}, LaneGrant: &l}, c.file()
				case control.OpOpenSub:
					return &control.Message{Op: control.OpGranted, Sub: layout.ID16{2}, SubGrant: &control.SubGrant{Slots: c.slots}}, c.file()
				}
				return nil, nil
			})
			// A join that came before is dropped with the grant.
			s.event(t, &control.Message{Op: control.OpJoin, Lane: layout.ID16{1}, Sub: layout.ID16{9}, Join: &control.Join{Mode: layout.Lossless}}, newFile(t))
			ctx, cancel := context.WithTimeout(bg(), 200*time.Millisecond)
			defer cancel()
			_, e1 := client.Publisher(ctx, "a", nil)
			_, e2 := client.Subscriber(ctx, "a", nil)
			for _, err := range []error{e1, e2} {
				if c.want == os.ErrInvalid {
					if err == nil {
						t.Error("a read-only grant was used")
					}
				} else if !errors.Is(err, c.want) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
			if m := <-s.told; m.Op != control.OpDiscard {
				t.Errorf("told %v", m.Op)
			}
		})
	}
}

// A directory that says nonsense is ignored, and the handles go on.
func TestHostileDirectory(t *testing.T) {
	watch(t, time.Minute)
	s, c := scripted(t, func(m *control.Message) (*control.Message, *os.File) {
		switch m.Op {
		case control.OpOpenPub:
			g := layout.Geometry{Ring: small}.WithDefaults()
			return &control.Message{Op: control.OpGranted, Lane: layout.ID16{1}, LaneGrant: &control.LaneGrant{Topic: "a", Source: "s", Ring: g.Ring,
				MaxMsg: g.MaxMsg, Step: g.Step, Policy: control.Policy{Kind: "fail"}}}, newFile(t)
		case control.OpOpenSub:
			return &control.Message{Op: control.OpGranted, Sub: layout.ID16{2}, SubGrant: &control.SubGrant{Slots: 10}}, newFile(t)
		case control.OpHello, control.OpStats:
			return nil, nil
		}
		return &control.Message{Op: control.OpOK}, nil
	})
	p := publisher(t, c, "a", PublisherOptions{})
	sub := subscriber(t, c, "a", SubscriberOptions{Mode: Lossless})
	lane, id := p.hdr.Epoch, sub.hdr.Epoch

	cursorFile := func(epoch layout.ID16, slots uint32, size int64) *os.File {
		h := layout.CursorHeader{Epoch: epoch, Mode: layout.Lossless, Slots: slots}
		b := make([]byte, layout.CursorFileBytes(slots))
		h.Encode(b)
		*word64(b, layout.OffReady) = layout.Ready(layout.CursorMagic, epoch)
		f := newFile(t)
		_, err := f.Write(b)
		must(t, err)
		if size >= 0 {
			must(t, f.Truncate(size))
		}
		return f
	}
	laneFile := func(epoch layout.ID16, number uint32) *os.File {
		g := layout.Geometry{Ring: small}.WithDefaults()
		h := layout.LaneHeader{Geometry: g, Epoch: epoch, Lane: number, FirstPos: g.Ring, Topic: "a", Source: "s"}
		b := make([]byte, g.FileBytes())
		h.Encode(b)
		*word64(b, layout.OffReady) = layout.Ready(layout.LaneMagic, epoch)
		f := newFile(t)
		_, err := f.Write(b)
		must(t, err)
		return f
	}
	x, y := layout.ID16{7}, layout.ID16{8}
	join := &control.Join{Mode: layout.Lossless}
	for _, e := range []struct {
		m *control.Message
		f *os.File
	}{
		{&control.Message{Op: "gibberish"}, newFile(t)},
		{&control.Message{Op: control.OpJoin, Lane: lane}, newFile(t)},
		{&control.Message{Op: control.OpLeave, Lane: x, Sub: x}, nil},
		{&control.Message{Op: control.OpLeave, Lane: lane, Sub: x}, nil},
		{&control.Message{Op: control.OpFinal, Lane: lane, Sub: x}, nil},
		{&control.Message{Op: control.OpFinal, Lane: lane, Sub: id}, nil},
		{&control.Message{Op: control.OpLane, Lane: lane, Sub: x}, nil},
		{&control.Message{Op: control.OpOK, ID: 1 << 40}, newFile(t)},
		{&control.Message{Op: control.OpGranted, ID: 1 << 41, Lane: x}, newFile(t)},
	} {
		s.event(t, e.m, e.f)
	}
	// Joins: each is answered, with its error.
	for _, j := range []struct {
		sub  layout.ID16
		f    *os.File
		want bool
	}{
		{x, nil, false},
		{x, newFile(t), false},
		{x, cursorFile(y, 10, -1), false},
		{x, cursorFile(x, 10, 4096), false},
		{x, cursorFile(x, 10, -1), true},
		{x, cursorFile(x, 10, -1), true}, // again: the same answer
		{x, nil, true},
	} {
		s.event(t, &control.Message{Op: control.OpJoin, Lane: lane, Sub: j.sub, Join: join}, j.f)
		for m := range s.told {
			if m.Op == control.OpJoined {
				if got := m.Joined[0]; (got.Ticket != 0) != j.want || (got.Err == "") != j.want {
					t.Fatalf("%+v, want %v", got, j.want)
				}
				break
			}
		}
	}
	s.event(t, &control.Message{Op: control.OpLeave, Lane: lane, Sub: x}, nil)

	// Lanes: each that cannot be followed is reported and given back.
	joined := []control.Joined{{Sub: id, Pos: small, Ticket: 1}}
	for name, l := range map[string]struct {
		epoch  layout.ID16
		f      *os.File
		joined []control.Joined
		want   error
	}{
		"no descriptor": {layout.ID16{20}, nil, joined, errNoDescriptor},
		"no lane":       {layout.ID16{21}, newFile(t), joined, layout.ErrTruncated},
		"another":       {layout.ID16{22}, laneFile(y, 1), joined, layout.ErrMagic},
		"number":        {layout.ID16{23}, laneFile(layout.ID16{23}, 10), joined, layout.ErrGeometry},
		"refused":       {layout.ID16{24}, laneFile(layout.ID16{24}, 1), []control.Joined{{Err: "full"}}, ErrQuota},
		"not held":      {layout.ID16{25}, laneFile(layout.ID16{25}, 1), nil, ErrInvalid},
	} {
		s.event(t, &control.Message{Op: control.OpLane, Lane: l.epoch, Sub: id, Joined: l.joined, LaneInfo: &control.LaneInfo{New: true}}, l.f)
		for {
			_, err := sub.Poll(func(Frame) {}, 0)
			if err != nil {
				if !errors.Is(err, l.want) {
					t.Fatalf("%s: %v", name, err)
				}
				break
			}
		}
	}
	// And one that can, told twice.
	for range 2 {
		s.event(t, &control.Message{Op: control.OpLane, Lane: y, Sub: id, Joined: joined, LaneInfo: &control.LaneInfo{New: true}}, laneFile(y, 2))
	}
	s.event(t, &control.Message{Op: control.OpLane, Lane: y, Sub: id}, nil)
	pollUntil(t, sub, func(Frame) {}, func() bool { return len(sub.lanes) == 1 })
	s.event(t, &control.Message{Op: control.OpFinal, Lane: y, Sub: id, Final: &control.Final{Pos: small}}, nil)
	pollUntil(t, sub, func(Frame) {}, func() bool { return len(sub.lanes) == 0 })

	ctx, cancel := context.WithTimeout(bg(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Request(ctx, &control.Message{Op: control.OpStats}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	_, err := p.Publish(1, nil)
	must(t, err)
	must(t, p.Close())
}

// A directory that refuses a lane after a restart has given it up.
func TestResumeAfterALostConnection(t *testing.T) {
	for _, say := range []string{"ok", "no"} {
		t.Run(say, func(t *testing.T) {
			watch(t, time.Minute)
			resumed := make(chan control.Op, 100)
			s := &script{told: make(chan *control.Message, 1000)}
			s.answer = func(m *control.Message) (*control.Message, *os.File) {
				g := layout.Geometry{Ring: small}.WithDefaults()
				switch m.Op {
				case control.OpHello:
					return nil, nil
				case control.OpOpenPub:
					return &control.Message{Op: control.OpGranted, Lane: layout.ID16{1}, LaneGrant: &control.LaneGrant{Topic: "a", Source: "s", Ring: g.Ring,
						MaxMsg: g.MaxMsg, Step: g.Step, Policy: control.Policy{Kind: "fail"}}}, newFile(t)
				case control.OpOpenSub:
					return &control.Message{Op: control.OpGranted, Sub: layout.ID16{2}, SubGrant: &control.SubGrant{Slots: 10}}, newFile(t)
				case control.OpResPub, control.OpResSub:
					resumed <- m.Op
					if say == "no" {
						return &control.Message{Op: control.OpError, Error: control.Errorf(control.CodeNotFound, "never heard of it")}, nil
					}
				}
				return &control.Message{Op: control.OpOK}, nil
			}
			c, err := Connect(bg(), s.dial, nil)
			must(t, err)
			p := publisher(t, c, "a", PublisherOptions{})
			sub := subscriber(t, c, "a", SubscriberOptions{Mode: Lossless})
			pr := &peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(10))}
			m, err := p.join(pr, true, true)
			must(t, err)
			_, err = p.join(&peer{epoch: newID(), mem: pr.mem}, false, true)
			must(t, err)
			sub.control.Lock()
			sub.lanesHeld[layout.ID16{5}] = 3
			sub.rejoining[layout.ID16{5}] = true
			sub.control.Unlock()

			s.mu.Lock()
			must(t, s.conn.Close())
			s.mu.Unlock()
			seen := map[control.Op]int{}
			for seen[control.OpResPub] == 0 || seen[control.OpResSub] == 0 {
				seen[<-resumed]++
			}
			if say == "ok" {
				for m := range s.told {
					if m.Op == control.OpRejoin && m.Lane == (layout.ID16{5}) {
						break
					}
				}
			}
			p.remove(m)
			for p.limit != 0 && p.pos < 3*small && err == nil {
				_, err = p.Publish(1, make([]byte, 1000))
			}
			for say == "no" && err == nil { // the answer is on its way
				_, err = p.Publish(1, make([]byte, 1000))
			}
			if say == "no" && !errors.Is(err, ErrClosed) || say != "no" && err != nil {
				t.Fatal(err)
			}
			must(t, p.Close())
			must(t, c.Close())
		})
	}
}

// A cut connection to a real directory is mended while data flows.
func TestDataFlowsOverACutConnection(t *testing.T) {
	watch(t, time.Minute)
	d, _ := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
	var mu sync.Mutex
	var conns []*control.Conn
	dial := func(context.Context) (*control.Conn, error) {
		a, b, err := control.Pair()
		if err == nil {
			mu.Lock()
			conns = append(conns, b)
			mu.Unlock()
			go d.server.ServeConn(a)
		}
		return b, err
	}
	c, err := Connect(bg(), dial, nil)
	must(t, err)
	s := subscriber(t, c, "a", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	p := publisher(t, c, "a", PublisherOptions{})
	sent := make(chan error, 1)
	n := 200
	go func() {
		for range n {
			if err := send(p, 100); err != nil {
				sent <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
		sent <- nil
	}()
	tally, cuts := newTally(), 0
	pollUntil(t, s, tally.frame, func() bool {
		received, _ := tally.total()
		if received > uint64((cuts+1)*3000) {
			cuts++
			mu.Lock()
			conns[len(conns)-1].Close()
			mu.Unlock()
		}
		return tally.err != nil || received == uint64(n*100)
	})
	must(t, tally.err)
	must(t, <-sent)
	// What is opened now was waited for.
	q := publisher(t, c, "b", PublisherOptions{})
	must(t, q.Close())
	must(t, p.Close())
	must(t, c.Close())
	if cuts < 3 {
		t.Fatal(cuts)
	}
	if left, _ := filepath.Glob(filepath.Join(d.Path(), "c", "*")); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}
