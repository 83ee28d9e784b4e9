package model

// Mode of a consumer.
type Mode uint8

const (
	Lossless Mode = iota + 1
	Lossy
	Stopped // in the writer's list, never runs (SIGSTOP)
	Hostile // joins like a lossless consumer, then stores a cursor that no honest one would
)

// Consumer describes one consumer thread.
type Consumer struct {
	Mode    Mode
	Member  bool  // in the writer's list from the start; otherwise the control goroutine joins it
	History bool  // lossless: starts at the oldest position, unprotected until J
	Rejoins uint8 // how often it joins again after an eviction
	Every   Pos   // publishes its cursor after this many units, and on every miss
	Batch   int   // frames copied per intent check, 1 or 2
}

// OpKind is a kind of publication.
type OpKind uint8

const (
	OpPublish OpKind = iota + 1
	OpBatch          // two messages
	OpGap            // one sequence left out, announced by a GAP frame
	OpEnd            // END frame
)

// Op is one publication that a writer may choose; Len are payload lengths in units.
type Op struct {
	Kind OpKind
	Len  [2]uint8
}

// Disguise is what payload words look like: the commit of the frame at the same ring offset, Laps away.
type Disguise struct {
	Laps int
	Kind kind
}

// Scenario is one exhaustive exploration: every interleaving, every choice of Ops, every crash point.
type Scenario struct {
	Name       string
	Fear       string
	Cap, S     Pos
	Block      Pos  // units per index block
	Index      bool // the writer keeps the block index
	Ops        []Op
	Messages   uint8 // publications per lane, before END
	Disguises  []Disguise
	Wide       bool // payload also covers the place of {len, seq} in the units it fills
	Consumers  []Consumer
	Evict      bool // policy evict: a stalled consumer may be evicted at any moment of back-pressure
	NoRoom     bool // back-pressure at END closes the lane without END
	Lanes      int  // 1, or 2
	Parallel   bool // both lanes are live at once; otherwise lane 1 is the next incarnation of lane 0
	Park       bool // consumers park
	CrashRead  bool // consumer 0 may crash at any step
	Durable    bool // and then restarts at its cursor; otherwise the lock probe frees the writer
	CrashWrite bool // writer 0 (with its control goroutine) may crash at any step
}

// nextLap and its like are disguises that fool a reader of the coming lap, lastLap and its like one left behind.
var (
	nextLap = Disguise{Laps: 1, Kind: kindData}
	nextPad = Disguise{Laps: 1, Kind: kindPad}
	nextEnd = Disguise{Laps: 1, Kind: kindEnd}
	lastLap = Disguise{Laps: -1, Kind: kindPad}
	lastEnd = Disguise{Laps: -1, Kind: kindEnd}
)

func publish(n ...uint8) (ops []Op) {
	for _, n := range n {
		ops = append(ops, Op{Kind: OpPublish, Len: [2]uint8{n}})
	}
	return ops
}

func batch(a, b uint8) Op { return Op{Kind: OpBatch, Len: [2]uint8{a, b}} }

// model is a scenario under one mutant.
type model struct {
	Scenario
	mut   Mutant
	g     int       // G: the largest grant of one Refill
	order [2][]part // program order of a publication of one and of two messages
	next  State     // successor under construction
	step  func(who thread, what string)
}

func newModel(sc Scenario, mut Mutant) *model {
	m := &model{Scenario: sc, mut: mut, order: [2][]part{publishOrder(mut, 1), publishOrder(mut, 2)}}
	if m.mut == StepTooLarge {
		m.S = m.Cap/2 + 1
	}
	if m.mut == GrantTooLarge {
		m.Ops = publish(1, 2)
	}
	m.g = m.largestGrant()
	return m
}

// largestGrant is G: the larger of S and what one publication can need at any offset that it can begin at.
func (m *model) largestGrant() int {
	g := int(m.S)
	var seen [maxCap]bool
	offsets := []Pos{0}
	for len(offsets) > 0 {
		p := offsets[0]
		offsets = offsets[1:]
		if seen[p] {
			continue
		}
		seen[p] = true
		g = max(g, diff(m.layOut(p, opClose).need, p))
		for op := range m.Ops {
			lay := m.layOut(p, uint8(op))
			g = max(g, diff(lay.need, p))
			offsets = append(offsets, lay.end%m.Cap)
		}
	}
	return g
}

// initial is the state after attach: memory zero, every initial member in the list, nobody has run.
func (m *model) initial() State {
	s := State{}
	for l := range m.Lanes {
		m.open(&s, l)
		if l > 0 && !m.Parallel {
			s.Writer[l].pc = wOff
		}
	}
	for r, c := range m.Consumers {
		rd := &s.Reader[r]
		rd.pc, rd.joins = rAsk, c.Rejoins
		for l := range m.Lanes {
			f := &rd.lanes[l]
			f.p, f.want = m.Cap, firstSeq
			if c.Member && c.Mode != Lossy {
				s.Control.tickets[r] = 1
				s.Mem[aSet(l, r)] = entry(1, m.Cap)
				f.ticket, f.join, f.cursor = 1, m.Cap, m.Cap
				rd.pc = rJoined
			}
		}
		switch c.Mode {
		case Lossy:
			rd.pc = rHeader
		case Stopped:
			rd.pc = rDone
		}
		rd.handed, rd.sp = firstSeq, rd.lanes[0].p
	}
	return s
}

const firstSeq = 1

// open initialises lane l and its writer.
func (m *model) open(s *State, l int) {
	s.Mem[m.aIntent(l)] = word(m.Cap)
	s.Mem[m.aTail(l)] = word(m.Cap)
	s.Mem[m.aTailSeq(l)] = firstSeq
	s.Mem[m.aOwnPos(l)] = word(m.Cap) | firstSeq<<8
	s.Writer[l] = writer{pc: wNext, p: m.Cap, seq: firstSeq, intentL: m.Cap, left: m.Messages}
	s.Lane[l] = laneGhost{end: m.Cap, endSeq: firstSeq}
}

// fork starts a successor of s.
func (m *model) fork(s *State) *State {
	m.next = *s
	return &m.next
}

// successors calls step once for each state that can follow s; the state is in m.next.
func (m *model) successors(s *State) {
	for t := range numThreads {
		if s.BufLen[t] > 0 {
			m.fork(s).flush(t)
			m.step(t, "flush")
		}
	}
	for l := range m.Lanes {
		m.writerSteps(s, l)
	}
	m.controlSteps(s)
	for r := range m.Consumers {
		m.readerSteps(s, r)
	}
	m.crashes(s)
}

// done tells whether s is an end that everybody wanted: lanes closed or dead, everything delivered,
// every evicted consumer aware of it. It reports a wrong total as a violation.
func (m *model) done(s *State) (bool, violation) {
	for t := range numThreads {
		if s.BufLen[t] > 0 {
			return false, fine
		}
	}
	for l := range m.Lanes {
		if pc := s.Writer[l].pc; pc != wDone && pc != wDead {
			return false, fine
		}
	}
	if pc := s.Control.pc; pc != cIdle && pc != cDead {
		return false, fine
	}
	for r := range m.Consumers {
		rd := &s.Reader[r]
		switch rd.pc {
		case rGone:
			if s.Writer[0].pc == wDone && s.Mem[aSet(0, r)] != 0 {
				return true, ghostMember
			}
			continue
		case rDead:
			continue
		case rDone:
		default:
			return false, fine
		}
		if mode := m.Consumers[r].Mode; mode == Hostile || mode == Stopped {
			continue
		}
		for l := range m.Lanes {
			if rd.lanes[l].want != s.Lane[l].endSeq {
				return true, wrongMissed
			}
		}
	}
	return true, fine
}

// crashes: the process of writer 0 or of consumer 0 dies, at any instruction.
func (m *model) crashes(s *State) {
	if s.Crashes > 0 {
		return
	}
	if pc := s.Writer[0].pc; m.CrashWrite && pc != wDone && pc != wDead {
		for k := 0; k <= int(s.BufLen[tWriter0]); k++ {
			n := m.fork(s)
			n.Crashes++
			n.die(tWriter0, k)
			n.die(tControl, int(n.BufLen[tControl]))
			n.Writer[0] = writer{pc: wDead}
			n.Control = control{pc: cDead}
			m.announceFinal(n, 0)
			m.step(tWriter0, "crash")
		}
	}
	if pc := s.Reader[0].pc; m.CrashRead && pc != rDone && pc != rGone && pc != rDead && pc != rAsk && pc != rWait {
		for k := 0; k <= int(s.BufLen[tReader0]); k++ {
			n := m.fork(s)
			n.Crashes++
			n.die(tReader0, k)
			old := s.Reader[0]
			n.Reader[0] = reader{pc: rDead}
			if m.Durable {
				m.restart(n, &old)
			}
			m.step(tReader0, "crash")
		}
	}
}

// restart is a durable consumer that comes back: it resumes at the cursor in its slot, or at J if it died
// before the slot was complete. It takes the sequence from the header found there, because a crash may tear
// the pair in the slot, and it does not clear a complete slot, or the writer would fall back to join_i.
func (m *model) restart(n *State, old *reader) {
	rd := &n.Reader[0]
	*rd = reader{pc: rJoined, handed: old.handed, redone: true}
	f := &rd.lanes[0]
	*f = follow{p: old.lanes[0].join, want: old.handed, join: old.lanes[0].join, ticket: old.lanes[0].ticket}
	f.cursor = f.p
	if n.Mem[aEpoch(0, 0)] == epoch(0) && m.mut == RestartClearsSlot {
		f.p = Pos(n.Mem[aCursor(0, 0)])
	} else if n.Mem[aEpoch(0, 0)] == epoch(0) {
		f.p = Pos(n.Mem[aCursor(0, 0)])
		f.cursor = f.p
		rd.pc, rd.sp = rHeader, f.p
	}
}

// announceFinal is the registry at the lane of a writer that is gone: it walks from tail_hint to the first
// uncommitted header and tells the consumers.
func (m *model) announceFinal(n *State, l int) {
	p, seq := Pos(n.Mem[m.aTail(l)]), uint8(n.Mem[m.aTailSeq(l)])
	for start := p; diff(p, start) <= int(m.Cap) && diff(p, Pos(n.Mem[m.aIntent(l)])) < 0; {
		k, ok := match(n.Mem[m.aHeader(l, p)], p)
		if !ok {
			break
		}
		w := n.Mem[m.aMeta(l, p)]
		switch k {
		case kindPad:
			p = m.nextLap(p)
			continue
		case kindData:
			p, seq = p+1+metaLen(w), metaSeq(w)+1
		case kindGap, kindEnd:
			p, seq = p+1, metaSeq(w)
		}
		if k == kindEnd {
			break
		}
	}
	g := &n.Lane[l]
	g.final, g.finalPos, g.finalSeq = true, p, seq
	if p != g.end || seq != g.endSeq {
		n.Broken = wrongFinal
	}
	for r := range m.Consumers { // a registry message wakes a parked consumer
		n.Reader[r].wakeUp()
	}
}

func (m *model) nextLap(p Pos) Pos { return p - p%m.Cap + m.Cap }
