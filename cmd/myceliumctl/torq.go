package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/torqbridge"
)

func newTorqCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "torq",
		Short: "Move Torq's services onto the bus, and back",
		Long: `Run the bridge between Torq's relays and the bus, and move domains (market_data,
signals, execution) from the old relay to the bus and back while messages flow:

  legacy --cutover--> shadow --cutover--> bus
         <-rollback--        <-rollback--

In shadow the old relay serves, and the bridge compares. In bus the bridge serves
the socket. docs/migration.md is the whole story.`,
	}
	c.AddCommand(newTorqServeCommand(a), newTorqCheckCommand(a), newTorqStatusCommand(a), newTorqCutoverCommand(a), newTorqRollbackCommand(a))
	return c
}

func newTorqServeCommand(a *app) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the bridge until SIGINT or SIGTERM",
		Long: `Run the bridge: each domain of the configuration begins in its mode, or in the one
that a cutover or rollback left it in, as long as the file's mode stays the same.

At the end every public socket goes back to the old relay that is there. A socket
on which somebody listens is never taken at the start: see cutover.

If the registry is not there yet it waits, says so once, and begins when the
registry is up. A service manager is told when every domain is in its mode.`,
		Example: `  myceliumctl torq serve --config torq.toml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := torqbridge.LoadConfig(file)
			if err != nil {
				return err
			}
			if a.socket != "" {
				cfg.Registry = a.socket
			}
			level := slog.LevelInfo
			if cmd.Flags().Changed("log-level") {
				_ = level.UnmarshalText([]byte(a.logLevel)) // checked already
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			defer tellStopping(cmd.Context(), log)()
			return torqbridge.Serve(cmd.Context(), *cfg, torqbridge.Options{Log: log, Waiting: awaitRegistry(log), Ready: func() {
				a.note(cmd, "ready: %d %s, commands on %s", len(cfg.Domains), plural(len(cfg.Domains), "domain", "domains"), cfg.Control)
				notifyManager(log, notifyReady)
			}})
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration `file`")
	_ = c.MarkFlagRequired("config")
	return c
}

type torqChecked struct {
	File     string          `json:"file"`
	Valid    bool            `json:"valid"`
	Domains  int             `json:"domains"`
	Problems []configProblem `json:"problems"`
}

func newTorqCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Report every problem of a bridge's configuration",
		Long: `Check a configuration file as serve would read it. Every problem is a line
FILE:LINE:COLUMN: MESSAGE on stderr, and the exit code is then 7.`,
		Example: `  myceliumctl torq check torq.toml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := torqbridge.LoadConfig(args[0])
			r := torqChecked{File: args[0], Valid: err == nil, Problems: []configProblem{}}
			var bad *config.Error
			switch {
			case errors.As(err, &bad) && a.output == "json":
				r.Problems = problemsOf(bad)
			case err != nil:
				return err
			default:
				r.Domains = len(c.Domains)
			}
			return errors.Join(a.print(cmd, "torq_check", r, func(w io.Writer) {
				fmt.Fprintf(w, "%s: ok, %d %s\n", r.File, r.Domains, plural(r.Domains, "domain", "domains"))
			}), err)
		},
	}
}

type torqStatus struct {
	Domains []torqbridge.Status `json:"domains"`
}

func newTorqStatusCommand(a *app) *cobra.Command {
	var control string
	c := &cobra.Command{
		Use:   "status [DOMAIN]",
		Short: "Show what each domain does, and what the comparison says",
		Example: `  myceliumctl torq status
  myceliumctl torq status market_data -o wide`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeDomain,
		RunE: func(cmd *cobra.Command, args []string) error {
			domain := ""
			if len(args) == 1 {
				domain = args[0]
			}
			all, err := torqbridge.GetStatus(cmd.Context(), control, domain)
			if err != nil {
				return err
			}
			return a.print(cmd, "torq_status", torqStatus{all}, func(w io.Writer) { a.writeTorqStatus(w, all, domain != "" || a.output == "wide") })
		},
	}
	controlFlag(c, &control)
	return c
}

func (a *app) writeTorqStatus(w io.Writer, all []torqbridge.Status, whole bool) {
	t := newTable("DOMAIN", "MODE", "SERVED BY", ">CLIENTS", ">IN", ">OUT", ">FROM BUS", ">FROM RELAY", ">TO RELAY", ">DROPPED", ">UNMAPPED", ">LOST", "RELAY", "VERDICT")
	for i := range all {
		s := &all[i]
		mode := string(s.Mode)
		if s.Phase != "" {
			mode += ", " + s.Phase
		}
		t.row(s.Domain, mode, s.Served, s.Clients, shortCount(s.In), shortCount(s.Out), shortCount(s.FromBus), shortCount(s.FromRelay), shortCount(s.ToRelay),
			shortCount(s.Dropped), shortCount(s.Unmappable+s.Oversize), shortCount(s.Lost), relayText(s), verdictText(s.Windows))
	}
	t.write(w, "", a.title)
	for i := range all {
		s := &all[i]
		if s.Reason != "" {
			fmt.Fprintf(w, "\n%s is in %s since %s: %s\n", s.Domain, s.Mode, s.Since.Format(time.DateTime), safe(s.Reason))
		}
		if whole {
			a.writeTorqDetail(w, s)
		}
	}
}

// writeTorqDetail prints what has no column.
func (a *app) writeTorqDetail(w io.Writer, s *torqbridge.Status) {
	fmt.Fprintf(w, "\n%s on %s, %s since %s\n", s.Domain, s.Socket, s.Mode, s.Since.Format(time.DateTime))
	fmt.Fprintf(w, "  %d clients accepted, %d connected, %d of them have sent; %d greetings, %d replays\n", s.Accepted, s.Clients, s.Producers, s.Greetings, s.Replays)
	fmt.Fprintf(w, "  %d resyncs over %d bytes, %d cut off by the end of a connection, %d refused by the domain filter, %d of another version passed on\n", s.Resyncs, s.SkippedBytes, s.Truncated, s.Refused, s.OtherVersions)
	fmt.Fprintf(w, "  %d topics; %d messages unmapped, %d too large for their topic, %d frames on the bus were no message\n", s.Topics, s.Unmappable, s.Oversize, s.NotMessages)
	fmt.Fprintf(w, "  waited %s for room on the bus; the relay refused %d messages, %d were too large for it\n", humanDuration(time.Duration(s.StalledNs)), s.RelayRefused, s.RelayTooLarge)
	if s.RelayError != "" {
		fmt.Fprintf(w, "  the relay: %s\n", safe(s.RelayError))
	}
	if len(s.Windows) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("WINDOW", ">MATCHED", ">MISSING", ">EXTRA", ">DIFFERENT", ">REORDERED", ">LATER p50", ">p99", "VERDICT")
	for _, v := range s.Windows {
		t.row(v.End.Format(time.TimeOnly), v.Matched, v.Missing, v.Extra, v.Different, v.Reordered,
			humanDuration(time.Duration(v.LatencyP50Ns)), humanDuration(time.Duration(v.LatencyP99Ns)), v.Verdict)
	}
	t.write(w, "  ", a.title)
}

func shortCount(n uint64) string { return humanCount(float64(n)) }

func relayText(s *torqbridge.Status) string {
	switch {
	case s.Mode == torqbridge.ModeLegacy:
		return "-"
	case s.RelayUp:
		return "up"
	case s.RelayDown:
		return "down"
	}
	return "absent"
}

// verdictText is the last verdict that says something.
func verdictText(all []torqbridge.Window) string {
	for _, v := range slices.Backward(all) {
		if v.Verdict != torqbridge.VerdictIdle {
			return v.Verdict
		}
	}
	if len(all) > 0 {
		return torqbridge.VerdictIdle
	}
	return "-"
}

func controlFlag(c *cobra.Command, control *string) {
	c.Flags().StringVar(control, "control", "", "control `socket` of the bridge (default: torq.sock beside the registry's default socket)")
}

func completeDomain(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return torqbridge.DomainNames(), cobra.ShellCompDirectiveNoFileComp
}

// checkDomain refuses names that no bridge can have.
func checkDomain(name string) error {
	if !slices.Contains(torqbridge.DomainNames(), name) {
		return usagef("domain %q: want %s", name, strings.Join(torqbridge.DomainNames(), ", "))
	}
	return nil
}
