package torqbridge

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/torq/mycelium/codec"
)

// side is who delivered a message.
type side int

const (
	sideOld side = iota // the relay
	sideNew             // the bridge
)

// Window is the verdict on one span of time.
type Window struct {
	Start        time.Time `json:"start"`
	End          time.Time `json:"end"`
	Matched      uint64    `json:"matched,string"`   // delivered by both
	Missing      uint64    `json:"missing,string"`   // by the relay only
	Extra        uint64    `json:"extra,string"`     // by the bridge only
	Different    uint64    `json:"different,string"` // by both, with the same source, sequence and time but other bytes
	Reordered    uint64    `json:"reordered,string"` // by both, in another order than others of their source
	LatencyP50Ns int64     `json:"latency_p50_ns"`   // how much later the bridge delivers; negative = earlier
	LatencyP99Ns int64     `json:"latency_p99_ns"`
	Verdict      string    `json:"verdict"` // same, differs or idle
}

// Verdicts.
const (
	VerdictSame    = "same"
	VerdictDiffers = "differs"
	VerdictIdle    = "idle"
)

// comparer compares what two sides deliver, message by message.
//
// A message of one side waits for its twin on the other, found by the hash of its
// bytes. One that waits longer than patience is missing or extra; if both sides have
// one of the same source, sequence and time left over, those two are different. Of a
// source, messages that were overtaken by a later one are reordered once their twin
// comes after all.
//
// It has no clock and does no I/O. Safe for concurrent use.
type comparer struct {
	mu       sync.Mutex
	seed     maphash.Seed
	since    int64 // sightings before have no twin for a good reason
	waiting  [2]map[uint64][]*sighting
	queues   map[sourceSide]*[]*sighting // by source and side, as they came
	all      []*sighting                 // as they came
	window   Window
	latency  []int64
	patience int64
}

type sourceSide struct {
	source uint8
	side   side
}

type sighting struct {
	at        int64 // ns
	side      side
	source    uint8
	sequence  uint64
	timestamp uint64
	hash      uint64
	done      bool // its twin has come, or was given up
	overtaken bool
}

const (
	maxLatencies = 1 << 14
	maxWaiting   = 1 << 18
	warmUp       = int64(time.Second)
)

func newComparer(patience time.Duration) *comparer {
	c := &comparer{seed: maphash.MakeSeed(), patience: int64(patience)}
	c.clear()
	return c
}

func (c *comparer) clear() {
	c.waiting = [2]map[uint64][]*sighting{{}, {}}
	c.queues = map[sourceSide]*[]*sighting{}
	c.all = nil
}

// restart forgets what waits: the two sides start anew at now.
func (c *comparer) restart(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	c.since = now + warmUp
}

// saw notes a message of one side.
func (c *comparer) saw(s side, m []byte, now int64) {
	h, err := codec.ParseHeader(m)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := maphash.Bytes(c.seed, m)
	other := c.waiting[1-s]
	if list := other[hash]; len(list) > 0 {
		twin := list[0]
		if len(list) == 1 {
			delete(other, hash)
		} else {
			other[hash] = list[1:]
		}
		c.match(twin, now)
		return
	}
	x := &sighting{at: now, side: s, source: uint8(h.Source), sequence: h.Sequence, timestamp: h.TimestampNs, hash: hash}
	c.waiting[s][hash] = append(c.waiting[s][hash], x)
	q := c.queue(x)
	*q = append(*q, x)
	if c.all = append(c.all, x); len(c.all) > maxWaiting {
		c.expire(c.all[len(c.all)/2].at)
	}
}

func (c *comparer) queue(x *sighting) *[]*sighting {
	k := sourceSide{x.source, x.side}
	q := c.queues[k]
	if q == nil {
		q = new([]*sighting)
		c.queues[k] = q
	}
	return q
}

// match is the second sighting of a message that has waited.
func (c *comparer) match(x *sighting, now int64) {
	x.done = true
	c.window.Matched++
	if x.overtaken {
		c.window.Reordered++
	}
	d := now - x.at
	if x.side == sideNew {
		d = -d
	}
	if len(c.latency) < maxLatencies {
		c.latency = append(c.latency, d)
	}
	for _, before := range c.remove(x) {
		before.overtaken = true
	}
}

// remove takes a sighting out of its queue and returns those before it. Few are: they
// wait for a twin that is late or lost.
func (c *comparer) remove(x *sighting) (before []*sighting) {
	q := c.queue(x)
	k := slices.Index(*q, x)
	copy((*q)[1:k+1], (*q)[:k])
	*q = (*q)[1:]
	return (*q)[:k]
}

// expire gives up what came before a moment.
func (c *comparer) expire(before int64) {
	type identity struct {
		source              uint8
		sequence, timestamp uint64
	}
	lone := [2]map[identity]int{{}, {}}
	i := 0
	for ; i < len(c.all) && (c.all[i].done || c.all[i].at < before); i++ {
		x := c.all[i]
		if x.done {
			continue
		}
		x.done = true
		list := c.waiting[x.side][x.hash]
		if list = slices.DeleteFunc(list, func(y *sighting) bool { return y == x }); len(list) == 0 {
			delete(c.waiting[x.side], x.hash)
		} else {
			c.waiting[x.side][x.hash] = list
		}
		c.remove(x)
		if x.at < c.since {
			continue
		}
		lone[x.side][identity{x.source, x.sequence, x.timestamp}]++
	}
	c.all = c.all[i:]
	for id, n := range lone[sideOld] {
		both := min(n, lone[sideNew][id])
		c.window.Different += uint64(both)
		c.window.Missing += uint64(n - both)
		lone[sideNew][id] -= both
	}
	for _, n := range lone[sideNew] {
		c.window.Extra += uint64(n)
	}
}

// close ends the window and begins the next.
func (c *comparer) close(now int64, wall time.Time) Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now - c.patience)
	w := c.window
	c.window = Window{Start: wall}
	w.End = wall
	if n := len(c.latency); n > 0 {
		slices.Sort(c.latency)
		w.LatencyP50Ns, w.LatencyP99Ns = c.latency[n/2], c.latency[min(n-1, n*99/100)]
		c.latency = c.latency[:0]
	}
	switch {
	case w.Missing+w.Extra+w.Different+w.Reordered > 0:
		w.Verdict = VerdictDiffers
	case w.Matched > 0:
		w.Verdict = VerdictSame
	default:
		w.Verdict = VerdictIdle
	}
	return w
}

// begin opens the first window.
func (c *comparer) begin(wall time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window = Window{Start: wall}
	c.latency = c.latency[:0]
}
