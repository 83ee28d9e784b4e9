package shm

import "context"

// Run polls until ctx ends or h panics, waiting as idle says, nil for the
// strategy in the options. Gaps and evictions go to SubscriberOptions.OnError
// and do not end it; without OnError they do, as does always the subscriber's end.
func (s *Subscriber) Run(ctx context.Context, idle Idler, h func(Frame)) error {
	if idle == nil {
		idle = s.Idler()
	}
	stop := context.AfterFunc(ctx, s.park.kick)
	defer stop()
	done := ctx.Done()
	for {
		n, err := s.Poll(h, 0)
		if err != nil {
			if s.closed.Load() || s.dead != nil || s.opts.OnError == nil {
				return err
			}
			s.opts.OnError(err)
			continue
		}
		select {
		case <-done:
			return ctx.Err()
		default:
		}
		idle.Idle(n)
	}
}
