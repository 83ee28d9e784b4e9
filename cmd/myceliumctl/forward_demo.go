package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/bench"
)

func newForwardDemoCommand(a *app) *cobra.Command {
	var o bench.LinkDemoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show topics across two hosts, over a link that is cut; needs nothing running",
		Long: `Show a link at work, with nothing running and nothing left behind: two buses and
two forwarders in processes of their own, in two network namespaces where this
user may create them and over loopback otherwise. A feed of trades is published
on one host and checked, byte by byte, on the other, while the link is cut and
healed in the middle.

The exit code is 0 only if every message arrived once and in order, and the link
really was down.`,
		Example: `  myceliumctl forward demo
  myceliumctl forward demo --duration 20s --cut 10s -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := a.benchEnv(cmd, &o, "duration", "cut", "rate")
			if err != nil {
				return err
			}
			env.Stderr = io.Discard // what they say of the cut is no news
			begun := time.Now()
			stop := a.progress(cmd, func() string {
				return fmt.Sprintf("demo: %s of %s", time.Since(begun).Round(100*time.Millisecond), o.Duration)
			})
			r, err := bench.LinkDemo(cmd.Context(), env, o, func(text string) {
				a.note(cmd, "%5.1f s  %s", time.Since(begun).Seconds(), text)
			})
			stop()
			if r == nil {
				return err
			}
			if perr := a.print(cmd, "forward_demo", r, func(w io.Writer) { a.writeLinkDemo(w, r) }); perr != nil {
				return perr
			}
			if verdict := r.Verdict(); verdict != nil {
				return verdict
			}
			return err
		},
	}
	f := c.Flags()
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "how `long` to publish")
	f.DurationVar(&o.Cut, "cut", 3*time.Second, "how `long` the link is down")
	f.Uint64Var(&o.Rate, "rate", 100_000, "messages a second")
	f.BoolVar(&o.Loopback, "loopback", false, "use no network namespaces")
	return c
}

func (a *app) writeLinkDemo(w io.Writer, r *bench.LinkDemoReport) {
	fmt.Fprintf(w, "two buses, two forwarders, over %s; %d topics, %s messages/s\n\n", r.Network, r.Topics, humanCount(r.Rate))
	t := newTable(">SENT", ">RECEIVED", ">LOST", ">DUPLICATED", ">OUT OF ORDER", ">CORRUPT", ">RECONNECTS", ">CUT", ">BEHIND", ">CATCH-UP", ">RTT")
	t.row(r.Sent, r.Received, r.Lost, r.Duplicated, r.OutOfOrder, r.Corrupt, r.Reconnects, humanDuration(time.Duration(r.CutNs)), r.Behind,
		humanDuration(time.Duration(r.CatchUpNs)), humanDuration(time.Duration(r.RTTNs)))
	t.write(w, "", a.title)
	fmt.Fprintf(w, "\nfrom publishing to the handler on the other host: p50 %s; p99 %s, the cut included\n", humanDuration(time.Duration(r.P50)), humanDuration(time.Duration(r.P99)))
	if r.Verdict() == nil {
		fmt.Fprintf(w, "ok: 0 lost, 0 duplicated, 0 out of order\n")
	}
}
