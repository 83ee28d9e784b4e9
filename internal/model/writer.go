package model

// opClose is the value of writer.op for the END frame.
const opClose = 255

// placed is a frame of the current publication: data at q, after pad units of padding that begin at q-pad.
type placed struct {
	q, pad Pos
	len    uint8
	seq    uint8
	kind   kind
}

// layout is where the frames of one publication go.
type layout struct {
	frames [2]placed
	n      int
	end    Pos // p after it
	endSeq uint8
	need   Pos // Refill must grant up to here: the frames and the zeroed header behind them
}

func (m *model) op(op uint8) Op {
	if op == opClose {
		return Op{Kind: OpEnd}
	}
	return m.Ops[op]
}

// layOut places publication op at p (sequences start at 0).
func (m *model) layOut(p Pos, op uint8) (lay layout) {
	o := m.op(op)
	add := func(k kind, n uint8) {
		pad := Pos(0)
		if p%m.Cap+1+n > m.Cap {
			pad = m.Cap - p%m.Cap
		}
		lay.frames[lay.n] = placed{q: p + pad, pad: pad, len: n, seq: lay.endSeq, kind: k}
		lay.n++
		p += pad + 1 + n
	}
	switch o.Kind {
	case OpPublish:
		add(kindData, o.Len[0])
		lay.endSeq++
	case OpBatch:
		add(kindData, o.Len[0])
		lay.endSeq++
		add(kindData, o.Len[1])
		lay.endSeq++
	case OpGap: // the frame carries the sequence after the gap
		lay.endSeq++
		add(kindGap, 0)
	case OpEnd: // the frame carries the sequence that never came
		add(kindEnd, 0)
	}
	lay.end, lay.need = p, p+1
	if m.mut == NeedWithoutZero {
		lay.need = p
	}
	return lay
}

// writerSteps is the publishing goroutine of lane l.
func (m *model) writerSteps(s *State, l int) {
	t := thread(l)
	switch w := &s.Writer[l]; w.pc {
	case wOff: // the next incarnation opens its lane when the old one is closed or dead
		if pc := s.Writer[0].pc; pc == wDone || pc == wDead {
			n := m.fork(s)
			m.open(n, l)
			m.step(t, "open lane")
		}

	case wNext:
		if w.left == 0 {
			n := m.fork(s)
			n.Writer[l].op = opClose
			m.startPublish(n, l)
			m.step(t, "Close")
			return
		}
		for op := range m.Ops {
			n := m.fork(s)
			n.Writer[l].left--
			n.Writer[l].op = uint8(op)
			m.startPublish(n, l)
			m.step(t, "Publish")
		}

	case wLoadSet:
		n := m.fork(s)
		m.loadSet(n, l)
		m.step(t, "Refill: set = consumers.Load()")

	case wLoadEpoch: // SYNC slot: acquire
		n := m.fork(s)
		nw := &n.Writer[l]
		if n.load(t, aEpoch(l, int(w.i))) == epoch(l) {
			nw.pc = wLoadCursor
		} else {
			if m.mut == NoJoinI {
				nw.snap[w.i] = 0
			}
			nw.v[w.i] = entryJoin(w.snap[w.i])
			m.nextConsumer(n, l)
		}
		m.step(t, "Refill: acq epoch_i")

	case wLoadCursor: // SYNC cursor: acquire
		n := m.fork(s)
		n.Writer[l].v[w.i] = Pos(n.load(t, aCursor(l, int(w.i))))
		m.nextConsumer(n, l)
		m.step(t, "Refill: acq cursor_i")

	case wBackpress:
		m.backpressure(s, l)

	case wEvict:
		n := m.fork(s)
		m.finishEvict(n, l)
		m.step(t, "Evict: CAS consumer out")

	case wIntent:
		n := m.fork(s)
		m.grant(n, l)
		m.step(t, "Refill: XCHG intent; write frames")

	case wWakeFlag:
		n := m.fork(s)
		n.Writer[l].pc = wWakeInc
		if n.load(t, aSleep(0)) == 0 {
			m.published(n, l)
		}
		m.step(t, "Wake: sleeping?")

	case wWakeInc:
		n := m.fork(s)
		n.xchg(t, m.aWake(l), n.load(t, m.aWake(l))+1)
		n.Writer[l].pc = wWakeSyscall
		m.step(t, "Wake: wake_seq++")

	case wWakeSyscall:
		n := m.fork(s)
		if l == 0 || m.mut != OneFutexWord {
			n.Reader[0].wakeUp()
		}
		m.published(n, l)
		m.step(t, "Wake: FUTEX_WAKE")
	}
}

// startPublish is Publish or PublishBatch up to its first look at shared memory.
func (m *model) startPublish(n *State, l int) {
	w := &n.Writer[l]
	w.need = m.layOut(w.p, w.op).need
	if diff(w.need, w.intentL) > 0 {
		m.loadSet(n, l)
		return
	}
	m.write(n, l)
}

// part is one group of the stores that make up a publication.
type part uint8

const (
	bodyFirst   part = iota // len, seq and payload of m1
	bodyRest                // of m2..mk
	commitRest              // commits and inner pads of m2..mk: reachable only through m1
	zeroNext                // I4: the word behind the last frame
	commitFirst             // m1's commit, or the PAD's if the publication begins with one
	indexAll                // block index, DATA frames only
)

// publishOrder is the program order of a publication of n messages.
func publishOrder(mut Mutant, n int) []part {
	switch {
	case mut == NoZeroNext:
		return []part{bodyFirst, bodyRest, commitRest, commitFirst, indexAll}
	case mut == ZeroAfterCommit:
		return []part{bodyFirst, bodyRest, commitRest, commitFirst, zeroNext, indexAll}
	case mut == CommitFirst:
		return []part{commitFirst, bodyFirst, bodyRest, commitRest, zeroNext, indexAll}
	case mut == BatchFirstCommitFirst && n > 1:
		return []part{bodyFirst, commitFirst, bodyRest, commitRest, zeroNext, indexAll}
	case mut == IndexEarly && n > 1:
		return []part{indexAll, bodyFirst, bodyRest, commitRest, zeroNext, commitFirst}
	}
	return []part{bodyFirst, bodyRest, commitRest, zeroNext, commitFirst, indexAll}
}

// write stores the frames of the current publication. All of it is plain stores into the store buffer;
// SYNC commit: release is program order on TSO.
func (m *model) write(n *State, l int) {
	t, w := thread(l), &n.Writer[l]
	lay := m.layOut(w.p, w.op)
	first, rest := lay.frames[0], lay.frames[1:lay.n]
	seqAfter := w.seq + lay.endSeq
	for _, part := range m.order[lay.n-1] {
		switch part {
		case bodyFirst:
			m.body(n, l, first)
		case bodyRest:
			for _, f := range rest {
				m.body(n, l, f)
			}
		case commitRest:
			for _, f := range rest {
				n.store(t, m.aHeader(l, f.q), commit(l, f.q, f.kind))
				if f.pad > 0 {
					n.store(t, m.aHeader(l, f.q-f.pad), commit(l, f.q-f.pad, kindPad))
				}
			}
		case zeroNext:
			if m.mut == ClearDataOnly {
				if k, ok := match(n.load(t, m.aHeader(l, lay.end)), lay.end); !ok || k != kindData {
					break
				}
			}
			n.store(t, m.aHeader(l, lay.end), 0)
		case commitFirst:
			enter, k := first.q, first.kind
			if first.pad > 0 { // readers can only enter through the PAD
				n.store(t, m.aHeader(l, first.q), commit(l, first.q, first.kind))
				enter, k = first.q-first.pad, kindPad
			}
			n.storeGhost(t, m.aHeader(l, enter), commit(l, enter, k), lay.end, seqAfter)
		case indexAll:
			for _, f := range lay.frames[:lay.n] {
				if b := f.q / m.Block; m.Index && f.kind == kindData && b != w.lastBlock {
					n.store(t, m.aIndex(l, b), word(f.q)) // SYNC index: release
					w.lastBlock = b
				}
			}
		}
	}
	w.p, w.seq = lay.end, seqAfter
	if m.mut == TailHintForeign {
		n.store(t, m.aOwnPos(l), word(w.p)|word(w.seq)<<8)
	}
	if m.mut == TailHintPastEnd && w.op == opClose {
		n.store(t, m.aTail(l), word(w.p))
	}
	if m.Park {
		w.pc = wWakeFlag
		return
	}
	m.published(n, l)
}

func (m *model) body(n *State, l int, f placed) {
	t, seq := thread(l), n.Writer[l].seq+f.seq
	n.store(t, m.aMeta(l, f.q), meta(l, f.q, f.len, seq))
	for u := Pos(1); u <= f.len; u++ {
		n.store(t, m.aHeader(l, f.q+u), m.payload(l, seq, f.q+u))
		if m.Wide {
			n.store(t, m.aMeta(l, f.q+u), meta(l, f.q+u, maxLen+seq%2, seq)) // a length that fits, or not
		}
	}
}

// published: Publish returns.
func (m *model) published(n *State, l int) {
	w := &n.Writer[l]
	w.pc, w.need = wNext, 0
	if w.op == opClose {
		w.pc = wDone
	}
	w.op = 0
}

func (m *model) loadSet(n *State, l int) {
	w := &n.Writer[l]
	for r := range m.Consumers {
		w.snap[r] = n.load(thread(l), aSet(l, r))
	}
	w.i = 0
	m.seekConsumer(n, l)
}

// nextConsumer and seekConsumer move Refill to the next consumer of its set, or on to the limit.
func (m *model) nextConsumer(n *State, l int) {
	n.Writer[l].i++
	m.seekConsumer(n, l)
}

func (m *model) seekConsumer(n *State, l int) {
	w := &n.Writer[l]
	for ; int(w.i) < len(m.Consumers); w.i++ {
		if w.snap[w.i] != 0 {
			w.pc = wLoadEpoch
			return
		}
	}
	w.i = 0
	m.decide(n, l)
}

// decide is Refill after it has read every v_i.
func (m *model) decide(n *State, l int) {
	w := &n.Writer[l]
	for r := range m.Consumers {
		if w.snap[r] == 0 {
			continue
		}
		ticket := entryTicket(w.snap[r])
		if w.lastOf[r] != ticket {
			w.lastOf[r], w.last[r] = ticket, entryJoin(w.snap[r])
		}
		if m.mut != CursorUnclamped && (diff(w.v[r], w.p) > 0 || diff(w.v[r], w.last[r]) < 0) {
			m.startEvict(n, l, r, evictHostile)
			return
		}
		w.last[r] = w.v[r]
	}
	if diff(m.limit(w), w.need) < 0 {
		w.pc = wBackpress
		return
	}
	w.pc = wIntent
}

// limit is min v_i + cap, or p + cap if there is no lossless consumer.
func (m *model) limit(w *writer) Pos {
	lim, found := w.p+m.Cap, false
	for r := range m.Consumers {
		if w.snap[r] != 0 && (!found || diff(w.v[r]+m.Cap, lim) < 0) {
			lim, found = w.v[r]+m.Cap, true
		}
	}
	return lim
}

// grant raises intent, hints at the tail and goes on to the frames.
func (m *model) grant(n *State, l int) {
	t, w := thread(l), &n.Writer[l]
	lim := m.limit(w)
	want := w.p + m.S
	if diff(w.need, want) > 0 {
		want = w.need
	}
	if diff(want, lim) > 0 {
		want = lim
	}
	w.intentL = want
	m.assertI5(n, l, want)
	tail, tailSeq := w.p, w.seq
	w.snap, w.v = [maxRead]word{}, [maxRead]Pos{}
	if m.mut == IntentAfterData {
		m.write(n, l)
		n.store(t, m.aIntent(l), word(want))
		m.hint(n, l, tail, tailSeq)
		return
	}
	n.xchg(t, m.aIntent(l), word(want)) // SYNC intent: full fence
	if m.mut == TailHintAhead {
		lay := m.layOut(w.p, w.op)
		tail, tailSeq = lay.end, w.seq+lay.endSeq
	}
	m.hint(n, l, tail, tailSeq)
	m.write(n, l)
	if m.mut == NoticeLate {
		m.lateNotices(n, l)
	}
}

// lateNotices (mutant only) stores the notices of consumers that have left the list.
func (m *model) lateNotices(n *State, l int) {
	t, w := thread(l), &n.Writer[l]
	for r := range m.Consumers {
		gone := word(w.lastOf[r])
		if gone != 0 && n.load(t, m.aNotice(l, r)) != gone && word(entryTicket(n.Mem[aSet(l, r)])) != gone {
			n.store(t, m.aNotice(l, r), gone)
		}
	}
}

// assertI5: intent never passes the position of an honoured consumer, as that consumer knows it, by a lap.
func (m *model) assertI5(n *State, l int, intent Pos) {
	for r, c := range m.Consumers {
		rd := &n.Reader[r]
		f := &rd.lanes[l]
		honoured := n.Mem[aSet(l, r)] != 0 && f.ticket == entryTicket(n.Mem[aSet(l, r)])
		if c.Mode == Lossless && honoured && rd.pc != rDead && diff(intent, f.protected()) > int(m.Cap) {
			n.Broken = intentTooFar
		}
	}
}

// hint stores tail_seq_hint before tail_hint: whoever sees the new position with the old sequence would
// count wrong if nothing follows it, the other way round a frame follows that carries the sequence.
func (m *model) hint(n *State, l int, tail Pos, seq uint8) {
	t := thread(l)
	switch {
	case m.mut == TailHintForeign:
	case !m.CrashWrite && !m.NoRoom: // nobody walks this lane: leave the sequence out
		n.store(t, m.aTail(l), word(tail))
	case m.mut == TailHintBeforeSeq:
		n.store(t, m.aTail(l), word(tail))
		n.store(t, m.aTailSeq(l), word(seq))
	default:
		n.store(t, m.aTailSeq(l), word(seq))
		n.store(t, m.aTail(l), word(tail)) // SYNC tail_hint: release
	}
}

// backpressure: lim < need. The wait is cut short by whatever may happen at any moment of it.
func (m *model) backpressure(s *State, l int) {
	t, w := thread(l), &s.Writer[l]
	n := m.fork(s)
	m.loadSet(n, l)
	m.step(t, "Backpressure: again: set = consumers.Load()")

	if m.NoRoom && w.op == opClose { // no room for END: state = CLOSED, final_pos by walk
		n := m.fork(s)
		n.drain(t)
		n.Writer[l] = writer{pc: wDone}
		m.announceFinal(n, l)
		m.step(t, "Close: no room, state = CLOSED")
	}
	for r := range m.Consumers {
		if w.snap[r] == 0 || diff(w.v[r]+m.Cap, w.need) >= 0 {
			continue // not lagging
		}
		if s.Reader[r].pc == rDead {
			n := m.fork(s)
			m.startEvict(n, l, r, dropDead)
			m.step(t, "Probe: lock FREE, owner dead")
		} else if m.Evict {
			n := m.fork(s)
			m.startEvict(n, l, r, evictStalled)
			m.step(t, "Evict: STALLED")
		}
	}
}

// startEvict stores the notice; the removal follows.
func (m *model) startEvict(n *State, l, r int, why evictReason) {
	w := &n.Writer[l]
	if why == evictHostile && m.Consumers[r].Mode == Lossless {
		n.Broken = evictedHonest
	}
	if why != dropDead && m.mut != NoticeLate {
		n.store(thread(l), m.aNotice(l, r), word(entryTicket(w.snap[r]))) // SYNC notice: release
	}
	w.pc, w.i = wEvict, uint8(r)
	w.v = [maxRead]Pos{}
}

func (m *model) finishEvict(n *State, l int) {
	t, w := thread(l), &n.Writer[l]
	r, old := int(w.i), w.snap[w.i]
	switch m.mut {
	case SetStored: // the whole list, as it was when Refill loaded it
		n.drain(t)
		for i := range m.Consumers {
			n.Mem[aSet(l, i)] = w.snap[i]
		}
		n.Mem[aSet(l, r)] = 0
	case EvictBySlot:
		n.xchg(t, aSet(l, r), 0)
	default:
		n.casRemove(t, l, r, old)
	}
	w.pc, w.i = wLoadSet, 0
	w.snap = [maxRead]word{}
}

// casRemove takes entry e out of the list, if it is still there.
func (s *State) casRemove(t thread, l, r int, e word) {
	s.drain(t)
	if s.Mem[aSet(l, r)] == e {
		s.Mem[aSet(l, r)] = 0
	}
}
