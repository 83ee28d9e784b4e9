package torqbridge

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// limit is the watchdog of every test and every wait.
const limit = 60 * time.Second

func watch(t testing.TB) context.Context {
	t.Helper()
	if _, ok := t.(*testing.B); ok {
		return testproc.Watch(t, 10*limit)
	}
	return testproc.Watch(t, limit)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

// place is a directory with a bus, and the sockets of a bridge.
type place struct {
	t        testing.TB
	ctx      context.Context
	dir      string
	registry string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	return newPlaceWith(t, "", "")
}

// newPlaceWith has more lines in [registry], and topics.
func newPlaceWith(t testing.TB, more, topics string) *place {
	t.Helper()
	return newPlaceIn(watch(t), t, more, topics)
}

// newPlaceIn is newPlaceWith under a watchdog that there is.
func newPlaceIn(ctx context.Context, t testing.TB, more, topics string) *place {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-torq-")
	must(t, err)
	p := &place{t: t, ctx: ctx, dir: dir, registry: filepath.Join(dir, "r")}
	file := filepath.Join(dir, "mycelium.toml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "[registry]\nsocket = %q\nshm_dir = %q\nlane_grace = \"200ms\"\nlog_level = \"error\"\n%s\n%s\n", p.registry, filepath.Join(dir, "bus"), more, topics), 0o600))
	cfg, err := config.Load(config.LoadOptions{File: file, Environ: []string{}})
	must(t, err)
	rctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- registry.Serve(rctx, registry.Options{Config: cfg, Ready: func() { close(ready) }}) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		<-done
		_ = os.RemoveAll(dir)
	})
	return p
}

func (p *place) socket(domain string) string { return filepath.Join(p.dir, domain+".sock") }
func (p *place) control() string             { return filepath.Join(p.dir, "torq.sock") }

// config is a bridge's configuration with one domain.
func (p *place) config(mode Mode) Config {
	return Config{Registry: p.registry, Control: p.control(), History: 4 << 20, Window: 200 * time.Millisecond, Hold: 2 * time.Second,
		Domains: []DomainConfig{{Name: "market_data", Mode: mode, Socket: p.socket("market_data")}}}
}

// running is a bridge in this process.
type running struct {
	t    testing.TB
	stop context.CancelFunc
	once sync.Once
	done chan error

	bridge *Bridge
}

func (p *place) start(cfg Config) *running {
	p.t.Helper()
	r, err := p.tryStart(cfg)
	must(p.t, err)
	return r
}

func (p *place) tryStart(cfg Config) (*running, error) {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: p.t, stop: stop, done: make(chan error, 1)}
	ready := make(chan struct{})
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	go func() {
		r.done <- Serve(ctx, cfg, Options{Log: log, Ready: func() { close(ready) }, made: func(b *Bridge) { r.bridge = b }})
	}()
	select {
	case <-ready:
	case err := <-r.done:
		stop()
		return nil, err
	}
	p.t.Cleanup(r.end)
	return r, nil
}

func (r *running) end() {
	r.once.Do(func() {
		r.stop()
		if err := <-r.done; err != nil {
			r.t.Error("the bridge ended:", err)
		}
	})
}

func (p *place) dial() *shm.Client {
	p.t.Helper()
	c, err := registry.Dial(p.ctx, p.registry, nil)
	must(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *place) status() Status {
	p.t.Helper()
	s, err := GetStatus(p.ctx, p.control(), "")
	must(p.t, err)
	return s[0]
}

// trade is message number seq of a source, as Torq's collectors send them.
func trade(source codec.Source, symbol string, seq uint64) []byte {
	b := make([]byte, codec.TradeMessageSize)
	t := codec.Trade{Instrument: codec.Coin(codec.VenueKraken, symbol), Price: int64(seq), Volume: 1}
	t.PutMessage(b, &codec.Header{Domain: codec.DomainMarketData, Version: codec.Version, Source: source, Sequence: seq, TimestampNs: uint64(time.Now().UnixNano())}, false)
	return b
}

// check demands the messages of a source from up to, not including, to, once each
// and in order.
func check(t testing.TB, l *legacy.Ledger, who string, source codec.Source, from, to uint64) {
	t.Helper()
	got := l.Of(byte(source), from)
	if want := (legacy.Account{First: from, Next: to}); got != want {
		t.Errorf("%s, source %v: %+v, want %+v", who, source, got, want)
	}
}

// consume runs a consumer into a ledger.
func (p *place) consume(path string) (*legacy.Consumer, *legacy.Ledger) {
	p.t.Helper()
	c, err := legacy.NewConsumer(path)
	must(p.t, err)
	l := &legacy.Ledger{}
	go func() { _ = c.Run(true, func(m []byte) { l.Add(0, m) }) }()
	p.t.Cleanup(func() { _ = c.Close() })
	return c, l
}

func (p *place) produce(path string) *legacy.Producer {
	p.t.Helper()
	c, err := legacy.NewProducer(path)
	must(p.t, err)
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

// subscribe reads a pattern of the bus into a ledger.
func (p *place) subscribe(pattern string) *legacy.Ledger {
	p.t.Helper()
	sub, err := p.dial().Subscriber(p.ctx, pattern, &shm.SubscriberOptions{Mode: shm.Lossless})
	must(p.t, err)
	l := &legacy.Ledger{}
	ctx, stop := context.WithCancel(p.ctx)
	done := make(chan error, 1)
	go func() { done <- sub.Run(ctx, nil, func(f shm.Frame) { l.Add(uint64(f.Topic), f.Payload) }) }()
	p.t.Cleanup(func() {
		stop()
		<-done
		_ = sub.Close()
	})
	return l
}
