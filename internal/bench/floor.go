package bench

import (
	"sync/atomic"

	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

// The floor's memory: a message is two cache lines, as a frame with 64 bytes of
// payload is. Each way has its own two, so that every word has one writer. How long a
// line takes hangs on where its home in the last-level cache is, and a lane has lines
// of all homes: each round has a place of its own.
//
//	0    flag: number of the last ping     64   data of it
//	256  flag: number of the last pong     320  data of it
const (
	pingOff   = 0
	pongOff   = 256
	dataOff   = 64
	floorUsed = 512

	floorPlaces = 64
	floorBytes  = floorPlaces * floorStride
	floorStride = 4096 + floorUsed // another page, and another set of the caches
)

// floorAt is the memory of a round.
func floorAt(mem []byte, round int) []byte {
	return mem[round%floorPlaces*floorStride:][:floorUsed]
}

// line is one direction of the floor.
type line struct{ flag, data *uint64 }

func lineAt(mem []byte, off int) line { return line{word(mem, off), word(mem, off+dataOff)} }

func (l line) send(i uint64) {
	*l.data = i
	seqlock.StoreRelease(l.flag, i) // SYNC floor
}

// receive waits for message i and reads its other line.
func (l line) receive(i uint64, idle shm.Idler) uint64 {
	for atomic.LoadUint64(l.flag) != i { // SYNC floor
		if idle != nil {
			idle.Idle(0)
		}
	}
	return *l.data
}

// floorPing bounces len(samples) messages after warm-up ones and samples the
// round trips. It returns how many came back wrong.
func floorPing(mem []byte, warmup int, samples []uint32, now func() int64, idle shm.Idler) (wrong uint64) {
	out, back := lineAt(mem, pingOff), lineAt(mem, pongOff)
	start := now()
	for i := range warmup + len(samples) {
		n := uint64(i + 1)
		out.send(n)
		if back.receive(n, idle) != n {
			wrong++
		}
		end := now()
		if i >= warmup {
			samples[i-warmup] = sampleNs(end - start)
		}
		start = end
	}
	return wrong
}

// floorPong answers n messages.
func floorPong(mem []byte, n int, idle shm.Idler) (wrong uint64) {
	in, out := lineAt(mem, pingOff), lineAt(mem, pongOff)
	for i := uint64(1); i <= uint64(n); i++ {
		if in.receive(i, idle) != i {
			wrong++
		}
		out.send(i)
	}
	return wrong
}

// floorIdle is nil, the plain loop, unless others need the processor.
func floorIdle(yield bool) shm.Idler {
	if yield {
		return osYield{}
	}
	return nil
}

func prepareFloorPing(w *worker, j *job, t *task) error {
	now, err := now()
	if err != nil {
		return err
	}
	samples := newSamples(j.Count)
	t.run = func() (result, error) {
		wrong := floorPing(floorAt(w.mem, j.Round), int(j.Warmup), samples, now, floorIdle(j.Yield))
		return result{Latency: summarize(samples, 2), Messages: j.Count, Wrong: wrong}, nil
	}
	return nil
}

func prepareFloorPong(w *worker, j *job, t *task) error {
	t.run = func() (result, error) {
		return result{Wrong: floorPong(floorAt(w.mem, j.Round), int(j.Warmup+j.Count), floorIdle(j.Yield))}, nil
	}
	return nil
}
