package tcp

import (
	"fmt"
	"time"
)

// pulse is the liveness of one connection, without its I/O: beats out, silence in, and
// what the beats say of the way.
//
//	         a byte came               nothing for dead
//	alive <--------------> alive ----------------------> over
//	                         |
//	                         | a frame was begun, and gains less than progress
//	                         +-------------------------> over
type pulse struct {
	beat, dead int64 // ns
	lastIn     int64 // when bytes came
	nextBeat   int64
	theirs     uint64 // seq of the peer's last BEAT
	theirsAt   int64
	rtt        int64 // ns of the last round trip, 0 = none yet
	begun      int64 // when the frame that is not whole was begun, 0 = none is
	have       int   // its bytes
}

// progress is how fast a frame that was begun has to come, bytes a second, once it has
// had a second.
const progress = 1024

func newPulse(now int64, beat, dead time.Duration) pulse {
	return pulse{beat: int64(beat), dead: int64(dead), lastIn: now, nextBeat: now}
}

// heard notes that bytes came, and how many are there of a frame that is not whole.
func (p *pulse) heard(now int64, partial int) {
	p.lastIn = now
	if partial == 0 {
		p.begun = 0
	} else if p.begun == 0 || partial < p.have {
		p.begun = now
	}
	p.have = partial
}

// fresh notes that a frame was completed: what is there now was begun at this moment.
func (p *pulse) fresh(now int64) { p.begun, p.have = 0, 0; p.lastIn = now }

// over says why the connection is at its end, nil if it is not.
func (p *pulse) over(now int64) error {
	if now-p.lastIn >= p.dead {
		return fmt.Errorf("%w: no byte for %v", errSilent, time.Duration(now-p.lastIn).Round(time.Millisecond))
	}
	if p.begun != 0 {
		if secs := (now - p.begun) / int64(time.Second); secs > 1 && int64(p.have) < progress*(secs-1) {
			return fmt.Errorf("%w: %d bytes of a frame in %d s", errSilent, p.have, secs)
		}
	}
	return nil
}

// beatDue returns a BEAT if it is time for one.
func (p *pulse) beatDue(now int64) []byte {
	if now < p.nextBeat {
		return nil
	}
	p.nextBeat = now + p.beat
	return encode(kindBeat, 0, uint64(now), words(p.theirs, uint64(now-p.theirsAt)))
}

// beaten takes the peer's.
func (p *pulse) beaten(now int64, f *frame) {
	p.theirs, p.theirsAt = f.seq, now
	if mine, held := int64(word(f.body, 0)), int64(word(f.body, 1)); mine > 0 && held >= 0 && now-mine-held >= 0 {
		p.rtt = now - mine - held
	}
}

// backoff is the pause before the next attempt to dial.
type backoff struct{ tries int }

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
	goodFor    = 10 * time.Second // after which a connection counts as one that worked
)

// next is a random time of up to 50 ms, doubling up to 5 s; random is in [0, 1).
func (b *backoff) next(random float64) time.Duration {
	most := min(backoffMin<<min(b.tries, 16), backoffMax)
	b.tries++
	return time.Duration(float64(most) * random)
}

// worked notes how long a connection lasted.
func (b *backoff) worked(d time.Duration) {
	if d >= goodFor {
		b.tries = 0
	}
}
