package shm

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/testproc"
)

var watch = testproc.Watch

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const small = layout.MinRing // the smallest ring: many wraps

// mix spreads the bits of a counter.
func mix(x uint64) uint64 {
	x ^= x >> 31
	x *= 0x9e3779b97f4a7c15
	x ^= x >> 29
	x *= 0xbf58476d1ce4e5b9
	return x ^ x>>32
}

// sizeAt is the length of frame seq: mostly small, now and then anything up to max.
func sizeAt(seq, max uint64) uint64 {
	x := mix(seq)
	if x&255 == 0 {
		return x >> 8 % (max + 1)
	}
	if x&255 < 8 {
		return max
	}
	return x >> 8 % 160
}

// stamp fills a payload so that verify knows every byte of it:
// {source, seq, len, sum} and words that follow from seq; shorter ones get bytes.
func stamp(b []byte, source, seq uint64) {
	if len(b) < 32 {
		for i := range b {
			b[i] = byte(mix(seq) + uint64(i))
		}
		return
	}
	le := binary.LittleEndian
	le.PutUint64(b, source)
	le.PutUint64(b[8:], seq)
	le.PutUint64(b[16:], uint64(len(b)))
	w := mix(seq)
	sum := source ^ seq ^ uint64(len(b))
	i := 32
	for ; i+8 <= len(b); i += 8 {
		w += 0x9e3779b97f4a7c15
		le.PutUint64(b[i:], w)
		sum ^= w
	}
	for ; i < len(b); i++ {
		b[i] = byte(seq)
	}
	le.PutUint64(b[24:], sum)
}

// verify reports the first byte that is not as stamp wrote it.
func verify(f Frame, source uint64) error {
	b := f.Payload
	if len(b) < 32 {
		for i := range b {
			if b[i] != byte(mix(f.Seq)+uint64(i)) {
				return fmt.Errorf("seq %d: byte %d of %d is wrong", f.Seq, i, len(b))
			}
		}
		return nil
	}
	le := binary.LittleEndian
	if s, q, n := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]); s != source || q != f.Seq || n != uint64(len(b)) {
		return fmt.Errorf("source %x seq %d len %d in frame of source %x seq %d len %d", s, q, n, source, f.Seq, len(b))
	}
	w := mix(f.Seq)
	sum := source ^ f.Seq ^ uint64(len(b))
	i := 32
	for ; i+8 <= len(b); i += 8 {
		w += 0x9e3779b97f4a7c15
		if le.Uint64(b[i:]) != w {
			return fmt.Errorf("seq %d: word at %d of %d is wrong", f.Seq, i, len(b))
		}
		sum ^= w
	}
	for ; i < len(b); i++ {
		if b[i] != byte(f.Seq) {
			return fmt.Errorf("seq %d: byte %d of %d is wrong", f.Seq, i, len(b))
		}
	}
	if le.Uint64(b[24:]) != sum {
		return fmt.Errorf("seq %d: checksum is wrong", f.Seq)
	}
	return nil
}

// source is what stamp is told for a publisher.
func (p *Publisher) stampID() uint64 { return p.hdr.SourceID.Low() }

// send publishes n stamped frames, by Publish or by Claim.
func send(p *Publisher, n int) error {
	buf := make([]byte, p.MaxMessageBytes())
	id := p.stampID()
	return p.Protect(func() error {
		for i := range n {
			b := buf[:sizeAt(p.Seq(), uint64(len(buf)))]
			if i%8 != 7 {
				stamp(b, id, p.Seq())
				if _, err := p.Publish(1, b); err != nil {
					return err
				}
				continue
			}
			for {
				c, err := p.Claim(1, len(b))
				if err == nil {
					stamp(c.Bytes(), id, p.Seq())
					c.Commit()
					break
				}
				if _, ok := err.(*BackpressureError); !ok && err != ErrBackpressure {
					return err
				}
				runtime.Gosched()
			}
		}
		return nil
	})
}

// tally checks every frame of any number of sources: bytes, order, and that what
// is missing was announced.
type tally struct {
	next     map[SourceID]uint64
	received map[SourceID]uint64
	missed   map[SourceID]uint64
	err      error
}

func newTally() *tally {
	return &tally{next: map[SourceID]uint64{}, received: map[SourceID]uint64{}, missed: map[SourceID]uint64{}}
}

func (c *tally) frame(f Frame) {
	if want, ok := c.next[f.Source]; ok && f.Seq != want && c.err == nil {
		c.err = fmt.Errorf("sequence %d of %x where %d is due", f.Seq, f.Source, want)
	}
	if err := verify(f, uint64(f.Source)); err != nil && c.err == nil {
		c.err = err
	}
	c.next[f.Source] = f.Seq + 1
	c.received[f.Source]++
}

// gap takes a gap report; it fails one that does not join what came before.
func (c *tally) gap(e *GapError) {
	if want, ok := c.next[e.Source]; ok && e.From != want && c.err == nil {
		c.err = fmt.Errorf("%v of %x where %d is due", e, e.Source, want)
	}
	if e.Missed() == 0 && c.err == nil {
		c.err = fmt.Errorf("%v misses nothing", e)
	}
	c.next[e.Source] = e.Next
	c.missed[e.Source] += e.Missed()
}

func (c *tally) total() (received, missed uint64) {
	for _, n := range c.received {
		received += n
	}
	for _, n := range c.missed {
		missed += n
	}
	return received, missed
}

// heapBus is lanes on heap memory and subscribers that read all of them.
func heapBus(t testing.TB, lanes, subs int, g layout.Geometry, policy Policy) (pubs []*Publisher, out []*Subscriber) {
	t.Helper()
	for i := range lanes {
		mem, h := heapLane(t, g)
		h.Lane = uint32(i)
		h.Encode(mem)
		p, err := newPublisher(mem, h, PublisherOptions{}, policy)
		must(t, err)
		pubs = append(pubs, p)
	}
	for range subs {
		cur := make([]byte, layout.CursorFileBytes(64))
		s, err := newSubscriber(cur, layout.CursorHeader{Epoch: newID(), Slots: 64}, SubscriberOptions{Mode: Lossless})
		must(t, err)
		for _, p := range pubs {
			r, err := newReader(p.mem, p.hdr)
			must(t, err)
			r.bindSlot(cur)
			m, err := p.join(&peer{epoch: s.hdr.Epoch, mem: cur}, true, false)
			must(t, err)
			r.neverEvicts = policy.Kind != PolicyEvict
			r.hold(&control.Joined{Pos: m.join, Ticket: m.ticket, Notice: m.notice})
			r.startLatest()
			s.post(admission{lane: r})
		}
		out = append(out, s)
	}
	return pubs, out
}

// openBus is a bus in this process with one client, all closed at the test's end.
func openBus(t testing.TB, o LocalOptions) (*LocalDirectory, *Client) {
	t.Helper()
	d, err := OpenLocal("", &o)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d, dial(t, d)
}

func dial(t testing.TB, d *LocalDirectory) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := d.Client(ctx)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func publisher(t testing.TB, c *Client, topic string, o PublisherOptions) *Publisher {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	p, err := c.Publisher(ctx, topic, &o)
	must(t, err)
	return p
}

func subscriber(t testing.TB, c *Client, pattern string, o SubscriberOptions) *Subscriber {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := c.Subscriber(ctx, pattern, &o)
	must(t, err)
	return s
}

// publishSized publishes n frames with payloads of so many bytes, and makes them all known.
func publishSized(t testing.TB, p *Publisher, n uint64, size int) {
	t.Helper()
	for range n {
		_, err := p.Publish(1, make([]byte, size))
		must(t, err)
	}
	p.Flush()
}

// polls are the ways to poll, each for a handler that takes a frame.
var polls = map[string]func(s *Subscriber, h func(Frame), limit int) (int, error){
	"Poll":      (*Subscriber).Poll,
	"PollBatch": pollBatch,
}

func pollBatch(s *Subscriber, h func(Frame), limit int) (int, error) {
	return s.PollBatch(func(fs []Frame) {
		for _, f := range fs {
			h(f)
		}
	}, limit)
}

// pollUntil polls until done says so, handing errors to the test.
func pollUntil(t testing.TB, s *Subscriber, h func(Frame), done func() bool) {
	t.Helper()
	for idle := s.Idler(); !done(); {
		n, err := s.Poll(h, 0)
		must(t, err)
		idle.Idle(n)
	}
}

// readOut polls until there is nothing left to read: one Poll may stop early.
func readOut(t testing.TB, s *Subscriber, h func(Frame)) {
	t.Helper()
	for quiet := 0; quiet < 3; quiet++ {
		n, err := s.Poll(h, 0)
		must(t, err)
		if n > 0 {
			quiet = 0
		}
	}
}

func bg() context.Context { return context.Background() }
