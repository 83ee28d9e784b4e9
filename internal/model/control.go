package model

// controlSteps is the control goroutine of writer 0: it joins lossless consumers that ask.
func (m *model) controlSteps(s *State) {
	c := &s.Control
	if m.mut == TailHintForeign && c.pc != cDead {
		own := s.load(tControl, m.aOwnPos(0))
		if Pos(own) != Pos(s.load(tControl, m.aTail(0))) && s.room(tControl) >= 2 {
			n := m.fork(s)
			n.store(tControl, m.aTailSeq(0), own>>8)
			n.store(tControl, m.aTail(0), word(Pos(own)))
			m.step(tControl, "tail_hint = writer's p")
		}
	}
	switch c.pc {
	case cIdle:
		for r := range m.Consumers {
			if s.Reader[r].pc == rWait {
				n := m.fork(s)
				n.Control.r = uint8(r)
				n.Control.tickets[r]++
				m.loadTail(n)
				m.step(tControl, "Join: J = acq tail_hint")
			}
		}

	case cAdd:
		n := m.fork(s)
		add := entry(c.tickets[c.r], c.j)
		switch m.mut {
		case JoinPlainStore:
			n.store(tControl, aSet(0, int(c.r)), add)
			n.Control.pc = cCheck
			m.step(tControl, "Join: plain store of the list")
		case SetStored:
			for r := range m.Consumers {
				n.Control.snap[r] = n.Mem[aSet(0, r)]
			}
			n.Control.pc = cStore
			m.step(tControl, "Join: set = consumers.Load()")
		default:
			n.xchg(tControl, aSet(0, int(c.r)), add)
			n.Control.pc = cCheck
			m.step(tControl, "Join: CAS set + {i, cursor, join=J}")
		}

	case cStore:
		n := m.fork(s)
		n.drain(tControl)
		for r := range m.Consumers {
			n.Mem[aSet(0, r)] = c.snap[r]
		}
		n.Mem[aSet(0, int(c.r))] = entry(c.tickets[c.r], c.j)
		n.Control.snap = [maxRead]word{}
		n.Control.pc = cCheck
		m.step(tControl, "Join: consumers.Store(set + {i, cursor, join=J})")

	case cCheck:
		n := m.fork(s)
		i := Pos(n.load(tControl, m.aIntent(0)))
		if m.tooLate(i, c.j) {
			n.Control.pc, n.Control.i = cRemove, i
		} else {
			m.answer(n)
		}
		m.step(tControl, "Join: I = acq intent; I + G - J <= cap?")

	case cRemove:
		n := m.fork(s)
		n.casRemove(tControl, 0, int(c.r), entry(c.tickets[c.r], c.j))
		n.Control.pc = cRetry
		m.step(tControl, "Join: CAS remove i")

	case cRetry: // with the same J and I the next attempt would fail in the same way: not a step
		if Pos(s.load(tControl, m.aTail(0))) == c.j && Pos(s.load(tControl, m.aIntent(0))) == c.i {
			return
		}
		n := m.fork(s)
		if m.mut != TicketKept {
			n.Control.tickets[c.r]++
		}
		m.loadTail(n)
		m.step(tControl, "Join: again: J = acq tail_hint")
	}
}

func (m *model) loadTail(n *State) { // SYNC tail_hint: acquire
	n.Control.j = Pos(n.load(tControl, m.aTail(0)))
	n.Control.i, n.Control.pc = 0, cAdd
}

// tooLate tells that a Refill may overrun J before it sees the new entry.
func (m *model) tooLate(i, j Pos) bool {
	margin := m.g
	switch m.mut {
	case JoinUnchecked:
		return false
	case JoinNoMargin:
		margin = 0
	}
	return diff(i, j)+margin > int(m.Cap)
}

// answer tells consumer r its J and ticket.
func (m *model) answer(n *State) {
	c := &n.Control
	rd := &n.Reader[c.r]
	rd.pc = rJoined
	rd.lanes[0].join, rd.lanes[0].ticket = c.j, c.tickets[c.r]
	*c = control{tickets: c.tickets}
	m.assertI5(n, 0, Pos(n.Mem[m.aIntent(0)]))
}
