package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/torqbridge"
)

type torqMoved struct {
	Domain  string `json:"domain"`
	From    string `json:"from"`
	To      string `json:"to"`
	Moved   bool   `json:"moved"` // false = a dry run, or there already
	TookNs  int64  `json:"took_ns"`
	Clients int    `json:"clients"` // handed back to the old relay
	Forced  int    `json:"forced"`  // of them, cut off with messages on the way
	Note    string `json:"note"`
}

// way is the modes from the old relay to the bus.
var way = []string{string(torqbridge.ModeLegacy), string(torqbridge.ModeShadow), string(torqbridge.ModeBus)}

func newTorqCutoverCommand(a *app) *cobra.Command {
	return newMoveCommand(a, "cutover", "bus", []string{"shadow", "bus"}, &cobra.Command{
		Short: "Bring a domain closer to the bus",
		Long: `Bring a domain to shadow, where the bridge mirrors and compares, or from there to
bus, where it serves the socket. Messages flow on: connections to the old relay
stay with it and are mirrored; whoever connects from now on reaches the bridge.

To bus is refused (exit code 6) while the comparison does not say same; --force
overrules it.`,
		Example: `  myceliumctl torq cutover market_data --to shadow --yes
  myceliumctl torq cutover market_data --dry-run`,
	})
}

func newTorqRollbackCommand(a *app) *cobra.Command {
	return newMoveCommand(a, "rollback", "shadow", []string{"shadow", "legacy"}, &cobra.Command{
		Short: "Give a domain back to the old relay",
		Long: `Give a domain's socket and clients back to the old relay, in less than 10 seconds:
consumers first, then producers, each message once. The domain is in shadow then;
--to legacy also ends mirroring and comparison.

Refused (exit code 6) if the old relay does not answer: start it first. --force
frees the socket all the same and ends every connection.`,
		Example: `  myceliumctl torq rollback market_data
  myceliumctl torq rollback market_data --to legacy --yes`,
	})
}

func newMoveCommand(a *app, verb, to string, targets []string, c *cobra.Command) *cobra.Command {
	var control string
	var yes, dry, force bool
	c.Use = verb + " DOMAIN"
	c.Args = cobra.ExactArgs(1)
	c.ValidArgsFunction = completeDomain
	c.RunE = func(cmd *cobra.Command, args []string) error {
		domain := args[0]
		if err := checkDomain(domain); err != nil {
			return err
		}
		if to != targets[0] && to != targets[1] {
			return usagef("--to %q: want %s or %s", to, targets[0], targets[1])
		}
		if !yes && !dry && !a.stdinTTY {
			return usagef("%s %s: stdin is no terminal to ask on; confirm with --yes", verb, domain)
		}
		ctx := cmd.Context()
		would, err := torqbridge.MoveTo(ctx, control, domain, torqbridge.Mode(to), force, true)
		if err != nil {
			return err
		}
		r := torqMoved{Domain: domain, From: string(would.From), To: to}
		if ahead := slices.Index(way, r.From) - slices.Index(way, to); verb == "cutover" && ahead > 0 || verb == "rollback" && ahead < 0 {
			r.To = r.From // that far already, and no command goes the other's way
		}
		if !dry && r.From != r.To {
			if !yes {
				if err := a.confirm(cmd, fmt.Sprintf("Move %s from %s to %s?", domain, r.From, to)); err != nil {
					return err
				}
			}
			stop := a.progress(cmd, func() string { return fmt.Sprintf("moving %s from %s to %s", domain, r.From, to) })
			m, err := torqbridge.MoveTo(ctx, control, domain, torqbridge.Mode(to), force, false)
			stop()
			if err != nil {
				return err
			}
			r.Moved, r.TookNs, r.Clients, r.Forced, r.Note = true, int64(m.Took), m.Clients, m.Forced, m.Note
		}
		return a.print(cmd, "torq_move", r, func(w io.Writer) { r.write(w, dry) })
	}
	f := c.Flags()
	f.StringVar(&to, "to", to, "`mode`: "+targets[0]+" or "+targets[1])
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&dry, "dry-run", false, "say whether it could be done and do nothing")
	f.BoolVar(&force, "force", false, "overrule what speaks against it")
	_ = c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(targets, cobra.ShellCompDirectiveNoFileComp))
	controlFlag(c, &control)
	return c
}

func (r *torqMoved) write(w io.Writer, dry bool) {
	switch {
	case r.From == r.To:
		fmt.Fprintf(w, "%s is in %s already\n", r.Domain, r.To)
	case dry:
		fmt.Fprintf(w, "would move %s from %s to %s\n", r.Domain, r.From, r.To)
	default:
		fmt.Fprintf(w, "moved %s from %s to %s in %s", r.Domain, r.From, r.To, humanDuration(time.Duration(r.TookNs)))
		if r.Clients > 0 {
			fmt.Fprintf(w, ", %d %s handed back", r.Clients, plural(r.Clients, "client", "clients"))
		}
		if r.Forced > 0 {
			fmt.Fprintf(w, ", %d of them with messages on the way", r.Forced)
		}
		fmt.Fprintln(w)
		if r.Note != "" {
			fmt.Fprintf(w, "note: %s\n", safe(r.Note))
		}
	}
}
