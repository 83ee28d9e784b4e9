package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/bench"
	"github.com/torq/mycelium/internal/config"
)

func newBenchThroughputCommand(a *app) *cobra.Command {
	var (
		o                bench.ThroughputOptions
		cpus, mode, ring string
	)
	c := &cobra.Command{
		Use:   "throughput",
		Short: "Measure how many messages a second get through",
		Long: `Measure how many messages a second go from publishers to subscribers that copy
each one out and check its sequence. A run lasts from the first publish to the
last message at the last subscriber. The baseline of the same run is a bare ring
of fixed slots, one writer and one reader, that copies the same payload.

The rate is the median of the runs, with the least and the greatest beside it.
Ctrl-C ends it with what the runs that were complete say.`,
		Example: `  myceliumctl bench throughput
  myceliumctl bench throughput --size 1024 --subscribers 3 --duration 2s
  myceliumctl bench throughput --size 1024 --ring 4MiB
  myceliumctl bench throughput --read poll
  myceliumctl bench throughput --mode lossy --count 50000000 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.CPUs, err = parseCPUs(cpus); err != nil {
				return err
			}
			if err := o.Mode.UnmarshalText([]byte(mode)); err != nil {
				return usagef("--mode %q: want lossless or lossy", mode)
			}
			if o.RingBytes, err = parseSize("ring", ring); err != nil {
				return err
			}
			env, err := a.benchEnv(cmd, &o, "size", "count", "duration", "runs", "publishers", "subscribers")
			if err != nil {
				return err
			}
			var stop func()
			o.Progress, stop = a.progressOf(cmd, "bench throughput")
			r, err := bench.MeasureThroughput(cmd.Context(), env, o)
			stop()
			if r == nil {
				return a.unmeasured(cmd, err)
			}
			return a.measured(cmd, fmt.Sprintf("%d of %d runs", r.Runs, o.Runs), err, a.print(cmd, "bench.throughput", r, func(w io.Writer) { a.writeThroughput(w, r) }))
		},
	}
	f := c.Flags()
	f.IntVar(&o.Size, "size", 64, "`bytes` of a message")
	f.Uint64Var(&o.Count, "count", 0, "`messages` of a run, of all publishers together (default: as many as come in --duration)")
	f.DurationVar(&o.Duration, "duration", 0, "`length` of a run (default: 1s)")
	f.IntVar(&o.Runs, "runs", 0, "`times` that bus and baseline alternate (default: 5)")
	f.IntVar(&o.Publishers, "publishers", 1, "`number` of publishers")
	f.IntVar(&o.Subscribers, "subscribers", 1, "`number` of subscribers")
	f.StringVar(&mode, "mode", "lossless", "of the subscribers: `lossless` or lossy")
	f.StringVar(&o.Read, "read", bench.ReadBatch, "of the subscribers: by the `batch` (PollBatch), or poll (Poll), frame by frame")
	f.StringVar(&ring, "ring", "", "`size` of each publisher's ring, a power of two from 64KiB to 1GiB (default: 1MiB, more for messages above 64KiB)")
	f.StringVar(&cpus, "cpus", "", cpusUsage)
	c.MarkFlagsMutuallyExclusive("count", "duration")
	return c
}

func (a *app) writeThroughput(w io.Writer, r *bench.ThroughputReport) {
	fmt.Fprintf(w, "%d bytes, publishers %d, %s subscribers %d, read by %s, rings of %s, runs %d, processors %v\n\n", r.Size, r.Publishers, r.Mode, r.Subscribers, r.Read, config.FormatSize(r.Ring), r.Runs, r.CPUs)
	rate := func(v float64) string { return humanCount(v) + "/s" }
	t := newTable("", ">MEDIAN", ">MIN", ">MAX", ">BANDWIDTH", ">LOST")
	t.row("bus", rate(r.Rate), rate(r.RateMin), rate(r.RateMax), humanBytes(r.Bytes)+"/s", r.Lost)
	t.row("baseline: bare slot ring", rate(r.Baseline), rate(r.BaselineMin), rate(r.BaselineMax), humanBytes(r.Baseline*float64(r.Size))+"/s")
	t.write(w, "", a.title)
	fmt.Fprintf(w, "\nthe bus does %.2f times the baseline\n", r.Ratio)
}
