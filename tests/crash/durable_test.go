//go:build failpoint

package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// keeper SOCKET TOPIC LEDGER reads as a durable subscriber until it is killed. It says
// with which index it begins, and writes down how many it has done with.
var _ = testproc.Register("keeper", func(args []string) error {
	ctx := context.Background()
	f, err := os.OpenFile(args[2], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	var s *shm.Subscriber
	for {
		var c *shm.Client
		if c, err = registry.Dial(ctx, args[0], nil); err == nil {
			if s, err = c.Subscriber(ctx, args[1], &shm.SubscriberOptions{Name: "keeper", Mode: shm.Lossless, Keep: time.Minute, Idle: shm.IdleYield}); err == nil {
				break
			}
			_ = c.Close()
		}
		if !errors.Is(err, shm.ErrRegistryDown) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	if !s.Resumed() {
		fmt.Println("attached")
	}
	begun := false
	check := checker{incarnation: 1}
	return s.Run(ctx, nil, func(fr shm.Frame) {
		index := binary.LittleEndian.Uint64(fr.Payload[offIndex:])
		if !begun {
			begun = true
			fmt.Println(index)
			check.next = index
		}
		if check.see(fr.Payload); check.err() != nil {
			panic(check.err())
		}
		if err := (ledger{f}).store(index + 1); err != nil {
			panic(err)
		}
	})
})

// Fear: what a durable subscriber had not done with when it was killed never comes
// again, or comes from the beginning.
func TestKilledDurableSubscriberGoesOn(t *testing.T) {
	ctx := watchdog(t, 2*time.Minute, 40*time.Minute)
	b := startBus(t)
	rnd := random(t)
	c := b.dial(ctx)
	p, err := c.Publisher(ctx, "block.keep", nil)
	if err != nil {
		t.Fatal(err)
	}
	book := filepath.Join(t.TempDir(), "ledger")
	start := func(env ...string) *testproc.Proc {
		return testproc.Start(t, "keeper", []string{b.socket, "block.keep", book}, env)
	}
	victim := start()
	if got := victim.Line(); got != "attached" {
		t.Fatalf("keeper said %q", got)
	}
	var published atomic.Uint64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := uint64(0); ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := publishOne(p, i); err != nil {
				done <- err
				return
			}
			published.Store(i + 1)
		}
	}()
	f, err := os.Open(book)
	if err != nil {
		t.Fatal(err)
	}
	points := []string{"", "", failpoint.Env + "=sub.taken_over=kill", failpoint.Env + "=sub.after_ready=kill"}
	kills, again, most, did := figure(30, 3000), uint64(0), uint64(0), uint64(0)
	for k := range kills {
		var first uint64
		if _, err := fmt.Sscan(victim.Line(), &first); err != nil {
			t.Fatal(err)
		}
		if first > did {
			t.Fatalf("kill %d: it goes on with %d, and had done with %d", k, first, did)
		}
		again += did - first
		most = max(most, did-first)
		time.Sleep(time.Duration(rnd.IntN(20_000)) * time.Microsecond)
		victim.Kill()
		if k%10 == 9 {
			b.proc.Kill()
			b.start()
		}
		if env := points[rnd.IntN(len(points))]; env != "" { // killed on its way back, too
			dying := start(env)
			dying.Wait()
		}
		if did, err = (ledger{f}).load(); err != nil {
			t.Fatal(err)
		}
		victim = start()
		if k%10 == 4 { // while it comes back
			time.Sleep(time.Duration(rnd.IntN(20_000)) * time.Microsecond)
			b.proc.Kill()
			b.start()
		}
	}
	close(stop)
	victim.Line()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await(ctx, t, func() bool {
		did, err := ledger{f}.load()
		return err == nil && did == published.Load()
	})
	victim.Kill()
	report(t, map[string]any{"kills": kills, "published": published.Load(), "lost": 0, "again": again, "again_most": most})
}
