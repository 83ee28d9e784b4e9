package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/shm"
)

// topicRates is what one window saw of a topic.
type topicRates struct {
	Topic             string  `json:"topic"`
	Messages          uint64  `json:"messages,string"` // published: received and missed
	MessagesPerSecond float64 `json:"messages_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"`
	IntervalMinNs     int64   `json:"interval_min_ns"` // between messages of one publisher; 0 = fewer than two
	IntervalMeanNs    int64   `json:"interval_mean_ns"`
	IntervalMaxNs     int64   `json:"interval_max_ns"`
	SizeMinBytes      int     `json:"size_min_bytes"`
	SizeMeanBytes     float64 `json:"size_mean_bytes"`
	SizeMaxBytes      int     `json:"size_max_bytes"`
	Missed            uint64  `json:"missed,string"` // by this tool
}

type hzReport struct {
	Time       string       `json:"time"`
	WindowNs   int64        `json:"window_ns"`
	Topics     []topicRates `json:"topics"`
	Missed     uint64       `json:"missed,string"` // by this tool
	CPUPercent float64      `json:"cpu_percent"`   // of this tool
}

type hzSummary struct {
	total
	Missed     uint64  `json:"missed,string"`
	CPUPercent float64 `json:"cpu_percent"`
}

func newHzCommand(a *app) *cobra.Command {
	var window time.Duration
	var reports int
	c := &cobra.Command{
		Use:   "hz PATTERN",
		Short: "Measure rates, intervals and sizes of topics",
		Long: `Measure, for each topic that matches a pattern and each window of time: rate and
bandwidth, the interval between messages of one publisher, and message sizes.
Intervals are of the publishers' timestamps, of arrival where there are none.

It reads as a lossy subscriber and holds nobody back. What it missed itself is
counted in the rate, and told as its own cost beside the processor time it used.`,
		Example: `  myceliumctl hz 'market.>'
  myceliumctl hz market.test --window 5s --count 1 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPattern(args[0]); err != nil {
				return err
			}
			if window < 10*time.Millisecond {
				return usagef("--window %v: want 10ms or more", window)
			}
			if reports < 0 {
				return usagef("--count %d: must not be negative", reports)
			}
			return (&measuring{a: a, cmd: cmd, pattern: args[0]}).run(window, reports)
		},
	}
	c.Flags().DurationVar(&window, "window", time.Second, "report every `duration`")
	c.Flags().IntVar(&reports, "count", 0, "end after `N` reports; 0 = never")
	return c
}

// measuring is one run of hz.
type measuring struct {
	a       *app
	cmd     *cobra.Command
	pattern string
	meter   meter
	drawn   int // lines of the last report on a terminal

	mu     sync.Mutex // guards what follows, between reading and reporting
	seen   map[shm.TopicID]*topicWindow
	last   map[laneKey]int64 // time of the last message
	missed uint64            // in this window, total and of lanes without a topic
}

type laneKey struct {
	topic  shm.TopicID
	source shm.SourceID
}

type topicWindow struct {
	messages, bytes, missed          uint64
	sizeMin, sizeMax                 int
	intervals                        uint64
	intervalMin, intervalMax, summed int64
}

func (m *measuring) run(window time.Duration, reports int) error {
	client, err := m.a.dial(m.cmd.Context())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := context.WithCancel(m.cmd.Context())
	defer stop()
	m.seen, m.last = map[shm.TopicID]*topicWindow{}, map[laneKey]int64{}
	m.a.warnUnreadable(ctx, m.cmd, client, m.pattern)
	sub, err := client.Subscriber(ctx, m.pattern, &shm.SubscriberOptions{Idle: shm.IdlePark, OnError: m.trouble})
	if err != nil {
		return err
	}
	m.meter.start = time.Now()
	var missed uint64
	cpuStart := cpuTime()
	done := make(chan error, 1)
	go func() { done <- sub.Run(ctx, nil, m.frame) }()

	tick := time.NewTimer(window) // anew after each report: no window is shorter than asked for
	defer tick.Stop()
	begin, cpu := m.meter.start, cpuStart
	for n := 0; err == nil && (reports == 0 || n < reports); n++ {
		select {
		case <-m.cmd.Context().Done():
			err = context.Cause(m.cmd.Context())
		case rerr := <-done:
			err = fmt.Errorf("subscriber: %w", rerr)
			done <- rerr
		case <-tick.C:
			now, used := time.Now(), cpuTime()
			r := m.report(sub, now.Sub(begin))
			r.CPUPercent = percent(used-cpu, now.Sub(begin))
			missed += r.Missed
			begin, cpu = now, used
			tick.Reset(window)
			err = m.show(&r)
		}
	}
	stop()
	<-done
	missed += m.missed
	if cerr := sub.Close(); err == nil {
		err = cerr
	}
	s := hzSummary{m.meter.total(), missed, percent(cpuTime()-cpuStart, time.Since(m.meter.start))}
	var sig *signalError
	if reports > 0 && !errors.As(err, &sig) {
		return err // the reports are all that was asked for
	}
	return errors.Join(err, m.a.summary(m.cmd, "hz_summary", s, fmt.Sprintf("received %s, missed %d, %.1f %% CPU used by this tool", s.total, s.Missed, s.CPUPercent)))
}

func (m *measuring) window(t shm.TopicID) *topicWindow {
	w := m.seen[t]
	if w == nil {
		w = &topicWindow{sizeMin: math.MaxInt, intervalMin: math.MaxInt64}
		m.seen[t] = w
	}
	return w
}

func (m *measuring) frame(f shm.Frame) {
	now := f.Time
	if now == 0 {
		now = clock.Mono()
	}
	m.meter.add(len(f.Payload))
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.window(f.Topic)
	w.messages++
	w.bytes += uint64(len(f.Payload))
	w.sizeMin, w.sizeMax = min(w.sizeMin, len(f.Payload)), max(w.sizeMax, len(f.Payload))
	k := laneKey{f.Topic, f.Source}
	if last, ok := m.last[k]; ok {
		d := now - last
		w.intervals++
		w.summed += d
		w.intervalMin, w.intervalMax = min(w.intervalMin, d), max(w.intervalMax, d)
	}
	m.last[k] = now
}

// trouble counts what this tool missed; the interval over a gap is none.
func (m *measuring) trouble(err error) {
	var gap *shm.GapError
	if !errors.As(err, &gap) {
		m.a.note(m.cmd, "%v", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.window(gap.Topic).missed += gap.Missed()
	m.missed += gap.Missed()
	delete(m.last, laneKey{gap.Topic, gap.Source})
}

// report takes the window's figures and begins the next.
func (m *measuring) report(sub *shm.Subscriber, took time.Duration) hzReport {
	m.mu.Lock()
	seen, missed := m.seen, m.missed
	m.seen, m.missed = map[shm.TopicID]*topicWindow{}, 0
	m.mu.Unlock()
	r := hzReport{Time: rfc3339(time.Now()), WindowNs: took.Nanoseconds(), Topics: []topicRates{}, Missed: missed}
	for id, w := range seen {
		t := topicRates{Topic: sub.TopicName(id), Messages: w.messages + w.missed, MessagesPerSecond: float64(w.messages+w.missed) / took.Seconds(), Missed: w.missed}
		if w.messages > 0 {
			t.SizeMinBytes, t.SizeMaxBytes, t.SizeMeanBytes = w.sizeMin, w.sizeMax, float64(w.bytes)/float64(w.messages)
			t.BytesPerSecond = t.MessagesPerSecond * t.SizeMeanBytes
		}
		if w.intervals > 0 {
			t.IntervalMinNs, t.IntervalMaxNs, t.IntervalMeanNs = w.intervalMin, w.intervalMax, w.summed/int64(w.intervals)
		}
		r.Topics = append(r.Topics, t)
	}
	slices.SortFunc(r.Topics, func(a, b topicRates) int { return strings.Compare(a.Topic, b.Topic) })
	return r
}

// show prints a report, on a terminal over the one before.
func (m *measuring) show(r *hzReport) error {
	return m.a.print(m.cmd, "hz", r, func(w io.Writer) {
		var b strings.Builder
		if len(r.Topics) == 0 {
			fmt.Fprintf(&b, "no message on %s in %s\n", m.pattern, humanDuration(time.Duration(r.WindowNs)))
		} else {
			t := newTable("TOPIC", ">RATE", ">BW", ">INTERVAL min", ">mean", ">max", ">SIZE min", ">mean", ">max", ">MISSED")
			for _, x := range r.Topics {
				iv := [3]string{"-", "-", "-"}
				if x.IntervalMaxNs != 0 || x.IntervalMinNs != 0 {
					for i, ns := range []int64{x.IntervalMinNs, x.IntervalMeanNs, x.IntervalMaxNs} {
						iv[i] = humanDuration(time.Duration(ns))
					}
				}
				t.row(x.Topic, humanCount(x.MessagesPerSecond)+"/s", humanBytes(x.BytesPerSecond)+"/s", iv[0], iv[1], iv[2],
					humanBytes(float64(x.SizeMinBytes)), humanBytes(x.SizeMeanBytes), humanBytes(float64(x.SizeMaxBytes)), x.Missed)
			}
			t.write(&b, "", m.a.title)
		}
		fmt.Fprintf(&b, "missed by this tool: %d; it used %.1f %% CPU\n", r.Missed, r.CPUPercent)
		if m.a.stdoutTTY && os.Getenv("TERM") != "dumb" {
			if m.drawn > 0 {
				fmt.Fprintf(w, "\x1b[%dA\x1b[J", m.drawn)
			}
			m.drawn = rows(b.String(), columns(m.a.outFD))
		} else if m.drawn++; m.drawn > 1 {
			fmt.Fprintln(w)
		}
		_, _ = io.WriteString(w, b.String())
	})
}

// cpuTime is the processor time this process used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func percent(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}
