package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/shm"
)

// What pub and replay share.

// meter counts what is moved, for progress and for the summary. One goroutine
// adds.
type meter struct {
	messages, bytes atomic.Uint64
	start           time.Time
}

func (m *meter) add(bytes int) {
	m.messages.Add(1)
	m.bytes.Add(uint64(bytes))
}

// total is the part of a summary that all have.
type total struct {
	Messages          uint64  `json:"messages,string"`
	Bytes             uint64  `json:"bytes,string"`
	ElapsedNs         int64   `json:"elapsed_ns"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
}

func (m *meter) total() total {
	took := time.Since(m.start)
	t := total{Messages: m.messages.Load(), Bytes: m.bytes.Load(), ElapsedNs: took.Nanoseconds()}
	t.MessagesPerSecond, t.BytesPerSecond = float64(t.Messages)/took.Seconds(), float64(t.Bytes)/took.Seconds()
	return t
}

func (t total) String() string {
	return fmt.Sprintf("%d %s, %s in %s, %s/s, %s/s", t.Messages, plural(int(min(t.Messages, 2)), "message", "messages"), humanBytes(float64(t.Bytes)),
		humanDuration(time.Duration(t.ElapsedNs)), humanCount(t.MessagesPerSecond), humanBytes(t.BytesPerSecond))
}

// published is what one publisher did.
type published struct {
	Topic    string `json:"topic"`
	Source   string `json:"source"`
	Messages uint64 `json:"messages,string"`
	FirstSeq string `json:"first_seq,omitempty"` // absent without a message
	LastSeq  string `json:"last_seq,omitempty"`
}

// publishedBy is what p did since its next sequence was first.
func publishedBy(p *shm.Publisher, first uint64) published {
	r := published{Topic: p.Topic(), Source: p.Source(), Messages: p.Seq() - first}
	if r.Messages > 0 {
		r.FirstSeq, r.LastSeq = strconv.FormatUint(first, 10), strconv.FormatUint(p.Seq()-1, 10)
	}
	return r
}

// parseRate reads messages per second: 1000, 1000/s, 400k/s, 1.5M/s. 0 is as
// fast as possible.
func parseRate(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	text := strings.TrimSuffix(s, "/s")
	unit := 1.0
	switch {
	case strings.HasSuffix(text, "k"):
		unit = 1e3
	case strings.HasSuffix(text, "M"):
		unit = 1e6
	}
	if unit != 1 {
		text = text[:len(text)-1]
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0 && v*unit <= 1e9) {
		return 0, usagef("--rate %q: want messages per second, as in 1000/s or 400k/s", s)
	}
	return v * unit, nil
}

// sleepUntil waits for a time; it returns at once what interrupts it.
func sleepUntil(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 50*time.Microsecond { // a sleep could not be that short
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// waitSubscribers waits until n subscribers read the publisher's lane.
func (a *app) waitSubscribers(cmd *cobra.Command, client *shm.Client, p *shm.Publisher, n int, timeout time.Duration) error {
	if n <= 0 {
		return nil
	}
	ctx := cmd.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: fewer than %d subscribers on %s within %v", errTimeout, n, p.Topic(), timeout))
		defer cancel()
	}
	var have atomic.Int64
	stop := a.progress(cmd, func() string { return fmt.Sprintf("%s: %d of %d subscribers are there", p.Topic(), have.Load(), n) })
	defer stop()
	for {
		t, err := inspectTopic(ctx, client, p.Topic())
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		count := 0
		for _, s := range t.SubscriberList {
			if readsLane(&t, &s, p.Source()) {
				count++
			}
		}
		have.Store(int64(count))
		if count >= n {
			return nil
		}
		if err := sleepUntil(ctx, time.Now().Add(20*time.Millisecond)); err != nil {
			return err
		}
	}
}

// readsLane reports whether a subscriber has begun to read the live lane of a
// source; before, it might not see its first message.
func readsLane(t *topicStatus, s *subscriberStatus, source string) bool {
	for _, l := range t.LaneList {
		if l.Source != source || l.State != "active" {
			continue
		}
		for _, r := range s.Lanes {
			if r.Lane == l.Epoch {
				return true
			}
		}
	}
	return false
}
