//go:build failpoint

package crash

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
)

// fillUntilBlocked publishes until there is no room although the live subscriber
// has read everything, and returns the next index.
func fillUntilBlocked(ctx context.Context, t *testing.T, p *shm.Publisher, index uint64, seen *atomic.Uint64) uint64 {
	t.Helper()
	b := make([]byte, 4096)
	for {
		n := sizeOf(index)
		fill(b[:n], 1, index)
		caughtUp := seen.Load() == index
		c, err := p.Claim(1, n)
		switch {
		case err == nil:
			copy(c.Bytes(), b)
			c.Commit()
			index++
		case !errors.Is(err, shm.ErrBackpressure):
			t.Fatal(err)
		case caughtUp:
			return index
		default:
			await(ctx, t, func() bool { return seen.Load() == index })
			time.Sleep(2 * time.Millisecond) // its cursor follows at its next empty poll
		}
	}
}

func publishOne(p *shm.Publisher, index uint64) error {
	b := make([]byte, sizeOf(index))
	fill(b, 1, index)
	_, err := p.Publish(1, b)
	return err
}

// follow polls a subscriber on a goroutine until stop, and then reports.
func follow(s *shm.Subscriber, c *checker) (stop func() error, seen *atomic.Uint64) {
	quit, done := make(chan struct{}), make(chan error, 1)
	seen = new(atomic.Uint64)
	go func() {
		idle := s.Idler()
		for {
			n, err := s.Poll(func(f shm.Frame) { c.see(f.Payload) }, 0)
			seen.Store(c.next)
			if err != nil {
				done <- err
				return
			}
			if n == 0 {
				select {
				case <-quit:
					done <- c.err()
					return
				default:
				}
			}
			idle.Idle(n)
		}
	}()
	return func() error { close(quit); return <-done }, seen
}

func TestKilledLosslessSubscriberHoldsThePublisherForEver(t *testing.T) {
	ctx := watchdog(t, 2*time.Minute, 20*time.Minute)
	b := startBus(t)
	c := b.dial(ctx)
	p, err := c.Publisher(ctx, "block.full", nil)
	if err != nil {
		t.Fatal(err)
	}
	live, err := c.Subscriber(ctx, "block.full", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		t.Fatal(err)
	}
	var check checker
	stop, seen := follow(live, &check)
	kills := figure(20, 500)
	var index uint64
	var slowest time.Duration
	for k := range kills {
		victim := testproc.Start(t, "reader", []string{b.socket, "block.full", "1"}, nil)
		if got := victim.Line(); got != "attached" {
			t.Fatalf("reader said %q", got)
		}
		index = fillUntilBlocked(ctx, t, p, index, seen)
		b.proc.Stop() // no registry from here on
		victim.Kill()
		start := time.Now()
		if err := publishOne(p, index); err != nil {
			t.Fatalf("kill %d: publisher not released: %v", k, err)
		}
		index++
		slowest = max(slowest, time.Since(start))
		b.proc.Cont()
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	await(ctx, t, func() bool { return seen.Load() == index })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitEmpty(ctx)
	report(t, map[string]any{"kills": kills, "published": index, "delivered": check.frames, "lost": check.lost, "duplicated": check.dup,
		"corrupt": check.corrupt, "leftovers": len(b.leftovers()), "slowest_release_ns": slowest})
}

func await(ctx context.Context, t *testing.T, cond func() bool) {
	t.Helper()
	for !cond() {
		if ctx.Err() != nil {
			t.Fatal("watchdog")
		}
		time.Sleep(time.Millisecond)
	}
}

// A stopped lossless subscriber, under each policy, with a live one beside it.
func TestStoppedSubscriberUnderEachPolicy(t *testing.T) {
	for _, policy := range []string{"block", "evict", "fail"} {
		t.Run(policy, func(t *testing.T) {
			ctx := watchdog(t, time.Minute, 10*time.Minute)
			b := startBus(t)
			c := b.dial(ctx)
			topic := policy + ".stopped"
			p, err := c.Publisher(ctx, topic, nil)
			if err != nil {
				t.Fatal(err)
			}
			live, err := c.Subscriber(ctx, topic, &shm.SubscriberOptions{Mode: shm.Lossless})
			if err != nil {
				t.Fatal(err)
			}
			var check checker
			stop, seen := follow(live, &check)
			var index uint64
			rounds := figure(3, 20)
			var evictions uint64
			for range rounds {
				victim := testproc.Start(t, "follower", []string{b.socket, topic}, nil)
				if got := victim.Line(); got != "attached" {
					t.Fatalf("follower said %q", got)
				}
				if err := publishOne(p, index); err != nil {
					t.Fatal(err)
				}
				index++
				victim.Stop()
				index = fillUntilBlocked(ctx, t, p, index, seen)
				switch policy {
				case "evict":
					// The publisher waits for its policy's time and goes on.
					if err := publishOne(p, index); err != nil {
						t.Fatal(err)
					}
					index++
					evictions++
				case "block":
					released := make(chan error, 1)
					go func(i uint64) { released <- publishOne(p, i) }(index)
					select {
					case err := <-released:
						t.Fatalf("publisher went on over a stopped lossless subscriber: %v", err)
					case <-time.After(100 * time.Millisecond):
					}
					victim.Cont()
					if err := <-released; err != nil {
						t.Fatal(err)
					}
					index++
				case "fail":
					for range 3 {
						if err := publishOne(p, index); !errors.Is(err, shm.ErrBackpressure) {
							t.Fatalf("publish: %v, want ErrBackpressure", err)
						}
					}
				}
				if policy != "block" {
					victim.Cont()
				}
				// The follower finds its way: everything from here on arrives.
				await(ctx, t, func() bool { return publishOne(p, index) == nil })
				index++
				fmt.Fprintln(victim.Stdin, index)
				want := "all"
				if policy == "evict" {
					want = "evicted"
				}
				if got := victim.Line(); got != want {
					t.Fatalf("follower said %q, want %q", got, want)
				}
				if err := victim.Wait(); err != nil {
					t.Fatal(err)
				}
			}
			await(ctx, t, func() bool { return seen.Load() == index })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			report(t, map[string]any{"rounds": rounds, "published": index, "delivered": check.frames, "lost": check.lost,
				"duplicated": check.dup, "corrupt": check.corrupt, "evictions": evictions})
		})
	}
}

// follower SOCKET TOPIC reads losslessly; told an index on standard input it
// reads up to there and says "all", or "evicted" if it lost its place on the
// way and the gap reports account for every frame that it did not get.
var _ = testproc.Register("follower", func(args []string) error {
	return followUntilTold(args[0], args[1])
})
