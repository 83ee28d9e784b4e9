package torqbridge_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/tests/legacy"
	"github.com/torq/mycelium/torqbridge"
)

// background runs f until the test ends, and waits until it is ready.
func background(t *testing.T, f func(ctx context.Context, ready func()) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- f(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		stop()
		t.Fatal("ended before it was ready: ", err)
	}
	t.Cleanup(func() { stop(); <-done })
}

// TestGuideMovesNobody runs the code of docs/migration.md against a bus and a bridge: its
// producer reaches its consumer, and an old consumer.
func TestGuideMovesNobody(t *testing.T) {
	w := time.AfterFunc(time.Minute, func() {
		b := make([]byte, 1<<20)
		panic(fmt.Sprintf("watchdog: still runs\n%s", b[:runtime.Stack(b, true)]))
	})
	defer w.Stop()
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-torq-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bus, old, file := filepath.Join(dir, "r"), filepath.Join(dir, "market_data.sock"), filepath.Join(dir, "mycelium.toml")
	t.Setenv("MYCELIUM_REGISTRY", bus)
	if err := os.WriteFile(file, fmt.Appendf(nil, "[registry]\nsocket = %q\nshm_dir = %q\n", bus, filepath.Join(dir, "bus")), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.LoadOptions{File: file, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context, ready func()) error {
		return registry.Serve(ctx, registry.Options{Config: cfg, Ready: ready})
	})
	background(t, func(ctx context.Context, ready func()) error {
		return torqbridge.Serve(ctx, torqbridge.Config{Control: filepath.Join(dir, "torq.sock"), Domains: []torqbridge.DomainConfig{{Name: "market_data", Mode: torqbridge.ModeBus, Socket: old}}},
			torqbridge.Options{Ready: ready})
	})
	trades, messages := make(chan codec.Trade, 1000), make(chan []byte, 1000)
	background(t, func(ctx context.Context, ready func()) error {
		ready()
		consumer(ctx, func(t codec.Trade) { trades <- t }, func(err error) {
			if ctx.Err() == nil {
				t.Error(err)
			}
		})
		return nil
	})
	c, err := legacy.NewConsumer(old)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _ = c.Run(false, func(m []byte) { messages <- bytes.Clone(m) }) }()

	// Both may join after the first: one that arrives tells that they are in.
	want := codec.Trade{Instrument: codec.CoinbaseInstrument("BTC-USD"), Price: 117_250_50000000, Volume: 2_000_000}
	var got codec.Trade
	for sent := uint64(1); got != want; sent++ {
		producer(t.Context(), &want, sent)
		select {
		case got = <-trades:
		case <-time.After(10 * time.Millisecond):
		}
	}
	m, err := codec.Parse(<-messages, codec.ChecksumVerifyIfNonzero)
	if err != nil || !m.ReadTrade(&got) || got != want {
		t.Errorf("the old consumer got %+v, %v", got, err)
	}
}
