package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/shm"
)

type pubSummary struct {
	Topic    string `json:"topic"`
	Source   string `json:"source"`
	FirstSeq string `json:"first_seq,omitempty"` // absent without a message
	LastSeq  string `json:"last_seq,omitempty"`
	total
}

// pubInput says where the messages come from.
type pubInput struct {
	texts []string
	file  string
	raw   bool
	hex   bool
	split string
	count uint64
}

func newPubCommand(a *app) *cobra.Command {
	var (
		in                            pubInput
		rate, typ, source, timestamps string
		wait                          int
		timeout                       time.Duration
	)
	c := &cobra.Command{
		Use:   "pub TOPIC",
		Short: "Publish lines of stdin, a text or a file",
		Long: `Publish messages on a topic: each line of stdin, without its newline, unless
--message, --file or --raw name another input. Each message is visible to
subscribers at once; the summary comes at the end.

With --count other than 1 stdin is read to its end first, and the whole input is
published that many times.`,
		Example: `  echo hello | myceliumctl pub market.test
  myceliumctl pub market.test -m tick --count 1000 --rate 100/s
  myceliumctl pub market.test --file frame.bin --split 64KiB
  printf 'cafe\nbabe\n' | myceliumctl pub market.test --hex --type 0x11`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			perSecond, err := parseRate(rate)
			if err != nil {
				return err
			}
			tag, err := strconv.ParseUint(typ, 0, 16)
			if err != nil {
				return usagef("--type %q: want a number from 0 to 65535", typ)
			}
			o := shm.PublisherOptions{Source: source}
			if err := o.Timestamps.UnmarshalText([]byte(timestamps)); err != nil {
				return usagef("--timestamps: %w", err)
			}
			split, err := in.check()
			if err != nil {
				return err
			}
			client, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			p, err := client.Publisher(cmd.Context(), args[0], &o)
			if err != nil {
				return err
			}
			if err := a.waitSubscribers(cmd, client, p, wait, timeout); err != nil {
				return errors.Join(err, p.Close())
			}
			m := &meter{start: time.Now()}
			first := p.Seq()
			stop := a.progress(cmd, func() string { return "published " + m.total().String() })
			err = pubAll(cmd.Context(), p, uint16(tag), perSecond, m, in.messages(cmd.Context(), cmd.InOrStdin(), p.MaxMessageBytes(), split))
			stop()
			did := publishedBy(p, first)
			s := pubSummary{did.Topic, did.Source, did.FirstSeq, did.LastSeq, m.total()}
			if cerr := p.Close(); err == nil {
				err = cerr
			}
			return errors.Join(err, a.summary(cmd, "pub_summary", s, "published "+s.total.String()))
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&in.texts, "message", "m", nil, "publish this `text`; may be repeated")
	f.StringVar(&in.file, "file", "", "publish the bytes of this `file` as one message")
	f.BoolVar(&in.raw, "raw", false, "publish the bytes of stdin as one message")
	f.BoolVar(&in.hex, "hex", false, "lines or texts are hexadecimal digits")
	f.StringVar(&in.split, "split", "", "cut what --file or --raw reads into messages of this `size`")
	f.Uint64Var(&in.count, "count", 1, "publish the input `N` times; 0 = until interrupted")
	f.StringVar(&rate, "rate", "", "at most this many messages a second, as in 1000/s or 400k/s; default: no limit")
	f.StringVar(&typ, "type", "0", "type `tag` of the messages, 0 to 65535")
	f.StringVar(&source, "source", "", "`name` under which order is kept over restarts; one publisher of it at a time (default: program and process id)")
	f.StringVar(&timestamps, "timestamps", "clock", "stamp messages by tsc, clock or off")
	f.IntVar(&wait, "wait-subscribers", 0, "begin when `N` subscribers read this publisher")
	f.DurationVar(&timeout, "timeout", 0, "give up waiting for subscribers after this `duration`; 0 = never")
	c.MarkFlagsMutuallyExclusive("message", "file", "raw")
	c.MarkFlagsMutuallyExclusive("hex", "file")
	c.MarkFlagsMutuallyExclusive("hex", "raw")
	return c
}

// summary prints what a command did: for people on stderr, as JSON on stdout.
func (a *app) summary(cmd *cobra.Command, thing string, v any, text string) error {
	if a.output == "json" {
		return a.print(cmd, thing, v, nil)
	}
	a.note(cmd, "%s", text)
	return nil
}

// check refuses what makes no sense together and reads --split, 0 = not at all.
func (in *pubInput) check() (split int, err error) {
	if in.split == "" {
		return 0, nil
	}
	if in.file == "" && !in.raw {
		return 0, usagef("--split cuts what --file or --raw reads; give one of them")
	}
	v, err := config.ParseSize(in.split)
	if err != nil || v == 0 || v > 1<<30 {
		return 0, usagef("--split %q: want a size from 1 to 1GiB", in.split)
	}
	return int(v), nil
}

// messages yields the input, count times; an error is the last.
func (in *pubInput) messages(ctx context.Context, stdin io.Reader, longest, split int) iter.Seq2[[]byte, error] {
	once := in.once(ctx, stdin, longest, split)
	if in.count == 1 {
		return once
	}
	return func(yield func([]byte, error) bool) {
		var all [][]byte
		for m, err := range once {
			if err != nil {
				yield(nil, err)
				return
			}
			all = append(all, m)
		}
		for n := uint64(0); len(all) > 0 && (in.count == 0 || n < in.count); n++ {
			for _, m := range all {
				if !yield(m, nil) {
					return
				}
			}
		}
	}
}

func (in *pubInput) once(ctx context.Context, stdin io.Reader, longest, split int) iter.Seq2[[]byte, error] {
	switch {
	case in.texts != nil:
		return func(yield func([]byte, error) bool) {
			for i, text := range in.texts {
				b, err := in.decode([]byte(text))
				if err != nil {
					err = usagef("--message %d: %w", i+1, err)
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	case in.file != "" || in.raw:
		return func(yield func([]byte, error) bool) {
			b, err := in.slurp(ctx, stdin)
			if err != nil {
				yield(nil, err)
				return
			}
			if split == 0 {
				yield(b, nil)
				return
			}
			for part := range slices.Chunk(b, split) {
				if !yield(part, nil) {
					return
				}
			}
		}
	}
	return in.lines(ctx, stdin, longest)
}

func (in *pubInput) decode(b []byte) ([]byte, error) {
	if !in.hex {
		return b, nil
	}
	out := make([]byte, hex.DecodedLen(len(b)))
	n, err := hex.Decode(out, bytes.TrimSpace(b))
	if err != nil {
		return nil, fmt.Errorf("%q: want an even number of hexadecimal digits", printable(nil, b[:min(len(b), 40)]))
	}
	return out[:n], nil
}

// slurp reads the file or stdin whole.
func (in *pubInput) slurp(ctx context.Context, stdin io.Reader) ([]byte, error) {
	if in.file != "" {
		return os.ReadFile(in.file)
	}
	return io.ReadAll(&interruptible{ctx: ctx, r: stdin})
}

// lines yields the lines of stdin as they come.
func (in *pubInput) lines(ctx context.Context, stdin io.Reader, longest int) iter.Seq2[[]byte, error] {
	limit := longest
	if in.hex {
		limit *= 2
	}
	return func(yield func([]byte, error) bool) {
		r := bufio.NewReaderSize(&interruptible{ctx: ctx, r: stdin}, readBytes)
		for number := 1; ; number++ {
			line, err := readLine(r, limit)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				line, err = in.decode(line)
			}
			if err != nil && ctx.Err() == nil {
				err = fmt.Errorf("stdin, line %d: %w", number, err)
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// readLine reads a line without its newline; the last one may lack it.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		whole := bytes.TrimSuffix(line, []byte{'\n'})
		switch {
		case len(whole) > limit:
			return nil, fmt.Errorf("%w: more than %d bytes", shm.ErrTooLarge, limit)
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return whole, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// pubAll publishes until the messages end or something fails.
func pubAll(ctx context.Context, p *shm.Publisher, typ uint16, perSecond float64, m *meter, messages iter.Seq2[[]byte, error]) error {
	n := 0
	for b, err := range messages {
		if err != nil {
			return err
		}
		if perSecond > 0 {
			if err := sleepUntil(ctx, m.start.Add(time.Duration(float64(n)/perSecond*1e9))); err != nil {
				return err
			}
		} else if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := p.Publish(typ, b); err != nil {
			err = fmt.Errorf("message %d of %d bytes: %w", n+1, len(b), err)
			if errors.Is(err, shm.ErrTooLarge) {
				return withHint(err, fmt.Sprintf("%s takes %d bytes a message: cut the input with --split, or create the topic with a larger --max-message", p.Topic(), p.MaxMessageBytes()))
			}
			return err
		}
		n++
		m.add(len(b))
	}
	return nil
}
