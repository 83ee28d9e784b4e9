package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/bench"
)

func newBenchLatencyCommand(a *app) *cobra.Command {
	var (
		o          bench.LatencyOptions
		cpus, idle string
	)
	c := &cobra.Command{
		Use:   "latency",
		Short: "Measure the time from a publisher to a subscriber",
		Long: `Measure the time from a publisher to a subscriber in another process.

--idle spin: two processes bounce a message over two lanes and never leave their
processors; one way is half a round trip. The floor is the same with two bare
cache lines each way.

--idle park: the subscriber sleeps in the kernel when a message is published; one
way is from just before the publish to the handler. To compare, one process
wakes another by a bare futex.

Percentiles are medians over the runs, maxima are over all. Ctrl-C ends it with
what the runs that were complete say.`,
		Example: `  myceliumctl bench latency
  myceliumctl bench latency --size 1024 --cpus 0,1 -o json
  myceliumctl bench latency --idle park --duration 5s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.CPUs, err = parseCPUs(cpus); err != nil {
				return err
			}
			switch idle {
			case "spin":
			case "park":
				o.Park = true
			default:
				return usagef("--idle %q: want spin or park", idle)
			}
			env, err := a.benchEnv(cmd, &o, "size", "count", "duration", "runs")
			if err != nil {
				return err
			}
			part := func(runs int) string {
				if o.Duration > 0 {
					return fmt.Sprintf("%d %s, before %v were over", runs, plural(runs, "run", "runs"), o.Duration)
				}
				return fmt.Sprintf("%d of %d runs", runs, o.Runs)
			}
			var stop func()
			o.Progress, stop = a.progressOf(cmd, "bench latency")
			if o.Park {
				r, err := bench.MeasureWake(cmd.Context(), env, o)
				stop()
				if r == nil {
					return a.unmeasured(cmd, err)
				}
				return a.measured(cmd, part(r.Runs), err, a.print(cmd, "bench.wake", r, func(w io.Writer) { a.writeWake(w, r) }))
			}
			r, err := bench.MeasureLatency(cmd.Context(), env, o)
			stop()
			if r == nil {
				return a.unmeasured(cmd, err)
			}
			return a.measured(cmd, part(r.Runs), err, a.print(cmd, "bench.latency", r, func(w io.Writer) { a.writeLatency(w, r) }))
		},
	}
	f := c.Flags()
	f.IntVar(&o.Size, "size", 64, "`bytes` of a message")
	f.Uint64Var(&o.Count, "count", 0, "measured `messages` of each kind (default: 1000000, parked 4000)")
	f.IntVar(&o.Runs, "runs", 0, "`times` that bus and floor alternate (default: 10)")
	f.DurationVar(&o.Duration, "duration", 0, "go on for this `time` instead")
	f.StringVar(&cpus, "cpus", "", cpusUsage)
	f.StringVar(&idle, "idle", "spin", "how the subscriber waits: `spin` or park")
	c.MarkFlagsMutuallyExclusive("count", "duration")
	c.MarkFlagsMutuallyExclusive("runs", "duration")
	return c
}

func (a *app) writeLatency(w io.Writer, r *bench.LatencyReport) {
	fmt.Fprintf(w, "one way, %d bytes, %d messages in %d runs, processors %v\n\n", r.Size, r.Count, r.Runs, r.CPUs)
	t := newTable("", ">P50", ">P99", ">P99.9", ">MAX")
	t.row("bus", ns(r.P50), ns(r.P99), ns(r.P999), ns(r.Max))
	t.row("floor: two bare cache lines", ns(r.FloorP50), ns(r.FloorP99), ns(r.FloorP999), ns(r.FloorMax))
	t.write(w, "", a.title)
	fmt.Fprintf(w, "\np50 is %.2f times the floor, p99.9 %.1f times p50\n", r.RatioP50, r.RatioP999)
}

func (a *app) writeWake(w io.Writer, r *bench.WakeReport) {
	fmt.Fprintf(w, "wake-up, %d bytes, %d messages in %d runs, processors %v, %d parks\n\n", r.Size, r.Count, r.Runs, r.CPUs, r.Parks)
	t := newTable("", ">P50", ">P99", ">P99.9", ">MAX")
	t.row("parked subscriber", ns(r.WakeP50), ns(r.WakeP99), ns(r.WakeP999), ns(r.WakeMax))
	t.row("bare futex", ns(r.FutexP50), ns(r.FutexP99), ns(r.FutexP999), ns(r.FutexMax))
	t.write(w, "", a.title)
	fmt.Fprintf(w, "\np50 is %.2f times the bare futex\n", r.RatioWake)
}
