package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/shm"
)

// wideWindow is how long -o wide measures rates where --rate says nothing.
const wideWindow = 250 * time.Millisecond

type topicList struct {
	Topics []topicStatus `json:"topics"`
}

func newListCommand(a *app, path string) *cobra.Command {
	var window time.Duration
	c := &cobra.Command{
		Use:   "list [PATTERN]",
		Short: "List the topics that match a pattern",
		Long: `List topics, all or those that match a pattern: * stands for one token, > for
the rest. SEQ is how many messages the lanes that are kept have carried, MIRRORS
(shown where there are any) how many lanes mirror one of another host.

-o wide adds, from the subscribers of each topic, LAG (the most that one is
behind, in messages) and LOST (messages missed by all together), and measures
rates for 250ms unless --rate says otherwise.`,
		Example: "  myceliumctl " + path + "list\n" +
			"  myceliumctl " + path + "list 'market.>' -o wide\n" +
			"  myceliumctl " + path + "list 'market.*.BTC-USD' --rate 1s -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			pattern := ">"
			if len(args) == 1 {
				pattern = args[0]
			}
			if err := checkPattern(pattern); err != nil {
				return err
			}
			if window < 0 {
				return usagef("--rate %v: must not be negative", window)
			}
			wide := a.output == "wide"
			if wide && !cmd.Flags().Changed("rate") {
				window = wideWindow
			}
			client, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			topics, err := listTopics(cmd.Context(), client, pattern)
			if err == nil && window > 0 && len(topics) > 0 {
				err = measure(cmd.Context(), client, pattern, topics, window)
			}
			if err == nil && wide {
				err = lookCloser(cmd.Context(), client, topics)
			}
			if err != nil {
				return err
			}
			return a.print(cmd, "topic_list", topicList{topics}, func(w io.Writer) { a.writeTopics(w, topics, wide) })
		},
	}
	c.Flags().DurationVar(&window, "rate", 0, "measure rates for this `duration`")
	return c
}

// measure asks again after window and fills in rates. A topic that is gone by
// then keeps none.
func measure(ctx context.Context, client *shm.Client, pattern string, topics []topicStatus, window time.Duration) error {
	start := time.Now()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(window):
	}
	later, err := listTopics(ctx, client, pattern)
	if err != nil {
		return err
	}
	took := time.Since(start)
	now := make(map[string]topicStatus, len(later))
	for _, t := range later {
		now[t.Topic] = t
	}
	for i := range topics {
		t, ok := now[topics[i].Topic]
		if !ok {
			continue
		}
		// Lanes that were removed meanwhile take their counts with them.
		messages, bytes := max(0, int64(t.Messages-topics[i].Messages)), max(0, int64(t.Bytes-topics[i].Bytes))
		topics[i] = t
		topics[i].Rate = &topicRate{took.Nanoseconds(), float64(messages) / took.Seconds(), float64(bytes) / took.Seconds()}
	}
	return nil
}

// lookCloser replaces each topic by what inspect tells of it.
func lookCloser(ctx context.Context, client *shm.Client, topics []topicStatus) error {
	for i := range topics {
		t, err := inspectTopic(ctx, client, topics[i].Topic)
		if exitCode(err) == exitNotFound {
			continue
		}
		if err != nil {
			return err
		}
		t.Rate = topics[i].Rate
		topics[i] = t
	}
	return nil
}

func (a *app) writeTopics(w io.Writer, topics []topicStatus, wide bool) {
	titles := []string{"TOPIC", ">SEQ"}
	rated := wide || len(topics) > 0 && topics[0].Rate != nil
	if rated {
		titles = append(titles, ">RATE", ">BW")
	}
	titles = append(titles, ">PUBS", ">SUBS")
	mirrored := slices.ContainsFunc(topics, func(t topicStatus) bool { return t.Mirrors > 0 })
	if mirrored {
		titles = append(titles, ">MIRRORS")
	}
	if wide {
		titles = append(titles, ">LAG", ">LOST", ">RING", "POLICY")
	}
	t := newTable(titles...)
	for i := range topics {
		s := &topics[i]
		cells := []any{s.Topic, s.Messages}
		if rated {
			rate, bw := "-", "-"
			if s.Rate != nil {
				rate, bw = humanCount(s.Rate.MessagesPerSecond)+"/s", humanBytes(s.Rate.BytesPerSecond)+"/s"
			}
			cells = append(cells, rate, bw)
		}
		cells = append(cells, s.Publishers, s.Subscribers)
		if mirrored {
			cells = append(cells, s.Mirrors)
		}
		if wide {
			var lag, lost uint64
			for _, u := range s.SubscriberList {
				lag, lost = max(lag, u.LagFrames), lost+u.Missed
			}
			cells = append(cells, humanCount(float64(lag)), lost, humanBytes(float64(s.RingBytes)), s.Policy)
		}
		t.row(cells...)
	}
	t.write(w, "", a.title)
}
