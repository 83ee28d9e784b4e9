package tcp

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
)

func TestMain(m *testing.M) { testproc.Main(m) }

var watch = testproc.Watch

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bus is a bus of this process with a client.
type bus struct {
	dir *shm.LocalDirectory
	*shm.Client
}

func newBus(t testing.TB, o *shm.LocalOptions) *bus {
	t.Helper()
	d, err := shm.OpenLocal("", o)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	b := &bus{dir: d}
	b.Client = b.client(t)
	return b
}

func (b *bus) client(t testing.TB) *shm.Client {
	t.Helper()
	c, err := b.dir.Client(context.Background())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func testLog(t testing.TB) *slog.Logger {
	if os.Getenv("LINK_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

// start runs a forwarder until stop, which fails the test if it did not end in order.
func start(t testing.TB, b *bus, o Options) (f *Forwarder, stop func()) {
	t.Helper()
	o.Log = testLog(t)
	f, err := New(context.Background(), b.client(t), o)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return f, stop
}

func listening(node string, links ...LinkOptions) Options {
	return Options{Node: node, Listen: []string{"127.0.0.1:0"}, Links: links}
}

func address(f *Forwarder) string { return f.Addrs()[0].String() }

func publisher(t testing.TB, c *shm.Client, topic, source string) *shm.Publisher {
	t.Helper()
	p, err := c.Publisher(context.Background(), topic, &shm.PublisherOptions{Source: source})
	must(t, err)
	return p
}

func subscriber(t testing.TB, c *shm.Client, pattern string) *shm.Subscriber {
	t.Helper()
	s, err := c.Subscriber(context.Background(), pattern, &shm.SubscriberOptions{Mode: shm.Lossless})
	must(t, err)
	return s
}

// publishAll publishes numbered messages of a size.
func publishAll(p *shm.Publisher, from, to uint64, size int) error {
	b := make([]byte, size)
	return p.Protect(func() error {
		for i := from; i < to; i++ {
			binary.LittleEndian.PutUint64(b, i)
			if _, err := p.Publish(uint16(i), b); err != nil {
				return err
			}
		}
		return nil
	})
}

// aside runs f on a goroutine of its own; wait fails the test with its error.
func aside(t testing.TB, f func() error) (wait func()) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() {
		t.Helper()
		must(t, <-done)
	}
}

// readAll reads numbered messages of one source up to before to.
func readAll(t testing.TB, s *shm.Subscriber, from, to uint64) {
	t.Helper()
	next := from
	idle := s.Idler()
	for next < to {
		n, err := s.Poll(func(f shm.Frame) {
			if got := binary.LittleEndian.Uint64(f.Payload); got != next || f.Type != uint16(next) {
				t.Fatalf("message %d of type %d where %d is due", got, f.Type, next)
			}
			next++
		}, 0)
		if err != nil {
			t.Fatalf("at message %d: %v", next, err)
		}
		idle.Idle(n)
	}
}

func TestTopicAppearsOnTheOtherHost(t *testing.T) {
	watch(t, time.Minute)
	a, b := newBus(t, nil), newBus(t, nil)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}))
	_, stop := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	s := subscriber(t, b.Client, "m.x")
	p := publisher(t, a.Client, "m.x", "feed")
	const n = 500_000
	begin := time.Now()
	wait := aside(t, func() error { return publishAll(p, 0, n, 64) })
	readAll(t, s, 0, n)
	wait()
	t.Logf("%.2f M msg/s", n/time.Since(begin).Seconds()/1e6)
	// Order per source over a restart of the publisher, and the end of its lane.
	must(t, p.Close())
	p = publisher(t, a.Client, "m.x", "feed")
	must(t, publishAll(p, n, n+10, 100))
	readAll(t, s, n, n+10)
	stop() // the forwarder stops, and starts again
	must(t, publishAll(p, n+10, n+1000, 100))
	start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	readAll(t, s, n+10, n+1000)
	must(t, p.Close())
	if _, err := s.Poll(func(shm.Frame) { t.Error("a message too many") }, 0); err != nil && !errors.Is(err, shm.ErrClosed) {
		t.Error(err)
	}
}
