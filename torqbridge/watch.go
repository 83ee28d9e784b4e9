package torqbridge

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// lookEvery is how often it is looked whether the public name leads elsewhere.
const lookEvery = 500 * time.Millisecond

// maxWindows is how many verdicts are kept.
const maxWindows = 12

// watch compares, measures and judges, window by window.
func (d *domain) watch(s *serving) {
	defer d.wg.Done()
	w := s.compare
	var compare sync.WaitGroup
	defer compare.Wait()
	compare.Go(func() { w.run(s.ctx, sideOld) })
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	w.c.begin(time.Now())
	begin, seen := time.Now(), d.throughput()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-look.C:
		}
		d.lookForRelay(s)
		took := time.Since(begin)
		if took < d.b.cfg.Window {
			continue
		}
		v := w.c.close(monotonic(), time.Now())
		now := d.throughput()
		rate := float64(now-seen) / took.Seconds()
		begin, seen = time.Now(), now
		if reason := d.note(s, v, rate); reason != "" {
			d.log.Error("torqbridge: going back to the old relay", "domain", d.cfg.Name, "reason", reason)
			go d.b.automatic(d, reason)
		}
	}
}

// throughput is how many messages have gone through.
func (d *domain) throughput() uint64 {
	return d.stats.in.Load() + d.stats.fromBus.Load() + d.stats.fromRelay.Load()
}

// note keeps a verdict, and returns why the domain should go back, "" = it should not.
func (d *domain) note(s *serving, v Window, rate float64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.windows = append(d.windows, v); len(d.windows) > maxWindows {
		d.windows = d.windows[1:]
	}
	lost := d.stats.lost.Load()
	if d.mode != ModeBus || d.phase != "" {
		s.judge.shadow(rate, lost)
		return ""
	}
	reason := s.judge.bus(rate, lost, v)
	if d.b.cfg.NoAutoRollback {
		return ""
	}
	return reason
}

// verdict is that of the last window in which something was compared.
func (d *domain) verdict() string {
	for i := len(d.windows) - 1; i >= 0; i-- {
		if v := d.windows[i].Verdict; v != VerdictIdle {
			return v
		}
	}
	return ""
}

// lookForRelay finds out whether a relay has been started over the bridge's socket,
// which it takes without asking: then that is who serves, and the mirror goes there.
func (d *domain) lookForRelay(s *serving) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving != s || d.mode != ModeBus || d.phase != "" || d.names.own(d.names.socket) {
		return // halt has closed the listener, and would wait for another one for ever
	}
	h, err := d.names.holder(d.names.socket)
	switch {
	case err != nil:
	case h == holderOther:
		s.mirror.hurry()
		if d.reason != relayCame {
			d.reason = relayCame
			d.log.Warn("torqbridge: a relay was started on the public socket and has taken it; roll back to hand it the clients too", "domain", d.cfg.Name)
		}
	default: // somebody removed the name
		if err := d.retake(); err != nil {
			d.log.Error("torqbridge: the public socket's name is gone and cannot be put back", "domain", d.cfg.Name, "error", err)
		}
	}
}

// retake puts the bridge's socket at the public name anew.
//
// Preconditions: d.mu is held.
func (d *domain) retake() error {
	if err := d.relisten(); err != nil {
		return err
	}
	return d.names.take()
}

const relayCame = "a relay was started on the public socket"

// await polls until ok, or until ctx ends.
func await(ctx context.Context, what string, ok func() bool) error {
	for pause := 100 * time.Microsecond; !ok(); pause = min(2*pause, 5*time.Millisecond) {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		time.Sleep(pause)
	}
	return nil
}
