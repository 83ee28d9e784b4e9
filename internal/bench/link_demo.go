package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/coinbase"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/transport/tcp"
)

// LinkDemoOptions of LinkDemo.
type LinkDemoOptions struct {
	Duration time.Duration // of publishing; 0 = 10 s
	Rate     uint64        // messages a second; 0 = 100,000
	Cut      time.Duration // how long the link is down; 0 = 3 s
	Loopback bool          // no network namespaces, even where they can be had
}

// Validate fills the zero fields and reports the first impossible value.
func (o *LinkDemoOptions) Validate() error {
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Cut == 0 {
		o.Cut = 3 * time.Second
	}
	if o.Rate == 0 {
		o.Rate = 100_000
	}
	if o.Duration < 0 || o.Cut < 0 || o.Duration < o.Cut+2*time.Second {
		return fmt.Errorf("%v with a cut of %v: want at least 2s more", o.Duration, o.Cut)
	}
	return nil
}

// LinkDemoReport is what came of it.
type LinkDemoReport struct {
	Network    string  `json:"network"` // network namespaces, loopback
	Sent       uint64  `json:"sent"`
	Received   uint64  `json:"received"`
	Lost       uint64  `json:"lost"`
	Duplicated uint64  `json:"duplicated"`
	OutOfOrder uint64  `json:"out_of_order"`
	Corrupt    uint64  `json:"corrupt"`
	Gaps       uint64  `json:"gaps"`
	Topics     int     `json:"topics"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"msgs_per_second"`
	CutNs      int64   `json:"cut_ns"`
	Behind     uint64  `json:"behind_at_heal"` // messages
	CatchUpNs  int64   `json:"catch_up_ns"`    // from the heal until nothing was behind, the next attempt to dial included
	Reconnects uint64  `json:"reconnects"`
	RTTNs      int64   `json:"rtt_ns"`
	P50        int64   `json:"p50_ns"` // from publishing to the handler on the other host, the cut included
	P99        int64   `json:"p99_ns"`
}

// ErrLinkDemo says that the other host did not see what it should.
var ErrLinkDemo = errors.New("the demo of the link failed")

// Verdict is nil if every message arrived once and in order, over a link that was cut.
func (r *LinkDemoReport) Verdict() error {
	switch {
	case r.Lost+r.Duplicated+r.OutOfOrder+r.Corrupt+r.Gaps > 0 || r.Received != r.Sent:
		return fmt.Errorf("%w: %d of %d received, %d lost, %d duplicated, %d out of order, %d corrupt", ErrLinkDemo, r.Received, r.Sent, r.Lost, r.Duplicated, r.OutOfOrder, r.Corrupt)
	case r.Sent == 0:
		return fmt.Errorf("%w: nothing was sent", ErrLinkDemo)
	case r.Reconnects == 0:
		return fmt.Errorf("%w: the link was never cut", ErrLinkDemo)
	}
	return nil
}

// linkTopics: the ring holds what is published while the link is down.
const linkTopics = `
[[topic]]
name = ">"
ring = "64MiB"
policy = "block:60s"
`

// linkDemo is the demo in the making.
type linkDemo struct {
	env   Env
	o     LinkDemoOptions
	dir   string
	buses [2]*bus
	wire  wire
	procs []*exec.Cmd
	feed  map[string][]coinbase.Match // by product
	note  func(string)

	sent     atomic.Uint64
	received atomic.Uint64
	stop     atomic.Bool
	latency  *hdrhistogram.Histogram
	report   LinkDemoReport
}

// wire is the way between the two hosts.
type wire interface {
	name() string
	listen() string                       // address at the far side
	dial() string                         // address that leads there
	in(host int, cmd *exec.Cmd) *exec.Cmd // runs a command on a host
	cut() error
	heal() error
	close()
}

// LinkDemo carries the sample feed from one bus to another, and cuts the link in the
// middle. note is told what happens; the report is there even if the verdict is bad.
func LinkDemo(ctx context.Context, env Env, o LinkDemoOptions, note func(string)) (r *LinkDemoReport, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &linkDemo{env: env, o: o, note: note, feed: map[string][]coinbase.Match{}, latency: hdrhistogram.New(1, maxLatencyNs, 3)}
	for _, m := range sample() {
		d.feed[m.Product] = append(d.feed[m.Product], m)
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.setUp(ctx); err != nil {
		return nil, err
	}
	if err := d.run(ctx); err != nil {
		return nil, err
	}
	return &d.report, nil
}

func (d *linkDemo) close() error {
	var errs []error
	for _, p := range d.procs {
		_ = p.Process.Signal(os.Interrupt)
	}
	for _, p := range d.procs {
		_ = p.Wait() // how an interrupted forwarder ends is not the demo's business
	}
	if d.wire != nil {
		d.wire.close()
	}
	for _, b := range d.buses {
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

const forwardConfig = `[forward]
node = %q
registry = %q
control = %q
listen = [%s]
log_level = "warn"

[[link]]
peer = %q
%s
insecure = true
`

// setUp starts two registries and two forwarders.
func (d *linkDemo) setUp(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "mycelium-link-"); err != nil {
		return err
	}
	for i := range d.buses {
		if d.buses[i], err = openBus(ctx, d.env, linkTopics); err != nil {
			return err
		}
	}
	if d.wire, err = newWire(d.o.Loopback); err != nil {
		return err
	}
	d.report.Network = d.wire.name()
	for i, node := range []string{"host-a", "host-b"} {
		peer, listen, rules := "host-b", "", "address = \""+d.wire.dial()+"\"\nexport = [\"market.>\"]"
		if i == 1 {
			peer, listen, rules = "host-a", `"`+d.wire.listen()+`"`, `import = ["market.>"]`
		}
		file := filepath.Join(d.dir, node+".toml")
		text := fmt.Sprintf(forwardConfig, node, d.buses[i].socket, d.control(i), listen, peer, rules)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		cmd := d.wire.in(i, d.env.Forwarder(file))
		cmd.Stderr = d.env.Stderr
		cmd.SysProcAttr = dieWithParent
		cmd.Env = withoutSettings(cmd.Environ())
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start the forwarder of %s: %w", node, err)
		}
		d.procs = append(d.procs, cmd)
	}
	return d.await(ctx, "the link", func() bool { s, err := d.status(ctx, 0); return err == nil && s.Links[0].State == "up" })
}

func (d *linkDemo) control(host int) string {
	return filepath.Join(d.dir, fmt.Sprintf("%c.sock", 'a'+host))
}

func (d *linkDemo) status(ctx context.Context, host int) (*tcp.Status, error) {
	return tcp.Ask(ctx, d.control(host), tcp.Order{Op: "status"})
}

// linkTimeout is how long anything may take that does not depend on the options.
const linkTimeout = 30 * time.Second

func (d *linkDemo) await(ctx context.Context, what string, ok func() bool) error {
	end := time.Now().Add(linkTimeout)
	for !ok() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s in vain", linkTimeout, what)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// run publishes, reads, cuts and heals.
func (d *linkDemo) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	there, err := registry.Dial(ctx, d.buses[1].socket, nil)
	if err != nil {
		return err
	}
	defer there.Close()
	sub, err := there.Subscriber(ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	begin := time.Now()
	var all sync.WaitGroup
	all.Go(func() {
		if err := d.publish(ctx, begin); err != nil {
			cancel(err)
		}
	})
	all.Go(func() {
		if err := d.read(ctx, sub); err != nil {
			cancel(err)
		}
	})
	defer func() {
		d.stop.Store(true)
		cancel(errDemoOver)
		all.Wait()
	}()
	pause := func(until time.Duration) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Until(begin.Add(until))):
			return nil
		}
	}
	at := (d.o.Duration - d.o.Cut) / 2
	if err := pause(at); err != nil {
		return err
	}
	cut := time.Now()
	if err := d.wire.cut(); err != nil {
		return err
	}
	d.note("the link is cut")
	if err := pause(at + d.o.Cut); err != nil {
		return err
	}
	d.report.Behind = d.sent.Load() - d.received.Load()
	goal := d.sent.Load()
	if err := d.wire.heal(); err != nil {
		return err
	}
	heal := time.Now()
	d.report.CutNs = heal.Sub(cut).Nanoseconds()
	d.note(fmt.Sprintf("the link is healed, the far side is %d messages behind", d.report.Behind))
	if err := d.await(ctx, "the far side to catch up", func() bool { return d.received.Load() >= goal }); err != nil {
		return err
	}
	d.report.CatchUpNs = time.Since(heal).Nanoseconds()
	d.note("caught up")
	if err := pause(d.o.Duration); err != nil {
		return err
	}
	d.stop.Store(true)
	if err := d.await(ctx, "the last messages", func() bool { return d.received.Load() >= d.sent.Load() }); err != nil && ctx.Err() != nil {
		return err
	}
	d.report.Seconds = time.Since(begin).Seconds()
	s, err := d.status(ctx, 0)
	if err != nil {
		return err
	}
	d.report.Reconnects, d.report.RTTNs = s.Links[0].Reconnects, s.Links[0].RTTNs
	time.Sleep(50 * time.Millisecond) // what comes now comes twice
	cancel(errDemoOver)
	all.Wait()
	d.report.Sent, d.report.Received = d.sent.Load(), d.received.Load()
	d.report.Lost += d.report.Sent - min(d.report.Sent, d.report.Received+d.report.Lost)
	d.report.Topics, d.report.Rate = len(d.feed), float64(d.report.Sent)/d.o.Duration.Seconds()
	d.report.P50, d.report.P99 = d.latency.ValueAtQuantile(50), d.latency.ValueAtQuantile(99)
	return nil
}

var errDemoOver = errors.New("over")

// publish sends the feed, topic by topic in turn, at the rate of the options.
func (d *linkDemo) publish(ctx context.Context, begin time.Time) error {
	here, err := registry.Dial(ctx, d.buses[0].socket, nil)
	if err != nil {
		return err
	}
	defer here.Close()
	type out struct {
		p    *shm.Publisher
		feed []coinbase.Match
	}
	var outs []out
	for product, feed := range d.feed {
		p, err := here.Publisher(ctx, coinbase.Topic(coinbase.DefaultPrefix, product), &shm.PublisherOptions{Source: "feed", Timestamps: shm.TimestampsClock})
		if err != nil {
			return err
		}
		defer p.Close()
		outs = append(outs, out{p, feed})
	}
	var b [coinbase.MessageBytes]byte
	for n := uint64(0); !d.stop.Load() && ctx.Err() == nil; {
		goal := uint64(time.Since(begin).Seconds() * float64(d.o.Rate))
		for ; n < goal && !d.stop.Load(); n++ {
			o := &outs[n%uint64(len(outs))]
			seq := o.p.Seq()
			o.feed[seq%uint64(len(o.feed))].Put(b[:], seq)
			if _, err := o.p.Publish(tradeType, b[:]); err != nil {
				return err
			}
			d.sent.Add(1)
		}
		time.Sleep(200 * time.Microsecond)
	}
	<-ctx.Done() // the lanes stay open until all was read
	return nil
}

// read checks every message on the other host.
func (d *linkDemo) read(ctx context.Context, sub *shm.Subscriber) error {
	next := map[shm.TopicID]uint64{}
	var want [coinbase.MessageBytes]byte
	r := &d.report
	idle := sub.Idler()
	for {
		n, err := sub.Poll(func(f shm.Frame) {
			feed := d.feed[strings.TrimPrefix(sub.TopicName(f.Topic), coinbase.DefaultPrefix+".")]
			due := next[f.Topic]
			switch {
			case f.Seq < due:
				r.Duplicated++
				return
			case f.Seq > due:
				r.OutOfOrder++
				r.Lost += f.Seq - due
			}
			next[f.Topic] = f.Seq + 1
			feed[f.Seq%uint64(len(feed))].Put(want[:], f.Seq)
			if f.Type != tradeType || !bytes.Equal(f.Payload, want[:]) {
				r.Corrupt++
			}
			_ = d.latency.RecordValue(min(max(clock.Mono()-f.Time, 1), maxLatencyNs))
			d.received.Add(1)
		}, 0)
		switch {
		case errors.Is(err, shm.ErrGap):
			r.Gaps++
		case err != nil:
			return err
		}
		if n == 0 && ctx.Err() != nil {
			return nil
		}
		idle.Idle(n)
	}
}

// newWire makes two network namespaces, if that is allowed, else a way over loopback.
func newWire(loopback bool) (wire, error) {
	if !loopback {
		if w, err := newNamespaces(); err == nil {
			return w, nil
		}
	}
	return newProxy()
}

// namespaces are two hosts in namespaces of their own, and a cable between them.
type namespaces struct{ names [2]string }

const demoPort = "7373"

func newNamespaces() (*namespaces, error) {
	w := &namespaces{}
	tag := fmt.Sprintf("myc%d", os.Getpid())
	w.names = [2]string{tag + "a", tag + "b"}
	veth := [2]string{"v" + tag + "a", "v" + tag + "b"}
	steps := [][]string{{"netns", "add", w.names[0]}, {"netns", "add", w.names[1]},
		{"link", "add", veth[0], "netns", w.names[0], "type", "veth", "peer", "name", veth[1], "netns", w.names[1]}}
	for i, n := range w.names {
		steps = append(steps, []string{"-n", n, "link", "set", veth[i], "name", "cable"}, []string{"-n", n, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "cable"},
			[]string{"-n", n, "link", "set", "lo", "up"}, []string{"-n", n, "link", "set", "cable", "up"})
	}
	for _, s := range steps {
		if err := runIP(s...); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func runIP(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func (w *namespaces) name() string   { return "network namespaces" }
func (w *namespaces) listen() string { return "10.77.0.2:" + demoPort }
func (w *namespaces) dial() string   { return "10.77.0.2:" + demoPort }
func (w *namespaces) cut() error     { return runIP("-n", w.names[1], "link", "set", "cable", "down") }
func (w *namespaces) heal() error    { return runIP("-n", w.names[1], "link", "set", "cable", "up") }

func (w *namespaces) in(host int, cmd *exec.Cmd) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", w.names[host]}, cmd.Args...)...)
}

func (w *namespaces) close() {
	for _, n := range w.names {
		_ = runIP("netns", "del", n) // it may not be there
	}
}

// proxy is a way over loopback that can be cut: bytes stop in both directions, and then
// the connections are gone.
type proxy struct {
	ln     net.Listener
	target string
	mu     sync.Mutex
	down   bool
	conns  map[net.Conn]bool
}

func newProxy() (*proxy, error) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	target := probe.Addr().String() // free a moment ago
	_ = probe.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{ln: ln, target: target, conns: map[net.Conn]bool{}}
	go p.accept()
	return p, nil
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		p.mu.Lock()
		if err != nil || p.down {
			_ = c.Close()
			if far != nil {
				_ = far.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.conns[c], p.conns[far] = true, true
		p.mu.Unlock()
		go p.copy(c, far)
		go p.copy(far, c)
	}
}

func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if err != nil {
			return
		}
		if down {
			continue // it goes nowhere
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) name() string                      { return "loopback" }
func (p *proxy) listen() string                    { return p.target }
func (p *proxy) dial() string                      { return p.ln.Addr().String() }
func (p *proxy) in(_ int, cmd *exec.Cmd) *exec.Cmd { return cmd }
func (p *proxy) cut() error                        { p.mu.Lock(); p.down = true; p.mu.Unlock(); return nil }

func (p *proxy) heal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
	for c := range p.conns { // what was swallowed is gone: so are they
		_ = c.Close()
	}
	clear(p.conns)
	return nil
}

func (p *proxy) close() {
	_ = p.ln.Close()
	_ = p.heal()
}
