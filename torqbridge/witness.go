package torqbridge

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/clock"
)

// patience is how long a message may be seen on one side only.
const patience = 2 * time.Second

// witnessDelay is the longest pause between attempts to connect.
const witnessDelay = time.Second

// monotonic is the time in ns that comparisons use.
func monotonic() int64 { return clock.Mono() }

// witnesses are two plain consumers, one of the old relay and one of the bridge, that
// see what Torq's consumers would see. What they see is compared.
type witnesses struct {
	d *domain
	c *comparer

	mu     sync.Mutex
	up     [2]bool
	paused bool
}

func newWitnesses(d *domain) *witnesses { return &witnesses{d: d, c: newComparer(patience)} }

// pause stops comparing while messages are held on one side only.
func (w *witnesses) pause() {
	w.mu.Lock()
	w.paused = true
	w.mu.Unlock()
}

// resume compares anew.
func (w *witnesses) resume() {
	w.mu.Lock()
	w.paused = false
	w.mu.Unlock()
	w.c.restart(monotonic())
}

// both reports whether there is something to compare.
func (w *witnesses) both() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up[sideOld] && w.up[sideNew] && !w.paused
}

// set notes that a side has come or gone, which starts the comparison anew.
func (w *witnesses) set(s side, up bool) {
	w.mu.Lock()
	w.up[s] = up
	w.mu.Unlock()
	w.c.restart(monotonic())
}

// run looks at one side until ctx ends. The bridge's is looked at only while there is
// a relay to compare it with: it costs as much as a client.
func (w *witnesses) run(ctx context.Context, s side) {
	var b backoff
	for {
		conn, err := w.dial(ctx, s)
		if err == nil {
			b.success()
			w.watch(ctx, s, conn)
		}
		if !sleep(ctx, min(b.fail(), witnessDelay), nil) {
			return
		}
	}
}

// watch looks at one connection to its end; at the relay's beside the bridge.
func (w *witnesses) watch(ctx context.Context, s side, conn *net.UnixConn) {
	if s == sideOld {
		ctx, stop := context.WithCancel(ctx)
		var beside sync.WaitGroup
		beside.Go(func() { w.run(ctx, sideNew) })
		defer beside.Wait()
		defer stop()
	}
	w.look(ctx, s, conn)
}

// dial connects to a side; to the bridge by a pair of sockets, since it may have no name:
// a relay that was started over it has taken that.
func (w *witnesses) dial(ctx context.Context, s side) (*net.UnixConn, error) {
	if s == sideOld {
		return w.d.dialRelay(ctx)
	}
	near, far, err := socketPair()
	if err == nil {
		w.d.admit(far, true)
	}
	return near, err
}

func (w *witnesses) look(ctx context.Context, s side, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	w.set(s, true)
	defer w.set(s, false)
	split := codec.NewSplitter(codec.SplitterOptions{MaxPayload: uint32(w.d.maxMessage - codec.HeaderSize)})
	for {
		n, err := conn.Read(split.Room(readBytes))
		split.Filled(n)
		now := monotonic()
		for p, ok := split.Next(); ok; p, ok = split.Next() {
			if p.Message != nil && !codec.IsGreeting(p.Message) && w.both() {
				w.c.saw(s, p.Message, now)
			}
		}
		if err != nil {
			return
		}
	}
}
