package bench

import (
	"errors"
	"fmt"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

func prepareSlotsWrite(w *worker, j *job, t *task) error {
	r := newSlotRing(w.mem, j.Size)
	payload := make([]byte, j.Size)
	t.run = func() (result, error) {
		res := result{StartNs: clock.Mono()}
		idle := writerIdle(j.Yield)
		for q := newQuota(j); ; {
			n := q.next(r.written)
			if n == 0 {
				break
			}
			r.write(payload, n, idle)
		}
		r.finish()
		res.EndNs = clock.Mono()
		res.Messages = r.written
		return res, nil
	}
	return nil
}

// pauses is how a writer waits for room.
type pauses struct{}

func (pauses) Idle(int) { seqlock.Pause(1) }

func writerIdle(yield bool) shm.Idler {
	if yield {
		return osYield{}
	}
	return pauses{}
}

func prepareSlotsRead(w *worker, j *job, t *task) error {
	r := newSlotRing(w.mem, j.Size)
	t.run = func() (result, error) {
		var res result
		r.read(func(seq uint64, _ []byte) {
			if seq != res.Messages+1 {
				res.Wrong++
			}
			res.Messages++
		}, spinner(j.Yield))
		res.EndNs = clock.Mono()
		return res, nil
	}
	return nil
}

func preparePublish(w *worker, j *job, t *task) error {
	p, err := w.publisher(t, j.Topic, j.publishing(j.Source))
	if err != nil {
		return err
	}
	payload := make([]byte, j.Size)
	t.run = func() (res result, err error) {
		res.StartNs = clock.Mono()
		err = p.Protect(func() error {
			for q := newQuota(j); ; {
				n := q.next(res.Messages)
				if n == 0 {
					break
				}
				for range n {
					if _, err := p.Publish(frameType, payload); err != nil {
						if err := publish(p, frameType, payload, err); err != nil {
							return err
						}
					}
				}
				res.Messages += n
			}
			// One more, which says that there are no more.
			_, err := p.Publish(lastType, payload)
			return publish(p, lastType, payload, err)
		})
		res.EndNs = clock.Mono()
		return res, err
	}
	return nil
}

// publish goes on after err for as long as it takes: the topic's deadline is for
// programs that have something better to do.
func publish(p *shm.Publisher, typ uint16, payload []byte, err error) error {
	for errors.Is(err, shm.ErrBackpressure) {
		_, err = p.Publish(typ, payload)
	}
	return err
}

// counter follows the sequences of one topic's lanes: every frame must be the
// next of its lane, or the next after a reported gap.
type counter struct {
	lane  // that of the frame before, whose own place is lanes[at]
	at    uint
	lanes [maxPublishers]lane // those not heard of yet come last
	ended int                 // lanes that said that nothing follows
	res   result
}

type lane struct {
	source shm.SourceID // 0 until it is heard of
	next   uint64
}

func newCounter() *counter {
	c := &counter{}
	for i := range c.lanes {
		c.lanes[i].next = firstSeq
	}
	c.lane = c.lanes[0]
	return c
}

// turn puts the lane of the frame before away, and takes that of a source. A source too many gets
// somebody else's, and its sequences are wrong.
func (c *counter) turn(source shm.SourceID) {
	c.lanes[c.at%maxPublishers] = c.lane
	for c.at = 0; c.at < maxPublishers-1; c.at++ {
		if l := &c.lanes[c.at]; l.source == source || l.source == 0 {
			break
		}
	}
	c.lane = c.lanes[c.at%maxPublishers]
	c.source = source
}

// handler checks frames; how many they are, Poll says. It is a closure and not a method value: a
// Frame fills the registers that Go passes arguments in, and a receiver beside it would
// send every call over the stack. It calls nothing, so that it needs no stack of its own
// either: the bus is to be measured, and not this. (Where this is inlined, turn is not.)
//
//go:noinline
func (c *counter) handler() func(shm.Frame) {
	return func(f shm.Frame) {
		if f.Source == c.source && f.Seq == c.next && f.Type == frameType {
			c.next++
			return
		}
		if c.turn(f.Source); f.Seq != c.next {
			c.res.Wrong++
		}
		c.next = f.Seq + 1
		switch f.Type {
		case frameType:
		case lastType:
			c.ended++
		default:
			c.res.Wrong++
		}
	}
}

// batches is handler for PollBatch.
func (c *counter) batches() func([]shm.Frame) {
	one := c.handler()
	return func(fs []shm.Frame) {
		l := c.lane
		for i := range fs {
			if f := &fs[i]; f.Source == l.source && f.Seq == l.next && f.Type == frameType {
				l.next++
				continue
			}
			c.lane = l
			one(fs[i])
			l = c.lane
		}
		c.lane = l
	}
}

// gap takes the error of a poll: gaps are counted, all else is returned.
func (c *counter) gap(err error) error {
	var g *shm.GapError
	if !errors.As(err, &g) {
		return err
	}
	if c.turn(g.Source); g.From != c.next {
		c.res.Wrong++
	}
	c.next = g.Next
	c.res.Gaps++
	c.res.Missed += g.Missed()
	return nil
}

func prepareSubscribe(w *worker, j *job, t *task) error {
	o := shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdleSpin}
	if j.Lossy {
		o.Mode = shm.Lossy
	}
	s, err := w.subscriber(t, j.Topic, o)
	if err != nil {
		return err
	}
	t.run = func() (result, error) {
		c := newCounter()
		idle, one, batch := spinner(j.Yield), c.handler(), c.batches()
		poll := map[string]func() (int, error){
			ReadPoll:  func() (int, error) { return s.Poll(one, 0) },
			ReadBatch: func() (int, error) { return s.PollBatch(batch, 0) },
		}[j.Read]
		if poll == nil {
			return c.res, fmt.Errorf("read %q: want %s or %s", j.Read, ReadBatch, ReadPoll)
		}
		err := s.Protect(func() error {
			for c.ended < j.Sources {
				n, err := poll()
				c.res.Messages += uint64(n)
				if err != nil {
					if err = c.gap(err); err != nil {
						return err
					}
					continue
				}
				idle.Idle(n)
			}
			return nil
		})
		c.res.EndNs = clock.Mono()
		c.res.Messages -= uint64(c.ended)
		return c.res, err
	}
	return nil
}
