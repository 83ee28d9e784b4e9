//go:build failpoint

package crash

import (
	"context"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// The registry is killed and started again and again while frames flow.
func TestKilledRegistryDisturbsTheDataPlane(t *testing.T) {
	ctx := watchdog(t, 3*time.Minute, 30*time.Minute)
	rng := random(t)
	b := startBus(t)
	c := b.dial(ctx)
	sub, err := c.Subscriber(ctx, "block.load.*", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Publisher(ctx, "block.load.x", nil)
	if err != nil {
		t.Fatal(err)
	}
	var check checker
	stopReading, seen := follow(sub, &check)
	quit, published := make(chan struct{}), make(chan uint64, 1)
	go func() {
		index := uint64(0)
		for {
			select {
			case <-quit:
				published <- index
				return
			default:
			}
			if err := publishOne(p, index); err != nil {
				t.Errorf("publish %d: %v", index, err)
				published <- index
				return
			}
			index++
			if index%8 == 0 {
				time.Sleep(20 * time.Microsecond)
			}
		}
	}()
	kills := figure(20, 500)
	var slowest time.Duration
	for k := range kills {
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		before := seen.Load()
		b.proc.Kill()
		await(ctx, t, func() bool { return seen.Load() > before+100 }) // flows without it
		start := time.Now()
		b.start()
		attachAndExchange(ctx, t, b, k)
		slowest = max(slowest, time.Since(start))
	}
	close(quit)
	index := <-published
	await(ctx, t, func() bool { return seen.Load() == index })
	if err := stopReading(); err != nil {
		t.Fatal(err)
	}
	// The handles of before the first kill still work with the directory.
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitEmpty(ctx)
	report(t, map[string]any{"kills": kills, "published": index, "delivered": check.frames, "lost": check.lost, "duplicated": check.dup,
		"corrupt": check.corrupt, "leftovers": len(b.leftovers()), "slowest_restart_and_attach_ns": slowest})
}

// attachAndExchange attaches a new pair on a new topic and moves a frame, and
// has the old subscriber's pattern find a new lane too.
func attachAndExchange(ctx context.Context, t *testing.T, b *bus, k int) {
	t.Helper()
	c, err := registry.Dial(ctx, b.socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Subscriber(ctx, "evict.fresh", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		t.Fatalf("restart %d: subscriber: %v", k, err)
	}
	p, err := c.Publisher(ctx, "evict.fresh", nil)
	if err != nil {
		t.Fatalf("restart %d: publisher: %v", k, err)
	}
	if err := publishOne(p, uint64(k)); err != nil {
		t.Fatal(err)
	}
	for got, idle := 0, s.Idler(); got == 0; {
		if got, err = s.Poll(func(shm.Frame) {}, 0); err != nil || ctx.Err() != nil {
			t.Fatalf("restart %d: poll: %v", k, err)
		}
		idle.Idle(got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEverythingKilledLeavesFilesBehind(t *testing.T) {
	ctx := watchdog(t, time.Minute, 10*time.Minute)
	rounds := figure(5, 100)
	b := startBus(t)
	for range rounds {
		var procs []*testproc.Proc
		for _, source := range []string{"a", "b", "c"} {
			p := testproc.Start(t, "publisher", []string{b.socket, "evict.all", source, "1", t.TempDir() + "/ledger", "0s", "one"}, nil)
			procs = append(procs, p)
		}
		for range 2 {
			procs = append(procs, testproc.Start(t, "reader", []string{b.socket, "evict.>", "10"}, nil))
		}
		for _, p := range procs {
			_ = p.Line()
		}
		b.proc.Kill()
		for _, p := range procs {
			p.Kill()
		}
		if len(b.leftovers()) == 0 {
			t.Fatal("nothing was there to be left over")
		}
		b.start()
		b.awaitEmpty(ctx)
	}
	report(t, map[string]any{"rounds": rounds, "leftovers": len(b.leftovers())})
}
