//go:build failpoint

package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/transport/tcp"
)

// forwarder CONFIG is a forwarder until it is killed.
var _ = testproc.Register("forwarder", func(args []string) error {
	ctx := context.Background()
	c, err := config.LoadForward(args[0])
	if err != nil {
		return err
	}
	client, err := registry.Dial(ctx, c.Registry, nil)
	if err != nil {
		return err
	}
	o := tcp.FromConfig(c)
	f, err := tcp.New(ctx, client, o)
	if err != nil {
		return err
	}
	ln, err := tcp.ListenControl(c.Control)
	if err != nil {
		return err
	}
	go func() {
		if err := f.ServeControl(ctx, ln); err != nil {
			panic(err)
		}
	}()
	fmt.Println("ready")
	return f.Run(ctx)
})

// host is a bus with a forwarder.
type host struct {
	*bus
	name, file, control string
	under               []string // what the forwarder runs under, see testproc.StartUnder
	fwd                 *testproc.Proc
}

// startHosts starts hosts on this one; rules are the [[link]] tables of each, with %ADDRn
// for the address of host n.
func startHosts(t *testing.T, rules ...string) []*host {
	t.Helper()
	all := make([]*host, len(rules))
	addrs := make([]string, len(rules))
	for i := range rules {
		all[i], addrs[i] = &host{}, freeAddr(t)
	}
	startForwarders(t, all, addrs, "50ms", rules)
	return all
}

// startForwarders gives each host a bus and a forwarder that listens on its address.
func startForwarders(t *testing.T, all []*host, addrs []string, beat string, rules []string) {
	t.Helper()
	for i, h := range all {
		h.bus, h.name = startBus(t), string(rune('a'+i))
		h.file, h.control = filepath.Join(filepath.Dir(h.socket), "forward.toml"), filepath.Join(filepath.Dir(h.socket), "f")
		r := rules[i]
		for k, a := range addrs {
			r = strings.ReplaceAll(r, fmt.Sprintf("%%ADDR%c", 'a'+k), a)
		}
		text := fmt.Sprintf("[forward]\nnode = %q\nregistry = %q\ncontrol = %q\nlisten = [%q]\nbeat = %q\n%s", h.name, h.socket, h.control, addrs[i], beat, r)
		if err := os.WriteFile(h.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range all {
		h.forward(t)
	}
}

// freeAddr is an address that nobody listens on, of 127.0.0.2: connections go out from
// ports of 127.0.0.1, and one of theirs may be any that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// forward starts the host's forwarder.
func (h *host) forward(t *testing.T) {
	t.Helper()
	h.fwd = testproc.StartUnder(t, h.under, "forwarder", []string{h.file}, nil)
	h.fwd.Limit(time.Hour)
	if got := h.fwd.Line(); got != "ready" {
		t.Fatalf("forwarder of %s said %q", h.name, got)
	}
}

func (h *host) status(ctx context.Context) (*tcp.Status, error) {
	return tcp.Ask(ctx, h.control, tcp.Order{Op: "status"})
}

// farReader checks what a source of another host sends, over its restarts: payloads are
// as in the checker, and sequences are those of the origin's lanes.
type farReader struct {
	sub  *shm.Subscriber
	c    checker
	seen atomic.Uint64
	inc  atomic.Uint64
	stop chan struct{}
	done chan error
}

func readFar(ctx context.Context, t *testing.T, c *shm.Client, topic string) *farReader {
	t.Helper()
	s, err := c.Subscriber(ctx, topic, &shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdleBackoff})
	if err != nil {
		t.Fatal(err)
	}
	r := &farReader{sub: s, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		idle := s.Idler()
		for {
			n, err := s.Poll(func(f shm.Frame) {
				r.c.see(f.Payload)
				if index := binary.LittleEndian.Uint64(f.Payload[offIndex:]); index != f.Seq {
					r.c.corrupt++
				}
			}, 0)
			r.seen.Store(r.c.next)
			r.inc.Store(r.c.incarnation)
			if err != nil {
				r.done <- err
				return
			}
			if n == 0 {
				select {
				case <-r.stop:
					r.done <- r.c.err()
					return
				default:
				}
			}
			idle.Idle(n)
		}
	}()
	return r
}

// feed publishes on a goroutine as fast as it may, and waits where there is no room for
// longer than the policy does, until stop.
func feed(p *shm.Publisher) (published *atomic.Uint64, stop func() error) {
	published = new(atomic.Uint64)
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := uint64(0); ; i++ {
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
			err := publishOne(p, i)
			for errors.Is(err, shm.ErrBackpressure) {
				err = publishOne(p, i)
			}
			if err != nil {
				done <- err
				return
			}
			published.Store(i + 1)
		}
	}()
	return published, func() error {
		close(quit)
		return <-done
	}
}

func (r *farReader) end() error {
	close(r.stop)
	return <-r.done
}

// Fear: a kill of either forwarder, of either registry or of the publisher loses or
// doubles a message on the other host.
func TestKilledForwardersLoseNothing(t *testing.T) {
	ctx := watchdog(t, 3*time.Minute, 60*time.Minute)
	rnd := random(t)
	hosts := startHosts(t,
		"[[link]]\npeer = \"b\"\naddress = \"%ADDRb\"\nexport = [\"block.>\"]\n",
		"[[link]]\npeer = \"a\"\nimport = [\"block.>\"]\n")
	a, b := hosts[0], hosts[1]
	far := readFar(ctx, t, b.dial(ctx), "block.x")
	book := filepath.Join(t.TempDir(), "ledger")
	incarnation := uint64(1)
	start := func() *testproc.Proc {
		p := testproc.Start(t, "publisher", []string{a.socket, "block.x", "feed", fmt.Sprint(incarnation), book, "0s", "one"}, nil)
		p.Limit(time.Hour)
		if got := p.Line(); got != "ready" {
			t.Fatalf("publisher said %q", got)
		}
		return p
	}
	pub := start()
	var published uint64
	kills := map[string]int{}
	caughtUp := func(least uint64) {
		await(ctx, t, func() bool {
			select {
			case err := <-far.done:
				t.Fatalf("after %v: %v", kills, err)
			default:
			}
			return far.inc.Load() == incarnation && far.seen.Load() >= least
		})
	}
	for range figure(20, 300) {
		time.Sleep(time.Duration(rnd.IntN(30_000)) * time.Microsecond)
		switch rnd.IntN(6) {
		case 0, 1:
			kills["sender"]++
			a.fwd.Kill()
			a.forward(t)
		case 2, 3:
			kills["receiver"]++
			b.fwd.Kill()
			b.forward(t)
		case 4:
			h := hosts[rnd.IntN(2)]
			kills["registry "+h.name]++
			h.proc.Kill()
			h.start()
		case 5:
			kills["publisher"]++
			pub.Kill()
			f, err := os.Open(book)
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := ledger{f}.load()
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			published += accepted
			caughtUp(accepted) // what was accepted arrives, before what its successor publishes
			incarnation++
			pub = start()
		}
	}
	time.Sleep(20 * time.Millisecond)
	pub.Kill()
	f, err := os.Open(book)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	accepted, err := ledger{f}.load()
	if err != nil {
		t.Fatal(err)
	}
	published += accepted
	caughtUp(accepted)
	time.Sleep(100 * time.Millisecond)
	err = far.end()
	var reconnects uint64
	if s, serr := a.status(ctx); serr == nil {
		reconnects = s.Links[0].Reconnects
	}
	report(t, map[string]any{"kills": kills, "published": published, "delivered": far.c.frames, "lost": far.c.lost, "duplicated": far.c.dup,
		"corrupt": far.c.corrupt, "reconnects": reconnects})
	if err != nil {
		t.Fatal(err)
	}
}

// Fear: three hosts that pass things on to each other send a message for ever, or twice.
func TestTriangleWithTransitCarriesEverythingOnce(t *testing.T) {
	ctx := watchdog(t, time.Minute, 10*time.Minute)
	link := func(peer, port string) string {
		s := fmt.Sprintf("[[link]]\npeer = %q\nexport = [\"block.>\"]\nimport = [\"block.>\"]\ntransit = true\n", peer)
		if port != "" {
			s += fmt.Sprintf("address = \"%%ADDR%s\"\n", port)
		}
		return s
	}
	hosts := startHosts(t, link("b", "b")+link("c", "c"), link("a", "")+link("c", "c"), link("a", "")+link("b", ""))
	frames := uint64(figure(2000, 200_000))
	var readers []*farReader
	for i, h := range hosts {
		for k := range hosts {
			if i != k {
				readers = append(readers, readFar(ctx, t, h.dial(ctx), fmt.Sprintf("block.%d", k)))
			}
		}
	}
	for k, h := range hosts {
		p, err := h.dial(ctx).Publisher(ctx, fmt.Sprintf("block.%d", k), &shm.PublisherOptions{Source: "s"})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for i := range frames {
				for {
					err := publishOne(p, i)
					if err == nil {
						break
					}
					if !errors.Is(err, shm.ErrBackpressure) {
						return
					}
				}
			}
		}()
	}
	for _, r := range readers {
		await(ctx, t, func() bool { return r.seen.Load() == frames })
	}
	time.Sleep(300 * time.Millisecond) // what comes now is too much
	var loops, sent uint64
	for _, h := range hosts {
		s, err := h.status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range s.Links {
			loops += l.Sent.Loops
			sent += l.Received.Frames
		}
	}
	var delivered uint64
	for _, r := range readers {
		if err := r.end(); err != nil {
			t.Error(err)
		}
		delivered += r.c.frames
	}
	report(t, map[string]any{"frames": frames, "delivered": delivered, "carried": sent, "loop_refusals": loops})
	if delivered != 6*frames || sent != 6*frames {
		t.Errorf("%d delivered and %d carried, want %d", delivered, sent, 6*frames)
	}
	if loops == 0 {
		t.Error("no loop was refused: the triangle was none")
	}
}

// Fear: a stalled host makes the forwarder that sends to it grow.
func TestStalledRemoteCostsNoMemory(t *testing.T) {
	ctx := watchdog(t, time.Minute, 10*time.Minute)
	hosts := startHosts(t,
		"[[link]]\npeer = \"b\"\naddress = \"%ADDRb\"\nexport = [\"block.>\"]\n",
		"[[link]]\npeer = \"a\"\nimport = [\"block.>\"]\n")
	a, b := hosts[0], hosts[1]
	far := readFar(ctx, t, b.dial(ctx), "block.x")
	p, err := a.dial(ctx).Publisher(ctx, "block.x", &shm.PublisherOptions{Source: "s"})
	if err != nil {
		t.Fatal(err)
	}
	next, stop := feed(p)
	await(ctx, t, func() bool { return far.seen.Load() > 20_000 })
	b.fwd.Stop()
	time.Sleep(500 * time.Millisecond)
	before := rss(t, a.fwd.Pid())
	time.Sleep(time.Duration(figure(3, 30)) * time.Second)
	growth := rss(t, a.fwd.Pid()) - before
	b.fwd.Cont()
	goal := next.Load()
	await(ctx, t, func() bool { return far.seen.Load() > goal })
	if err := stop(); err != nil {
		t.Error(err)
	}
	await(ctx, t, func() bool { return far.seen.Load() == next.Load() })
	if err := far.end(); err != nil {
		t.Error(err)
	}
	report(t, map[string]any{"published": next.Load(), "delivered": far.c.frames, "rss_growth_bytes": growth})
	if growth > 1<<20 {
		t.Errorf("the forwarder grew by %d bytes", growth)
	}
}

func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "Private_Dirty: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no Private_Dirty")
	return 0
}
