package torqbridge

import (
	"bytes"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/codec"
)

// pair is a socket, and the peer's end of it.
func pair(t *testing.T, places chan struct{}) (*socket, *net.UnixConn) {
	t.Helper()
	watch(t)
	far, near, err := socketPair()
	must(t, err)
	s, err := newSocket(near, places)
	must(t, err)
	t.Cleanup(func() { _ = far.Close() })
	return s, far
}

func (s *socket) many() {
	for range toBusy {
		s.found(2)
	}
}

func (s *socket) busy() bool { return s.now.Load().busy }

// Fear: a socket stays busy, or its place does, when its peer is quiet again or has gone.
func TestABusySocketGivesItsPlaceBack(t *testing.T) {
	for _, c := range []struct {
		name string
		rest func(s *socket, far *net.UnixConn)
	}{
		{"single messages", func(s *socket, _ *net.UnixConn) {
			for range toQuiet {
				s.found(1)
			}
		}},
		{"fewer than naps are worth", func(s *socket, _ *net.UnixConn) {
			for range toQuiet {
				s.found(napPays - 1)
			}
		}},
		{"nothing came", func(s *socket, far *net.UnixConn) {
			go func() {
				time.Sleep(3 * quietTime / 2)
				_, _ = far.Write([]byte{1})
			}()
			if n, err := s.read(make([]byte, 8)); n != 1 || err != nil {
				t.Error(n, err)
			}
		}},
		{"closed", func(s *socket, _ *net.UnixConn) { must(t, s.Close()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			places := make(chan struct{}, 1)
			s, far := pair(t, places)
			if s.many(); !s.busy() || len(places) != 1 {
				t.Fatal("not busy")
			}
			other, _ := pair(t, places)
			if other.many(); other.busy() {
				t.Error("busy without a place")
			}
			if c.rest(s, far); len(places) != 0 {
				t.Error("the place is still taken")
			}
			if other.many(); !other.busy() {
				t.Error("not busy, though there is a place")
			}
		})
	}
}

// Fear: a busy socket reads message by message where it could have more at a time, or
// naps where nothing is to be gained.
func TestABusySocketNapsAfterFewMessages(t *testing.T) {
	s, _ := pair(t, make(chan struct{}, 1))
	const reads = 40
	took := func(messages int) time.Duration {
		start := time.Now()
		for range reads {
			s.found(messages)
		}
		return time.Since(start)
	}
	took(1)
	if s.busy() {
		t.Fatal("busy")
	}
	s.work()
	for _, few := range []int{1, napPays, enoughMessages - 1} {
		if d := took(few); d < reads*napTime {
			t.Errorf("%d reads of %d messages: %v, want %v of naps", reads, few, d, reads*napTime)
		}
	}
	if s.found(napPays); !s.busy() {
		t.Error("quiet, though naps are worth while")
	}
}

// Fear: a writer that waits for room does not notice that its socket has become busy, or
// quiet, and a message is lost or doubled over that.
func TestAWriterWaitsThroughChangesOfState(t *testing.T) {
	s, far := pair(t, make(chan struct{}, 1))
	want := &batch{}
	for i := range 20_000 {
		want.buf = append(want.buf, trade(codec.SourceKraken, "BTC", uint64(i))...)
		want.ends = append(want.ends, len(want.buf))
	}
	sent := make(chan error, 1)
	go func() { sent <- newWriter(s, 0).send(want) }()
	got, buf := []byte(nil), make([]byte, 100*codec.TradeMessageSize)
	for round := 0; len(got) < len(want.buf); round++ {
		if time.Sleep(time.Millisecond); round%2 == 0 {
			s.work()
		} else {
			s.rest()
		}
		n, err := far.Read(buf)
		must(t, err)
		got = append(got, buf[:n]...)
	}
	must(t, <-sent)
	if !bytes.Equal(got, want.buf) {
		t.Error("other bytes arrived than were sent")
	}
}

// Fear: nobody can end a reader that sleeps in read(2) and a writer that sleeps in poll(2).
func TestABusySocketIsCutOff(t *testing.T) {
	s, _ := pair(t, make(chan struct{}, 1))
	s.work()
	ended := make(chan error, 2)
	go func() {
		_, err := s.read(make([]byte, 8))
		if err == nil {
			_, err = s.read(make([]byte, 8))
		}
		ended <- err
	}()
	go func() { ended <- newWriter(s, 0).send(&batch{buf: make([]byte, 8<<20), ends: []int{8 << 20}}) }()
	time.Sleep(10 * time.Millisecond)
	s.cutOff()
	for range 2 {
		if <-ended == nil {
			t.Error("no error")
		}
	}
	must(t, s.Close())
}

// Fear: a busy socket for which there is no place in the poller no longer waits in read(2)
// either: its reader asks again and again.
func TestASocketThatCannotRestStillWaits(t *testing.T) {
	watch(t)
	var fds [2]int // what is no socket has no way into the poller
	must(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	defer unix.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "client")
	raw, err := f.SyscallConn()
	must(t, err)
	s := &socket{places: make(chan struct{}, 1)}
	s.places <- struct{}{}
	s.now.Store(&end{f, raw, true})
	s.rest()
	flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFL, 0)
	if must(t, err); !s.busy() || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("busy %v, flags %#x", s.busy(), flags)
	}
	must(t, s.Close())
}

// Fear: bytes are lost, doubled or overtake each other while producers come and go
// between busy and quiet.
func TestProducersAreBusyAndQuietInTurns(t *testing.T) {
	p := newPlace(t)
	r := p.start(p.config(ModeBus))
	_, old := p.consume(p.socket("market_data"))
	onBus := p.subscribe("market.>")
	const sources, rounds, each = 3, 6, 1500
	type end struct {
		source int
		sent   uint64
		err    error
	}
	ends := make(chan end, sources)
	var busiest atomic.Int64 // on a slow machine it takes more rounds until one is
	for i := range sources {
		to := p.produce(p.socket("market_data"))
		go func() {
			e := end{source: 1 + i}
			for e.err == nil && (e.sent < rounds*each || e.sent%each != 0 || busiest.Load() == 0) {
				if e.sent%each == 0 {
					time.Sleep(time.Duration(i) * quietTime) // the first never rests
				}
				seq := e.sent // two at a time: every read finds several
				e.err = to.Send(append(trade(codec.Source(e.source), "BTC", seq), trade(codec.Source(e.source), "BTC", seq+1)...))
				e.sent += 2
			}
			ends <- e
		}()
	}
	var all []end
	for len(all) < sources {
		select {
		case e := <-ends:
			must(t, e.err)
			all = append(all, e)
		case <-time.After(100 * time.Microsecond):
			busiest.Store(max(busiest.Load(), int64(len(r.bridge.busy))))
		}
	}
	total := uint64(0)
	for _, e := range all {
		total += e.sent
	}
	eventually(t, "everything on the bus", func() bool { return uint64(onBus.Total()) == total })
	for _, e := range all {
		check(t, onBus, "subscriber", codec.Source(e.source), 0, e.sent)
		if a := old.Of(byte(e.source), 0); a.Doubled+a.Late > 0 {
			t.Errorf("consumer: %+v", a)
		}
	}
	eventually(t, "no places taken", func() bool { return len(r.bridge.busy) == 0 })
}

// Fear: each message that is written costs garbage, in one of the states.
func TestWritingAllocatesNothing(t *testing.T) {
	s, far := pair(t, make(chan struct{}, 1))
	go func() {
		for buf := make([]byte, readBytes); ; {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	b := &batch{}
	for i := range 10 {
		b.buf = append(b.buf, trade(codec.SourceKraken, "BTC", uint64(i))...)
		b.ends = append(b.ends, len(b.buf))
	}
	w := newWriter(s, 0)
	for _, busy := range []bool{false, true} {
		if busy {
			s.work()
		}
		if n := testing.AllocsPerRun(100, func() { must(t, w.send(b)) }); s.busy() != busy || n != 0 {
			t.Errorf("busy %v: %v allocations for ten messages", s.busy(), n)
		}
	}
}
