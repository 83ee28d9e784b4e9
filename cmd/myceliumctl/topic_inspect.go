package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
)

func newInspectCommand(a *app, path string) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect TOPIC",
		Short: "Show a topic's geometry, lanes and subscribers",
		Long: `Show everything that the registry knows of a topic: its geometry and policy,
every lane (one for each publisher, also of those that ended and are kept) and
every subscriber with how far it is behind and what it missed. The counters of a
subscriber are over all topics that it follows; LANES are those of this topic.
The errors of publishers name subscribers by EPOCH. -o json tells all counters.

Lanes that a forwarder writes mirror those of another host: ORIGIN is the
identity of the host where the messages were published, as "forward list -o json"
tells it there (node_id), HOPS how many links they came over.`,
		Example:           "  myceliumctl " + path + "inspect market.kraken.BTC-USD\n  myceliumctl " + path + "inspect market.kraken.BTC-USD -o json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			client, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			t, err := inspectTopic(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			if t.LaneList == nil {
				t.LaneList = []laneStatus{}
			}
			if t.SubscriberList == nil {
				t.SubscriberList = []subscriberStatus{}
			}
			return a.print(cmd, "topic", t, func(w io.Writer) { a.writeTopic(w, &t) })
		},
	}
}

func (a *app) writeTopic(w io.Writer, t *topicStatus) {
	fmt.Fprintln(w, a.title(t.Topic))
	fmt.Fprintf(w, "ring %s, max message %s, credit step %s, policy %s\n", config.FormatSize(t.RingBytes), config.FormatSize(uint64(t.MaxMessageBytes)), config.FormatSize(t.StepBytes), t.Policy)
	fmt.Fprintf(w, "%d %s, %s\n", t.Messages, plural(t.Messages, "message", "messages"), humanBytes(float64(t.Bytes)))

	fmt.Fprintf(w, "\n%d %s", t.Lanes, plural(t.Lanes, "lane", "lanes"))
	titles := []string{"SOURCE", "STATE", ">SEQ", ">MESSAGES", ">BYTES", ">STALLED", ">EVICTED", ">BEAT", ">UID", ">PID", ">LANE", "EPOCH"}
	if t.Mirrors > 0 {
		fmt.Fprintf(w, ", %d mirrored from elsewhere", t.Mirrors)
		titles = append(titles, ">HOPS", "ORIGIN")
	}
	fmt.Fprintln(w)
	if len(t.LaneList) > 0 {
		lanes := newTable(titles...)
		for _, l := range t.LaneList {
			if l.State == "closed" || l.State == "dead" { // nobody is left to beat
				l.BeatAgeNs = -1
			}
			cells := []any{safe(l.Source), l.State, l.NextSeq, l.Metrics["frames"], humanBytes(float64(l.Metrics["bytes"])), humanDuration(time.Duration(l.Metrics["backpressure_ns"])),
				l.Metrics["evictions"], beatText(l.BeatAgeNs), l.UID, l.PID, l.Number, l.Epoch}
			switch {
			case l.Mirror:
				cells = append(cells, l.Hops, l.OriginNode)
			case t.Mirrors > 0:
				cells = append(cells, l.Hops, "this host")
			}
			lanes.row(cells...)
		}
		lanes.write(w, "  ", a.title)
	}
	fmt.Fprintf(w, "\n%d %s\n", t.Subscribers, plural(t.Subscribers, "subscriber", "subscribers"))
	if len(t.SubscriberList) > 0 {
		subs := newTable("NAME", "PATTERN", "MODE", ">LAG", ">LAG BYTES", ">GAPS", ">MISSED", ">EVICTIONS", "STATE", ">BEAT", ">UID", ">LANES", "EPOCH")
		for _, s := range t.SubscriberList {
			state := "awake"
			if s.Sleeping {
				state = "parked"
			}
			subs.row(safe(s.Name), s.Pattern, s.Mode, humanCount(float64(s.LagFrames)), humanBytes(float64(s.LagBytes)), s.Gaps, s.Missed, s.Evictions, state, beatText(s.BeatAgeNs), s.UID, len(s.Lanes), s.Epoch)
		}
		subs.write(w, "  ", a.title)
	}
}

// beatText is how long ago a process said that it lives.
func beatText(ns int64) string {
	if ns < 0 {
		return "-"
	}
	return humanDuration(time.Duration(ns))
}
