package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/transport/tcp"
)

func newForwardListCommand(a *app, o *forwardTarget) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the links of the forwarder",
		Long: `List the links of the forwarder that runs on this host. LAG is what was
published here and has not arrived there, "-" (null in JSON) where there is some
of which nobody has told yet how much; DUPS are messages that came twice and were
dropped; GAPS are holes that were passed on.`,
		Example: `  myceliumctl forward list
  myceliumctl forward list -o json | jq '.links[] | {peer, state, lag_frames}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.askForwarder(cmd.Context(), o, tcp.Order{Op: "status"})
			if err != nil {
				return err
			}
			return a.print(cmd, "forward_list", s, func(w io.Writer) { a.writeLinks(w, s) })
		},
	}
}

func (a *app) writeLinks(w io.Writer, s *tcp.Status) {
	titles := []string{"PEER", "LINK", "STATE", ">FOR", ">RTT", ">SENT", ">RECEIVED", ">LAG", ">UNACKED", ">RECONNECTS", ">DUPS", ">GAPS"}
	wide := a.output == "wide"
	if wide {
		titles = append(titles, ">WIRE OUT", ">WIRE IN", ">LOOPS", "LAST ERROR")
	}
	t := newTable(titles...)
	for i := range s.Links {
		l := &s.Links[i]
		var unacked uint64
		for _, e := range l.Exports {
			unacked += e.Unacked
		}
		cells := []any{safe(l.Peer), safe(l.Link), l.State, humanDuration(time.Duration(l.SinceNs).Round(time.Millisecond)), rtt(l.RTTNs), l.Sent.Frames, l.Received.Frames,
			lag(l.LagFrames), humanBytes(float64(unacked)), l.Reconnects, l.Received.Duplicates, l.Sent.Gaps + l.Received.Gaps}
		if wide {
			cells = append(cells, humanBytes(float64(l.WireOut)), humanBytes(float64(l.WireIn)), l.Sent.Loops+l.Received.Loops, safe(l.LastError))
		}
		t.row(cells...)
	}
	t.write(w, "", a.title)
}

// lag is "-" where there is some of which nobody has told how much.
func lag(frames *uint64) string {
	if frames == nil {
		return "-"
	}
	return strconv.FormatUint(*frames, 10)
}

func rtt(ns int64) string {
	if ns == 0 {
		return "-"
	}
	return humanDuration(time.Duration(ns))
}

func newForwardInspectCommand(a *app, o *forwardTarget) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PEER[/LINK]",
		Short: "Show one link with its streams",
		Long: `Show one link of the forwarder that runs on this host: every lane that it
sends and takes. WINDOW is how much the other side takes at the moment; a stream
that is skimmed is not wanted there, and holds nobody back.`,
		Example: `  myceliumctl forward inspect host-b
  myceliumctl forward inspect host-b -o json | jq '.exports[].lag_bytes'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.askForwarder(cmd.Context(), o, tcp.Order{Op: "status"})
			if err != nil {
				return err
			}
			l, err := s.Link(args[0])
			if err != nil {
				return err
			}
			return a.print(cmd, "forward_link", l, func(w io.Writer) { a.writeLink(w, s, l) })
		},
	}
}

func (a *app) writeLink(w io.Writer, s *tcp.Status, l *tcp.LinkStatus) {
	fmt.Fprintf(w, "link %s with %s: %s for %s", safe(l.Link), safe(l.Peer), l.State, humanDuration(time.Duration(l.SinceNs).Round(time.Millisecond)))
	if l.Address != "" {
		fmt.Fprintf(w, ", dialled at %s", safe(l.Address))
	}
	fmt.Fprintf(w, "\nrtt %s, %d connects, wire %s out and %s in\n", rtt(l.RTTNs), l.Connects, humanBytes(float64(l.WireOut)), humanBytes(float64(l.WireIn)))
	if l.LastError != "" {
		fmt.Fprintf(w, "last error: %s\n", safe(l.LastError))
	}
	if s.TLS && s.CertExpires != "" {
		fmt.Fprintf(w, "certificate until %s\n", s.CertExpires)
	}
	for _, part := range []struct {
		name string
		list []tcp.StreamStatus
	}{{"exports", l.Exports}, {"imports", l.Imports}} {
		if len(part.list) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", part.name)
		t := newTable("TOPIC", "SOURCE", "STATE", ">NEXT", ">ACKED", ">LAG", ">UNACKED", ">WINDOW", ">GAPS", ">MISSED", ">DUPS")
		for _, x := range part.list {
			state := x.State
			if x.Why != "" {
				state += " (" + x.Why + ")"
			}
			t.row(safe(x.Topic), safe(x.Source), state, x.NextSeq, x.AckedSeq, lag(x.LagFrames), humanBytes(float64(x.Unacked)), humanBytes(float64(x.WindowBytes)), x.Gaps, x.Missed, x.Duplicates)
		}
		t.write(w, "  ", a.title)
	}
}

func newForwardPauseCommand(a *app, o *forwardTarget, op string) *cobra.Command {
	short, long := "Have a link send nothing", `Have a link of the running forwarder send nothing until it is resumed. The
connection stays, and so does what comes in. What the link exports is held: a
publisher that fills its ring meets its topic's policy.`
	if op == "resume" {
		short, long = "Have a paused link go on", `Have a paused link of the running forwarder go on where it was.`
	}
	return &cobra.Command{
		Use:     op + " PEER[/LINK]",
		Short:   short,
		Long:    long,
		Example: "  myceliumctl forward " + op + " host-b",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.askForwarder(cmd.Context(), o, tcp.Order{Op: op, Link: args[0]})
			if err != nil {
				return err
			}
			l, err := s.Link(args[0])
			if err != nil {
				return err
			}
			return a.print(cmd, "forward_link", l, func(w io.Writer) { fmt.Fprintf(w, "link %s with %s: %s\n", safe(l.Link), safe(l.Peer), l.State) })
		},
	}
}
