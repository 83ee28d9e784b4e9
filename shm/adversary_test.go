package shm

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
)

// directoryOf is a client of a directory that answers hello, and everything else
// as answer says: nil = not at all. Without answer it reads nothing more.
func directoryOf(t *testing.T, answer func(*control.Message) *control.Message) *Client {
	t.Helper()
	var serving sync.WaitGroup
	c, err := Connect(bg(), func(context.Context) (*control.Conn, error) {
		mine, theirs, err := control.Pair()
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = theirs.Close() })
		serving.Go(func() {
			for {
				m, _, err := theirs.Recv()
				if err != nil {
					return
				}
				r := &control.Message{Op: control.OpWelcome, Welcome: &control.Welcome{Version: control.Version}}
				if m.Op != control.OpHello {
					r = answer(m)
				}
				if r != nil {
					r.ID = m.ID
					_ = theirs.Send(r, nil)
				}
				if answer == nil {
					return
				}
			}
		})
		return mine, nil
	}, nil)
	must(t, err)
	t.Cleanup(func() {
		must(t, c.Close())
		serving.Wait()
	})
	return c
}

// unsent is a client whose notices stay in its link, to be looked at.
func unsent() (*Client, *link) {
	l := &link{some: make(chan struct{}, 1), down: make(chan struct{}), pending: map[uint64]chan answer{}}
	return &Client{link: l, pubs: map[layout.ID16]*Publisher{}, subs: map[layout.ID16]*Subscriber{}, early: map[layout.ID16][]joinRequest{},
		peers: map[layout.ID16]weak.Pointer[peer]{}, gone: map[layout.ID16]struct{}{}}, l
}

// A registry that reads nothing any more holds nobody up.
func TestTellingNeverWaits(t *testing.T) {
	watch(t, time.Minute)
	c := directoryOf(t, nil)
	for range 20_000 { // far more than a socket takes
		c.tell(&control.Message{Op: control.OpDrained, Lane: newID(), Sub: newID()})
	}
	ctx, cancel := context.WithTimeout(bg(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Request(ctx, &control.Message{Op: control.OpStats}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// A request that fits no packet fails; it does not wait for an answer that cannot come.
func TestRequestTooBigToSend(t *testing.T) {
	watch(t, time.Minute)
	c := directoryOf(t, func(*control.Message) *control.Message { return nil })
	_, err := c.Request(bg(), &control.Message{Op: control.OpList, Topic: strings.Repeat("x", control.MaxMessageBytes)})
	if !errors.Is(err, control.ErrTooBig) {
		t.Fatal(err)
	}
}

// Lists of any length arrive whole, in parts that fit a packet, not mixed with
// those of another list.
func TestListsGoInParts(t *testing.T) {
	watch(t, time.Minute)
	var mu sync.Mutex
	got := map[layout.ID16]int{}
	var open layout.ID16
	c := directoryOf(t, func(m *control.Message) *control.Message {
		if m.Op != control.OpResPub && m.Op != control.OpResSub {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		id := m.Lane
		if m.Op == control.OpResSub {
			id = m.Sub
		}
		if len(m.Joined) > control.ListPart || len(m.Lanes) > control.ListPart || !open.IsZero() && open != id {
			return &control.Message{Op: control.OpError, Error: control.Errorf(control.CodeInvalid, "%d and %d entries, %v", len(m.Joined), len(m.Lanes), open)}
		}
		if got[id] += len(m.Joined) + len(m.Lanes); m.More {
			open = id
		} else {
			open = layout.ID16{}
		}
		return &control.Message{Op: control.OpOK}
	})
	var all sync.WaitGroup
	want := map[layout.ID16]int{}
	for _, n := range []int{0, 1, control.ListPart, control.ListPart + 1, 2000} {
		pub := &control.Message{Op: control.OpResPub, Lane: newID(), Joined: make([]control.Joined, n)}
		sub := &control.Message{Op: control.OpResSub, Sub: newID(), Lanes: make([]control.HeldLane, n)}
		want[pub.Lane], want[sub.Sub] = n, n
		for _, m := range []*control.Message{pub, sub} {
			all.Go(func() {
				if err := c.requestList(bg(), nil, m); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	for id, n := range want {
		if got[id] != n {
			t.Errorf("a list of %d arrived as %d", n, got[id])
		}
	}
}

// Connect gives up with its context, though the directory never answers.
func TestConnectEndsWithItsContext(t *testing.T) {
	watch(t, time.Minute)
	ctx, cancel := context.WithCancel(bg())
	_, err := Connect(ctx, func(context.Context) (*control.Conn, error) {
		mine, theirs, err := control.Pair()
		t.Cleanup(func() { _ = theirs.Close() })
		time.AfterFunc(10*time.Millisecond, cancel)
		return mine, err
	}, nil)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrRegistryDown) {
		t.Fatal(err)
	}
}

// All subscribers of a client share the patience with a stalled registry.
func TestClientCloseWaitsOnce(t *testing.T) {
	t.Parallel()
	watch(t, 30*time.Second) // one after the other they would take 500 s
	c := directoryOf(t, func(*control.Message) *control.Message { return nil })
	for range 100 {
		s, err := newSubscriber(make([]byte, layout.CursorFileBytes(1)), layout.CursorHeader{Epoch: newID(), Slots: 1}, SubscriberOptions{})
		must(t, err)
		s.client, s.mapping = c, &segment.Mapping{}
		c.subs[s.hdr.Epoch] = s
	}
	if err := c.Close(); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// A directory that does not know a handle has nothing to close.
func TestCloseOfWhatTheDirectoryDoesNotKnow(t *testing.T) {
	watch(t, time.Minute)
	c := directoryOf(t, func(m *control.Message) *control.Message {
		return &control.Message{Op: control.OpError, Error: control.Errorf(control.CodeNotFound, "no such thing")}
	})
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossy, Policy{})
	p.client, s.client, s.mapping = c, c, &segment.Mapping{}
	must(t, p.Close())
	must(t, s.Close())
}

// A join for a lane that is not, and not about to be, leaves no descriptor.
func TestLateJoinLeavesNothing(t *testing.T) {
	watch(t, time.Minute)
	c, l := unsent()
	join := func() *os.File {
		f, err := os.Open(os.DevNull)
		must(t, err)
		c.event(l, &control.Message{Op: control.OpJoin, Lane: newID(), Sub: newID(), Join: &control.Join{}}, f)
		return f
	}
	closed := func(f *os.File) bool { return errors.Is(f.Close(), os.ErrClosed) }
	if f := join(); len(c.early) != 0 || !closed(f) {
		t.Fatal("kept, though nothing is being opened")
	}
	c.opening = 2
	f := join()
	c.opened()
	if len(c.early) != 1 {
		t.Fatal("a lane that may be the one being opened was not waited for")
	}
	if c.opened(); len(c.early) != 0 || !closed(f) {
		t.Fatal("kept, though nothing is being opened any more")
	}
}

// A publisher that is closing does not refuse a subscriber: its end is the answer.
func TestClosingPublisherRefusesNobody(t *testing.T) {
	watch(t, time.Minute)
	c, l := unsent()
	mem, h := heapLane(t, layout.Geometry{Ring: small})
	p, err := newPublisher(mem, h, PublisherOptions{}, Policy{})
	must(t, err)
	p.client = c // and no mapping: closed
	c.pubs[h.Epoch] = p
	pr := &peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64))}
	c.peers[pr.epoch] = weak.Make(pr)
	c.event(l, &control.Message{Op: control.OpJoin, Lane: h.Epoch, Sub: pr.epoch, Join: &control.Join{Mode: layout.Lossless}}, nil)
	if len(l.out) != 0 {
		t.Fatalf("answered %+v", l.out[0])
	}
	runtime.KeepAlive(pr)
}

// What is left of departed subscribers goes away in a process that never collects.
func TestDepartedSubscribersAreCollected(t *testing.T) {
	watch(t, time.Minute)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	c, l := unsent()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	sub := newID()
	for range 10 * collectAfter { // one leaves many lanes
		c.event(l, &control.Message{Op: control.OpLeave, Lane: newID(), Sub: sub}, nil)
	}
	runtime.ReadMemStats(&after)
	if after.NumGC != before.NumGC {
		t.Fatal("one subscriber is no reason to collect")
	}
	for range collectAfter {
		c.event(l, &control.Message{Op: control.OpLeave, Lane: newID(), Sub: newID()}, nil)
	}
	if runtime.ReadMemStats(&after); after.NumGC == before.NumGC {
		t.Fatal("nothing was collected")
	}
}

// Word of a lane that was left, or never taken, is answered: it was read.
func TestLeftLaneIsDrainedAgain(t *testing.T) {
	watch(t, time.Minute)
	c, l := unsent()
	s, err := newSubscriber(make([]byte, layout.CursorFileBytes(1)), layout.CursorHeader{Epoch: newID(), Slots: 1}, SubscriberOptions{})
	must(t, err)
	s.client = c
	c.subs[s.hdr.Epoch] = s
	left := newID()
	c.drained(s, left)
	c.event(l, &control.Message{Op: control.OpLane, Sub: s.hdr.Epoch, Lane: left}, nil)
	c.event(l, &control.Message{Op: control.OpFinal, Sub: s.hdr.Epoch, Lane: newID(), Final: &control.Final{}}, nil)
	if len(l.out) != 3 {
		t.Fatalf("%d answers", len(l.out))
	}
	for _, m := range l.out {
		if m.Op != control.OpDrained || m.Sub != s.hdr.Epoch {
			t.Fatalf("%+v", m)
		}
	}
	if s.inbox.Load() {
		t.Fatal("polls hear of it")
	}
	for range leftMost - 1 {
		s.left.add(newID())
	}
	if !s.left.has(left) {
		t.Fatal("forgotten too early")
	}
	if s.left.add(newID()); s.left.has(left) || len(s.left.set) != leftMost || len(s.left.ring) != leftMost {
		t.Fatalf("remembers %d and %d", len(s.left.set), len(s.left.ring))
	}
}

// The slot of a lane is opened once: while it is closed a publisher takes an honest
// reader for one that moves back.
func TestSlotIsOpenedOnce(t *testing.T) {
	watch(t, time.Minute)
	_, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	if *r.slotEpoch != r.hdr.Epoch.Low() {
		t.Fatal("not open before it is polled")
	}
	*r.slotSeq = 77
	_, err := s.Poll(func(Frame) {}, 0)
	must(t, err)
	if *r.slotSeq != 77 {
		t.Fatal("opened again by the first poll")
	}
}

// A slot keeps the epoch of a lane that ended, and not of one given up.
func TestSlotTellsWhatWasLeft(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	must(t, p.Close())
	for s.reads(r.hdr.Epoch) || s.inbox.Load() {
		_, err := s.Poll(func(Frame) {}, 0)
		must(t, err)
	}
	if *r.slotEpoch != r.hdr.Epoch.Low() {
		t.Fatal("the slot forgot a lane that ended")
	}
	_, s, r = heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	_, err := s.Poll(func(Frame) {}, 0)
	must(t, err)
	if _ = s.detach(r, ErrCorrupt, "test"); *r.slotEpoch != 0 {
		t.Fatal("the publisher of a lane given up goes on waiting")
	}
}

// A subscriber that is evicted and refused has lost the lane, and is told.
func TestRefusedRejoinIsALaneError(t *testing.T) {
	watch(t, time.Minute)
	_, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{})
	_, err := s.Poll(func(Frame) {}, 0)
	must(t, err)
	if err := s.evicted(r); !errors.Is(err, ErrEvicted) {
		t.Fatal(err)
	}
	s.onLane(&control.Message{Op: control.OpLane, Lane: r.hdr.Epoch, Joined: []control.Joined{{Err: "full"}}}, nil)
	var le *LaneError
	if _, err := s.Poll(func(Frame) {}, 0); !errors.As(err, &le) || !errors.Is(err, ErrQuota) || !strings.Contains(err.Error(), "full") {
		t.Fatal(err)
	}
	if s.reads(r.hdr.Epoch) {
		t.Fatal("still followed")
	}
}

// Of two answers to two rejoins, in whatever state they find the reader, the last
// counts: the publisher honours no other.
func TestLastOfTwoRejoinsCounts(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	_, err := s.Poll(func(Frame) {}, 0)
	must(t, err)
	old := p.set.Load().lossless[0]
	p.evict(old, evictStalled)
	if _, err := s.Poll(func(Frame) {}, 0); !errors.Is(err, ErrEvicted) {
		t.Fatal(err)
	}
	for range 2 {
		for range 50 {
			_, err := p.Publish(1, make([]byte, 300))
			must(t, err)
		}
		p.Flush()
		if m := p.set.Load().bySub(s.hdr.Epoch); m != nil {
			p.remove(m)
		}
		m, err := p.join(old.peer, true, false)
		must(t, err)
		s.post(admission{epoch: r.hdr.Epoch, joined: &control.Joined{Pos: m.join, Ticket: m.ticket, Notice: m.notice}})
		for range 3 {
			if _, err = s.Poll(func(Frame) {}, 10); err != nil && !errors.Is(err, ErrGap) {
				t.Fatal(err)
			}
		}
		if r.ticket != m.ticket || r.join != m.join {
			t.Fatalf("holds ticket %d, the publisher %d", r.ticket, m.ticket)
		}
	}
	next := r.want
	for range 2000 {
		_, err := p.Publish(1, make([]byte, 300))
		must(t, err)
		for {
			n, err := s.Poll(func(f Frame) {
				if f.Seq != next {
					t.Fatalf("%d where %d is due", f.Seq, next)
				}
				next++
			}, 0)
			must(t, err)
			if n == 0 {
				break
			}
		}
	}
	if len(p.set.Load().lossless) != 1 {
		t.Fatal("an honest reader was evicted")
	}
}

// An error among the news does not take the rest with it, and each comes alone.
func TestNewsAfterAnErrorIsKept(t *testing.T) {
	watch(t, time.Minute)
	_, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossy, Policy{})
	one, two := errors.New("one"), errors.New("two")
	s.postAll([]admission{{err: one}, {err: two}, {epoch: r.hdr.Epoch, final: &control.Final{Pos: r.pos + 64, Seq: 1}}})
	for _, want := range []error{one, two, nil} {
		if _, err := s.Poll(func(Frame) {}, 0); err != want {
			t.Fatalf("%v where %v is due", err, want)
		}
	}
	if !r.ended {
		t.Fatal("the final was lost")
	}
}

// Nor does a lane that was truncated when it is joined again.
func TestNewsAfterAFaultIsKept(t *testing.T) {
	watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, c, "*", SubscriberOptions{Mode: Lossless})
	p, _ := publisher(t, c, "broken", PublisherOptions{}), publisher(t, c, "whole", PublisherOptions{})
	pollUntil(t, s, func(Frame) {}, func() bool { return len(s.lanes) == 2 })
	broken := s.reader(p.hdr.Epoch)
	whole := s.lanes[0]
	if whole == broken {
		whole = s.lanes[1]
	}
	broken.state = laneEvicted
	must(t, os.Truncate(laneFile(t, d, p), 0))
	s.postAll([]admission{
		{epoch: broken.hdr.Epoch, joined: &control.Joined{Pos: broken.pos + 64, Ticket: 9, Notice: 9}},
		{epoch: whole.hdr.Epoch, final: &control.Final{Pos: whole.pos + 64, Seq: 1}},
	})
	var le *LaneError
	if _, err := s.Poll(func(Frame) {}, 0); !errors.As(err, &le) || !errors.Is(err, ErrFault) {
		t.Fatal(err)
	}
	_, err := s.Poll(func(Frame) {}, 0)
	must(t, err)
	if !whole.ended {
		t.Fatal("the final was lost")
	}
}

// A cursor file that is gone when a lane arrives ends its subscriber, not the
// process; and whoever runs it hears of it once.
func TestNewLaneMeetsATruncatedCursorFile(t *testing.T) {
	ctx := watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	heard := 0
	s := subscriber(t, dial(t, d), ">", SubscriberOptions{OnError: func(error) { heard++ }})
	must(t, os.Truncate(files(t, d, "c")[0], 0))
	publisher(t, c, "a", PublisherOptions{})
	if err := s.Run(ctx, &Yield{}, func(Frame) {}); !errors.Is(err, ErrFault) || heard != 0 {
		t.Fatal(err, heard)
	}
	n := 0
	for _, err := range s.Frames(ctx) {
		if n++; !errors.Is(err, ErrFault) {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Fatalf("the iterator told %d times", n)
	}
}

// Mapping a lane and finding the place in it may take long; polls, and all that
// needs the lock, go on.
func TestMappingALaneHoldsNoLock(t *testing.T) {
	watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, c, "elsewhere", SubscriberOptions{})
	p := publisher(t, c, "a", PublisherOptions{})
	f, err := os.Open(laneFile(t, d, p))
	must(t, err)
	defer f.Close()
	s.control.Lock()
	news := s.admissions(&control.Message{Lane: p.hdr.Epoch}, f, nil)
	s.control.Unlock()
	if len(news) != 1 || news[0].lane == nil {
		t.Fatalf("%+v", news)
	}
	// The subscriber closes before the lane is passed on.
	must(t, s.Close())
	s.postAll(news)
	if news[0].lane.mem != nil {
		t.Fatal("the mapping stays")
	}
}
