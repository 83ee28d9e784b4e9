package directory

import (
	"container/heap"
	"time"
)

// deadlines is what happens later, earliest first. Entries are not taken back:
// each checks, when it is due, whether it still matters.
type deadlines []deadline

type deadline struct {
	at time.Time
	do func()
}

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = deadline{}
	*d = old[:len(old)-1]
	return last
}

// after has do called by the first tick that comes wait or more from now.
func (c *core) after(wait time.Duration, do func()) {
	heap.Push(&c.deadlines, deadline{c.opt.Now().Add(wait), do})
}

// tick does what is due.
func (c *core) tick() {
	now := c.opt.Now()
	for len(c.deadlines) > 0 && !c.deadlines[0].at.After(now) {
		heap.Pop(&c.deadlines).(deadline).do()
	}
}

// next is how long until the next tick is wanted; false if none is.
func (c *core) next() (time.Duration, bool) {
	if len(c.deadlines) == 0 {
		return 0, false
	}
	return max(0, c.deadlines[0].at.Sub(c.opt.Now())), true
}
