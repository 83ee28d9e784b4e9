package directory

import (
	"sync"

	"github.com/torq/mycelium/internal/control"
)

type kind uint8

const (
	laneFile kind = iota
	cursorFile
)

// ref names a segment of the bus directory.
type ref struct {
	kind kind
	name string
}

// item is one outgoing message. Its descriptor is opened when it is sent: a
// fresh description per client, and none is held for a queue.
type item struct {
	m     *control.Message
	file  ref // no name = no descriptor
	write bool
}

// outbox is the bounded queue between the state machine and the goroutine that
// writes to a client.
type outbox struct {
	mu     sync.Mutex
	change sync.Cond
	q      []item
	limit  int
	ending bool // nothing more comes
	broken bool // what is queued is not wanted any more
	over   bool // it was full
}

func newOutbox(limit int) *outbox {
	b := &outbox{limit: limit}
	b.change.L = &b.mu
	return b
}

// push appends. A full box breaks: its client does not read, and is never
// waited for.
func (b *outbox) push(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken || b.ending {
		return
	}
	if len(b.q) >= b.limit {
		b.broken, b.over, b.q = true, true, nil
	} else {
		b.q = append(b.q, it)
	}
	b.change.Broadcast()
}

// pop waits for the next item; false after the last one.
func (b *outbox) pop() (item, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.q) == 0 && !b.ending && !b.broken {
		b.change.Wait()
	}
	if len(b.q) == 0 {
		return item{}, false
	}
	it := b.q[0]
	b.q[0] = item{}
	if b.q = b.q[1:]; len(b.q) == 0 {
		b.q = nil
	}
	b.change.Broadcast()
	return it, true
}

// waitBelow waits until fewer than n items are queued, so that one client's
// requests cannot outrun its own reading; false if the box broke.
func (b *outbox) waitBelow(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.q) >= n && !b.broken {
		b.change.Wait()
	}
	return !b.broken
}

// end lets what is queued go out, and nothing after it.
func (b *outbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ending = true
	b.change.Broadcast()
}

// breakOff drops what is queued.
func (b *outbox) breakOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken, b.q = true, nil
	b.change.Broadcast()
}

func (b *outbox) overflowed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}
