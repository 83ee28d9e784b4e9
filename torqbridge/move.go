package torqbridge

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of a rollback's parts; together with hold they stay below 10 s.
const (
	settleLimit = 700 * time.Millisecond // until the relay has what was under way, three times
	drainLimit  = time.Second            // until nothing is left of the producers
	startLimit  = 10 * time.Second
)

// Move is what a move did.
type Move struct {
	Domain   string
	From, To Mode
	Took     time.Duration
	Clients  int    // handed back
	Forced   int    // of them, those that were cut off with messages on the way
	Note     string // what could not be waited for, "" = nothing
}

var errStopping = errors.New("the bridge is stopping")

// move brings the domain into a mode. A dry run only says whether it could.
func (d *domain) move(ctx context.Context, to Mode, force, dry bool, reason string) (Move, error) {
	d.moving.Lock()
	defer d.moving.Unlock()
	if d.over { // it has waited for the end
		return Move{}, fmt.Errorf("%s: %w", d.cfg.Name, errStopping)
	}
	begin := time.Now()
	d.mu.Lock()
	from, f := d.mode, facts{force: force, verdict: d.verdict()}
	if d.serving != nil {
		f.relayUp = d.serving.mirror.connected()
	}
	d.mu.Unlock()
	m := Move{Domain: d.cfg.Name, From: from, To: to}
	steps, err := plan(from, to, f)
	if err != nil {
		return m, fmt.Errorf("%s: %w", d.cfg.Name, err)
	}
	if dry || len(steps) == 0 {
		return m, nil
	}
	for _, s := range steps {
		var next Mode
		switch s {
		case stepStart:
			next = ModeShadow
			err = d.during("starting", func() error {
				ctx, cancel := context.WithTimeout(ctx, startLimit)
				defer cancel()
				return d.start(ctx)
			})
		case stepTake:
			next = ModeBus
			err = d.during("cutting over", d.take)
		case stepHandBack:
			next = ModeShadow
			err = d.during("rolling back", func() error { return d.handBack(&m) })
		case stepStop:
			next = ModeLegacy
			err = d.during("stopping", func() error { d.halt(); return nil })
		}
		if err != nil {
			return m, fmt.Errorf("%s: %w", d.cfg.Name, err)
		}
		d.mu.Lock()
		d.mode, d.since, d.reason = next, time.Now(), reason
		d.mu.Unlock()
		d.b.save()
	}
	m.Took = time.Since(begin)
	d.log.Info("torqbridge: moved", "domain", d.cfg.Name, "from", from, "to", to, "took", m.Took, "clients", m.Clients, "note", m.Note)
	return m, nil
}

func (d *domain) during(phase string, f func() error) error {
	set := func(s string) {
		d.mu.Lock()
		d.phase = s
		d.mu.Unlock()
	}
	set(phase)
	defer set("")
	return f()
}

// take puts the bridge's socket in the relay's place.
func (d *domain) take() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names.take()
}

// handBack gives the public socket back to the old relay, and every client, so that
// each message is delivered once:
//
//	mirror and consumers wait at message H       what comes from here on stays in the hub
//	relay has everything before H and has echoed it
//	public name -> relay
//	consumers get what is before H, then the end: they connect again, to the relay
//	wait until as many have                      at most hold
//	no public name; producers are not read from any more: their next write fails and
//	comes again on the next connection; what they wrote before is read to the end
//	mirror goes on: H and what follows reaches the relay, and so its consumers
//	public name -> relay: producers connect
//
// Without a relay there is only the end.
func (d *domain) handBack(m *Move) error {
	d.mu.Lock()
	s := d.serving
	d.mu.Unlock()
	s.compare.pause()
	defer s.compare.resume()
	relay := s.mirror.current()
	limit := func(t time.Duration, what string, ok func() bool) {
		ctx, cancel := context.WithTimeout(context.Background(), t)
		defer cancel()
		if err := await(ctx, what, ok); err != nil && m.Note == "" {
			m.Note = what + " took too long"
		}
	}

	withdrawn := false
	consumers, _ := d.split()
	if relay != nil {
		taps := []*tap{relay}
		for _, c := range consumers {
			taps = append(taps, c.tap)
		}
		h := d.hub.freeze(taps)
		limit(settleLimit, "the relay's echo", func() bool { return s.mirror.settled(h) })
		if err := d.give(); err != nil {
			d.release(taps)
			return err
		}
		before, counted := connections(d.cfg.Socket)
		for _, c := range consumers {
			c.conn.stopReading() // it may be a producer that has not sent yet
			c.tap.finishAt(h)
		}
		limit(settleLimit, "the end of a consumer", func() bool { return flushed(consumers) && drained(consumers) })
		for _, c := range consumers {
			c.cutOff()
		}
		if len(consumers) > 0 && counted {
			limit(d.b.cfg.Hold, "the consumers' way to the relay", func() bool {
				return arrived(d.cfg.Socket, before) >= len(consumers)
			})
		} else if len(consumers) > 0 {
			time.Sleep(d.b.cfg.Hold)
		}
		d.mu.Lock()
		err := d.names.withdraw()
		d.mu.Unlock()
		if withdrawn = err == nil; !withdrawn {
			d.log.Warn("torqbridge: producers may overtake themselves", "domain", d.cfg.Name, "error", err)
		}
		relay.holdAt(noIndex)
	} else {
		d.mu.Lock()
		d.names.close()
		d.mu.Unlock()
		consumers = nil
	}

	late, producers := d.split() // whoever has come since is drained as well
	producers = append(producers, late...)
	for _, c := range producers {
		c.conn.stopReading()
	}
	limit(drainLimit/2, "the bus", func() bool { return drained(producers) })
	d.hurry.Store(true) // a subscriber that is stuck must not keep the old world waiting
	limit(drainLimit/2, "the last messages of the producers", func() bool { return drained(producers) })
	if relay != nil {
		end := d.hub.position()
		limit(settleLimit, "the relay's echo", func() bool { return s.mirror.settled(end) })
	}
	for _, c := range producers {
		if !drained([]*client{c}) {
			m.Forced++
		}
		c.cutOff()
	}
	d.hurry.Store(false)
	m.Clients += len(consumers) + len(producers)

	d.mu.Lock()
	defer d.mu.Unlock()
	if withdrawn {
		if err := d.names.give(); err != nil {
			return err
		}
	}
	return d.relisten()
}

// release lets taps go on.
func (d *domain) release(taps []*tap) {
	for _, t := range taps {
		t.holdAt(noIndex)
	}
}

// give puts the relay's socket at the public name, unless a relay has taken it.
func (d *domain) give() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.names.own(d.names.socket) {
		return nil
	}
	return d.names.give()
}

// relisten opens the bridge's socket at the bus name.
//
// Preconditions: d.mu is held.
func (d *domain) relisten() error {
	if d.names.l != nil {
		_ = d.names.l.Close()
		d.names.l = nil
	}
	if err := d.names.listen(); err != nil {
		return err
	}
	d.wg.Add(1)
	go d.accept(d.names.l)
	return nil
}

// split returns the clients that have never sent anything, and the others.
func (d *domain) split() (consumers, producers []*client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.clients {
		switch {
		case c.ours:
		case c.messages.Load() == 0:
			consumers = append(consumers, c)
		default:
			producers = append(producers, c)
		}
	}
	return consumers, producers
}

func drained(all []*client) bool {
	return ended(all, func(c *client) chan struct{} { return c.drained })
}
func flushed(all []*client) bool {
	return ended(all, func(c *client) chan struct{} { return c.flushed })
}

func ended(all []*client, what func(*client) chan struct{}) bool {
	for _, c := range all {
		select {
		case <-what(c):
		default:
			return false
		}
	}
	return true
}
