package registry

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/shm"
)

// BenchmarkAttach opens and closes a publisher at a registry of its own
// process; p50-us is the median of opening alone.
func BenchmarkAttach(b *testing.B) {
	for _, ring := range []uint64{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("publisher/ring=%d", ring), func(b *testing.B) {
			bus := newBus(b, "lane_grace = \"1ms\"\nrequests_per_second = 1048576", "")
			bus.start()
			c := bus.dial()
			attach(b, func() (interface{ Close() error }, error) {
				return c.Publisher(b.Context(), "bench.attach", &shm.PublisherOptions{RingBytes: ring})
			})
		})
	}
	b.Run("subscriber", func(b *testing.B) {
		bus := newBus(b, "requests_per_second = 1048576", "")
		bus.start()
		c := bus.dial()
		p, err := c.Publisher(b.Context(), "bench.attach", nil)
		must(b, err)
		defer p.Close()
		attach(b, func() (interface{ Close() error }, error) {
			return c.Subscriber(b.Context(), "bench.*", &shm.SubscriberOptions{Mode: shm.Lossless})
		})
	})
}

func attach(b *testing.B, open func() (interface{ Close() error }, error)) {
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		h, err := open()
		took = append(took, time.Since(start))
		must(b, err)
		must(b, h.Close())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
}

// BenchmarkIdle is what a registry costs that has 1,000 topics and 100 clients
// and nothing to do: resident memory and share of one core over a second.
func BenchmarkIdle(b *testing.B) {
	bus := newBus(b, "requests_per_second = 1048576", "[[topic]]\nname = \">\"\nring = \"64KiB\"")
	r := bus.start()
	for i := range 100 {
		c := bus.dial()
		for j := range 10 {
			p, err := c.Publisher(b.Context(), fmt.Sprintf("bench.t%d.%d", i, j), nil)
			must(b, err)
			defer p.Close()
		}
		_, err := c.Subscriber(b.Context(), fmt.Sprintf("bench.t%d.*", i), nil)
		must(b, err)
	}
	if st := bus.stats(); st.Topics != 1000 || st.Connections != 101 {
		b.Fatalf("%d topics, %d connections", st.Topics, st.Connections)
	}
	time.Sleep(3 * time.Second) // past the deadlines of every handshake
	var cpu, elapsed time.Duration
	for b.Loop() {
		before, start := cpuTime(b, r.Pid()), time.Now()
		time.Sleep(time.Second)
		cpu += cpuTime(b, r.Pid()) - before
		elapsed += time.Since(start)
	}
	b.ReportMetric(100*cpu.Seconds()/elapsed.Seconds(), "cpu-%")
	b.ReportMetric(float64(memory(b, r.Pid(), "VmRSS"))/1024, "rss-MiB")
	b.ReportMetric(float64(memory(b, r.Pid(), "RssAnon"))/1024, "anon-MiB")
	b.ReportMetric(float64(memory(b, r.Pid(), "VmHWM"))/1024, "peak-MiB")
}

// cpuTime is what a process has used, user and system.
func cpuTime(t testing.TB, pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, err := strconv.Atoi(f[11])
	must(t, err)
	system, err := strconv.Atoi(f[12])
	must(t, err)
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// memory is a line of a process's status, KiB.
func memory(t testing.TB, pid int, line string) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), line+":")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	must(t, err)
	return n
}
