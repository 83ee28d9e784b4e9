package bench

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/coinbase"
	"github.com/torq/mycelium/shm"
)

// tradeType tags the frames of trades, as myceliumctl replay does.
const tradeType = 1

// burst is how long a paced publisher sleeps when it is ahead.
const burst = 200 * time.Microsecond

// ReadFeed reads a recording, "" the sample.
func ReadFeed(name string) ([]coinbase.Match, error) {
	if name == "" {
		return sample(), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	feed, err := coinbase.Read(f, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return feed, nil
}

func prepareDemoPublish(w *worker, j *job, t *task) error {
	feed, err := ReadFeed(j.Data)
	if err != nil {
		return err
	}
	pubs := make([]*shm.Publisher, len(feed)) // of each match
	byProduct := map[string]*shm.Publisher{}
	for i, m := range feed {
		if byProduct[m.Product] == nil {
			topic := coinbase.Topic(coinbase.DefaultPrefix, m.Product)
			byProduct[m.Product], err = w.publisher(t, topic, shm.PublisherOptions{Source: j.Source, Timestamps: shm.TimestampsTSC})
			if err != nil {
				return err
			}
		}
		pubs[i] = byProduct[m.Product]
	}
	t.run = func() (result, error) {
		d := &demoPublisher{feed: feed, pubs: pubs, orders: w.orders, rate: float64(j.Rate)}
		res := result{StartNs: clock.Mono()}
		err := d.run(res.StartNs, j.RunNs)
		res.Messages, res.EndNs = d.published, clock.Mono()
		return res, err
	}
	return nil
}

// demoPublisher publishes a feed over and over, at a rate.
type demoPublisher struct {
	feed      []coinbase.Match
	pubs      []*shm.Publisher
	orders    <-chan order
	rate      float64
	published uint64
	buf       [coinbase.MessageBytes]byte
}

// run publishes for runNs, and then the rest of the loop that it is in as fast
// as it can; an order stops it at once.
func (d *demoPublisher) run(start, runNs int64) error {
	for {
		elapsed := clock.Mono() - start
		select {
		case <-d.orders:
			return nil
		default:
		}
		if elapsed >= runNs {
			for d.published%uint64(len(d.feed)) != 0 {
				if err := d.next(); err != nil {
					return err
				}
			}
			return nil
		}
		for due := uint64(d.rate * float64(elapsed) / 1e9); d.published < due; {
			if err := d.next(); err != nil {
				return err
			}
		}
		time.Sleep(burst)
	}
}

// next publishes one match; the messages of a publisher are numbered from 1 on.
func (d *demoPublisher) next() error {
	i := d.published % uint64(len(d.feed))
	d.feed[i].Put(d.buf[:], d.published+1)
	_, err := d.pubs[i].Publish(tradeType, d.buf[:])
	if err := publish(d.pubs[i], tradeType, d.buf[:], err); err != nil {
		return err
	}
	d.published++
	return nil
}

// checker follows what a subscriber of the demo sees: each message must be a
// trade of the topic's product, no message may come twice, and those of a lane
// must come in the order in which they were numbered.
type checker struct {
	sub     interface{ TopicName(shm.TopicID) string }
	lanes   map[demoKey]*demoLane
	sources map[shm.SourceID]*seen
	last    *demoLane // of the frame before
	latency *hdrhistogram.Histogram
	res     result
}

type demoKey struct {
	topic  shm.TopicID
	source shm.SourceID
}

type demoLane struct {
	key        demoKey
	next       uint64 // frame sequence
	number     uint64 // of the last message
	instrument codec.InstrumentID
	seen       *seen
}

// seen is a set of numbers.
type seen struct{ bits []uint64 }

// add reports whether n was new.
func (s *seen) add(n uint64) bool {
	i := n / 64
	if i >= maxNumber/64 {
		return false
	}
	if i >= uint64(len(s.bits)) {
		s.bits = slices.Grow(s.bits, int(i)+1-len(s.bits))[:i+1]
	}
	old := s.bits[i]
	s.bits[i] |= 1 << (n % 64)
	return s.bits[i] != old
}

// maxNumber bounds the set's memory: 2 GiB, reached after a day.
const maxNumber = 1 << 34

// longest latency that is told apart, ns.
const maxLatencyNs = int64(100 * time.Second)

func newChecker(sub interface{ TopicName(shm.TopicID) string }) *checker {
	return &checker{sub: sub, lanes: map[demoKey]*demoLane{}, sources: map[shm.SourceID]*seen{}, latency: hdrhistogram.New(1, maxLatencyNs, 3)}
}

func (c *checker) lane(k demoKey) *demoLane {
	if c.last != nil && c.last.key == k {
		return c.last
	}
	l := c.lanes[k]
	if l == nil {
		product := strings.TrimPrefix(c.sub.TopicName(k.topic), coinbase.DefaultPrefix+".")
		l = &demoLane{key: k, next: firstSeq, instrument: codec.CoinbaseInstrument(product), seen: c.sources[k.source]}
		if l.seen == nil {
			l.seen = &seen{}
			c.sources[k.source] = l.seen
		}
		c.lanes[k] = l
	}
	c.last = l
	return l
}

func (c *checker) frame(f shm.Frame) {
	_ = c.latency.RecordValue(min(max(clock.Mono()-f.Time, 1), maxLatencyNs))
	c.res.Messages++
	l := c.lane(demoKey{f.Topic, f.Source})
	skipped := f.Seq != l.next
	l.next = f.Seq + 1
	number, ok := l.parse(f)
	switch {
	case !ok:
		c.res.Corrupt++
	case !l.seen.add(number):
		c.res.Duplicated++
	case skipped || number <= l.number:
		c.res.OutOfOrder++
	}
	l.number = max(l.number, number)
}

// parse checks that f is one trade of the lane's product.
func (l *demoLane) parse(f shm.Frame) (number uint64, ok bool) {
	m, err := codec.Parse(f.Payload, codec.ChecksumVerifyIfNonzero)
	if err != nil || f.Type != tradeType {
		return 0, false
	}
	cur := m.Cursor(codec.ModeStrict)
	if !cur.Next() || cur.TLV.Type != codec.TypeTrade {
		return 0, false
	}
	var t codec.Trade
	if t.Parse(cur.TLV.Payload) != nil || t.Instrument != l.instrument || cur.Next() || cur.Err() != nil {
		return 0, false
	}
	return m.Header().Sequence, true
}

// gap takes the error of a poll: gaps are counted, all else is returned.
func (c *checker) gap(err error) error {
	var g *shm.GapError
	if !errors.As(err, &g) {
		return err
	}
	l := c.lane(demoKey{g.Topic, g.Source})
	if g.From != l.next {
		c.res.OutOfOrder++
	}
	l.next = g.Next
	c.res.Gaps++
	c.res.Missed += g.Missed()
	return nil
}

func (c *checker) result() result {
	r := c.res
	at := func(q float64) float64 { return float64(c.latency.ValueAtQuantile(q)) }
	if r.Messages > 0 {
		r.Latency = Latency{P50: at(50), P99: at(99), P999: at(99.9), Max: float64(c.latency.Max())}
	}
	return r
}

func prepareDemoSubscribe(w *worker, j *job, t *task) error {
	o := shm.SubscriberOptions{Name: j.Source, Mode: shm.Lossless}
	if j.Lossy {
		o.Mode = shm.Lossy
	}
	if err := o.Idle.UnmarshalText([]byte(j.Idle)); err != nil {
		return err
	}
	s, err := w.subscriber(t, j.Topic, o)
	if err != nil {
		return err
	}
	t.run = func() (result, error) {
		c := newChecker(s)
		idle := s.Idler()
		if j.Yield {
			idle = osYield{}
		}
		err := c.follow(s, idle, time.Duration(j.SlowNs), w.orders)
		res := c.result()
		res.Parks = s.Stats().Parks
		return res, err
	}
	return nil
}

const (
	stallNs  = int64(3 * time.Second)        // nothing new for so long: what is missing does not come any more
	lingerNs = int64(100 * time.Millisecond) // after the last message: what comes now is too much
)

// follow polls until it is told how many messages there were and has accounted
// for all of them. Until then a slow subscriber sleeps after each poll.
func (c *checker) follow(s *shm.Subscriber, idle shm.Idler, slow time.Duration, orders <-chan order) error {
	var (
		total    uint64
		told     bool
		progress = clock.Mono()
		handle   = c.frame
	)
	for {
		n, err := s.Poll(handle, 0)
		if err != nil {
			if err = c.gap(err); err != nil {
				return err
			}
			continue
		}
		select {
		case o := <-orders:
			if o.Finish != nil {
				total, told, progress = *o.Finish, true, clock.Mono()
			}
		default:
		}
		switch {
		case told:
			now := clock.Mono()
			if n > 0 {
				progress = now
			}
			if wait := now - progress; wait > stallNs || wait > lingerNs && c.res.Messages+c.res.Missed >= total {
				return nil
			}
			if n == 0 {
				time.Sleep(time.Millisecond)
			}
		case slow > 0:
			time.Sleep(slow)
		default:
			idle.Idle(n)
		}
	}
}
