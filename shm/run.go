package shm

import (
	"context"
	"runtime/debug"
)

// Run polls until ctx ends or h panics, waiting as idle says, nil for the
// strategy in the options. Gaps and evictions go to SubscriberOptions.OnError
// and do not end it; without OnError they do, as does always the subscriber's end.
func (s *Subscriber) Run(ctx context.Context, idle Idler, h func(Frame)) error {
	if idle == nil {
		idle = s.Idler()
	}
	stop := context.AfterFunc(ctx, s.park.kick)
	defer stop()
	for {
		err := s.run(ctx, idle, h)
		if err == nil {
			return ctx.Err()
		}
		if s.closed.Load() || s.dead != nil || s.opts.OnError == nil {
			return err
		}
		s.opts.OnError(err)
	}
}

// run is Run up to an error, or nil at the end of ctx. The recovery from a memory fault is set up once, but idle runs
// as if outside of it, so that it may do what it could between polls.
func (s *Subscriber) run(ctx context.Context, idle Idler, h func(Frame)) (err error) {
	outer := s.protected
	if !outer {
		defer s.guard(debug.SetPanicOnFault(true), &err)
	}
	for done := ctx.Done(); ; {
		if !outer {
			s.shield()
		}
		n, err := s.Poll(h, 0)
		if !outer {
			s.unshield()
		}
		if err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		default:
		}
		idle.Idle(n)
	}
}
