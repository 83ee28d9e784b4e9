package tcp

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/shm"
)

// The link simulator: two sides of a link with the real sender, receiver and pulse, on
// modelled lanes, a modelled network and virtual time. Everything comes from one seed.
var (
	simSeeds = flag.Int("sim.seeds", seeds, "seeds that the link simulator runs")
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed only, and tell what happens")
)

// simLane is an origin's lane: what is durable of it, and what its relay knows.
type simLane struct {
	info   shm.LaneInfo
	lossy  bool
	first  uint64
	tail   uint64 // next sequence to publish
	low    uint64 // older ones are overwritten
	ended  bool
	lost   map[uint64]bool // overwritten before they were handed out or acknowledged
	sizes  func(seq uint64) int
	done   bool
	acked  uint64 // durable
	pos    uint64
	skipTo uint64
	marks  []uint64
	want   uint64
	evict  bool
}

func (l *simLane) Info() *shm.LaneInfo         { return &l.info }
func (l *simLane) Known() bool                 { return true }
func (l *simLane) Acked() uint64               { return l.acked }
func (l *simLane) Due() uint64                 { return l.want }
func (l *simLane) Lag() (uint64, uint64, bool) { return l.tail - l.acked, 0, false }
func (l *simLane) Waits() bool                 { return l.pos < l.tail }
func (l *simLane) Whole(r shm.Run) bool        { return r.First >= l.low }
func (l *simLane) Stall(bool)                  {}
func (l *simLane) Done()                       { l.done = true }

func (l *simLane) frame(seq uint64) []byte {
	n := l.sizes(seq)
	b := make([]byte, layout.FrameBytes(uint64(n)))
	binary.LittleEndian.PutUint64(b[layout.OffLen:], layout.Meta(uint32(n), uint16(seq), 0, 0))
	binary.LittleEndian.PutUint64(b[layout.OffSeq:], seq)
	for i := range n {
		b[layout.OffPayload+i] = byte(seq + uint64(i))
	}
	return b
}

func (l *simLane) PendingBytes() (n uint64) {
	for seq := l.acked; seq < l.want; seq++ {
		n += layout.FrameBytes(uint64(l.sizes(seq)))
	}
	return n
}

func (l *simLane) Next(limit int) (run shm.Run, err error) {
	if l.evict {
		l.evict = false
		return run, shm.ErrEvicted
	}
	l.want = max(l.want, l.acked)
	if from := l.want; from < l.low && from < l.tail {
		l.want = min(l.low, l.tail)
		l.marks = append(l.marks, l.want)
		return run, &shm.GapError{From: from, Next: l.want, Cause: shm.CauseLapped}
	}
	run.First = max(l.want, l.skipTo)
	if run.First > l.want {
		l.want = min(run.First, l.tail)
		if len(l.marks) == 0 {
			l.acked = l.want
		}
		run.First = l.want
	}
	for l.want < l.tail {
		b := l.frame(l.want)
		if len(run.Bytes)+len(b) > limit {
			break
		}
		run.Bytes = append(run.Bytes, b...)
		run.Count++
		l.want++
	}
	if run.Count > 0 {
		l.marks = append(l.marks, l.want)
		return run, nil
	}
	if l.ended && l.want == l.tail {
		return run, io.EOF
	}
	return run, nil
}

func (l *simLane) Ack(next uint64) {
	for len(l.marks) > 0 && l.marks[0] <= next {
		l.acked, l.marks = l.marks[0], l.marks[1:]
	}
}

func (l *simLane) Return(run shm.Run) {
	l.want = run.First
	l.marks = l.marks[:len(l.marks)-1]
}

func (l *simLane) Rewind(next uint64) {
	l.marks, l.skipTo = nil, 0
	switch {
	case next < l.acked: // the receiver has less than it acknowledged: a gap
		l.want, l.low = next, max(l.low, l.acked)
	default:
		l.want, l.skipTo = l.acked, next
	}
}

func (l *simLane) Skim() error {
	for {
		run, err := l.Next(1 << 30)
		l.Ack(l.want)
		if err == io.EOF {
			return err
		}
		if err == nil && run.Count == 0 {
			return nil
		}
	}
}

// restart is the relay of a new process.
func (l *simLane) restart() { l.marks, l.skipTo, l.want, l.evict = nil, 0, l.acked, false }

// simMirror is a mirror lane: all of it is durable.
type simMirror struct {
	w     *simWorld
	of    *simLane
	due   uint64
	gaps  map[uint64]bool
	ended bool
	full  bool
}

func (m *simMirror) Due() uint64             { return m.due }
func (m *simMirror) RingBytes() uint64       { return 64 << 10 }
func (m *simMirror) MaxMessageBytes() uint32 { return 4096 }
func (m *simMirror) Found() bool             { return m.due != m.of.first }
func (m *simMirror) Lost() bool              { return false }
func (m *simMirror) Flush()                  {}

func (m *simMirror) Room(least uint64) uint64 {
	if m.full {
		return least / 2
	}
	return 32 << 10
}

func (m *simMirror) Append(b []byte) error {
	for len(b) > 0 {
		if m.w.faults && m.w.rnd.IntN(400) == 0 {
			return shm.ErrBackpressure
		}
		want := m.of.frame(m.due)
		n := len(want)
		if len(b) < n || string(b[:n]) != string(want) {
			m.w.fail("mirror of %s: frame %d is not what was published", m.of.info.Source, m.due)
			return nil
		}
		if m.ended {
			m.w.fail("mirror of %s: a frame behind its end", m.of.info.Source)
		}
		b = b[n:]
		m.due++
		m.w.received++
	}
	return nil
}

func (m *simMirror) Gap(next uint64) error {
	if m.w.faults && m.w.rnd.IntN(10) == 0 {
		return shm.ErrBackpressure
	}
	for ; m.due < next; m.due++ {
		m.gaps[m.due] = true
	}
	return nil
}

// simSide is one host.
type simSide struct {
	w       *simWorld
	id      layout.ID16
	lanes   []*simLane // of its bus, with a relay
	waiting []*simLane // behind the lane before of their source
	mirrors map[layout.ID16]*simMirror
	snd     *sender
	rcv     *receiver
	pulse   pulse
	out     simSink
	in      []byte // came, not taken yet
	later   []simCall
}

type simCall struct {
	at   int64
	for_ *receiver
	do   func()
}

func (s *simSide) allows(string) bool { return true }

func (s *simSide) after(r *receiver, do func()) {
	s.later = append(s.later, simCall{s.w.now + int64(s.w.rnd.IntN(20))*int64(time.Millisecond), r, do})
}

func (s *simSide) claim(r *receiver, o *open, first uint64, ref uint32) {
	if s.w.faults && s.w.rnd.IntN(8) == 0 {
		s.after(r, func() { r.opened(ref, nil, codeBusy, "") })
		return
	}
	of := s.w.byEpoch[o.originEpoch]
	for _, m := range s.mirrors { // as the registry does: one lane of a source at a time
		if m.of != of && m.of.info.Source == of.info.Source {
			m.ended = true
		}
	}
	m := s.mirrors[o.originEpoch]
	if m == nil {
		m = &simMirror{w: s.w, of: of, due: first, gaps: map[uint64]bool{}}
		s.mirrors[o.originEpoch] = m
	}
	s.after(r, func() { r.opened(ref, m, 0, "") })
}

func (s *simSide) end(r *receiver, epoch layout.ID16, ref uint32) {
	m := s.mirrors[epoch]
	m.ended = true
	s.after(r, func() { r.closed(ref, m.due) })
}

func (s *simSide) lost(*receiver, layout.ID16) { s.w.fail("a mirror lane was lost") }

// simSink is what a step puts out.
type simSink struct {
	w *simWorld
	b []byte
}

func (o *simSink) full() bool           { return len(o.b) > 40<<10 }
func (o *simSink) control(frame []byte) { o.b = append(o.b, frame...) }

func (o *simSink) run(st *stream, r shm.Run) bool {
	if o.w.faults && o.w.rnd.IntN(200) == 0 { // overwritten at this very moment
		return false
	}
	head := make([]byte, headerBytes)
	putHeader(head, kindData, 0, st.round, st.ref, r.First, r.Bytes, nil)
	o.b = append(append(o.b, head...), r.Bytes...)
	return true
}

// simWorld is the whole of it.
type simWorld struct {
	seed     uint64
	rnd      *rand.Rand
	now      int64
	faults   bool
	trace    bool
	sides    [2]*simSide
	byEpoch  map[layout.ID16]*simLane
	up       bool
	wires    [2][]simChunk // to side i
	err      error
	received int
	cuts     int
	restarts int
}

type simChunk struct {
	at int64
	b  []byte
}

func (w *simWorld) fail(format string, a ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("seed %d at %v: %s", w.seed, time.Duration(w.now), fmt.Sprintf(format, a...))
	}
}

func (w *simWorld) log(format string, a ...any) {
	if w.trace {
		fmt.Printf("%12v "+format+"\n", append([]any{time.Duration(w.now)}, a...)...)
	}
}

func newSimWorld(seed uint64) *simWorld {
	w := &simWorld{seed: seed, rnd: rand.New(rand.NewPCG(seed, 7)), now: int64(time.Hour), faults: true, byEpoch: map[layout.ID16]*simLane{}}
	for i := range w.sides {
		s := &simSide{w: w, id: layout.ID16{byte(i + 1)}, mirrors: map[layout.ID16]*simMirror{}}
		w.sides[i] = s
		for n := range 1 + w.rnd.IntN(3) {
			lossy := w.rnd.IntN(4) == 0
			for life := range 1 + w.rnd.IntN(2) {
				l := &simLane{lossy: lossy, lost: map[uint64]bool{}}
				l.first = uint64(w.rnd.IntN(3)) * 1000
				l.tail, l.low, l.acked, l.want = l.first, l.first, l.first, l.first
				l.info = shm.LaneInfo{Topic: fmt.Sprintf("t.%d", n), Source: fmt.Sprintf("s%d-%d", i, n), OriginNode: s.id,
					OriginEpoch: layout.ID16{byte(i + 1), byte(n + 1), byte(life + 1)}, MaxMessageBytes: 4096}
				salt := w.rnd.Uint64()
				l.sizes = func(seq uint64) int {
					x := (seq + salt) * 0x9e3779b97f4a7c15
					if x>>60 == 0 {
						return int(x >> 20 & 4095)
					}
					return int(x >> 40 & 127)
				}
				w.byEpoch[l.info.OriginEpoch] = l
				if life == 0 {
					s.lanes = append(s.lanes, l)
				} else {
					s.waiting = append(s.waiting, l)
				}
			}
		}
		s.begin()
	}
	return w
}

// begin is the start of a process.
func (s *simSide) begin() {
	s.snd = newSender(s.id)
	s.later = nil
	for _, l := range s.lanes {
		if !l.done {
			l.restart()
			s.snd.attach(l, l.lossy)
		}
	}
}

func (w *simWorld) connect() {
	w.up = true
	for i, s := range w.sides {
		w.wires[i], s.in, s.out = nil, nil, simSink{w: w}
		s.rcv = newReceiver(s.id, "l", s, func(f []byte) { s.out.control(f) })
		s.snd.connected(w.sides[1-i].id, defaultBody)
		s.pulse = newPulse(w.now, 250*time.Millisecond, time.Second)
	}
	w.log("connected")
}

func (w *simWorld) cut(why error) {
	if !w.up {
		return
	}
	w.up = false
	w.cuts++
	w.log("cut: %v", why)
	for _, s := range w.sides {
		s.snd.disconnected()
		clear(s.rcv.intakes)
	}
}

// publish adds to a lane what there is room for.
func (w *simWorld) publish(l *simLane, n int) {
	for range n {
		if l.ended {
			return
		}
		if held := l.tail - max(l.acked, l.low); held >= 300 {
			if !l.lossy && w.rnd.IntN(50) != 0 {
				return // back-pressure
			}
			l.low += uint64(1 + w.rnd.IntN(100)) // lapped, or evicted
			l.evict = !l.lossy
		}
		l.tail++
	}
}

// tick lets both sides do what they do.
func (w *simWorld) tick() {
	for i, s := range w.sides {
		for k := 0; k < len(s.later); {
			if c := s.later[k]; c.at <= w.now {
				s.later = slices.Delete(s.later, k, k+1)
				if w.up && c.for_ == s.rcv {
					c.do()
				}
				continue
			}
			k++
		}
		if !w.up {
			s.snd.step(w.now, &s.out)
			s.admit()
			continue
		}
		for len(s.in) > 0 {
			f, n, err := decode(s.in, defaultBody)
			if err == nil && n == 0 {
				break
			}
			if err == nil {
				err = s.take(&f)
			}
			if err != nil {
				if !w.faults {
					w.fail("without a fault: %v", err)
				}
				w.cut(err)
				return
			}
			s.in = s.in[n:]
		}
		s.rcv.flush()
		s.snd.step(w.now, &s.out)
		s.admit()
		if b := s.pulse.beatDue(w.now); b != nil {
			s.out.control(b)
		}
		if err := s.pulse.over(w.now); err != nil {
			w.cut(err)
			return
		}
		w.send(1-i, s.out.b)
		s.out.b = nil
	}
}

// admit lets the next lane of a source appear once the one before is done.
func (s *simSide) admit() {
	s.waiting = slices.DeleteFunc(s.waiting, func(l *simLane) bool {
		for _, before := range s.lanes {
			if before.info.Source == l.info.Source && !before.done {
				return false
			}
		}
		s.lanes = append(s.lanes, l)
		s.snd.attach(l, l.lossy)
		return true
	})
}

func (s *simSide) take(f *frame) error {
	switch f.kind {
	case kindOpen, kindData, kindGap, kindEnd:
		return s.rcv.take(f)
	case kindBeat:
		s.pulse.beaten(s.w.now, f)
		return nil
	}
	return s.snd.take(s.w.now, f)
}

// send puts bytes on the wire to a side: in pieces, late, some doubled or damaged.
func (w *simWorld) send(to int, b []byte) {
	for len(b) > 0 {
		n := min(len(b), 1+w.rnd.IntN(8000))
		piece := slices.Clone(b[:n])
		b = b[n:]
		if w.faults && w.rnd.IntN(300) == 0 {
			piece[w.rnd.IntN(len(piece))] ^= 1 << w.rnd.IntN(8)
			w.log("a bit flips on the way to %d", to)
		}
		at := w.now + int64(w.rnd.IntN(3000))*int64(time.Microsecond)
		if k := len(w.wires[to]); k > 0 {
			at = max(at, w.wires[to][k-1].at)
		}
		w.wires[to] = append(w.wires[to], simChunk{at, piece})
	}
	if _, n, _ := decode(w.sides[to].in, defaultBody); w.faults && n > 0 && w.rnd.IntN(200) == 0 {
		w.sides[to].in = append(slices.Clone(w.sides[to].in[:n]), w.sides[to].in...) // a frame comes twice
		w.log("a frame comes twice to %d", to)
	}
}

func (w *simWorld) deliver() {
	for i, s := range w.sides {
		some := false
		for len(w.wires[i]) > 0 && w.wires[i][0].at <= w.now {
			s.in = append(s.in, w.wires[i][0].b...)
			w.wires[i] = w.wires[i][1:]
			some = true
		}
		if some {
			s.pulse.fresh(w.now)
			s.pulse.heard(w.now, len(s.in))
		}
	}
}

// fault makes one of the bad things happen.
func (w *simWorld) fault() {
	i := w.rnd.IntN(2)
	switch w.rnd.IntN(400) {
	case 0, 1:
		w.cut(io.ErrUnexpectedEOF)
	case 2: // silence
		for k := range w.wires[i] {
			w.wires[i][k].at += int64(2 * time.Second)
		}
	case 3, 4: // a side is killed and starts again
		w.restarts++
		w.log("side %d starts anew", i)
		w.cut(io.EOF)
		w.sides[i].begin()
	case 5, 6, 7: // a reader stops, or goes on
		for _, m := range w.sides[i].mirrors {
			m.full = w.rnd.IntN(2) == 0
		}
	case 8: // a killed sender's cursor was older
		for _, l := range w.sides[i].lanes {
			if !w.up && !l.done && l.acked > l.low+10 {
				l.acked -= uint64(w.rnd.IntN(10))
				l.restart()
			}
		}
	}
}

func runSim(seed uint64, trace bool) (*simWorld, error) {
	w := newSimWorld(seed)
	w.trace = trace
	lanes := make([]*simLane, 0, len(w.byEpoch))
	for _, s := range w.sides {
		lanes = append(append(lanes, s.lanes...), s.waiting...)
	}
	const rounds, healing = 3000, 60_000
	for round := 0; w.err == nil; round++ {
		w.now += int64(w.rnd.IntN(1000)) * int64(time.Microsecond)
		if round == rounds {
			w.faults = false
			w.cut(io.EOF) // what was damaged on the way is gone with it
			for _, s := range w.sides {
				for _, m := range s.mirrors {
					m.full = false
				}
			}
			for _, l := range lanes {
				l.ended = true
			}
		}
		if w.faults {
			w.fault()
			w.publish(lanes[w.rnd.IntN(len(lanes))], w.rnd.IntN(20))
			if l := lanes[w.rnd.IntN(len(lanes))]; w.rnd.IntN(500) == 0 {
				l.ended = true
			}
		}
		if !w.up && w.rnd.IntN(20) == 0 {
			w.connect()
		}
		w.deliver()
		w.tick()
		if !w.faults && !slices.ContainsFunc(lanes, func(l *simLane) bool { return !l.done }) {
			break
		}
		if round > rounds+healing {
			w.fail("not caught up: %s", w.state())
		}
	}
	w.check(lanes)
	return w, w.err
}

func (w *simWorld) state() (s string) {
	for _, side := range w.sides {
		for _, st := range side.snd.streams {
			l := st.lane.(*simLane)
			s += fmt.Sprintf("%s %v: acked %d, due %d, tail %d, window %d, pending %d, low %d, skip %d, marks %d", l.info.Source, st.state, l.acked, l.want, l.tail, st.window,
				l.PendingBytes(), l.low, l.skipTo, l.marks)
			for _, in := range w.sides[0].rcv.intakes {
				s += fmt.Sprintf(" [%v due %d window %d owes %v round %d/%d]", in.state, in.m.Due(), in.window, in.owes, in.round, st.round)
			}
			for _, in := range w.sides[1].rcv.intakes {
				s += fmt.Sprintf(" [%v due %d window %d owes %v round %d/%d]", in.state, in.m.Due(), in.window, in.owes, in.round, st.round)
			}
			s += "; "
		}
	}
	return s
}

// check compares mirrors with origins: every frame once, in order, or a gap that was
// really lost.
func (w *simWorld) check(lanes []*simLane) {
	for _, l := range lanes {
		to := w.sides[1]
		if l.info.OriginNode == to.id {
			to = w.sides[0]
		}
		m := to.mirrors[l.info.OriginEpoch]
		switch {
		case m == nil && l.tail == l.first:
		case m == nil:
			w.fail("%s: no mirror", l.info.Source)
		case m.due != l.tail || !m.ended:
			w.fail("%s: the mirror ends at %d (%v), the origin at %d", l.info.Source, m.due, m.ended, l.tail)
		default:
			for seq := range m.gaps {
				if seq >= l.low {
					w.fail("%s: %d was not lost, and is missing", l.info.Source, seq)
				}
			}
		}
	}
}

// Fear: some order of cuts, kills, late and damaged bytes loses, doubles or swaps a
// frame, or stops the link for good.
func TestLinkSimulator(t *testing.T) {
	if *simSeed != 0 {
		if _, err := runSim(*simSeed, true); err != nil {
			t.Fatal(err)
		}
		return
	}
	frames, cuts, restarts := 0, 0, 0
	for seed := uint64(1); seed <= uint64(*simSeeds); seed++ {
		w, err := runSim(seed, false)
		if err != nil {
			t.Fatalf("%v (rerun with -sim.seed=%d)", err, seed)
		}
		frames += w.received
		cuts += w.cuts
		restarts += w.restarts
	}
	t.Logf("%d seeds: %d frames, %d cuts, %d restarts; 0 lost, 0 doubled, 0 out of order", *simSeeds, frames, cuts, restarts)
	if frames == 0 || cuts == 0 || restarts == 0 {
		t.Error("the simulator did not do its work")
	}
}
