package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
)

type subSummary struct {
	total
	Gaps        uint64 `json:"gaps,string"`
	Missed      uint64 `json:"missed,string"` // messages in those gaps
	Evictions   uint64 `json:"evictions,string"`
	LanesLost   uint64 `json:"lanes_lost,string"`
	Undecodable uint64 `json:"undecodable,string"` // with --format tlv
}

// messageLine is one message as NDJSON.
type messageLine struct {
	Topic       string          `json:"topic"`
	Source      string          `json:"source"`
	Seq         uint64          `json:"seq,string"`
	Type        uint16          `json:"type"`
	Time        string          `json:"time,omitempty"` // absent where the publisher stamps nothing
	SizeBytes   int             `json:"size_bytes"`
	PayloadHex  *string         `json:"payload_hex,omitempty"`
	PayloadText *string         `json:"payload_text,omitempty"` // if it is UTF-8
	Message     json.RawMessage `json:"message,omitempty"`      // with --format tlv
	Error       string          `json:"error,omitempty"`        // with --format tlv: why it is no message
}

type gapLine struct {
	Topic   string `json:"topic"`
	Source  string `json:"source"`
	FromSeq uint64 `json:"from_seq,string"`
	NextSeq uint64 `json:"next_seq,string"`
	Missed  uint64 `json:"missed,string"`
	Cause   string `json:"cause"`
}

type evictionLine struct {
	Topic   string `json:"topic"`
	Source  string `json:"source"`
	NextSeq uint64 `json:"next_seq,string"`
}

type laneErrorLine struct {
	Topic  string `json:"topic"`
	Source string `json:"source"`
	Error  string `json:"error"`
}

func newSubCommand(a *app) *cobra.Command {
	var (
		format, from, idle string
		count              uint64
		lossless, strict   bool
		timeout            time.Duration
	)
	c := &cobra.Command{
		Use:   "sub PATTERN",
		Short: "Print the messages of topics",
		Long: `Print the messages of a topic, or of every topic that matches a pattern (* one
token, > the rest), now and later. Where nobody publishes it waits.

Formats: text prints a line a message, with what is not printable escaped; hex
prints a line of digits; both begin with the topic and a tab if PATTERN is not
one topic. raw prints the bytes and nothing else. ndjson prints an object a
message; tlv does so with the Protocol V2 message decoded. -o json means ndjson.

Topics that match a pattern and may not be read are left out, with a warning that
names them and the allow-list; a topic that may not be read is an error.

Missing messages are always told: as a line on stderr, under ndjson and tlv as an
object with the schema mycelium.gap/v1; likewise evictions and lost lanes, and
at the end a summary. --fail-on-loss ends at the first of them with exit code 9.

--from oldest begins with what the rings still hold, --from SEQ with a sequence
of each lane that exists now, or, if it has not got so far, with its next message;
lanes that appear later are read from their first.`,
		Example: `  myceliumctl sub market.test
  myceliumctl sub 'market.>' --format tlv --count 10
  myceliumctl sub market.test --from oldest --lossless --fail-on-loss -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPattern(args[0]); err != nil {
				return err
			}
			if format == "" {
				format = "text"
				if a.output == "json" {
					format = "ndjson"
				}
			}
			if !slices.Contains(subFormats, format) {
				return usagef("--format %q: want text, hex, raw, ndjson or tlv", format)
			}
			if timeout < 0 {
				return usagef("--timeout %v: must not be negative", timeout)
			}
			o := shm.SubscriberOptions{}
			if err := o.Idle.UnmarshalText([]byte(idle)); err != nil {
				return usagef("--idle: %w", err)
			}
			var err error
			if o.Start, err = parseStart(from); err != nil {
				return err
			}
			if lossless {
				o.Mode = shm.Lossless
			}
			s := &subscription{a: a, cmd: cmd, format: format, pattern: args[0], count: count, strict: strict}
			return s.run(o, timeout)
		},
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "text, hex, raw, ndjson or tlv (default: text, with -o json ndjson)")
	f.Uint64Var(&count, "count", 0, "end after `N` messages; 0 = never")
	f.StringVar(&from, "from", "latest", "begin `where`: oldest, latest or a sequence number")
	f.BoolVar(&lossless, "lossless", false, "hold publishers back rather than be lapped, as far as the topic's policy goes")
	f.DurationVar(&timeout, "timeout", 0, "end after this `duration` with exit code 10; 0 = never")
	f.BoolVar(&strict, "fail-on-loss", false, "end with exit code 9 at the first gap, eviction or lost lane")
	f.StringVar(&idle, "idle", "park", "between messages: park, backoff, yield or spin")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(subFormats, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("idle", cobra.FixedCompletions([]string{"park", "backoff", "yield", "spin"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

var subFormats = []string{"text", "hex", "raw", "ndjson", "tlv"}

func parseStart(s string) (shm.Start, error) {
	switch s {
	case "latest":
		return shm.StartLatest(), nil
	case "oldest":
		return shm.StartOldest(), nil
	}
	seq, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return shm.Start{}, usagef("--from %q: want oldest, latest or a sequence number", s)
	}
	return shm.StartSeq(seq), nil
}

// subscription is one run of sub. Everything but progress happens on the
// goroutine of run.
type subscription struct {
	a       *app
	cmd     *cobra.Command
	format  string
	pattern string
	count   uint64
	strict  bool

	sub     *shm.Subscriber
	out     *bufio.Writer
	line    []byte
	many    bool // the pattern has wildcards: lines tell the topic
	meter   meter
	lost    subSummary
	stop    context.CancelCauseFunc
	stopped bool
	waiting func()       // ends the progress
	offset  int64        // from CLOCK_MONOTONIC to Unix time, ns
	barred  atomic.Int64 // topics that match and may not be read
}

// errDone ends a subscription that has what it wanted.
var errDone = errors.New("done")

func (s *subscription) run(o shm.SubscriberOptions, timeout time.Duration) error {
	client, err := s.a.dial(s.cmd.Context())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := context.WithCancelCause(s.cmd.Context())
	var looking sync.WaitGroup
	defer looking.Wait()
	defer stop(nil)
	s.stop = stop
	if timeout > 0 {
		expire := time.AfterFunc(timeout, func() { stop(fmt.Errorf("%w: %v have passed", errTimeout, timeout)) })
		defer expire.Stop()
	}
	s.out = bufio.NewWriterSize(s.cmd.OutOrStdout(), 64<<10)
	s.many = topic.IsPattern(s.pattern)
	s.offset = clock.Wall() - clock.Mono()
	o.OnError = s.trouble
	if s.sub, err = client.Subscriber(ctx, s.pattern, &o); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	s.meter.start = time.Now()
	s.waiting = s.a.progress(s.cmd, s.progress)
	looking.Go(func() {
		n := s.a.awaitUnreadable(ctx, s.cmd, client, s.pattern, func() bool { return s.meter.messages.Load() == 0 })
		s.barred.Store(int64(n))
	})
	err = s.sub.Run(ctx, &flushingIdler{s.sub.Idler(), s}, s.frame)
	s.waiting()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errDone) {
		err = nil
	}
	s.lost.total = s.meter.total()
	var serr error
	if s.a.stdout.err == nil {
		serr = s.summary()
	}
	if ferr := s.out.Flush(); serr == nil {
		serr = ferr
	}
	if cerr := s.sub.Close(); serr == nil {
		serr = cerr
	}
	return errors.Join(err, serr)
}

// flushingIdler writes out what is buffered before it waits.
type flushingIdler struct {
	shm.Idler
	s *subscription
}

func (f *flushingIdler) Idle(work int) {
	if work == 0 && f.s.out.Buffered() > 0 {
		f.s.check(f.s.out.Flush())
	}
	f.Idler.Idle(work)
}

func (s *subscription) progress() string {
	switch n := s.meter.messages.Load(); {
	case n > 0 && s.a.stdoutTTY:
		return ""
	case n > 0:
		return "received " + s.meter.total().String()
	case s.sub.Stats().Lanes == 0 && s.barred.Load() > 0:
		return "waiting: nobody publishes on what may be read of " + s.pattern
	case s.sub.Stats().Lanes == 0:
		return "waiting: nobody publishes on " + s.pattern
	}
	return "waiting: no message yet on " + s.pattern
}

// check stops everything when stdout takes no more.
func (s *subscription) check(err error) {
	if err != nil {
		s.end(err)
	}
}

func (s *subscription) end(why error) {
	s.stopped = true
	s.stop(why)
}

func (s *subscription) frame(f shm.Frame) {
	if s.stopped {
		return
	}
	if s.a.stdoutTTY {
		s.waiting()
	}
	b := s.line[:0]
	switch s.format {
	case "raw":
		b = append(b, f.Payload...)
	case "text", "hex":
		if s.many {
			b = append(append(b, s.sub.TopicName(f.Topic)...), '\t')
		}
		if s.format == "hex" {
			b = hex.AppendEncode(b, f.Payload)
		} else {
			b = printable(b, f.Payload)
		}
		b = append(b, '\n')
	default:
		b = s.object(b, &f)
	}
	s.line = b
	_, err := s.out.Write(b)
	s.check(err)
	s.meter.add(len(f.Payload))
	if s.count > 0 && s.meter.messages.Load() >= s.count {
		s.end(errDone)
	}
}

// object is a message as one line of JSON.
func (s *subscription) object(b []byte, f *shm.Frame) []byte {
	m := messageLine{Topic: s.sub.TopicName(f.Topic), Source: s.sub.SourceName(f.Source), Seq: f.Seq, Type: f.Type, SizeBytes: len(f.Payload)}
	if f.Time != 0 {
		m.Time = rfc3339(time.Unix(0, f.Time+s.offset))
	}
	thing := "message"
	if s.format == "tlv" {
		thing = "tlv_message"
		v2, err := codec.Parse(f.Payload, codec.ChecksumVerifyIfNonzero)
		if err == nil {
			m.Message = v2.AppendJSON(nil, codec.DialectTypes)
		} else {
			m.Error = err.Error()
			s.lost.Undecodable++
		}
	}
	if m.Message == nil {
		h := hex.EncodeToString(f.Payload)
		m.PayloadHex = &h
		if s.format == "ndjson" && utf8.Valid(f.Payload) {
			text := string(f.Payload)
			m.PayloadText = &text
		}
	}
	return s.appendObject(b, thing, m)
}

func (s *subscription) appendObject(b []byte, thing string, v any) []byte {
	j, err := withSchema(thing, v)
	s.check(err)
	return append(append(b, j...), '\n')
}

func (s *subscription) objects() bool { return s.format == "ndjson" || s.format == "tlv" }

// trouble tells a gap, an eviction or a lane that was detached.
func (s *subscription) trouble(err error) {
	if s.stopped {
		return
	}
	var (
		gap     *shm.GapError
		evicted *shm.EvictedError
		lane    *shm.LaneError
		t       shm.TopicID
		src     shm.SourceID
	)
	switch {
	case errors.As(err, &gap):
		t, src = gap.Topic, gap.Source
	case errors.As(err, &evicted):
		t, src = evicted.Topic, evicted.Source
	case errors.As(err, &lane):
		t, src = lane.Topic, lane.Source
	}
	name, source := s.sub.TopicName(t), s.sub.SourceName(src)
	var thing string
	var line any
	switch {
	case gap != nil:
		s.lost.Gaps++
		s.lost.Missed += gap.Missed()
		thing, line = "gap", gapLine{name, source, gap.From, gap.Next, gap.Missed(), gap.Cause.String()}
	case evicted != nil:
		s.lost.Evictions++
		thing, line = "eviction", evictionLine{name, source, evicted.NextSeq}
	default:
		s.lost.LanesLost++
		thing, line = "lane_error", laneErrorLine{name, source, err.Error()}
	}
	if s.objects() {
		_, werr := s.out.Write(s.appendObject(nil, thing, line))
		s.check(werr)
	} else {
		s.check(s.out.Flush()) // what came before it first
		text := err.Error()
		if name != "" {
			text = name + " from " + safe(source) + ": " + text
		}
		s.loss(text)
	}
	if s.strict {
		s.end(fmt.Errorf("%w: %w", errLoss, err))
	}
}

// loss is told even under --quiet.
func (s *subscription) loss(text string) {
	if s.a.live.Load() {
		text = clearLine + text
	}
	fmt.Fprintln(s.cmd.ErrOrStderr(), text)
}

func (s *subscription) summary() error {
	l := &s.lost
	if s.objects() {
		_, err := s.out.Write(s.appendObject(nil, "sub_summary", l))
		return err
	}
	if s.a.output == "json" && !s.a.quiet {
		_, err := s.cmd.ErrOrStderr().Write(s.appendObject(nil, "sub_summary", l))
		return err
	}
	text := fmt.Sprintf("received %s, missed %d in %d %s", l.total, l.Missed, l.Gaps, plural(int(min(l.Gaps, 2)), "gap", "gaps"))
	if l.Evictions > 0 {
		text += fmt.Sprintf(", evicted %d %s", l.Evictions, plural(int(min(l.Evictions, 2)), "time", "times"))
	}
	if l.LanesLost > 0 {
		text += fmt.Sprintf(", lost %d %s", l.LanesLost, plural(int(min(l.LanesLost, 2)), "lane", "lanes"))
	}
	s.a.note(s.cmd, "%s", text)
	return nil
}
