package torqbridge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
)

// The benchmarks run the relay and the bridge each in a process of its own, and the
// peers in the benchmark's, in alternation, so that a machine that drifts drifts for both.

var _ = testproc.Register("relay", func(args []string) error {
	for i, path := range args {
		if i >= len(domainNames) { // nothing but a reader: the floor
			l, err := net.Listen("unix", path)
			if err != nil {
				return err
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go throwAway(c.(*net.UnixConn))
				}
			}()
			continue
		}
		if _, err := legacy.Listen(path, legacy.AnyDomain); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
})

// throwAway reads as the bridge reads from a client, and does nothing else.
func throwAway(c *net.UnixConn) {
	s, err := newSocket(c, make(chan struct{}, 1))
	for buf, n := make([]byte, readBytes), 0; err == nil; s.found(n / codec.TradeMessageSize) {
		n, err = s.read(buf)
	}
}

// bridge CONFIG runs a bridge until its standard input ends.
var _ = testproc.Register("bridge", func(args []string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if file := os.Getenv("BRIDGE_PROFILE"); file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		_ = pprof.StartCPUProfile(f)
		defer pprof.StopCPUProfile()
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return Serve(ctx, cfg, Options{Ready: func() { fmt.Println("ready") }})
})

// plainSocket connects a socket that blocks, and that the runtime knows nothing of.
func plainSocket(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: path})
}

// producer PATH TOGETHER SOURCE is an old producer: it writes so many messages at a time,
// as fast as the socket takes them, by a write(2) that blocks its only thread, of which the
// runtime does not know: so no more than a service without one has to do. For each line that it is
// sent it says how many it has written.
var _ = testproc.Register("producer", func(args []string) error {
	together, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	source, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	fd, err := plainSocket(args[0])
	if err != nil {
		return err
	}
	m := bytes.Repeat(trade(codec.Source(source), "BTC", 1), together)
	var sent atomic.Uint64
	go func() {
		runtime.LockOSThread()
		for err := error(nil); err == nil; sent.Add(uint64(together)) {
			err = plainWrite(fd, m)
		}
	}()
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		fmt.Println(sent.Load())
	}
	return nil
})

// bench is a relay and a bridge side by side, with three domains each.
type bench struct {
	*place
	b *testing.B
}

func newBench(b *testing.B) *bench {
	p := newPlace(b)
	x := &bench{place: p, b: b}
	var old, sinks []string
	cfg := p.config(ModeBus)
	cfg.Domains, cfg.Window = nil, time.Minute
	for _, name := range domainNames {
		old, sinks = append(old, p.socket("old_"+name)), append(sinks, p.socket("sink_"+name))
		cfg.Domains = append(cfg.Domains, DomainConfig{Name: name, Mode: ModeBus, Socket: p.socket(name)})
	}
	args, err := json.Marshal(cfg)
	must(b, err)
	for _, proc := range []*testproc.Proc{testproc.Start(b, "relay", append(old, sinks...), nil), testproc.Start(b, "bridge", []string{string(args)}, nil)} {
		proc.Limit(10 * time.Minute)
		if got := proc.Line(); got != "ready" {
			b.Fatal(got)
		}
		b.Cleanup(func() { _ = proc.Wait() })
	}
	return x
}

func dialRaw(b testing.TB, path string) *net.UnixConn {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	must(b, err)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func runs() int {
	if n, err := strconv.Atoi(os.Getenv("RUNS")); err == nil && n > 0 {
		return n
	}
	return 5
}

// stamped puts the time into the volume of a trade.
const stampAt = codec.HeaderSize + 2 + 16

func stamped(m []byte) { binary.LittleEndian.PutUint64(m[stampAt:], uint64(clock.Mono())) }
func age(m []byte) float64 {
	return float64(clock.Mono() - int64(binary.LittleEndian.Uint64(m[stampAt:])))
}

// paced sends messages one at a time, 200 us apart, and returns the percentiles of
// what got says about them.
func paced(b *testing.B, send func(m []byte), got <-chan float64) (p50, p99 float64) {
	const n = 3000
	ages := make([]float64, 0, n)
	m := trade(1, "BTC", 0)
	for i := range uint64(n) {
		binary.LittleEndian.PutUint64(m[8:], i)
		stamped(m)
		send(m)
		select {
		case a := <-got:
			ages = append(ages, a)
		case <-time.After(5 * time.Second):
			b.Fatal("a message did not arrive")
		}
		time.Sleep(200 * time.Microsecond)
	}
	slices.Sort(ages)
	return ages[n/2], ages[n*99/100]
}

func (x *bench) reader(path string) <-chan float64 {
	got := make(chan float64, 16)
	c := dialRaw(x.b, path)
	time.Sleep(50 * time.Millisecond) // until it is in
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if m := buf[:n]; n >= codec.TradeMessageSize && !codec.IsGreeting(m) {
				got <- age(m)
			}
		}
	}()
	return got
}

// BenchmarkLatency: an old producer to its reader, through the relay, and through
// the bridge to a subscriber on the bus and to an old consumer.
func BenchmarkLatency(b *testing.B) {
	x := newBench(b)
	oldGot := x.reader(x.socket("old_market_data"))
	oldTo := dialRaw(b, x.socket("old_market_data"))
	newGot := x.reader(x.socket("market_data"))
	newTo := dialRaw(b, x.socket("market_data"))

	b.ResetTimer()
	for b.Loop() {
		var relay, bus, socket, addedBus, addedSocket []float64
		for range runs() {
			r, _ := paced(b, func(m []byte) { _, _ = oldTo.Write(m) }, oldGot)
			s, _ := paced(b, func(m []byte) { _, _ = newTo.Write(m) }, newGot)
			n := x.pacedToBus(newTo, newGot)
			relay, bus, socket = append(relay, r), append(bus, n), append(socket, s)
			addedBus, addedSocket = append(addedBus, n-r), append(addedSocket, s-r)
		}
		b.ReportMetric(median(relay), "relay-p50-ns")
		b.ReportMetric(median(bus), "bus-p50-ns")
		b.ReportMetric(median(socket), "socket-p50-ns")
		b.ReportMetric(median(addedBus), "bus-added-ns")
		b.ReportMetric(median(addedSocket), "socket-added-ns")
		b.ReportMetric(0, "ns/op")
	}
}

// pacedToBus is paced with a subscriber, while the old consumer reads along.
func (x *bench) pacedToBus(to *net.UnixConn, socket <-chan float64) (p50 float64) {
	got := make(chan float64, 16)
	sub, err := x.dial().Subscriber(x.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdlePark})
	must(x.b, err)
	ctx, stop := context.WithCancel(x.ctx)
	var both sync.WaitGroup
	both.Go(func() {
		_ = sub.Run(ctx, nil, func(f shm.Frame) {
			m, err := codec.Parse(f.Payload, codec.ChecksumIgnore)
			if err == nil && m.Header().Domain == codec.DomainMarketData {
				got <- age(f.Payload)
			}
		})
	})
	both.Go(func() {
		for {
			select {
			case <-socket:
			case <-ctx.Done():
				return
			}
		}
	})
	p50, _ = paced(x.b, func(m []byte) { _, _ = to.Write(m) }, got)
	time.Sleep(10 * time.Millisecond)
	stop()
	both.Wait()
	must(x.b, sub.Close())
	return p50
}

// BenchmarkDirect: a publisher on the bus to a subscriber that decodes the trade.
func BenchmarkDirect(b *testing.B) {
	x := newBench(b)
	pub, err := x.dial().Publisher(x.ctx, "market.kraken.BTC", nil)
	must(b, err)
	sub, err := x.dial().Subscriber(x.ctx, "market.kraken.BTC", &shm.SubscriberOptions{Mode: shm.Lossless})
	must(b, err)
	got := make(chan float64, 16)
	ctx, stop := context.WithCancel(x.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var spin shm.Spin
		_ = sub.Run(ctx, &spin, func(f shm.Frame) {
			m, err := codec.Parse(f.Payload, codec.ChecksumVerifyIfNonzero)
			c := m.Cursor(codec.ModeBridge)
			var t codec.Trade
			if err == nil && c.Next() && t.Parse(c.TLV.Payload) == nil && t.Price >= 0 {
				got <- age(f.Payload)
			}
		})
	}()
	defer func() { stop(); <-done; _ = sub.Close(); _ = pub.Close() }()
	for b.Loop() {
		var p50, p99 []float64
		for range runs() {
			m, w := paced(b, func(m []byte) {
				if _, err := pub.Publish(1, m); err != nil {
					b.Error(err)
				}
			}, got)
			p50, p99 = append(p50, m), append(p99, w)
		}
		b.ReportMetric(median(p50), "p50-ns")
		b.ReportMetric(median(p99), "p99-ns")
		b.ReportMetric(0, "ns/op")
	}
}

// flood has three producers send as fast as the sockets take it for a while, so many
// messages at a time, and returns what arrived per second: at consumers, on the bus if
// onBus counts there, or else in the sockets.
func (x *bench) flood(prefix string, together int, consumers bool, onBus *atomic.Uint64) float64 {
	const took = 2 * time.Second
	var arrived atomic.Uint64
	var readers sync.WaitGroup
	var conns []*net.UnixConn
	if consumers {
		for _, name := range domainNames {
			c := dialRaw(x.b, x.socket(prefix+name))
			conns = append(conns, c)
			readers.Go(func() {
				r := bufio.NewReaderSize(c, 256<<10)
				for {
					n, err := r.Discard(codec.TradeMessageSize)
					if err != nil || n == 0 {
						return
					}
					arrived.Add(1)
				}
			})
		}
	}
	time.Sleep(200 * time.Millisecond)
	var producers []*testproc.Proc
	for i, name := range domainNames {
		producers = append(producers, testproc.Start(x.b, "producer", []string{x.socket(prefix + name), strconv.Itoa(together), strconv.Itoa(i + 1)}, nil))
	}
	sofar := func() (n uint64) {
		switch {
		case onBus != nil:
			return onBus.Load()
		case consumers:
			return arrived.Load()
		}
		for _, p := range producers {
			fmt.Fprintln(p.Stdin)
			sent, err := strconv.ParseUint(p.Line(), 10, 64)
			must(x.b, err)
			n += sent
		}
		return n
	}
	time.Sleep(took / 4)
	begin, before := time.Now(), sofar()
	time.Sleep(took)
	n, spent := sofar()-before, time.Since(begin)
	for _, p := range producers {
		p.Kill()
	}
	for _, c := range conns {
		_ = c.Close()
	}
	readers.Wait()
	return float64(n) / spent.Seconds()
}

// BenchmarkThreeDomains: what arrives per second through three sockets at once: at
// old consumers through the relay and through the bridge, and at a subscriber. Either
// alone: the consumers' rounds have no subscriber, and the subscriber's no consumer.
func BenchmarkThreeDomains(b *testing.B) {
	for _, together := range []int{1, 16} {
		b.Run(fmt.Sprintf("together=%d", together), func(b *testing.B) {
			x := newBench(b)
			for b.Loop() {
				var floor, old, bus, socket, rb, rs []float64
				for range runs() {
					o := x.flood("old_", together, true, nil)
					n := x.floodToBus(together)
					s := x.flood("", together, true, nil)
					floor = append(floor, x.flood("sink_", together, false, nil))
					old, bus, socket, rb, rs = append(old, o), append(bus, n), append(socket, s), append(rb, n/o), append(rs, s/o)
				}
				b.ReportMetric(median(floor)/1e6, "floor-M/s")
				b.ReportMetric(median(old)/1e6, "relay-M/s")
				b.ReportMetric(median(bus)/1e6, "bus-M/s")
				b.ReportMetric(median(socket)/1e6, "socket-M/s")
				b.ReportMetric(median(rb), "bus/relay")
				b.ReportMetric(median(rs), "socket/relay")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// floodToBus is flood with a subscriber and no consumer.
func (x *bench) floodToBus(together int) float64 {
	var onBus atomic.Uint64
	sub, err := x.dial().Subscriber(x.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdlePark})
	must(x.b, err)
	ctx, stop := context.WithCancel(x.ctx)
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = sub.Run(ctx, nil, func(f shm.Frame) {
			if _, err := codec.Parse(f.Payload, codec.ChecksumIgnore); err == nil {
				onBus.Add(1)
			}
		})
	})
	defer func() {
		stop()
		reading.Wait()
		must(x.b, sub.Close())
	}()
	return x.flood("", together, false, &onBus)
}
