package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/bench"
)

func newDemoCommand(a *app) *cobra.Command {
	var o bench.DemoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole bus at work; needs nothing running",
		Long: `Show the whole bus at work, with nothing running and nothing left behind: a
private registry, publishers that replay market data as Protocol V2 trades on
market.coinbase.{product_id}, and three subscribers to market.>, each in a
process of its own: one lossless that spins, one lossless that parks, and one
slow and lossy, so that its gap reports are seen.

Every subscriber checks every message. The exit code is 0 only if the lossless
ones saw every message once and in order, and the lossy one was told of exactly
those that it missed. --data takes a recording of Coinbase matches, a JSON array
or one object a line; without it a sample is made up.`,
		Example: `  myceliumctl demo
  myceliumctl demo --data matches.json --duration 5s -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := a.benchEnv(cmd, &o, "duration", "publishers", "rate")
			if err != nil {
				return err
			}
			begun := time.Now()
			stop := a.progress(cmd, func() string {
				return fmt.Sprintf("demo: %s of %s", time.Since(begun).Round(100*time.Millisecond), o.Duration)
			})
			r, err := bench.Demo(cmd.Context(), env, o)
			stop()
			if r == nil {
				return err
			}
			if perr := a.print(cmd, "demo", r, func(w io.Writer) { a.writeDemo(w, r) }); perr != nil {
				return perr
			}
			if verdict := r.Verdict(); verdict != nil {
				return verdict
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Data, "data", "", "`file` with Coinbase matches to replay (default: a sample)")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how `long` to publish")
	f.IntVar(&o.Publishers, "publishers", 2, "`number` of publishers")
	f.Uint64Var(&o.Rate, "rate", 200_000, "messages a second of each publisher")
	return c
}

func (a *app) writeDemo(w io.Writer, r *bench.DemoReport) {
	fmt.Fprintf(w, "%d publishers sent %d trades on %d topics in %.1f s: %s/s\n", r.Publishers, r.Published, r.Topics, r.Seconds, humanCount(r.Rate))
	if r.Data != nil {
		fmt.Fprintf(w, "%s: %d trades per loop, %d loops, %d lost\n", safe(r.Data.File), r.Data.PerLoop, r.Data.Loops, r.Lost)
	}
	fmt.Fprintln(w)
	t := newTable("SUBSCRIBER", "MODE", "IDLE", ">RECEIVED", ">MISSED", ">GAPS", ">P50", ">P99", ">P99.9", ">MAX")
	for _, s := range r.Subscribers {
		t.row(s.Name, s.Mode, s.Idle, s.Received, s.Missed, s.Gaps, ns(s.P50), ns(s.P99), ns(s.P999), ns(s.Max))
	}
	t.write(w, "", a.title)
	fmt.Fprintf(w, "\nlatency from the publisher's timestamp to the handler; the slow subscriber sleeps between polls on purpose\n")
	fmt.Fprintf(w, "registry %s, %.1f %% of one processor\n", humanBytes(float64(r.Registry.RSS)), r.Registry.CPU)
	if err := r.Verdict(); err == nil {
		fmt.Fprintf(w, "ok: 0 lost, 0 duplicated, 0 out of order; every gap was reported exactly\n")
	}
}
