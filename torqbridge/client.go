package torqbridge

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/codec"
)

// client is one connection to the bridge's socket. Producers and consumers are the
// same: whatever arrives goes to everybody, whatever there is goes to it.
//
//	             read: EOF             write: error, or told to end
//	open ------------------> half <---------------------------------- open
//	                           |
//	                           | the other of the two, or the peer has gone
//	                           v
//	                         closed
type client struct {
	d    *domain
	id   uint32
	conn *socket
	tap  *tap
	pid  int
	ours bool // the comparison's

	messages atomic.Uint64 // read from it, greetings not counted
	halves   atomic.Int32  // of reading and writing, those that have ended
	drained  chan struct{} // reading has ended
	flushed  chan struct{} // writing has ended
}

// readBytes is how much one read takes at most.
const readBytes = 256 << 10

// enoughMessages are as many as make a read worth while: nothing is gained by waiting for
// more.
const enoughMessages = 256

// ourQueue is the queue of the comparison, which is to see all there is.
const ourQueue = 1 << 30

// halfClosedLook is how often it is looked after a peer that writes no more, when
// there is nothing to send to it.
const halfClosedLook = time.Second

// admit takes a new connection in, of a peer or of the comparison.
func (d *domain) admit(of *net.UnixConn, ours bool) {
	conn, err := newSocket(of, d.b.busy)
	if err != nil {
		_ = of.Close()
		return
	}
	c := &client{d: d, id: d.nextID.Add(1), conn: conn, pid: peer(conn), ours: ours, drained: make(chan struct{}), flushed: make(chan struct{})}
	var skip func(uint64, uint32) bool
	from := uint64(noIndex)
	if m := d.missed(c); m != nil {
		from, skip = m.from, m.seen
		d.stats.replays.Add(1)
	}
	if d.cfg.NoEcho {
		inner := skip
		skip = func(index uint64, origin uint32) bool {
			return origin == c.id || inner != nil && inner(index, origin)
		}
	}
	queue := d.cfg.Queue
	if c.ours {
		queue = ourQueue
	}
	c.tap = d.hub.tap(queue, from, skip)
	d.mu.Lock()
	ended := d.serving == nil
	if !ended {
		d.clients[c] = struct{}{}
	}
	d.mu.Unlock()
	if ended {
		c.tap.close()
		_ = conn.Close()
		return
	}
	if !c.ours {
		d.stats.accepted.Add(1)
	}
	d.wg.Add(2)
	go c.read()
	go c.write(newWriter(conn, int(d.cfg.Join)))
}

// read takes what the peer sends, to its end.
func (c *client) read() {
	defer c.d.wg.Done()
	defer c.half()
	d := c.d
	s := codec.NewSplitter(codec.SplitterOptions{MaxPayload: uint32(d.maxMessage - codec.HeaderSize)})
	var msgs [][]byte
	d.settle()
	for {
		n, err := c.conn.read(s.Room(readBytes))
		s.Filled(n)
		msgs = d.cut(s, msgs[:0])
		if len(msgs) > 0 {
			c.messages.Add(d.ingest(c.id, msgs))
		}
		c.conn.found(len(msgs))
		if err != nil {
			if n := s.Pending(); n > 0 {
				d.stats.truncated.Add(1)
				d.log.Warn("torqbridge: a client left in the middle of a message", "domain", d.cfg.Name, "pid", c.pid, "bytes", n)
			}
			break
		}
	}
	c.conn.rest()
	close(c.drained)
	for c.halves.Load() == 0 { // it may only have shut down its writing end
		if gone(c.conn) {
			c.tap.close()
			return
		}
		select {
		case <-time.After(halfClosedLook):
		case <-c.flushed:
		}
	}
}

// settleTime is for what a producer that has just moved had sent to the old relay:
// that comes through the mirror, and what it sends now must not overtake it.
const settleTime = 100 * time.Millisecond

// settle waits before the first read of a new client, if there is a relay from which
// it may have come.
func (d *domain) settle() {
	d.mu.Lock()
	s := d.serving
	d.mu.Unlock()
	if s == nil || !s.mirror.connected() {
		return
	}
	select {
	case <-s.ctx.Done():
	case <-time.After(settleTime):
	}
}

// cut takes the whole messages out of a splitter.
func (d *domain) cut(s *codec.Splitter, msgs [][]byte) [][]byte {
	for p, ok := s.Next(); ok; p, ok = s.Next() {
		if p.Message == nil {
			d.stats.skippedBytes.Add(uint64(p.Skipped))
			d.stats.resyncs.Add(1)
			continue
		}
		msgs = append(msgs, p.Message)
	}
	return msgs
}

// write sends what the tap gives, to its end.
func (c *client) write(w *writer) {
	defer c.d.wg.Done()
	defer c.half()
	defer func() {
		close(c.flushed)
		_, dropped := c.tap.at()
		c.d.stats.droppedBefore.Add(dropped)
		c.tap.close()
	}()
	var b batch
	for c.tap.take(&b) {
		if err := w.send(&b); err != nil {
			return
		}
		if !c.ours {
			c.d.stats.out.Add(uint64(len(b.ends)))
		}
	}
}

// half notes that reading or writing has ended; the second of them closes.
func (c *client) half() {
	if c.halves.Add(1) < 2 {
		return
	}
	_ = c.conn.Close()
	c.d.mu.Lock()
	delete(c.d.clients, c)
	c.d.mu.Unlock()
}

// cutOff ends a client at once.
func (c *client) cutOff() {
	c.conn.cutOff()
	c.tap.close()
}
