package torqbridge

import (
	"context"
	"time"
)

// backoff is how Torq's own clients come back to a relay: up to ten attempts, after
// the n-th a pause of 100 ms times 2 to the n-1, never more than 30 s. Only success
// starts it anew. The bridge, unlike them, goes on after the tenth, every 30 s.
type backoff struct{ failed int }

const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 30 * time.Second
	maxTries   = 10
)

// fail notes an attempt that failed and returns the pause before the next.
func (b *backoff) fail() time.Duration {
	b.failed++
	if b.failed >= maxTries {
		return maxDelay
	}
	return min(firstDelay<<(b.failed-1), maxDelay)
}

// down reports whether one of Torq's clients would have given up.
func (b *backoff) down() bool { return b.failed >= maxTries }

// success starts anew.
func (b *backoff) success() { b.failed = 0 }

// sleep waits, or until ctx ends or somebody knocks; false = ctx has ended.
func sleep(ctx context.Context, d time.Duration, knock <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-knock:
	case <-t.C:
	}
	return ctx.Err() == nil
}
