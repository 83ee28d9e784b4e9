package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/coinbase"
	"github.com/torq/mycelium/shm"
)

type replaySummary struct {
	File    string `json:"file"`
	Loops   uint64 `json:"loops,string"` // completed
	Skipped int    `json:"skipped"`      // records that are no usable match
	total
	Topics []published `json:"topics"`
}

// maxSkipNotes is how many skipped records are told one by one.
const maxSkipNotes = 10

func newReplayCommand(a *app) *cobra.Command {
	var (
		speed, prefix, source string
		loops                 uint64
		skip                  bool
		wait                  int
		timeout               time.Duration
	)
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "Publish a recording of Coinbase matches as Protocol V2 trades",
		Long: `Publish recorded "match" messages of the Coinbase feed, a JSON array or one
object a line, as Protocol V2 Trade messages with type tag 1, each on the topic
PREFIX.PRODUCT_ID. FILE may be - for stdin.

The recording is read and checked whole before anything is published. A record
that is no match, or breaks a rule, is an error with its index and line, unless
--skip-bad counts it and goes on.`,
		Example: `  myceliumctl replay matches.json
  myceliumctl replay matches.json --speed 10x --loop 0
  myceliumctl replay matches.ndjson --speed max --skip-bad -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			factor, err := parseSpeed(speed)
			if err != nil {
				return err
			}
			if err := checkTopic(coinbase.Topic(prefix, "BTC-USD")); err != nil {
				return usagef("--prefix: %w", err)
			}
			r := &replaying{a: a, cmd: cmd, factor: factor, loops: loops, prefix: prefix, source: source}
			r.summary.File = args[0]
			if err := r.read(args[0], skip); err != nil {
				return err
			}
			return r.run(wait, timeout)
		},
	}
	f := c.Flags()
	f.StringVar(&speed, "speed", "realtime", "realtime, a `factor` as in 10x or 0.5x, or max")
	f.Uint64Var(&loops, "loop", 1, "publish the recording `N` times; 0 = until interrupted")
	f.StringVar(&prefix, "prefix", coinbase.DefaultPrefix, "`topic` before the product id")
	f.StringVar(&source, "source", "", "`name` under which order is kept over restarts; one publisher of it at a time (default: program and process id)")
	f.BoolVar(&skip, "skip-bad", false, "count records that cannot be used, and go on")
	f.IntVar(&wait, "wait-subscribers", 0, "begin when `N` subscribers read every topic")
	f.DurationVar(&timeout, "timeout", 0, "give up waiting for subscribers after this `duration`; 0 = never")
	return c
}

// parseSpeed reads --speed; 0 is as fast as possible.
func parseSpeed(s string) (float64, error) {
	switch s {
	case "realtime":
		return 1, nil
	case "max":
		return 0, nil
	}
	text, ok := strings.CutSuffix(s, "x")
	v, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil || !(v >= 1e-3 && v <= 1e9) {
		return 0, usagef("--speed %q: want realtime, max, or a factor as in 10x", s)
	}
	return v, nil
}

// replaying is one run of replay.
type replaying struct {
	a              *app
	cmd            *cobra.Command
	factor         float64 // 0 = as fast as possible
	loops          uint64  // 0 = for ever
	prefix, source string

	matches []coinbase.Match
	pubs    map[string]*shm.Publisher // by product
	first   map[string]uint64         // sequence of the first message, by product
	meter   meter
	loop    atomic.Uint64 // completed
	summary replaySummary
}

func (r *replaying) read(name string, skip bool) error {
	in := r.cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	stop := r.a.progress(r.cmd, func() string { return "reading " + name })
	defer stop()
	var bad func(*coinbase.RecordError) error
	if skip {
		bad = func(e *coinbase.RecordError) error {
			if r.summary.Skipped++; r.summary.Skipped <= maxSkipNotes {
				r.a.note(r.cmd, "%s: skipped: %v", name, e)
			}
			return nil
		}
	}
	ctx := r.cmd.Context()
	var err error
	r.matches, err = coinbase.Read(&interruptible{ctx: ctx, r: in}, bad)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		var rec *coinbase.RecordError
		if errors.As(err, &rec) {
			return withHint(err, "leave such records out with --skip-bad")
		}
		return err
	}
	if len(r.matches) == 0 {
		return fmt.Errorf("%s: all %d records were skipped: nothing to publish", name, r.summary.Skipped)
	}
	if r.summary.Skipped > maxSkipNotes {
		r.a.note(r.cmd, "%s: %d records skipped in all", name, r.summary.Skipped)
	}
	return nil
}

func (r *replaying) run(wait int, timeout time.Duration) error {
	client, err := r.a.dial(r.cmd.Context())
	if err != nil {
		return err
	}
	defer client.Close()
	err = r.open(client)
	if err == nil {
		for _, p := range r.publishers() {
			if err = r.a.waitSubscribers(r.cmd, client, p, wait, timeout); err != nil {
				break
			}
		}
	}
	if err != nil {
		return errors.Join(err, r.close())
	}
	r.meter.start = time.Now()
	stop := r.a.progress(r.cmd, func() string {
		of := "of " + strconv.FormatUint(r.loops, 10)
		if r.loops == 0 {
			of = "until interrupted"
		}
		return fmt.Sprintf("loop %d %s, published %s", r.loop.Load()+1, of, r.meter.total())
	})
	err = r.publish(r.cmd.Context())
	stop()
	s := &r.summary
	s.total, s.Loops = r.meter.total(), r.loop.Load()
	for _, p := range r.publishers() {
		s.Topics = append(s.Topics, publishedBy(p, r.first[p.Topic()]))
	}
	if cerr := r.close(); err == nil {
		err = cerr
	}
	return errors.Join(err, r.tell())
}

// open makes a publisher for each product.
func (r *replaying) open(client *shm.Client) error {
	r.pubs, r.first = map[string]*shm.Publisher{}, map[string]uint64{}
	for i := range r.matches {
		product := r.matches[i].Product
		if r.pubs[product] != nil {
			continue
		}
		p, err := client.Publisher(r.cmd.Context(), coinbase.Topic(r.prefix, product), &shm.PublisherOptions{Source: r.source, Timestamps: shm.TimestampsClock})
		if err != nil {
			return err
		}
		r.pubs[product], r.first[p.Topic()] = p, p.Seq()
	}
	return nil
}

// publishers are in the order of their topics.
func (r *replaying) publishers() []*shm.Publisher {
	var all []*shm.Publisher
	for _, p := range r.pubs {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *shm.Publisher) int { return cmp.Compare(a.Topic(), b.Topic()) })
	return all
}

func (r *replaying) close() error {
	var errs []error
	for _, p := range r.publishers() {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// publish goes through the recording as often as is asked. The header's
// sequence counts over all topics and loops, as Torq's collectors count.
func (r *replaying) publish(ctx context.Context) error {
	var b [coinbase.MessageBytes]byte
	sequence := uint64(0)
	for loop := uint64(0); r.loops == 0 || loop < r.loops; loop++ {
		begin, first := time.Now(), r.matches[0].TimeNs
		for i := range r.matches {
			m := &r.matches[i]
			if r.factor > 0 {
				if err := sleepUntil(ctx, begin.Add(time.Duration(float64(int64(m.TimeNs-first))/r.factor))); err != nil {
					return err
				}
			} else if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			sequence++
			m.Put(b[:], sequence)
			if _, err := r.pubs[m.Product].Publish(uint16(codec.TypeTrade), b[:]); err != nil {
				return fmt.Errorf("%s: match %d: %w", coinbase.Topic(r.prefix, m.Product), i, err)
			}
			r.meter.add(len(b))
		}
		r.loop.Add(1)
	}
	return nil
}

func (r *replaying) tell() error {
	s := &r.summary
	if r.a.output == "json" {
		return r.a.print(r.cmd, "replay_summary", s, nil)
	}
	if r.a.quiet {
		return nil
	}
	t := newTable("TOPIC", ">MESSAGES")
	for _, p := range s.Topics {
		t.row(p.Topic, p.Messages)
	}
	err := r.a.print(r.cmd, "", nil, func(w io.Writer) { t.write(w, "", r.a.title) })
	r.a.note(r.cmd, "published %s; %d %s, %d skipped", s.total, s.Loops, plural(int(min(s.Loops, 2)), "loop", "loops"), s.Skipped)
	return err
}
