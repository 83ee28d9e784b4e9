package shm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

func TestHandlerThatPanicsGetsItsFrameAgain(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, geo, Lossless, Policy{})
	for range 3 {
		_, err := p.Publish(1, nil)
		must(t, err)
	}
	var got []uint64
	func() {
		defer func() {
			if v := recover(); v != "handler" {
				t.Fatalf("recovered %v", v)
			}
		}()
		_, _ = s.Poll(func(f Frame) {
			if f.Seq == 1 {
				panic("handler")
			}
			got = append(got, f.Seq)
		}, 0)
	}()
	_, err := s.Poll(func(f Frame) { got = append(got, f.Seq) }, 0)
	must(t, err)
	for len(got) < 3 {
		_, err := s.Poll(func(f Frame) { got = append(got, f.Seq) }, 0)
		must(t, err)
	}
	if fmt.Sprint(got) != "[0 1 2]" {
		t.Fatal(got)
	}
	// A fault that is not in a lane is the handler's own.
	_, err = p.Publish(1, nil)
	must(t, err)
	defer func() {
		if recover() == nil {
			t.Fatal("the handler's nil dereference was swallowed")
		}
	}()
	_, _ = s.Poll(func(Frame) { var x *int; *x = 1 }, 0)
}

// Fear: handlers panic in the middle of what was copied at once, and a frame before that comes
// again, one after it never, or what was delivered is not counted.
func TestPanicsInTheMiddleOfAStretch(t *testing.T) {
	watch(t, time.Minute)
	for _, size := range []int{40, 1000, 3000, 12000} {
		p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 16 << 10, Step: 64 << 10}, Lossless, Policy{Kind: PolicyFail})
		n := uint64(200_000 / size)
		publishSized(t, p, n, size)
		next, calls := uint64(0), 0
		poll := func() {
			defer func() { _ = recover() }()
			_, err := s.Poll(func(f Frame) {
				if f.Seq != next {
					t.Errorf("%d bytes: sequence %d where %d is due", size, f.Seq, next)
				}
				if calls++; calls%7 == 0 {
					panic("handler")
				}
				next = f.Seq + 1
			}, 0)
			must(t, err)
		}
		for next < n {
			poll()
		}
		for range 100 { // until the counters are stored
			poll()
		}
		if got := s.Stats(); got.Frames != n || got.Bytes != n*uint64(size) {
			t.Errorf("%d bytes: %d frames and %d bytes are counted, %d were delivered", size, got.Frames, got.Bytes, n)
		}
	}
}

// Fear: a reader that is far behind hands out more frames than it was asked for, or none that it
// should, where frames are smaller or larger than those before them.
func TestPollKeepsItsLimit(t *testing.T) {
	watch(t, time.Minute)
	for name, poll := range polls {
		p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 18, MaxMsg: 4 * fetchBytes}, Lossless, Policy{Kind: PolicyFail})
		rnd := rand.New(rand.NewPCG(1, 2))
		payload := make([]byte, 4*fetchBytes)
		var due uint64
		for round := range 200 {
			for i, most := 0, 16<<rnd.IntN(9); ; i++ {
				size := rnd.IntN(most)
				if i%500 < 200 {
					size = 0
				}
				if _, err := p.Publish(1, payload[:size]); err != nil {
					break
				}
			}
			for due < p.seq {
				limit := []int{1, 1 + rnd.IntN(4), 1 + rnd.IntN(300), math.MaxInt}[rnd.IntN(4)]
				n, err := poll(s, func(f Frame) {
					if f.Seq != due {
						t.Fatalf("%s, round %d: sequence %d where %d is due", name, round, f.Seq, due)
					}
					due++
				}, limit)
				if err != nil || n > limit {
					t.Fatalf("%s, round %d: %d of %d frames, limit %d, %v", name, round, n, p.seq, limit, err)
				}
			}
			if n, err := poll(s, func(Frame) { t.Error("a frame that nobody sent") }, 0); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
}

// Fear: a handler that polls, which it must not, hangs or reads beyond the copy instead of losing the lane.
func TestAHandlerThatPollsEnds(t *testing.T) {
	watch(t, time.Minute)
	for name, pollBy := range polls {
		for _, limit := range []int{1, 3, 50, 0} {
			for _, inner := range []int{1, 2, 100, 0} {
				p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 18, MaxMsg: 1 << 10}, Lossless, Policy{Kind: PolicyFail})
				for i := range 2000 {
					_, err := p.Publish(1, make([]byte, i%60))
					must(t, err)
				}
				p.Flush()
				n := 0
				poll := func(h func(Frame), limit int) (err error) {
					got, err := pollBy(s, h, limit)
					if n += got; err != nil && !errors.Is(err, ErrCorrupt) {
						t.Fatal(err)
					}
					return err
				}
				for range 40 { // until a stretch is copied without a look at each header
					must(t, poll(func(Frame) {}, 10))
				}
				before := n
				for range 2000 {
					if poll(func(f Frame) {
						if f.Seq%7 == 0 {
							_ = poll(func(Frame) {}, inner)
						}
					}, limit) != nil {
						break
					}
				}
				if n == before || len(s.lanes) != 0 {
					t.Errorf("%s, limits %d and %d: %d frames, %d lanes", name, limit, inner, n-before, len(s.lanes))
				}
			}
		}
	}
}

// Fear: the payload of an empty frame at the end of a copy lies behind the buffer, in what the
// garbage collector takes for something else.
func TestEmptyPayloadsLieWithinTheBuffer(t *testing.T) {
	watch(t, time.Minute)
	for name, poll := range polls {
		for _, maxMsg := range []uint32{2000, 4064, 8160} {
			p, s, r := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: maxMsg, Step: 64 << 10}, Lossless, Policy{Kind: PolicyFail})
			_, err := s.Poll(func(Frame) {}, 0) // takes the lane over, and makes a buffer for it
			must(t, err)
			full := make([]byte, maxMsg)
			frame := layout.FrameBytes(uint64(maxMsg))
			for range 6 {
				_, err := p.Publish(1, full)
				must(t, err)
			}
			for range gatherBytes / frame { // and with an empty one the stretch is full
				_, err := p.Publish(1, full)
				must(t, err)
			}
			for range 2000 {
				_, err := p.Publish(1, nil)
				must(t, err)
			}
			p.Flush()
			n := 0
			for _, limit := range []int{1, 5, defaultMax, defaultMax, defaultMax} {
				end := reflect.ValueOf(s.buf).Pointer() + uintptr(cap(s.buf))
				got, err := poll(s, func(f Frame) {
					if at := reflect.ValueOf(f.Payload).Pointer(); at >= end {
						t.Errorf("%s, at most %d bytes: the payload of frame %d begins %d bytes behind the buffer", name, maxMsg, f.Seq, at-end)
					}
				}, limit)
				must(t, err)
				n += got
			}
			if n != 6+int(gatherBytes/frame)+2000 || r.state != laneReading {
				t.Errorf("%s: %d frames", name, n)
			}
		}
	}
}

// Fear: what was delivered before a panic is counted by the next Poll only, and not if none follows.
func TestAPanicIsCountedWithoutAnotherPoll(t *testing.T) {
	p, s, _ := heapPair(t, layout.Geometry{Ring: 1 << 20, MaxMsg: 1 << 10, Step: 64 << 10}, Lossless, Policy{Kind: PolicyFail})
	for range 10 {
		_, err := p.Publish(1, make([]byte, 40))
		must(t, err)
	}
	func() {
		defer func() { _ = recover() }()
		calls := 0
		_, err := s.Poll(func(Frame) {
			if calls++; calls == 7 {
				panic("handler")
			}
		}, 0)
		must(t, err)
	}()
	if frames, bytes := s.counts[layout.SubFrames], s.counts[layout.SubBytes]; frames != 6 || bytes != 6*40 {
		t.Errorf("%d frames and %d bytes are counted, 6 were delivered", frames, bytes)
	}
}

func TestViewShowsWhatPollWould(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	if _, err := s.View(func(Frame) error { return nil }, 0); !errors.Is(err, ErrViewRefused) {
		t.Fatal(err)
	}
	r.neverEvicts = true
	c := newTally()
	for range 200 {
		must(t, send(p, 8))
		for {
			n, err := s.View(func(f Frame) error { c.frame(f); return c.err }, 3)
			if must(t, err); n == 0 {
				break
			}
		}
	}
	if n, _ := c.total(); n != 1600 {
		t.Fatal(n)
	}
	// After a wait the first frame comes alone. The handler's error stops it; that frame comes again.
	stop := errors.New("stop")
	for i := range 4 {
		_, err := p.Publish(uint16(i), nil)
		must(t, err)
	}
	var got []uint16
	upTo2 := func(f Frame) error {
		if f.Type == 2 {
			return stop
		}
		got = append(got, f.Type)
		return nil
	}
	n, err := s.View(upTo2, 0)
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	n, err = s.View(upTo2, 0)
	if n != 1 || err != stop {
		t.Fatal(n, err)
	}
	if n, err := s.View(func(f Frame) error { return stop }, 0); n != 0 || err != stop {
		t.Fatal(n, err)
	}
	n, err = s.View(func(f Frame) error { got = append(got, f.Type); return nil }, 0)
	if n != 2 || err != nil || fmt.Sprint(got) != "[0 1 2 3]" {
		t.Fatal(n, err, got)
	}
	// Evicted while it looks: an error, and nothing of that call counts.
	_, err = p.Publish(9, nil)
	must(t, err)
	p.evict(p.set.Load().lossless[0], evictStalled)
	n, err = s.View(func(f Frame) error {
		for range 1000 {
			if _, err := p.Publish(1, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	}, 1)
	if n != 0 || !errors.Is(err, ErrEvicted) {
		t.Fatal(n, err)
	}
}

// The race detector of a program that views finds nothing to report.
func TestViewBesideAPublisher(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Timeout: -1})
	r.neverEvicts = true
	const n = 5000
	done := make(chan error)
	go func() {
		for i := range uint64(n) {
			b := make([]byte, 256+i/8%64) // the next ones are where they are expected, at times
			stamp(b, p.stampID(), i)
			if _, err := p.Publish(1, b); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	c := newTally()
	for got := 0; got < n; {
		k, err := s.View(func(f Frame) error { c.frame(f); return c.err }, 0)
		must(t, err)
		got += k
		runtime.Gosched()
	}
	must(t, <-done)
}

// Views that find nothing leave no lane behind that Poll looks at now and then only.
func TestViewsThatFindNothingMakeNoLaneCold(t *testing.T) {
	watch(t, time.Minute)
	pubs, subs := heapBus(t, 2, 1, layout.Geometry{Ring: small}, Policy{Timeout: -1})
	s := subs[0]
	for range 2 * coldAfter {
		_, err := s.View(func(Frame) error { return nil }, 0)
		must(t, err)
	}
	for _, p := range pubs {
		must(t, send(p, 1))
	}
	n, err := s.Poll(func(Frame) {}, 0)
	if must(t, err); n != len(pubs) {
		t.Errorf("%d frames of %d lanes", n, len(pubs))
	}
}

// History is not held: a View of it that was overwritten meanwhile says so.
func TestViewOfHistoryThatGoesAway(t *testing.T) {
	watch(t, time.Minute)
	p, _, h := hostileLane(t)
	cur := make([]byte, layout.CursorFileBytes(64))
	s, err := newSubscriber(cur, layout.CursorHeader{Epoch: newID(), Slots: 64}, SubscriberOptions{Mode: Lossless})
	must(t, err)
	r, err := newReader(p.mem, h)
	must(t, err)
	r.bindSlot(cur)
	p.Flush()
	m, err := p.join(&peer{epoch: s.hdr.Epoch, mem: cur}, true, false)
	must(t, err)
	r.neverEvicts = true
	r.hold(&control.Joined{Pos: m.join, Ticket: m.ticket, Notice: m.notice})
	r.startOldest()
	s.post(admission{lane: r})
	want := uint64(0)
	n, err := s.View(func(f Frame) error {
		want = f.Seq
		fill(t, p)
		return nil
	}, 1)
	if n != 0 || !errors.Is(err, ErrGap) {
		t.Fatal(n, err)
	}
	var gap *GapError
	next := uint64(0)
	for gap == nil || next != p.Seq() {
		_, err := s.View(func(f Frame) error {
			if gap != nil && next == 0 {
				next = gap.Next
			}
			if gap != nil && f.Seq != next {
				t.Fatalf("%d where %d is due", f.Seq, next)
			}
			next++
			return nil
		}, 0)
		if err != nil && !errors.As(err, &gap) {
			t.Fatal(err)
		}
		if err != nil {
			next = gap.Next
		}
	}
	if gap.From != want {
		t.Fatalf("%v, first seen %d", gap, want)
	}
}

func TestRunAndFrames(t *testing.T) {
	watch(t, time.Minute)
	for _, idle := range []Idle{IdleBackoff, IdleSpin, IdleYield, IdlePark} {
		t.Run(idle.String(), func(t *testing.T) {
			d, c := openBus(t, LocalOptions{RingBytes: small})
			s := subscriber(t, dial(t, d), "a.>", SubscriberOptions{Idle: idle, Mode: Lossless})
			p := publisher(t, c, "a.b.c", PublisherOptions{Source: "the source"})
			go func() {
				for range 50 {
					time.Sleep(200 * time.Microsecond)
					_, _ = p.Publish(1, []byte("x"))
				}
			}()
			ctx, cancel := context.WithCancel(context.Background())
			n := 0
			err := s.Run(ctx, nil, func(f Frame) {
				if s.TopicName(f.Topic) != "a.b.c" || s.SourceName(f.Source) != "the source" || s.TopicName(1) != "" {
					t.Errorf("%q from %q", s.TopicName(f.Topic), s.SourceName(f.Source))
				}
				if n++; n == 25 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			for f, err := range s.Frames(context.Background()) {
				must(t, err)
				if f.Seq != uint64(n) {
					t.Fatalf("%d where %d is due", f.Seq, n)
				}
				if n++; n == 50 {
					must(t, s.Close()) // in the loop's body
				}
				if n == 50 {
					break
				}
			}
			for range s.Frames(ctx) {
			}
			for _, err := range s.Frames(context.Background()) {
				if !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
			}
			if err := s.Run(context.Background(), nil, nil); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			if _, err := s.View(nil, 0); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			s.park.wait()
			must(t, s.Close())
			if st := s.Stats(); st.Frames != 50 || st.Bytes != 50 {
				t.Fatal(st)
			}
		})
	}
}

func TestRunPassesErrorsOn(t *testing.T) {
	watch(t, time.Minute)
	for _, handled := range []bool{true, false} {
		p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossy, Policy{})
		for range 2000 {
			_, err := p.Publish(1, make([]byte, 100))
			must(t, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var seen error
		if handled {
			s.opts.OnError = func(err error) { seen = err }
		}
		err := s.Run(ctx, nil, func(f Frame) {
			if f.Seq == 1999 {
				cancel()
			}
		})
		cancel()
		if handled && (!errors.Is(err, context.Canceled) || !errors.Is(seen, ErrGap)) {
			t.Fatal(err, seen)
		}
		if !handled && !errors.Is(err, ErrGap) {
			t.Fatal(err)
		}
		if !handled { // the iterator gives errors in their place
			continue
		}
		for range 2000 {
			_, err := p.Publish(1, make([]byte, 100))
			must(t, err)
		}
		gaps, n := 0, 0
		for f, err := range s.Frames(context.Background()) {
			if err != nil {
				gaps++
				continue
			}
			n++
			if f.Seq == 3999 {
				break
			}
		}
		if gaps != 1 || n < 100 {
			t.Fatal(gaps, n)
		}
	}
}

func TestCloseFromElsewhere(t *testing.T) {
	watch(t, time.Minute)
	for range 20 {
		d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
		s := subscriber(t, dial(t, d), "a", SubscriberOptions{})
		p := publisher(t, c, "a", PublisherOptions{})
		var done sync.WaitGroup
		polls := make(chan struct{}, 1)
		done.Go(func() {
			for {
				_, err := s.Poll(func(Frame) {}, 0)
				if errors.Is(err, ErrClosed) {
					return
				} else if err != nil && !errors.Is(err, ErrGap) {
					t.Error(err)
					return
				}
				select {
				case polls <- struct{}{}:
				default:
				}
			}
		})
		done.Go(func() {
			for range 2000 {
				if _, err := p.Publish(1, make([]byte, 64)); err != nil {
					t.Error(err)
				}
			}
		})
		<-polls
		done.Go(func() { _ = s.Close() })
		must(t, s.Close())
		done.Wait()
	}
}

func TestUseAfterClose(t *testing.T) {
	watch(t, time.Minute)
	d, _ := openBus(t, LocalOptions{RingBytes: small})
	c := dial(t, d)
	p := publisher(t, c, "a", PublisherOptions{})
	s := subscriber(t, c, "a", SubscriberOptions{})
	must(t, c.Close()) // closes the subscribers
	if _, err := s.Poll(nil, 0); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := p.Publish(1, nil); err != nil { // the lane lives until the process ends
		t.Fatal(err)
	}
	must(t, p.Close())
	for _, err := range []error{
		func() error { _, err := c.Publisher(bg(), "b", nil); return err }(),
		func() error { _, err := c.Subscriber(bg(), "b", nil); return err }(),
		func() error { _, err := c.Request(bg(), &control.Message{Op: control.OpStats}); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	s.post(admission{}) // news that was late
	s.park.kick()
	s.storeBeat()
	p.storeBeat()
}

func TestBadInputIsNamed(t *testing.T) {
	watch(t, time.Minute)
	_, c := openBus(t, LocalOptions{RingBytes: small})
	for what, err := range map[string]error{
		"topic":    func() error { _, err := c.Publisher(bg(), "a..b", nil); return err }(),
		"wildcard": func() error { _, err := c.Publisher(bg(), "a.*", nil); return err }(),
		"pattern":  func() error { _, err := c.Subscriber(bg(), "a.>.b", nil); return err }(),
		"source": func() error {
			_, err := c.Publisher(bg(), "a", &PublisherOptions{Source: strings.Repeat("x", 200)})
			return err
		}(),
		"stamps": func() error { _, err := c.Publisher(bg(), "a", &PublisherOptions{Timestamps: 9}); return err }(),
		"ring":   func() error { _, err := c.Publisher(bg(), "a", &PublisherOptions{RingBytes: 100000}); return err }(),
		"max": func() error {
			_, err := c.Publisher(bg(), "a", &PublisherOptions{MaxMessageBytes: 1 << 30})
			return err
		}(),
		"name": func() error {
			_, err := c.Subscriber(bg(), "a", &SubscriberOptions{Name: strings.Repeat("x", 200)})
			return err
		}(),
		"nul":   func() error { _, err := c.Subscriber(bg(), "a", &SubscriberOptions{Name: "a\x00b"}); return err }(),
		"mode":  func() error { _, err := c.Subscriber(bg(), "a", &SubscriberOptions{Mode: 7}); return err }(),
		"idle":  func() error { _, err := c.Subscriber(bg(), "a", &SubscriberOptions{Idle: 7}); return err }(),
		"local": func() error { _, err := OpenLocal(t.TempDir(), &LocalOptions{RingBytes: 5}); return err }(),
		"texts": errors.Join(new(Mode).UnmarshalText([]byte("x")), new(Idle).UnmarshalText([]byte("x")), new(Timestamps).UnmarshalText([]byte("x"))),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := OpenLocal("/proc/nowhere/bus", nil); err == nil {
		t.Error("a directory in /proc was made")
	}
	p := publisher(t, c, "busy", PublisherOptions{Source: "one"})
	ctx, cancel := context.WithTimeout(bg(), 10*time.Second)
	defer cancel()
	if _, err := c.Publisher(ctx, "busy", &PublisherOptions{Source: "one"}); !errors.Is(err, ErrSourceBusy) {
		t.Error(err)
	}
	must(t, p.Close())
}

func TestNamesOfOptions(t *testing.T) {
	for _, m := range []Mode{Lossy, Lossless} {
		var back Mode
		if must(t, back.UnmarshalText([]byte(m.String()))); back != m {
			t.Fatal(m)
		}
	}
	for _, i := range []Idle{IdleBackoff, IdleSpin, IdleYield, IdlePark} {
		var back Idle
		if must(t, back.UnmarshalText([]byte(i.String()))); back != i {
			t.Fatal(i)
		}
	}
	for _, s := range []Timestamps{TimestampsOff, TimestampsTSC, TimestampsClock} {
		var back Timestamps
		if must(t, back.UnmarshalText([]byte(s.String()))); back != s {
			t.Fatal(s)
		}
	}
	if Idle(9).String() != "Idle(9)" || Timestamps(9).String() != "Timestamps(9)" {
		t.Fatal("unknown values have no name")
	}
}

func TestIdleStrategies(t *testing.T) {
	watch(t, time.Minute)
	spin := func(found ...int) *Spin { // with hardly an empty poll between
		s := &Spin{}
		for range 20 * chaseAfter {
			for _, n := range found {
				s.Idle(n)
				s.Idle(0)
			}
		}
		return s
	}
	for _, found := range [][]int{{1}, {1, 2, 1, 1}, {16, 17, 15}, {100, 120, 110}, {1024, 400, 410, 390, 405, 395, 402, 398, 404}} {
		if s := spin(found...); s.chases < chaseAfter {
			t.Errorf("who finds %v a poll follows closely: %d in a row", found, s.chases)
		}
	}
	for _, found := range [][]int{{128}, {1024}, {1024, 1024, 700, 1024, 1024, 1024, 1024, 1024}} {
		if s := spin(found...); s.chases >= chaseAfter {
			t.Errorf("who finds %v a poll is behind: %d in a row", found, s.chases)
		}
	}
	s := spin(5, 6)
	for range chaseEmpty {
		s.Idle(0)
	}
	if s.chases != 0 {
		t.Error("a pause in the data is no chase")
	}
	b := &Backoff{}
	for b.sleep <= backoffMin { // as the watchdog allows
		b.Idle(0)
	}
	if b.Idle(1); b.since != 0 {
		t.Fatal("work does not reset the back-off")
	}
}

// Every lane number of a wide bus through one subscriber.
func TestOneSubscriberFollows4096Lanes(t *testing.T) {
	watch(t, 2*time.Minute)
	lanes := 4096
	if slowed() {
		lanes = 512
	}
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, dial(t, d), "wide.*", SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	var pubs []*Publisher
	for i := range lanes {
		if i%256 == 0 { // a connection may ask 1,000 times a second
			c = dial(t, d)
		}
		pubs = append(pubs, publisher(t, c, fmt.Sprintf("wide.%d", i), PublisherOptions{}))
	}
	for range 3 {
		for _, p := range pubs {
			for range 3 {
				_, err := p.Publish(1, []byte("0123456789"))
				must(t, err)
			}
		}
	}
	n, next := 0, map[TopicID]uint64{}
	pollUntil(t, s, func(f Frame) {
		if f.Seq != next[f.Topic] {
			t.Fatalf("%d where %d is due", f.Seq, next[f.Topic])
		}
		next[f.Topic]++
		n++
	}, func() bool { return n == 9*lanes })
	for range 64 { // counters are stored once it is quiet
		_, err := s.Poll(func(Frame) {}, 0)
		must(t, err)
	}
	if len(next) != lanes || s.Stats().Lanes != uint64(lanes) {
		t.Fatal(len(next), s.Stats())
	}
	for _, p := range pubs {
		must(t, p.Close())
	}
}
