package torqbridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
)

// lane is a topic that the domain publishes on.
type lane struct {
	p     *shm.Publisher // nil = the topic cannot be opened, the unmapped one stands in
	topic string
	retry time.Time // when to try again to open it
}

// openBus attaches the domain to the bus.
func (d *domain) openBus(ctx context.Context, s *serving) error {
	p, err := d.open(ctx, d.b.cfg.Unmapped, uint32(d.maxMessage))
	if err != nil {
		return err
	}
	d.unmapped = &lane{p: p, topic: d.b.cfg.Unmapped}
	d.byTopic[d.b.cfg.Unmapped] = d.unmapped
	follow := func(pattern string, shared bool) error {
		sub, err := d.b.client.Subscriber(ctx, pattern, &shm.SubscriberOptions{Name: d.source(), Mode: shm.Lossless, Idle: shm.IdlePark, OnError: d.gapOnBus})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", pattern, err)
		}
		d.wg.Add(1)
		go d.follow(s, sub, shared)
		return nil
	}
	for _, pattern := range d.cfg.Subscribe {
		if err := follow(pattern, false); err != nil {
			return err
		}
	}
	// System messages have no relay: those for this one say so in their headers.
	for _, own := range d.cfg.Subscribe {
		if overlap(own, systemPattern) {
			return nil
		}
	}
	return follow(systemPattern, true)
}

// messagesPerRing is how many of the longest messages a ring must hold.
const messagesPerRing = 8

// open opens a topic, with room for messages of so many bytes if that is not 0.
func (d *domain) open(ctx context.Context, name string, maxMessage uint32) (*shm.Publisher, error) {
	o := &shm.PublisherOptions{Source: d.source(), MaxMessageBytes: maxMessage}
	if maxMessage > 0 {
		o.RingBytes = 64 << 10
		for o.RingBytes < messagesPerRing*uint64(maxMessage) {
			o.RingBytes *= 2
		}
	}
	p, err := d.b.client.Publisher(ctx, name, o)
	if errors.Is(err, shm.ErrSourceBusy) {
		return nil, fmt.Errorf("topic %s: %w: does another bridge run on this bus?", name, err)
	}
	return p, err
}

// closeBus gives up the publishers.
func (d *domain) closeBus() {
	d.in.Lock()
	defer d.in.Unlock()
	for _, l := range d.byTopic {
		_ = l.p.Close()
	}
	d.byTopic, d.lanes, d.unmapped, d.to = nil, nil, nil, nil
	clear(d.recent[:])
}

// follow hands to the hub what others publish, until the domain stops.
func (d *domain) follow(s *serving, sub *shm.Subscriber, shared bool) {
	defer d.wg.Done()
	defer sub.Close()
	one := make([][]byte, 1)
	idle := &followIdler{park: sub.Idler()}
	for s.ctx.Err() == nil {
		err := sub.Run(s.ctx, idle, func(f shm.Frame) {
			if slices.Contains(d.b.own, f.Source) {
				return
			}
			idle.foreign = true
			m, err := codec.Parse(f.Payload, codec.ChecksumIgnore)
			if err != nil || len(f.Payload) > d.maxMessage {
				d.stats.notMessages.Add(1)
				return
			}
			if shared {
				if v, _ := d.mapping.dialect.Domain(m.Header().Domain); v != d.info.number {
					return // another relay's, or the one's that Torq never had
				}
			}
			d.stats.fromBus.Add(1)
			one[0] = f.Payload
			d.hub.put(originBus, one)
		})
		if errors.Is(err, shm.ErrClosed) || errors.Is(err, shm.ErrFault) {
			d.log.Error("torqbridge: a subscription has ended", "domain", d.cfg.Name, "error", err)
			d.stats.lost.Add(1)
			return
		}
	}
}

// followIdler parks like the subscriber's own strategy, but does not spin before that
// if all it saw were the bridge's own frames: on a small machine the spinning would keep
// the core from whoever these frames are for.
type followIdler struct {
	park    shm.Idler
	foreign bool // a frame of somebody else came in this poll
	spin    bool // or in the last poll that found something
	waited  bool
}

func (i *followIdler) Idle(work int) {
	i.park.Idle(work)
	switch {
	case work > 0:
		i.spin, i.foreign, i.waited = i.foreign, false, false
	case !i.spin && !i.waited:
		i.waited = true
		nap() // the time for which the strategy spins passes meanwhile
	}
}

// gapOnBus counts what the bus lost for the domain.
func (d *domain) gapOnBus(err error) {
	var gap *shm.GapError
	if errors.As(err, &gap) {
		d.stats.lost.Add(gap.Missed())
	}
	d.log.Error("torqbridge: loss on the bus", "domain", d.cfg.Name, "error", err)
}

// collect finds the lane of a message. Messages in a row for one lane are published
// together; what is collected for another goes first.
func (d *domain) collect(m []byte) {
	key, tag := d.mapping.key(d.info, m)
	l := d.lane(key)
	if l.p == nil || key == (subjectKey{}) {
		d.stats.unmappable.Add(1)
		l = d.unmapped
	} else if len(m) > l.p.MaxMessageBytes() {
		d.stats.oversize.Add(1)
		l = d.unmapped
	}
	if l != d.to {
		d.publish()
		d.to = l
	}
	d.run = append(d.run, shm.Message{Type: tag, Payload: m})
}

// publish puts what is collected on the bus: it waits for room as long as it takes,
// unless a rollback is under way.
func (d *domain) publish() {
	if len(d.run) == 0 {
		return
	}
	if rest, err := d.to.publish(d.run); err != nil {
		d.publishAgain(d.to, rest, err)
	}
	d.run = d.run[:0]
}

// publish publishes messages. On an error it returns those that are not.
func (l *lane) publish(msgs []shm.Message) (rest []shm.Message, err error) {
	if len(msgs) == 1 {
		_, err = l.p.Publish(msgs[0].Type, msgs[0].Payload)
		return msgs, err
	}
	if _, err = l.p.PublishBatch(msgs); err != nil {
		if part, ok := errors.AsType[*shm.BatchError](err); ok {
			return msgs[part.Published:], part.Err
		}
	}
	return msgs, err
}

// recentLanes is a power of two.
const recentLanes = 64

// lane is where messages of a key go.
func (d *domain) lane(key subjectKey) *lane {
	r := &d.recent[key.hash()%recentLanes]
	if r.key == key && r.lane != nil && r.lane.p != nil {
		return r.lane
	}
	l := d.lanes[key]
	if l == nil || l.p == nil && time.Now().After(l.retry) {
		d.publish() // opening takes a while
		l = d.openLane(key)
		d.lanes[key] = l
	}
	r.key, r.lane = key, l
	return l
}

const (
	openTimeout = 2 * time.Second
	openRetry   = 5 * time.Second
)

// openLane opens the topic of a key; what has none, or cannot be opened now, goes to
// the unmapped topic.
func (d *domain) openLane(key subjectKey) *lane {
	if key == (subjectKey{}) {
		return d.unmapped
	}
	name := d.mapping.name(key)
	if name == "" { // a map made none of it
		return &lane{retry: time.Now().Add(24 * time.Hour)}
	}
	if l := d.byTopic[name]; l != nil {
		return l
	}
	ctx, cancel := context.WithTimeout(d.b.ctx, openTimeout)
	defer cancel()
	p, err := d.open(ctx, name, 0)
	if err != nil {
		d.log.Error("torqbridge: a topic cannot be opened: its messages go to "+d.unmapped.topic, "domain", d.cfg.Name, "topic", name, "error", err)
		return &lane{topic: name, retry: time.Now().Add(openRetry)}
	}
	l := &lane{p: p, topic: name}
	d.byTopic[name] = l
	d.stats.topics.Store(int64(len(d.byTopic)))
	return l
}

// publishAgain goes on after an error until the messages are published. Only a
// rollback, or a lane that cannot be opened anew, has them given up, and counted.
func (d *domain) publishAgain(l *lane, msgs []shm.Message, err error) {
	start := time.Now()
	note := func() {
		now := time.Now()
		d.stats.stalledNs.Add(uint64(now.Sub(start)))
		start = now
	}
	defer note()
	for tries := 0; err != nil; note() {
		switch {
		case d.hurry.Load() || d.b.ctx.Err() != nil:
			for many := len(msgs) > 1; many && len(msgs) > 0; msgs = msgs[1:] { // one may fit where many do not
				if _, err = l.publish(msgs[:1]); err != nil {
					break
				}
			}
			if len(msgs) > 0 {
				d.giveUp(l, len(msgs), err)
			}
			return
		case errors.Is(err, shm.ErrBackpressure):
			time.Sleep(time.Millisecond) // a topic that fails at once would spin
		default:
			if tries++; tries > maxTries {
				d.giveUp(l, len(msgs), err)
				return
			}
			ctx, cancel := context.WithTimeout(d.b.ctx, openTimeout)
			_ = l.p.Close()
			size := uint32(0)
			if l.topic == d.b.cfg.Unmapped {
				size = uint32(d.maxMessage)
			}
			if p, oerr := d.open(ctx, l.topic, size); oerr == nil {
				l.p = p
			} else {
				time.Sleep(firstDelay)
			}
			cancel()
		}
		msgs, err = l.publish(msgs)
	}
}

func (d *domain) giveUp(l *lane, n int, err error) {
	d.stats.lost.Add(uint64(n))
	d.log.Error("torqbridge: messages did not reach the bus", "domain", d.cfg.Name, "topic", l.topic, "messages", n, "error", err)
}

// sourceID is the id of a source's name on the bus.
func sourceID(name string) shm.SourceID { return shm.SourceID(topic.ID(name)) }
