// Command peers measures a link beside its peers, in one run: a topic from one bus to
// another over two forwarders, NATS core publish and subscribe, and a plain TCP stream
// between two processes. It is a module of its own, so that NATS is nobody's dependency.
//
//	go run . -bin ../../bin/myceliumctl
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	bin     = flag.String("bin", "../../bin/myceliumctl", "the program under test")
	seconds = flag.Float64("seconds", 2, "how long each measurement counts")
	rounds  = flag.Int("rounds", 5, "measurements of each kind, in alternation")
	asJSON  = flag.Bool("json", false, "one JSON line")
	only    = flag.String("only", "", "link, nats, tcp or latency")
	spin    = flag.String("spin", "50us", "how long a link looks for work before it sleeps")
	ring    = flag.String("ring", "4MiB", "ring of the topics on both buses")
	verbose = flag.Bool("v", false, "show what the children say")
)

// report is the whole result. Ratios are of measurements of one round, since the machine
// may be another from round to round.
type report struct {
	Link64   spread    `json:"link_64_msgs_per_second"`
	NATS64   spread    `json:"nats_64_msgs_per_second"`
	TCP64    spread    `json:"tcp_64_msgs_per_second"`
	Link1K   spread    `json:"link_1024_bytes_per_second"`
	TCP1K    spread    `json:"tcp_1024_bytes_per_second"`
	Ratio64  spread    `json:"link_to_nats"`
	Ratio1K  spread    `json:"link_to_tcp_1024"`
	LinkP50  spread    `json:"link_one_way_p50_ns"`
	TCPP50   spread    `json:"tcp_one_way_p50_ns"`
	RatioP50 spread    `json:"link_to_tcp_p50"`
	Awake    spread    `json:"link_awake_one_way_p50_ns"` // with spin = awake
	RatioUp  spread    `json:"link_awake_to_tcp_p50"`
	All      []measure `json:"all"`
}

// awake is the spin of a link that does not go to sleep between messages that come 1 ms apart.
const awake = "2ms"

// spread is what several rounds gave.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func spreadOf(v []float64) (s spread) {
	if v = slices.Sorted(slices.Values(v)); len(v) > 0 {
		s = spread{v[len(v)/2], v[0], v[len(v)-1]}
	}
	return s
}

func (s spread) text(unit float64) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median/unit, s.Min/unit, s.Max/unit)
}

type measure struct {
	What  string             `json:"what"`
	Value float64            `json:"value"`
	CPU   map[string]float64 `json:"cpu_seconds"` // of each process, from its start to its end
}

// spent is what the processes of the measurement under way have used.
var spent map[string]float64

func main() {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			check(role(os.Args[2:]))
			return
		}
	}
	flag.Parse()
	var r report
	kinds := []struct {
		name string
		run  func() float64
		into *spread
	}{
		{"link 64", func() float64 { return link(64) }, &r.Link64},
		{"nats 64", func() float64 { return nats(64) }, &r.NATS64},
		{"tcp 64", func() float64 { return tcp(64) }, &r.TCP64},
		{"link 1024", func() float64 { return link(1024) * 1024 }, &r.Link1K},
		{"tcp 1024", func() float64 { return tcp(1024) * 1024 }, &r.TCP1K},
		{"link latency", func() float64 { return linkLatency(*spin) }, &r.LinkP50},
		{"awake latency", func() float64 { return linkLatency(awake) }, &r.Awake},
		{"tcp latency", tcpLatency, &r.TCPP50},
	}
	values := map[string][]float64{}
	for range *rounds {
		for _, k := range kinds {
			if !strings.Contains(k.name, *only) {
				continue
			}
			spent = map[string]float64{}
			v := k.run()
			values[k.name] = append(values[k.name], v)
			r.All = append(r.All, measure{k.name, v, spent})
			if !*asJSON {
				fmt.Fprintf(os.Stderr, "%-14s %14.0f   %s\n", k.name, v, shares(spent))
			}
		}
	}
	for _, k := range kinds {
		*k.into = spreadOf(values[k.name])
	}
	ratio := func(a, b string) spread {
		var all []float64
		for i := range min(len(values[a]), len(values[b])) {
			all = append(all, values[a][i]/values[b][i])
		}
		return spreadOf(all)
	}
	r.Ratio64, r.Ratio1K = ratio("link 64", "nats 64"), ratio("link 1024", "tcp 1024")
	r.RatioP50, r.RatioUp = ratio("link latency", "tcp latency"), ratio("awake latency", "tcp latency")
	if *asJSON {
		check(json.NewEncoder(os.Stdout).Encode(r))
		return
	}
	fmt.Printf("medians of %d rounds (least to most)\n", *rounds)
	fmt.Printf("64 B, M msg/s:                   link %s, NATS core %s, plain TCP %s; link to NATS %s\n", r.Link64.text(1e6), r.NATS64.text(1e6), r.TCP64.text(1e6), r.Ratio64.text(1))
	fmt.Printf("1,024 B, GB/s:                   link %s, plain TCP %s; link to TCP %s\n", r.Link1K.text(1e9), r.TCP1K.text(1e9), r.Ratio1K.text(1))
	fmt.Printf("one way at 1,000 msg/s, p50, us: link %s, plain TCP %s; link to TCP %s\n", r.LinkP50.text(1e3), r.TCPP50.text(1e3), r.RatioP50.text(1))
	fmt.Printf("the same with spin = %q:        link %s; link to TCP %s\n", awake, r.Awake.text(1e3), r.RatioUp.text(1))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// shares says who used how much of the processor time.
func shares(spent map[string]float64) string {
	sum := 0.0
	for _, v := range spent {
		sum += v
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(spent)) {
		fmt.Fprintf(&b, "%s %.0f %%  ", k, 100*spent[k]/sum)
	}
	return b.String()
}

// child is a process of a measurement.
type child struct {
	what string
	cmd  *exec.Cmd
	out  *bufio.Reader
}

func run(what, name string, args ...string) *child {
	c := exec.Command(name, args...)
	if *verbose {
		c.Stderr = os.Stderr
	}
	out, err := c.StdoutPipe()
	check(err)
	check(c.Start())
	return &child{what, c, bufio.NewReader(out)}
}

func role(args ...string) *child {
	self, err := os.Executable()
	check(err)
	return run(args[0], self, args...)
}

// line is what the child says next.
func (c *child) line() string {
	s, err := c.out.ReadString('\n')
	check(err)
	return strings.TrimSpace(s)
}

func (c *child) number() float64 {
	v, err := strconv.ParseFloat(c.line(), 64)
	check(err)
	return v
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(os.Interrupt)
	done := time.AfterFunc(5*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer done.Stop()
	_ = c.cmd.Wait()
	spent[c.what] += (c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()).Seconds()
}

func text(v any) string { return fmt.Sprint(v) }

// pair is two buses with a link.
type pair struct {
	dir  string
	a, b string
	all  []*child
}

func newPair(spin string) *pair {
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-peers-")
	check(err)
	p := &pair{dir: dir, a: filepath.Join(dir, "a.sock"), b: filepath.Join(dir, "b.sock")}
	port := freePort()
	write := func(name, text string, args ...any) string {
		file := filepath.Join(dir, name)
		check(os.WriteFile(file, fmt.Appendf(nil, text, args...), 0o600))
		return file
	}
	topics := "[[topic]]\nname = \">\"\nring = \"" + *ring + "\"\npolicy = \"block:60s\"\n"
	ra := write("ra.toml", "[registry]\nsocket = %q\nshm_dir = %q\n%s", p.a, filepath.Join(dir, "a"), topics)
	rb := write("rb.toml", "[registry]\nsocket = %q\nshm_dir = %q\n%s", p.b, filepath.Join(dir, "b"), topics)
	fa := write("fa.toml", "[forward]\nnode = \"a\"\nregistry = %q\nspin = %q\n[[link]]\npeer = \"b\"\naddress = \"127.0.0.1:%d\"\nexport = [\"m.>\"]\n", p.a, spin, port)
	fb := write("fb.toml", "[forward]\nnode = \"b\"\nregistry = %q\nlisten = [\"127.0.0.1:%d\"]\n[[link]]\npeer = \"a\"\nimport = [\"m.>\"]\n", p.b, port)
	p.all = append(p.all, run("registry", *bin, "registry", "serve", "--config", ra), run("registry", *bin, "registry", "serve", "--config", rb))
	await(p.a)
	await(p.b)
	p.all = append(p.all, run("receiver", *bin, "forward", "run", "--config", fb), run("sender", *bin, "forward", "run", "--config", fa))
	time.Sleep(300 * time.Millisecond)
	return p
}

func (p *pair) stop() {
	for _, c := range slices.Backward(p.all) {
		c.stop()
	}
	_ = os.RemoveAll(p.dir)
}

func await(path string) {
	for range 5000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	check(fmt.Errorf("%s did not appear", path))
}

// link is messages a second from a publisher on one bus to a subscriber on the other.
func link(size int) float64 {
	p := newPair(*spin)
	defer p.stop()
	sub := role("sub", p.b, "m.x", text(*seconds))
	sub.line()
	pub := role("pub", p.a, "m.x", text(size), text(*seconds+1.5))
	v := sub.number()
	pub.stop()
	sub.stop()
	return v
}

func linkLatency(spin string) float64 {
	p := newPair(spin)
	defer p.stop()
	sub := role("sublat", p.b, "m.x", text(*seconds))
	sub.line()
	pub := role("publat", p.a, "m.x", text(*seconds+1.5))
	v := sub.number()
	pub.stop()
	sub.stop()
	return v
}

func nats(size int) float64 {
	port := text(freePort())
	server := role("natsd", port)
	defer server.stop()
	server.line()
	sub := role("natssub", port, text(*seconds))
	sub.line()
	pub := role("natspub", port, text(size), text(*seconds+1.5))
	v := sub.number()
	pub.stop()
	sub.stop()
	return v
}

func tcp(size int) float64 {
	recv := role("tcprecv", text(size), text(*seconds))
	send := role("tcpsend", recv.line(), text(size), text(*seconds+1.5))
	v := recv.number()
	send.stop()
	recv.stop()
	return v
}

func tcpLatency() float64 {
	pong := role("pong")
	ping := role("ping", pong.line(), text(*seconds))
	v := ping.number()
	ping.stop()
	pong.stop()
	return v
}
