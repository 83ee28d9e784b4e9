package tcp

import "time"

// pace learns the pauses between messages, and says when the next one is due: whoever is
// awake by then saves it the time of a wake-up, which is what most of its way would take.
// Times are ns of clock.Mono. One goroutine at a time.
//
//	message                          message is due
//	   |-- spin --|---- sleep ----|------ look ------|---- sleep until one comes
//	                            from                 to
//
// The spin is left out while nothing came within it; the look, where the pauses are too
// irregular for it to be worth the processor time, or too long to matter.
type pace struct {
	spin  int64 // < 0 = look for ever
	share int64 // per cent of a pause that a look may take

	last      int64 // when a message came
	mean, dev int64 // of the pauses longer than spin
	known     int   // how many of them were seen, up to paceKnown
	close     int   // pauses until spinning after a message is given up
}

const (
	paceKnown = 8
	paceClose = 64
	paceMost  = int64(20 * time.Millisecond) // a longer pause is none that anybody hurries for
	paceEarly = int64(80 * time.Microsecond) // a timer is late by as much
	paceLate  = int64(20 * time.Microsecond)
	lookStep  = int64(time.Millisecond) // of a look for ever
)

// newPace begins as one who knows nothing: it spins.
func newPace(spin time.Duration, share int) pace {
	return pace{spin: int64(spin), share: int64(max(share, 0)), close: paceClose}
}

// came notes a message.
func (p *pace) came(now int64) {
	pause := now - p.last
	p.last = now
	switch {
	case pause <= p.spin:
		p.close = paceClose
		return
	case pause > paceMost:
		p.known, p.close = 0, paceClose
		return
	case p.known == 0:
		p.mean, p.dev = pause, pause/2
	default:
		off := pause - p.mean
		p.mean += off / 8
		p.dev += (max(off, -off) - p.dev) / 4
	}
	p.known = min(p.known+1, paceKnown)
	p.close = max(p.close-1, 0)
}

// next says what to do at a time, with nothing to do since another: look for messages, or
// sleep, until when; 0 = until one comes.
func (p *pace) next(since, now int64) (look bool, until int64) {
	if p.spin < 0 {
		return true, now + lookStep
	}
	from, to := p.window()
	if now < since+p.spin && (p.close > 0 || to == 0) {
		return true, since + p.spin
	}
	switch {
	case now >= to:
		return false, 0
	case now < from:
		return false, from
	}
	return true, to
}

// window is when the next message is looked for; zeros if it is not worth it.
func (p *pace) window() (from, to int64) {
	switch {
	case p.known < paceKnown:
		return 0, 0
	case p.share >= 100:
		return p.last, p.last + paceMost
	}
	from, to = p.last+p.mean-3*p.dev-paceEarly, p.last+p.mean+3*p.dev+paceLate
	if (to-from)*100 > p.share*p.mean {
		return 0, 0
	}
	return from, to
}
