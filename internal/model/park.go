package model

// parkSteps is a consumer that found nothing in a whole sweep. Writers look only at the flag of consumer 0.
func (m *model) parkSteps(s *State, r int) {
	t, rd := tReader0+thread(r), &s.Reader[r]
	l := int(rd.lane)
	n := m.fork(s)
	nr := &n.Reader[r]
	switch rd.pc {
	case rParkRead: // wake_seq of every lane, then sleeping = 1
		nr.save[l] = uint8(n.load(t, m.aWake(l)))
		if m.otherLaneToo(nr) {
			m.step(t, "Park: read wake_seq")
			return
		}
		n.store(t, aSleep(r), 1)
		nr.pc = rParkFence
		if m.mut == NoMembarrier {
			nr.pc = m.lookOrSleep()
		}
		m.step(t, "Park: read wake_seq; sleeping = 1")

	case rParkFence:
		n.membarrier()
		nr.pc = m.lookOrSleep()
		m.step(t, "Park: membarrier")

	case rParkLook: // the same look as a poll: a lapped header is news as well
		word := n.load(t, m.aHeader(l, nr.lanes[l].p))
		_, news := match(word, nr.lanes[l].p)
		if m.mut != ParkHeaderOnly {
			news = news || m.overrun(n, r)
		}
		switch {
		case news:
			m.awake(n, r)
		case !m.otherLaneToo(nr):
			nr.pc = rParkSleep
		}
		m.step(t, "Park: look again")

	case rParkSleep: // futex_waitv compares and sleeps at once
		changed := false
		for i := range m.Lanes {
			f := &nr.lanes[i]
			if m.mut == OneFutexWord && i > 0 || f.finished {
				continue
			}
			changed = changed || uint8(n.Mem[m.aWake(i)]) != nr.save[i] || n.Lane[i].final
		}
		if changed {
			m.awake(n, r)
		} else {
			n.drain(t)
			nr.pc = rAsleep
		}
		m.step(t, "Park: futex_waitv")

	case rWoken:
		m.awake(n, r)
		m.step(t, "Park: woken")
	}
}

// otherLaneToo moves on to the other lane if it has not been looked at in this sweep.
func (m *model) otherLaneToo(rd *reader) bool {
	rd.missed |= 1 << rd.lane
	other := 1 - rd.lane
	if m.Parallel && !rd.lanes[other].finished && rd.missed != 3 {
		rd.lane = other
		return true
	}
	rd.missed = 0
	return false
}

func (m *model) lookOrSleep() readerPC {
	if m.mut == NoLookBeforeSleep {
		return rParkSleep
	}
	return rParkLook
}

// awake: sleeping = 0 and poll.
func (m *model) awake(n *State, r int) {
	rd := &n.Reader[r]
	n.store(tReader0+thread(r), aSleep(r), 0)
	rd.save, rd.missed = [maxLanes]uint8{}, 0
	m.toHeader(rd)
}

// wakeUp is the kernel. Nothing else ends the sleep: the model has no time-out.
func (rd *reader) wakeUp() {
	if rd.pc == rAsleep {
		rd.pc = rWoken
	}
}
