package shm

import (
	"context"
	"iter"
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

// Frames is Run as an iterator. Payloads are valid until the next step; errors
// come in their place in the stream and do not end it, except the subscriber's end
// and that of ctx.
func (s *Subscriber) Frames(ctx context.Context) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		idle := s.Idler()
		stop := context.AfterFunc(ctx, s.park.kick)
		defer stop()
		more := true
		for more {
			if err := ctx.Err(); err != nil {
				yield(Frame{}, err)
				return
			}
			// The loop's body runs outside Poll, so that it may Close.
			var f Frame
			n, err := s.Poll(func(g Frame) { f = g }, 1)
			if n > 0 {
				more = yield(f, nil)
			}
			if err != nil {
				if !more || !yield(Frame{}, err) || s.closed.Load() || s.dead != nil {
					return
				}
				continue
			}
			idle.Idle(n * defaultMax) // one at a time is this loop's limit, and no sign of a chase
		}
	}
}
