//go:build failpoint

package crash

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

var (
	large = flag.Bool("crash.large", false, "the large figures: thousands of kills instead of a hundred")
	seed  = flag.Uint64("crash.seed", uint64(time.Now().UnixNano()), "seed of the random times")
)

func TestMain(m *testing.M) { testproc.Main(m) }

// figure picks the small or the large count of a test.
func figure(small, big int) int {
	if *large {
		return big
	}
	return small
}

// watchdog ends a test that hangs.
func watchdog(t *testing.T, small, big time.Duration) context.Context {
	t.Helper()
	d := small
	if *large {
		d = big
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func random(t *testing.T) *rand.Rand {
	t.Logf("seed %d (rerun with -crash.seed)", *seed)
	return rand.New(rand.NewPCG(*seed, 1))
}

// report prints the figures of a test as one JSON line.
func report(t *testing.T, figures map[string]any) {
	figures["test"], figures["seed"] = t.Name(), fmt.Sprint(*seed)
	b, err := json.Marshal(figures)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(string(b))
}

// bus is a private registry in a process of its own.
type bus struct {
	t      *testing.T
	dir    string // segments
	socket string
	config string
	proc   *testproc.Proc
}

const busConfig = `
[registry]
socket = %q
shm_dir = %q
lane_grace = "200ms"
log_level = "warn"
[[topic]]
name = "block.>"
ring = "64KiB"
policy = "block:30s"
[[topic]]
name = "evict.>"
ring = "64KiB"
policy = "evict:300ms"
[[topic]]
name = "fail.>"
ring = "64KiB"
policy = "fail"
`

func startBus(t *testing.T) *bus {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bus{t: t, dir: filepath.Join(dir, "bus"), socket: filepath.Join(dir, "s"), config: filepath.Join(dir, "mycelium.toml")}
	if err := os.WriteFile(b.config, fmt.Appendf(nil, busConfig, b.socket, b.dir), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	return b
}

func (b *bus) start() {
	b.t.Helper()
	b.proc = testproc.Start(b.t, "registry", []string{b.config}, nil)
	b.proc.Limit(time.Hour)
	if got := b.proc.Line(); got != "ready" {
		b.t.Fatalf("registry said %q", got)
	}
}

var _ = testproc.Register("registry", func(args []string) error {
	cfg, err := config.Load(config.LoadOptions{File: args[0], Environ: []string{}})
	if err != nil {
		return err
	}
	return registry.Serve(context.Background(), registry.Options{Config: cfg, Ready: func() { fmt.Println("ready") }})
})

func (b *bus) dial(ctx context.Context) *shm.Client {
	b.t.Helper()
	c, err := registry.Dial(ctx, b.socket, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return c
}

// leftovers are the files of the bus directory beside the two that stay.
func (b *bus) leftovers() (left []string) {
	_ = filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "bus.lock" && d.Name() != "bus.state" {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// awaitEmpty waits until nothing is left over.
func (b *bus) awaitEmpty(ctx context.Context) {
	b.t.Helper()
	for len(b.leftovers()) > 0 {
		select {
		case <-ctx.Done():
			b.t.Fatalf("left over: %v", b.leftovers())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// metric sums a lane metric over the lanes of a source.
func metric(ctx context.Context, t *testing.T, c *shm.Client, topic, source, name string) (sum uint64) {
	t.Helper()
	m, err := c.Request(ctx, &control.Message{Op: control.OpInspect, Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	for _, ti := range m.Topics {
		for _, l := range ti.Lanes {
			if l.Source == source {
				v, ok := l.Metrics[name]
				if !ok {
					t.Fatalf("no metric %q in %v", name, l.Metrics)
				}
				sum += v
			}
		}
	}
	return sum
}
