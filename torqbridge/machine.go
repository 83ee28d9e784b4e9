package torqbridge

import (
	"errors"
	"fmt"
	"time"
)

// Steps of a move.
type step int

const (
	stepStart    step = iota // hub, bus, bus socket, mirror, comparison
	stepTake                 // the bridge takes the public socket
	stepHandBack             // the old relay gets it back, and every client
	stepStop                 // the reverse of start
)

// Errors of a move that is not to be made now.
var (
	// ErrNoRelay: there is nobody to hand the socket to.
	ErrNoRelay = errors.New("the old relay does not answer")
	// ErrNotProven: the comparison has not found both sides the same yet.
	ErrNotProven = errors.New("the comparison does not say same")
	// ErrTooFar: a cutover goes through shadow.
	ErrTooFar = errors.New("compare first")
)

// facts are what a move depends on.
type facts struct {
	force   bool
	relayUp bool   // the mirror is connected
	verdict string // of the last window that was not idle, "" = none yet
}

// plan says what leads from one mode to another.
//
//	           start                take
//	legacy ------------> shadow ------------> bus
//	       <------------        <------------
//	           stop               hand back
//
//	start      mirror and comparison run; nothing changes for Torq's services
//	take       new connections reach the bridge. Refused while the comparison does
//	           not say same, unless there is no relay to compare with
//	hand back  connections reach the old relay again; refused if there is none,
//	           unless forced. Also done by the bridge itself, see judge
//	stop       the bridge does nothing any more
func plan(from, to Mode, f facts) ([]step, error) {
	order := map[Mode]int{ModeLegacy: 0, ModeShadow: 1, ModeBus: 2}
	a, ok1 := order[from]
	b, ok2 := order[to]
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("no way from %q to %q: want legacy, shadow or bus", from, to)
	}
	up, down := []step{stepStart, stepTake}, []step{stepStop, stepHandBack}
	var steps []step
	switch {
	case a == b:
		return nil, nil
	case a < b:
		if b == 2 && !f.force {
			if a == 0 {
				return nil, fmt.Errorf("from legacy to bus: %w: go to shadow, or force it", ErrTooFar)
			}
			if f.relayUp && f.verdict != VerdictSame {
				return nil, fmt.Errorf("%w (%s): wait for a window with messages, or force it", ErrNotProven, orNone(f.verdict))
			}
		}
		return append(steps, up[a:b]...), nil
	}
	if a == 2 && !f.relayUp && !f.force {
		return nil, fmt.Errorf("%w: start it first, or force it", ErrNoRelay)
	}
	for i := a; i > b; i-- {
		steps = append(steps, down[i-1])
	}
	return steps, nil
}

func orNone(verdict string) string {
	if verdict == "" {
		return "no window with messages yet"
	}
	return verdict
}

// judge decides when a domain in mode bus goes back by itself. It has no clock and
// does no I/O.
//
//	any loss                                      -> back
//	throughput below the limit 3 windows running  -> back
//	so many crashes in so much time               -> back (crashes, at the next start)
type judge struct {
	maxDropPercent int
	baseline       []float64 // messages per second in the last windows of shadow
	low            int       // windows below the limit, running
	lost           uint64    // at the last look
}

const (
	baselineWindows = 6
	lowWindows      = 3
	minBaseline     = 10 // messages per second: below that nothing can be told
)

// shadow notes the throughput of a window before the cutover.
func (j *judge) shadow(perSecond float64, lost uint64) {
	j.baseline = append(j.baseline, perSecond)
	if len(j.baseline) > baselineWindows {
		j.baseline = j.baseline[1:]
	}
	j.low, j.lost = 0, lost
}

// bus judges a window after the cutover; "" = all is well.
func (j *judge) bus(perSecond float64, lost uint64, w Window) string {
	if n := lost - j.lost; n > 0 {
		j.lost = lost
		return fmt.Sprintf("%d messages were lost", n)
	}
	if w.Missing+w.Different > 0 {
		return fmt.Sprintf("the comparison finds %d messages missing and %d different", w.Missing, w.Different)
	}
	sum := 0.0
	for _, v := range j.baseline {
		sum += v
	}
	if len(j.baseline) == 0 || sum/float64(len(j.baseline)) < minBaseline {
		return ""
	}
	mean := sum / float64(len(j.baseline))
	limit := mean * float64(100-j.maxDropPercent) / 100
	if perSecond >= limit {
		j.low = 0
		return ""
	}
	if j.low++; j.low < lowWindows {
		return ""
	}
	return fmt.Sprintf("throughput is %.0f messages a second, %.0f before the cutover", perSecond, mean)
}

// crashed reports whether a bridge that has just been started after these crashes
// should not serve the socket again.
func crashed(crashes []time.Time, now time.Time, limit int, within time.Duration) bool {
	n := 0
	for _, t := range crashes {
		if now.Sub(t) <= within {
			n++
		}
	}
	return n >= limit
}
