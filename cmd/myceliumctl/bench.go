package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/bench"
)

func newBenchCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the bus on this machine",
		Long: `Measure the bus on this machine: publishers and subscribers in processes of their
own, each pinned to one processor, on a private bus that is removed afterwards.
Every measurement comes with that of the bare machine from the same run, in
alternation; compare their ratio rather than figures of different days.`,
	}
	c.AddCommand(newBenchLatencyCommand(a), newBenchThroughputCommand(a), newBenchWorkerCommand(a))
	return c
}

// newBenchWorkerCommand is the other side of bench and demo.
func newBenchWorkerCommand(a *app) *cobra.Command {
	var segment bool
	c := &cobra.Command{
		Use:    "worker",
		Short:  "Do the jobs of bench and demo, one a line on stdin",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.Worker(cmd.Context(), a.socket, segment, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&segment, "segment", false, "descriptor 3 is memory that the workers share")
	return c
}

// benchEnv checks the options of a measurement, of which some flags are above 0, and has
// it run this program as its workers and as its registry.
func (a *app) benchEnv(cmd *cobra.Command, o interface{ Validate() error }, above ...string) (bench.Env, error) {
	if err := above0(cmd, above...); err != nil {
		return bench.Env{}, err
	}
	if err := o.Validate(); err != nil {
		return bench.Env{}, &usageError{err}
	}
	self, err := os.Executable()
	if err != nil {
		return bench.Env{}, err
	}
	return bench.Env{
		Worker: func(socket string, segment bool) *exec.Cmd {
			return exec.Command(self, "bench", "worker", "--registry", socket, "--segment="+strconv.FormatBool(segment))
		},
		Registry: func(config string) *exec.Cmd {
			return exec.Command(self, "registry", "serve", "--quiet", "--config", config)
		},
		Forwarder: func(config string) *exec.Cmd { return exec.Command(self, "forward", "run", "--config", config) },
		Stderr:    cmd.ErrOrStderr(),
	}, nil
}

// progressOf shows how much of a measurement is done.
func (a *app) progressOf(cmd *cobra.Command, what string) (report func(float64), stop func()) {
	var percent atomic.Int64
	stop = a.progress(cmd, func() string { return fmt.Sprintf("%s: %d %%", what, percent.Load()) })
	return func(done float64) { percent.Store(int64(100 * done)) }, stop
}

// measured ends a measurement whose report was printed. Of one that was interrupted it
// tells how much of it that is.
func (a *app) measured(cmd *cobra.Command, part string, err, printed error) error {
	if err != nil {
		a.note(cmd, "interrupted after %s: the figures are of those", part)
	}
	return errors.Join(printed, err)
}

// unmeasured ends a measurement that has nothing to report.
func (a *app) unmeasured(cmd *cobra.Command, err error) error {
	if cmd.Context().Err() != nil {
		a.note(cmd, "interrupted before the first run was complete: nothing to report")
	}
	return err
}

// parseCPUs reads --cpus; "" is all.
func parseCPUs(s string) (cpus []int, err error) {
	if s == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, usagef("--cpus %q: want processor numbers with commas between them, as in 0,1", s)
		}
		cpus = append(cpus, n)
	}
	return cpus, nil
}

const cpusUsage = "`processors` of the processes, in turn, as in 0,1 (default: all that may be used)"

// ns is a latency in a table.
func ns(v float64) string {
	switch {
	case v < 10_000:
		return fmt.Sprintf("%.0f ns", v)
	case v < 10_000_000:
		return fmt.Sprintf("%.1f us", v/1e3)
	}
	return fmt.Sprintf("%.1f ms", v/1e6)
}
