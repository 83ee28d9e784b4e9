package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
)

func newTopicCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, inspect and delete topics",
		Long: `Create, list, inspect and delete topics. The short forms create, list, inspect
and delete at the top level are the same commands.`,
	}
	c.AddCommand(topicCommands(a, "topic ")...)
	return c
}

// topicCommands are made twice, below "topic " and below "", since a command
// has one parent.
func topicCommands(a *app, path string) []*cobra.Command {
	return []*cobra.Command{newCreateCommand(a, path), newListCommand(a, path), newInspectCommand(a, path), newDeleteCommand(a, path)}
}

// topicStatus is a topic in JSON output.
type topicStatus struct {
	Topic           string             `json:"topic"`
	RingBytes       uint64             `json:"ring_bytes"`
	MaxMessageBytes uint32             `json:"max_message_bytes"`
	StepBytes       uint64             `json:"step_bytes"`
	Policy          string             `json:"policy"`
	Messages        uint64             `json:"messages,string"` // sum over the lanes that are kept
	Bytes           uint64             `json:"bytes,string"`
	Publishers      int                `json:"publishers"`
	Subscribers     int                `json:"subscribers"`
	Lanes           int                `json:"lanes"`
	Mirrors         int                `json:"mirrors"`  // lanes of those that mirror one of another host
	Readable        bool               `json:"readable"` // whoever asks may subscribe to it
	Rate            *topicRate         `json:"rate,omitempty"`
	LaneList        []laneStatus       `json:"lane_list,omitzero"` // inspect has both, be they empty
	SubscriberList  []subscriberStatus `json:"subscriber_list,omitzero"`
}

type topicRate struct {
	WindowNs          int64   `json:"window_ns"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
}

type laneStatus struct {
	Epoch     string            `json:"epoch"`
	Number    uint32            `json:"number"`
	Source    string            `json:"source"`
	State     string            `json:"state"`
	UID       uint32            `json:"uid"`
	PID       uint32            `json:"pid"` // as its process says
	NextSeq   uint64            `json:"next_seq,string"`
	Tail      uint64            `json:"tail_position,string"`
	Intent    uint64            `json:"intent_position,string"`
	BeatAgeNs int64             `json:"beat_age_ns"` // -1 = none yet
	Metrics   map[string]uint64 `json:"metrics"`

	Mirror     bool   `json:"mirror"`
	OriginNode string `json:"origin_node"`
	Hops       uint8  `json:"hops"` // links that the messages came over
}

type subscriberStatus struct {
	Epoch     string            `json:"epoch"`
	Name      string            `json:"name"`
	Pattern   string            `json:"pattern"`
	Mode      string            `json:"mode"`
	UID       uint32            `json:"uid"`
	Sleeping  bool              `json:"sleeping"`
	BeatAgeNs int64             `json:"beat_age_ns"`
	LagFrames uint64            `json:"lag_messages,string"` // the most on one lane
	LagBytes  uint64            `json:"lag_bytes"`           // likewise
	Gaps      uint64            `json:"gaps,string"`
	Missed    uint64            `json:"missed,string"`
	Evictions uint64            `json:"evictions,string"`
	Lanes     []laneLag         `json:"lanes"`
	Metrics   map[string]uint64 `json:"metrics"`
}

type laneLag struct {
	Lane      string `json:"lane"`
	Seq       uint64 `json:"next_seq,string"`
	Cursor    uint64 `json:"cursor,string"`
	LagFrames uint64 `json:"lag_messages,string"`
	LagBytes  uint64 `json:"lag_bytes"`
}

func statusOf(i *control.TopicInfo) topicStatus {
	s := topicStatus{Topic: i.Topic, RingBytes: i.Ring, MaxMessageBytes: i.MaxMsg, StepBytes: i.Step, Policy: i.Policy, Messages: i.Frames,
		Bytes: i.Bytes, Publishers: i.Publishers, Subscribers: i.Subscribers, Lanes: i.LaneCount, Mirrors: i.Mirrors, Readable: !i.Unreadable}
	for _, l := range i.Lanes {
		s.LaneList = append(s.LaneList, laneStatus{l.Epoch.String(), l.Number, l.Source, l.State, l.UID, l.PID, l.NextSeq, l.Tail, l.Intent, l.BeatAgeNs, l.Metrics,
			l.Mirror, l.OriginNode.String(), l.Hops})
	}
	for _, u := range i.Subs {
		// An entry with many lanes comes in parts.
		at := slices.IndexFunc(s.SubscriberList, func(o subscriberStatus) bool { return o.Epoch == u.Epoch.String() })
		if at < 0 {
			at = len(s.SubscriberList)
			s.SubscriberList = append(s.SubscriberList, subscriberStatus{Epoch: u.Epoch.String(), Name: u.Name, Pattern: u.Pattern, Mode: u.Mode, UID: u.UID,
				Sleeping: u.Sleeping, BeatAgeNs: u.BeatAge, Gaps: u.Metrics["gaps"], Missed: u.Metrics["missed"], Evictions: u.Metrics["evictions"],
				Lanes: []laneLag{}, Metrics: u.Metrics})
		}
		o := &s.SubscriberList[at]
		for _, l := range u.Lanes {
			o.Lanes = append(o.Lanes, laneLag{l.Lane.String(), l.Seq, l.Cursor, l.LagFrames, l.LagBytes})
			o.LagFrames, o.LagBytes = max(o.LagFrames, l.LagFrames), max(o.LagBytes, l.LagBytes)
		}
	}
	return s
}

// inspectTopic asks for everything about one topic.
func inspectTopic(ctx context.Context, c *shm.Client, name string) (topicStatus, error) {
	var all control.TopicInfo
	for cursor := ""; ; {
		r, err := c.Request(ctx, &control.Message{Op: control.OpInspect, Topic: name, Cursor: cursor})
		if err != nil {
			return topicStatus{}, err
		}
		if len(r.Topics) != 1 {
			return topicStatus{}, fmt.Errorf("the registry's answer to inspect describes %d topics", len(r.Topics))
		}
		lanes, subs := all.Lanes, all.Subs
		all = r.Topics[0]
		all.Lanes, all.Subs = append(lanes, all.Lanes...), append(subs, all.Subs...)
		if cursor = r.Cursor; cursor == "" {
			return statusOf(&all), nil
		}
	}
}

// listTopics asks for the topics that match a pattern, summed up.
func listTopics(ctx context.Context, c *shm.Client, pattern string) ([]topicStatus, error) {
	all := []topicStatus{}
	for cursor := ""; ; {
		r, err := c.Request(ctx, &control.Message{Op: control.OpList, Topic: pattern, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for i := range r.Topics {
			all = append(all, statusOf(&r.Topics[i]))
		}
		if cursor = r.Cursor; cursor == "" {
			return all, nil
		}
	}
}

// checkTopic and checkPattern refuse a name before anybody is asked.
func checkTopic(name string) error {
	if err := topic.Check(name); err != nil {
		return &usageError{err}
	}
	return nil
}

func checkPattern(pattern string) error {
	if err := topic.CheckPattern(pattern); err != nil {
		return &usageError{err}
	}
	return nil
}

// completeTopic offers the names of the bus's topics to the shell.
func (a *app) completeTopic(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	names, err := a.topicNames(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) topicNames(ctx context.Context) (names []string, err error) {
	c, err := a.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := listTopics(ctx, c, ">")
	for _, t := range all {
		names = append(names, t.Topic)
	}
	return names, err
}
