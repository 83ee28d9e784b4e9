package model

// readerSteps is consumer r.
func (m *model) readerSteps(s *State, r int) {
	t, c, rd := tReader0+thread(r), &m.Consumers[r], &s.Reader[r]
	l := int(rd.lane)
	f := &rd.lanes[l]

	switch rd.pc {
	case rAsk:
		// The slot must not show the cursor of an earlier join: clear it before asking.
		n := m.fork(s)
		if m.mut != RejoinKeepsSlot {
			n.xchg(t, aEpoch(l, r), 0)
		}
		n.Reader[r].pc = rWait
		m.step(t, "ask to join")

	case rWait: // control goroutine answers; if its process is dead, nothing was promised
		if s.Control.pc == cDead {
			n := m.fork(s)
			n.Reader[r] = reader{pc: rGone}
			m.step(t, "lane dead before the join")
		}

	case rJoined:
		n := m.fork(s)
		m.storeSlot(n, r)
		m.step(t, "Join: store cursor slot")

	case rAttack:
		for _, v := range []Pos{250, 1} { // far ahead, far behind
			n := m.fork(s)
			n.store(t, aCursor(l, r), word(v))
			n.Reader[r].pc = rDone
			m.step(t, "store a bad cursor")
		}

	case rHeader: // SYNC commit: acquire
		n := m.fork(s)
		m.header(n, r)
		m.step(t, "Poll: w = acq [p]")

	case rMeta:
		n := m.fork(s)
		m.meta(n, r)
		m.step(t, "Poll: copy len, seq")

	case rCopy:
		n := m.fork(s)
		nr := &n.Reader[r]
		fr := &nr.frames[nr.n]
		u := fr.pos + nr.i + 1
		fr.genuine = fr.genuine && n.load(t, m.aHeader(l, u)) == m.payload(l, fr.seq, u)
		nr.i++
		m.copied(n, r)
		m.step(t, "Poll: copy payload")

	case rCheck: // SYNC intent: acquire, after LoadLoad
		n := m.fork(s)
		nr := &n.Reader[r]
		over := m.overrun(n, r)
		switch m.mut {
		case NoFinalCheck:
			over = false
		case CheckBeforeCopy:
			over = nr.early
		case PadUnchecked:
			over = over && nr.frames[0].kind != kindPad
		}
		nr.early = false
		switch {
		case over:
			nr.overrun()
		case m.Durable:
			nr.pc = rHandler
			if m.mut == CursorBeforeHandler {
				m.publishCursor(n, r, nr.lanes[l].p+1+nr.frames[0].len)
			}
		default:
			m.accept(n, r)
		}
		m.step(t, "Poll: overrun(p)? accept")

	case rBadLen:
		n := m.fork(s)
		if m.overrun(n, r) {
			n.Reader[r].overrun()
		} else {
			n.Broken = falseCorrupt
		}
		m.step(t, "Poll: bad length: overrun(p)?")

	case rHandler:
		n := m.fork(s)
		m.accept(n, r)
		n.Reader[r].handed = max(rd.handed, n.Reader[r].lanes[l].want)
		m.step(t, "handler returns")

	case rMiss:
		n := m.fork(s)
		if m.mut != MissUnchecked && m.overrun(n, r) {
			n.Reader[r].overrun()
		} else {
			m.nothingThere(n, r)
		}
		m.step(t, "Poll: no commit: overrun(p)?")

	case rNotice: // SYNC notice: acquire
		n := m.fork(s)
		nr := &n.Reader[r]
		if uint8(n.load(t, m.aNotice(l, r))) == f.ticket {
			nr.evicted()
		} else {
			m.toHeader(nr)
		}
		m.step(t, "cursor published: acq evict[slot]")

	case rOverrun:
		if c.Mode == Lossless {
			m.overrunLossless(s, r)
		} else {
			m.overrunLossy(s, r)
		}

	case rEvicted:
		n := m.fork(s)
		nr := &n.Reader[r]
		if nr.joins == 0 {
			*nr = reader{pc: rGone}
			m.step(t, "ErrEvicted")
			return
		}
		nr.joins--
		nr.pc = rAsk
		m.step(t, "ErrEvicted: join again")

	case rParkRead, rParkFence, rParkLook, rParkSleep, rWoken:
		m.parkSteps(s, r)
	}
}

// overrun(p): acq intent - p > cap, for the smallest position that was copied.
func (m *model) overrun(n *State, r int) bool {
	rd := &n.Reader[r]
	l := int(rd.lane)
	p := rd.lanes[l].p
	if m.mut == CheckLargest && rd.n > 0 {
		p = rd.frames[rd.n-1].pos
	}
	return diff(Pos(n.load(tReader0+thread(r), m.aIntent(l))), p) > int(m.Cap)
}

func (rd *reader) overrun() {
	rd.forget()
	rd.pc = rOverrun
}

// forget drops everything copied and not accepted.
func (rd *reader) forget() {
	rd.frames, rd.n, rd.i, rd.sp, rd.early = [2]copied{}, 0, 0, 0, false
}

func (rd *reader) evicted() {
	rd.forget()
	rd.missed = 0
	rd.pc = rEvicted
}

func (m *model) toHeader(rd *reader) {
	rd.forget()
	rd.pc, rd.sp = rHeader, rd.lanes[rd.lane].p
}

// storeSlot is what a consumer does when J arrives: slot epoch 0, cursor, slot epoch.
func (m *model) storeSlot(n *State, r int) {
	t, rd, c := tReader0+thread(r), &n.Reader[r], &m.Consumers[r]
	l := int(rd.lane)
	f := &rd.lanes[l]
	if diff(f.p, f.join) < 0 && !c.History {
		f.p, f.resync = f.join, true
	}
	f.cursor = f.protected()
	if m.mut == CursorBelowJ {
		f.cursor = f.p
	}
	n.store(t, aEpoch(l, r), 0)
	n.store(t, aCursor(l, r), word(f.cursor))
	n.store(t, aEpoch(l, r), epoch(l)) // SYNC slot: release
	m.toHeader(rd)
	if c.Mode == Hostile {
		rd.pc, rd.sp = rAttack, 0
	}
}

// protected is the position a consumer publishes: max(J, p). What lies before J is read at its own risk.
func (f *follow) protected() Pos {
	if diff(f.p, f.join) < 0 {
		return f.join
	}
	return f.p
}

func (m *model) publishCursor(n *State, r int, p Pos) {
	rd := &n.Reader[r]
	rd.lanes[rd.lane].cursor = p
	n.store(tReader0+thread(r), aCursor(int(rd.lane), r), word(p)) // SYNC cursor: release
}

// header is Poll's first load of a frame.
func (m *model) header(n *State, r int) {
	t, rd := tReader0+thread(r), &n.Reader[r]
	l := int(rd.lane)
	w := n.load(t, m.aHeader(l, rd.sp))
	k, ok := match(w, rd.sp)
	switch {
	case ok:
		rd.frames[rd.n] = copied{pos: rd.sp, kind: k, genuine: w == commit(l, rd.sp, k)}
		if k == kindPad {
			m.copied(n, r)
		} else {
			rd.pc = rMeta
		}
	case rd.n > 0:
		rd.pc = rCheck // the frames before it are complete
	default:
		rd.sp = 0
		rd.pc = rMiss
	}
}

// meta copies len and seq once and bounds the length before it is used.
func (m *model) meta(n *State, r int) {
	t, rd := tReader0+thread(r), &n.Reader[r]
	l := int(rd.lane)
	fr := &rd.frames[rd.n]
	w := n.load(t, m.aMeta(l, fr.pos))
	fr.len, fr.seq = metaLen(w), metaSeq(w)
	fr.genuine = fr.genuine && w == meta(l, fr.pos, fr.len, fr.seq)
	if fr.kind == kindData && (fr.len > maxLen || fr.pos%m.Cap+1+fr.len > m.Cap) {
		*fr = copied{}
		rd.pc = rBadLen
		if rd.n > 0 {
			rd.pc = rCheck // whatever it is, the frames before it decide first
		}
		return
	}
	if fr.kind != kindData {
		fr.len = 0
	}
	if m.mut == CursorBeforeCopy && m.Consumers[r].Mode == Lossless {
		m.publishCursor(n, r, fr.pos+1+fr.len)
	}
	if m.mut == CheckBeforeCopy {
		rd.early = m.overrun(n, r)
	}
	m.copied(n, r)
}

// copied goes on with the payload, the next frame of the batch, or the check.
func (m *model) copied(n *State, r int) {
	rd := &n.Reader[r]
	fr := &rd.frames[rd.n]
	if rd.i < fr.len {
		rd.pc = rCopy
		return
	}
	rd.n, rd.i = rd.n+1, 0
	rd.pc = rCheck
	if int(rd.n) < m.Consumers[r].Batch && (fr.kind == kindData || fr.kind == kindPad) {
		rd.pc, rd.sp = rHeader, m.after(fr)
	}
}

// after is the position behind frame fr.
func (m *model) after(fr *copied) Pos {
	if fr.kind == kindPad {
		return m.nextLap(fr.pos)
	}
	return fr.pos + 1 + fr.len
}

// accept acts on every copied frame: they are validated now.
func (m *model) accept(n *State, r int) {
	rd := &n.Reader[r]
	c := &m.Consumers[r]
	l := int(rd.lane)
	f := &rd.lanes[l]
	closed := false
	for i := range rd.n {
		fr := &rd.frames[i]
		switch {
		case !fr.genuine:
			n.Broken = tornFrame
			return
		case !m.Parallel && l == 1 && rd.lanes[0].want != n.Lane[0].endSeq:
			n.Broken = oldNotDrained
			return
		case diff(fr.pos, n.Lane[l].end) >= 0:
			n.Broken = beyondEnd
			return
		}
		f.p = m.after(fr)
		if fr.kind == kindPad {
			continue
		}
		expect := f.want
		if fr.kind == kindGap {
			expect++ // one sequence left out and announced
		}
		switch {
		case rd.redone: // at least once: an older message may come again, none may be skipped
			if fr.seq > rd.handed {
				n.Broken = skippedUnhandled
			}
			rd.redone = false
		case fr.seq == expect, f.resync && fr.seq > expect: // the latter with a gap report
		case fr.seq < f.want:
			n.Broken = wentBack
		default:
			n.Broken = falseCorrupt
		}
		f.resync = false
		f.want = fr.seq
		if fr.kind == kindData {
			f.want++
		}
		closed = fr.kind == kindEnd
	}
	rd.missed = 0
	m.toHeader(rd)
	switch {
	case closed: // nothing follows, so an eviction does not matter any more
		m.finishLane(n, r)
	case c.Mode == Lossless && diff(f.protected(), f.cursor) >= int(c.Every):
		m.publishCursor(n, r, f.protected())
		rd.pc, rd.sp = rNotice, 0
	}
}

// finishLane: END or final_pos reached.
func (m *model) finishLane(n *State, r int) {
	rd := &n.Reader[r]
	rd.lanes[rd.lane].finished = true
	if m.Lanes == 1 || rd.lanes[0].finished && rd.lanes[1].finished {
		*rd = reader{pc: rDone, lanes: rd.lanes}
		return
	}
	rd.lane = 1 - rd.lane
	rd.missed = 0
	if m.Consumers[r].Mode == Lossless {
		rd.forget()
		rd.pc = rJoined
		return
	}
	m.toHeader(rd)
}

// nothingThere is a poll that found no frame.
func (m *model) nothingThere(n *State, r int) {
	rd, c := &n.Reader[r], &m.Consumers[r]
	l := int(rd.lane)
	f, g := &rd.lanes[l], &n.Lane[l]
	rd.forget()
	switch {
	case c.Mode == Lossless && f.cursor != f.protected():
		m.publishCursor(n, r, f.protected())
		rd.pc = rNotice
	case g.final && f.p == g.finalPos:
		switch {
		case rd.redone && g.finalSeq > rd.handed:
			n.Broken = skippedUnhandled
		case f.want != g.finalSeq && !f.resync && !rd.redone:
			n.Broken = wrongMissed
		}
		f.want = g.finalSeq
		m.finishLane(n, r)
	case m.mut == NewBeforeOldDrained && !m.Parallel && l == 0 && n.Writer[1].pc != wOff:
		rd.lane = 1
		m.toHeader(rd)
	case m.Parallel:
		rd.missed |= 1 << l
		if !rd.lanes[1-l].finished && rd.missed != 3 {
			rd.lane = uint8(1 - l)
			m.toHeader(rd)
			return
		}
		m.idle(rd)
	default:
		m.idle(rd)
	}
}

// idle: a whole sweep found nothing.
func (m *model) idle(rd *reader) {
	rd.missed = 0
	m.toHeader(rd)
	if m.Park {
		rd.pc, rd.sp = rParkRead, 0
	}
}

// overrunLossless: evicted, or history before J went away.
func (m *model) overrunLossless(s *State, r int) {
	n := m.fork(s)
	rd := &n.Reader[r]
	l := int(rd.lane)
	f := &rd.lanes[l]
	switch {
	case uint8(n.load(tReader0+thread(r), m.aNotice(l, r))) == f.ticket:
		rd.evicted()
	case diff(f.p, f.join) < 0:
		f.p, f.resync = f.join, true
		m.toHeader(rd)
	default:
		n.Broken = overrunHonoured
	}
	m.step(tReader0+thread(r), "Overrun: acq evict[slot]")
}

// overrunLossy takes any usable index entry, or tail_hint: whichever a policy would prefer is among them.
// The frame found there is validated by Poll like any other, so looking at intent and the entry in one step
// hides nothing: a stale pair only yields a candidate that Poll refuses.
func (m *model) overrunLossy(s *State, r int) {
	t, rd := tReader0+thread(r), &s.Reader[r]
	l := int(rd.lane)
	p, intent := rd.lanes[l].p, Pos(s.load(t, m.aIntent(l)))
	try := func(cand Pos, what string) {
		if diff(cand, p) <= 0 { // never back
			return
		}
		n := m.fork(s)
		nr := &n.Reader[r]
		nr.lanes[l].p, nr.lanes[l].resync = cand, true
		m.toHeader(nr)
		m.step(t, what)
	}
	if m.Index {
		for b := range m.blocks() {
			cand := Pos(s.load(t, m.aIndex(l, b))) // SYNC index: acquire
			inside := diff(intent, cand) > 0 && diff(intent, cand) < int(m.Cap)
			if cand != 0 && inside && cand/m.Block%m.blocks() == b {
				try(cand, "Overrun: resync at an index entry")
			}
		}
	}
	try(Pos(s.load(t, m.aTail(l))), "Overrun: resync at tail_hint")
}
