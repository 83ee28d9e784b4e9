package registry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// limit is the watchdog of every wait in these tests.
const limit = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// bus is a place for a registry: a socket, a bus directory on a tmpfs and a
// configuration file.
type bus struct {
	t      testing.TB
	dir    string
	socket string
	shm    string
	file   string
	log    string
}

// newBus makes a place whose configuration has more lines in [registry], and
// topics after them.
func newBus(t testing.TB, registry, topics string) *bus {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-registry-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bus{t: t, dir: dir, socket: filepath.Join(dir, "run", "r.sock"), shm: filepath.Join(dir, "bus"),
		file: filepath.Join(dir, "mycelium.toml"), log: filepath.Join(dir, "log")}
	b.configure(registry, topics)
	return b
}

func (b *bus) configure(registry, topics string) {
	b.t.Helper()
	text := fmt.Sprintf("[registry]\nsocket = %q\nshm_dir = %q\n%s\n%s\n", b.socket, b.shm, registry, topics)
	if err := os.WriteFile(b.file, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func loadFile(file string) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		return config.Load(config.LoadOptions{File: file, Environ: []string{}, Strict: true})
	}
}

// serve runs the registry in this process; the returned function stops it.
func (b *bus) serve() (stop func()) {
	b.t.Helper()
	return b.serveWith(Options{Load: loadFile(b.file), Log: discard()})
}

func (b *bus) serveWith(o Options) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	o.Ready = func() { close(ready) }
	go func() { done <- Serve(ctx, o) }()
	select {
	case <-ready:
	case err := <-done:
		b.t.Fatalf("Serve: %v", err)
	case <-time.After(limit):
		b.t.Fatal("Serve: not ready in time")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				b.t.Errorf("Serve: %v", err)
			}
		case <-time.After(limit):
			b.t.Error("Serve: still there after its context ended")
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// start runs the registry in a process of its own.
func (b *bus) start(env ...string) *testproc.Proc {
	b.t.Helper()
	p := testproc.Start(b.t, "registry", []string{b.file, b.log}, env)
	if line := p.Line(); line != "ready" {
		b.t.Fatalf("registry: %q\n%s", line, b.logged())
	}
	return p
}

func (b *bus) logged() string {
	text, _ := os.ReadFile(b.log)
	return string(text)
}

func (b *bus) awaitLog(words string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%q in the log", words), func() bool { return strings.Contains(b.logged(), words) })
}

func (b *bus) dial() *shm.Client {
	b.t.Helper()
	c, err := Dial(testContext(b.t), b.socket, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// stats asks the registry that serves the bus now.
func (b *bus) stats() control.Stats {
	b.t.Helper()
	c, err := Dial(testContext(b.t), b.socket, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	m, err := c.Request(testContext(b.t), &control.Message{Op: control.OpStats})
	if err != nil {
		b.t.Fatal(err)
	}
	return *m.Stats
}

// exchange publishes on a topic and reads it back.
func exchange(t testing.TB, c *shm.Client, topic string) {
	t.Helper()
	ctx := testContext(t)
	s, err := c.Subscriber(ctx, topic, &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := c.Publisher(ctx, topic, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Publish(7, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	eventually(t, "the frame", func() bool {
		if _, err := s.Poll(func(f shm.Frame) { got = bytes.Clone(f.Payload) }, 1); err != nil {
			t.Fatal(err)
		}
		return got != nil
	})
	if string(got) != "hello" {
		t.Fatalf("got %q", got)
	}
}

// The registry as a child: configuration file, log file.
var _ = testproc.Register("registry", func(args []string) error {
	log, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	os.Stderr = log
	if err := surroundings(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err = Serve(ctx, Options{Load: loadFile(args[0]), Ready: func() { fmt.Println("ready") }})
	fmt.Println("end", err)
	return err
})

// A client as a child, which does as it is told line by line: publish,
// subscribe, create or delete a topic, as a certain user and with certain
// groups. It answers each line with "ok" or the error.
var _ = testproc.Register("client", func(args []string) error {
	if err := surroundings(); err != nil {
		return err
	}
	ctx := context.Background()
	var c *shm.Client
	var open []io.Closer
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, name, _ := strings.Cut(in.Text(), " ")
		var err error
		var h io.Closer
		switch verb {
		case "dial":
			c, err = Dial(ctx, args[0], nil)
		case "publish":
			var p *shm.Publisher
			if p, err = c.Publisher(ctx, name, &shm.PublisherOptions{Source: fmt.Sprint(os.Getpid(), len(open))}); err == nil {
				if _, err = p.Publish(1, []byte("x")); err == nil {
					h = p
				}
			}
		case "subscribe":
			var s *shm.Subscriber
			if s, err = c.Subscriber(ctx, name, nil); err == nil {
				h = s
			}
		case "create":
			_, err = c.Request(ctx, &control.Message{Op: control.OpCreate, Topic: name})
		case "delete":
			_, err = c.Request(ctx, &control.Message{Op: control.OpDelete, Topic: name})
		case "files":
			err = limitFiles(name)
		case "close":
			for _, h := range open {
				err = h.Close()
			}
			open = nil
		}
		if h != nil {
			open = append(open, h)
		}
		if err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
	return in.Err()
})

// child is a "client" process.
type child struct{ *testproc.Proc }

func (b *bus) client(env ...string) child {
	b.t.Helper()
	return child{testproc.Start(b.t, "client", []string{b.socket}, env)}
}

func (c child) tell(line string) string {
	if _, err := io.WriteString(c.Stdin, line+"\n"); err != nil {
		return err.Error()
	}
	return c.Line()
}

// The data plane as children: the publisher counts up until told to stop, and
// says how far it came; the subscriber is lossless, checks that it misses
// nothing, and stops at the number it is told.
var _ = testproc.Register("count", func(args []string) error {
	c, err := Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(context.Background(), "load.count", &shm.PublisherOptions{Source: "count"})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(stop)
	}()
	fmt.Println("ready")
	n := uint64(0)
	for {
		for range 16 {
			seq, err := p.Publish(1, []byte(strconv.FormatUint(n, 10)))
			if err != nil {
				return err
			}
			if seq != n {
				return fmt.Errorf("sequence %d where %d is due", seq, n)
			}
			n++
		}
		select {
		case <-stop:
			fmt.Println(n)
			return p.Close()
		case <-time.After(200 * time.Microsecond):
		}
	}
})

var _ = testproc.Register("check", func(args []string) error {
	c, err := Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(context.Background(), "load.*", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	until := make(chan uint64, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		n, _ := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		until <- n
	}()
	fmt.Println("ready")
	want, last := uint64(0), uint64(1<<63)
	for want < last {
		var bad error
		n, err := s.Poll(func(f shm.Frame) {
			if f.Seq != want || string(f.Payload) != strconv.FormatUint(want, 10) {
				bad = fmt.Errorf("got sequence %d, payload %q; %d is due", f.Seq, f.Payload, want)
			}
			want++
		}, 256)
		if err != nil || bad != nil {
			return fmt.Errorf("%v; %v", bad, err)
		}
		if n == 0 {
			select {
			case last = <-until:
			default:
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	fmt.Println(want)
	return s.Close()
})

// load is a publisher and a lossless subscriber in processes of their own.
type load struct {
	t        testing.TB
	pub, sub *testproc.Proc
}

func (b *bus) load() *load {
	b.t.Helper()
	l := &load{t: b.t, sub: testproc.Start(b.t, "check", []string{b.socket}, nil)}
	l.sub.Line()
	l.pub = testproc.Start(b.t, "count", []string{b.socket}, nil)
	l.pub.Line()
	return l
}

// finish stops the publisher and wants all that it published at the subscriber.
func (l *load) finish() {
	l.t.Helper()
	_, _ = io.WriteString(l.pub.Stdin, "stop\n")
	sent := l.pub.Line()
	_, _ = io.WriteString(l.sub.Stdin, sent+"\n")
	if got := l.sub.Line(); got != sent || sent == "0" {
		l.t.Errorf("published %s, received %s", sent, got)
	}
	if err := l.pub.Wait(); err != nil {
		l.t.Error("publisher:", err)
	}
	if err := l.sub.Wait(); err != nil {
		l.t.Error("subscriber:", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
