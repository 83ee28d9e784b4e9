//go:build failpoint

package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/failpoint"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
)

// rig is one lossless subscriber, in this process, of one topic with a healthy
// publisher and a victim that is killed and started again.
type rig struct {
	t       *testing.T
	ctx     context.Context
	bus     *bus
	client  *shm.Client
	sub     *shm.Subscriber
	victim  checker
	healthy checker
	idle    shm.Idler
	hled    ledger
	hproc   *testproc.Proc
}

const rigTopic = "block.crash.x"

func newRig(t *testing.T, ctx context.Context) *rig {
	r := &rig{t: t, ctx: ctx, bus: startBus(t)}
	r.client = r.bus.dial(ctx)
	var err error
	if r.sub, err = r.client.Subscriber(ctx, "block.crash.*", &shm.SubscriberOptions{Mode: shm.Lossless}); err != nil {
		t.Fatal(err)
	}
	r.idle = r.sub.Idler()
	r.hproc = r.start("healthy", 1, "50us", "one", "")
	r.hproc.Limit(time.Hour)
	if got := r.hproc.Line(); got != "ready" {
		t.Fatalf("healthy publisher said %q", got)
	}
	r.hled = r.ledger("healthy")
	return r
}

func (r *rig) path(source string) string {
	return filepath.Join(filepath.Dir(r.bus.dir), "ledger-"+source)
}

func (r *rig) ledger(source string) ledger {
	f, err := os.Open(r.path(source))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = f.Close() })
	return ledger{f}
}

// start runs a publisher and polls until it is attached, or has died.
func (r *rig) start(source string, incarnation int, pause, mode, fp string) *testproc.Proc {
	r.t.Helper()
	_ = os.Remove(r.path(source))
	p := testproc.Start(r.t, "publisher", []string{r.bus.socket, rigTopic, source, fmt.Sprint(incarnation), r.path(source), pause, mode},
		[]string{failpoint.Env + "=" + fp})
	return p
}

// poll reads for a while, or until enough says so.
func (r *rig) poll(enough func() bool) {
	r.t.Helper()
	for !enough() {
		n, err := r.sub.Poll(func(f shm.Frame) {
			if r.sub.SourceName(f.Source) == "healthy" {
				r.healthy.see(f.Payload)
			} else {
				r.victim.see(f.Payload)
			}
		}, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		r.idle.Idle(n)
		if r.ctx.Err() != nil {
			r.t.Fatalf("watchdog: victim %+v healthy %+v", r.victim, r.healthy)
		}
	}
}

func (r *rig) pollFor(d time.Duration) {
	end := time.Now().Add(d)
	r.poll(func() bool { return time.Now().After(end) })
}

// settle reads everything that the dead incarnation was told was accepted, and
// at most the one batch more that was under way.
func (r *rig) settle(incarnation int, batch uint64) (accepted uint64) {
	r.t.Helper()
	if b, err := os.ReadFile(r.path("victim")); err != nil || len(b) < 8 {
		return 0 // died before it could publish
	}
	f, err := os.Open(r.path("victim"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if accepted, err = (ledger{f}).load(); err != nil {
		r.t.Fatal(err)
	}
	if accepted > 0 {
		r.poll(func() bool { return r.victim.incarnation == uint64(incarnation) && r.victim.next >= accepted })
	}
	r.pollFor(2 * time.Millisecond)
	if r.victim.incarnation == uint64(incarnation) && r.victim.next > accepted+batch {
		r.t.Fatalf("incarnation %d: %d accepted, %d delivered", incarnation, accepted, r.victim.next)
	}
	if err := r.victim.err(); err != nil {
		r.t.Fatalf("incarnation %d: victim: %v", incarnation, err)
	}
	return accepted
}

// finish checks the healthy lane and that nothing is left over.
func (r *rig) finish(figures map[string]any) {
	r.t.Helper()
	waits := metric(r.ctx, r.t, r.client, rigTopic, "healthy", "backpressure")
	r.hproc.Kill()
	accepted, err := r.hled.load()
	if err != nil {
		r.t.Fatal(err)
	}
	r.poll(func() bool { return r.healthy.next >= accepted })
	if err := r.healthy.err(); err != nil {
		r.t.Fatalf("healthy: %v", err)
	}
	figures["healthy_frames"], figures["victim_frames"], figures["healthy_waits"] = r.healthy.frames, r.victim.frames, waits
	figures["lost"], figures["duplicated"], figures["corrupt"] = r.victim.lost+r.healthy.lost, r.victim.dup+r.healthy.dup, r.victim.corrupt+r.healthy.corrupt
	if err := r.sub.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.bus.awaitEmpty(r.ctx)
	figures["leftovers"] = len(r.bus.leftovers())
	report(r.t, figures)
}

func TestPublisherKilledAtRandomTimesLosesFrames(t *testing.T) {
	ctx := watchdog(t, 3*time.Minute, 30*time.Minute)
	rng := random(t)
	r := newRig(t, ctx)
	kills := figure(100, 2000)
	modes := []string{"one", "claim", "batch"}
	var accepted uint64
	for k := 1; k <= kills; k++ {
		p := r.start("victim", k, "0s", modes[k%3], "")
		attached := make(chan string, 1)
		go func() { attached <- mustLine(p) }()
		r.poll(func() bool { return len(attached) == 1 })
		if got := <-attached; got != "ready" {
			t.Fatalf("round %d: publisher said %q", k, got)
		}
		r.pollFor(time.Duration(rng.IntN(8000)) * time.Microsecond)
		p.Kill()
		accepted += r.settle(k, 8)
	}
	r.finish(map[string]any{"kills": kills, "accepted": accepted})
}

// mustLine reads a child's line off the test's goroutine: "" when it died.
func mustLine(p *testproc.Proc) string {
	s, err := p.Stdout.ReadString('\n')
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(s, "\n")
}

// publisherPoints are the failpoints that a publisher passes, and the mode in
// which it does.
var publisherPoints = []struct{ name, mode string }{
	{"pub.locked", "one"}, {"pub.allocated", "one"}, {"open.before_ready", "one"}, {"open.after_ready", "one"},
	{"pub.after_copy", "one"}, {"pub.before_commit", "one"}, {"pub.after_commit", "one"}, {"pub.after_pad", "one"},
	{"pub.before_intent", "one"}, {"pub.after_intent", "one"}, {"pub.claimed", "claim"}, {"pub.batch_before_commit", "batch"},
	{"join.added", "one"},
}

func TestPublisherKilledAtFailpointsLosesFrames(t *testing.T) {
	ctx := watchdog(t, 3*time.Minute, 30*time.Minute)
	rng := random(t)
	r := newRig(t, ctx)
	kills := figure(100, 2000)
	var accepted uint64
	for k := 1; k <= kills; k++ {
		fp := publisherPoints[k%len(publisherPoints)]
		at := 1
		switch {
		case strings.HasPrefix(fp.name, "pub.after_pad"), strings.HasSuffix(fp.name, "_intent"), strings.HasPrefix(fp.name, "pub.batch"):
			at = 1 + rng.IntN(20)
		case strings.HasPrefix(fp.name, "pub.l"), strings.HasPrefix(fp.name, "pub.al"), strings.HasPrefix(fp.name, "open"), strings.HasPrefix(fp.name, "join"):
		default:
			at = 1 + rng.IntN(2000)
		}
		p := r.start("victim", k, "0s", fp.mode, fmt.Sprintf("%s=kill@%d", fp.name, at))
		dead := make(chan syscall.Signal, 1)
		go func() {
			_ = mustLine(p)
			_ = p.Wait()
			dead <- p.KilledBy()
		}()
		r.poll(func() bool { return len(dead) == 1 })
		if sig := <-dead; sig != syscall.SIGKILL {
			t.Fatalf("round %d: %s@%d: publisher ended by itself", k, fp.name, at)
		}
		accepted += r.settle(k, 8)
	}
	r.finish(map[string]any{"kills": kills, "failpoints": len(publisherPoints), "accepted": accepted})
}

func TestStoppedPublisherIsTakenForDead(t *testing.T) {
	ctx := watchdog(t, 2*time.Minute, 10*time.Minute)
	r := newRig(t, ctx)
	points := []string{"pub.after_copy=stop@500", "pub.before_commit=stop@700", "pub.after_commit=stop@900", "pub.before_intent=stop@3", "pub.after_intent=stop@4"}
	for k, fp := range points {
		p := r.start("victim", k+1, "0s", "one", fp)
		stopped := make(chan struct{})
		go func() { p.AwaitStop(); close(stopped) }()
		r.poll(func() bool {
			select {
			case <-stopped:
				return true
			default:
				return false
			}
		})
		before := r.healthy.frames
		r.pollFor(time.Duration(figure(300, 3000)) * time.Millisecond)
		if r.healthy.frames == before {
			t.Fatal("the healthy lane waited for the stopped publisher")
		}
		// It lives: nobody else gets its name.
		if _, err := r.client.Publisher(ctx, rigTopic, &shm.PublisherOptions{Source: "victim"}); !errors.Is(err, shm.ErrSourceBusy) {
			t.Fatalf("%s: another publisher of the stopped source: %v, want ErrSourceBusy", fp, err)
		}
		at := r.victim.next
		p.Cont()
		r.poll(func() bool { return r.victim.next > at+100 })
		p.Kill()
		r.settle(k+1, 8)
	}
	r.finish(map[string]any{"stops": len(points)})
}
