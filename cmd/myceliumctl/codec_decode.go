package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/config"
)

// maxSingle is the input that is taken for one message, in bytes.
const maxSingle = 64 << 20

type decodeFlags struct {
	stream     bool
	form       string
	mode       codec.Mode
	checksum   codec.ChecksumPolicy
	dialect    codec.Dialect
	maxPayload string
}

func newCodecDecodeCommand(a *app) *cobra.Command {
	var f decodeFlags
	c := &cobra.Command{
		Use:   "decode [INPUT]",
		Short: "Show every field of a Protocol V2 message, or of a stream of them",
		Long: `Show the header and the TLVs of a Protocol V2 message. INPUT is a file, "-" or
nothing for stdin, or the message itself as text. Hex (white space and 0x do not
matter), base64 and raw bytes are told apart by their look; --input says which.

The input is one message, whole and nothing else. With --stream it is any number
of them back to back, as on Torq's sockets: what is none is skipped and told, and
decoding goes on at the next header that is plausible. A message that is refused
is told and the rest decoded; the exit code is then 1.

Modes say what is refused:
  bridge  what is broken: bytes missing or left over, TLVs that run over the end
          or do not have the size of their type, a checksum that is neither 0
          nor right (default)
  strict  what Torq's own parser refuses: also a checksum of 0, and a Quote of 56
          bytes, as all producers send it, since its registry says 52
  relay   what Torq's relays drop: no header, wrong magic; TLVs are shown as far
          as they can be read, bytes missing or left over are counted
--checksum overrides what the mode does with the checksum: ignore,
verify-if-nonzero or require.

With -o json a message is one object in the shape that codec encode takes: 64-bit
and wider numbers are strings, payloads without a known layout are in hex. An
error is one object on stderr with "reason" and "offset".`,
		Example: `  myceliumctl codec decode message.bin
  myceliumctl codec decode efbeadde0101020000000000000000000000000000000000000000000000000000
  myceliumctl sub 'market.>' --format raw | myceliumctl codec decode --stream -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("checksum") {
				f.checksum = f.mode.Checksum()
			}
			limit, err := config.ParseSize(f.maxPayload)
			if err != nil || limit == 0 || limit > 1<<31 {
				return usagef("--max-payload %q: want a size from 1 to 2GiB", f.maxPayload)
			}
			if err := checkForm(f.form, inputForms); err != nil {
				return err
			}
			in, name, done, err := openInput(cmd, args, f.form)
			if err != nil {
				return err
			}
			defer done()
			d := &decoding{a: a, cmd: cmd, decodeFlags: &f, name: name, out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)}
			if f.stream {
				err = d.all(in, uint32(limit))
			} else {
				err = d.one(in)
			}
			if ferr := d.out.Flush(); err == nil {
				err = ferr
			}
			return err
		},
	}
	fs := c.Flags()
	fs.BoolVar(&f.stream, "stream", false, "decode any number of messages, and skip what is none")
	fs.StringVar(&f.form, "input", "auto", "`form` of the input: auto, hex, base64 or raw")
	fs.Var(&textFlag{&f.mode, "mode"}, "mode", "`mode`: bridge, strict or relay")
	fs.Var(&textFlag{&f.checksum, "policy"}, "checksum", "`policy` for checksums: ignore, verify-if-nonzero or require (default: the mode's)")
	fs.StringVar(&f.maxPayload, "max-payload", config.FormatSize(codec.DefaultMaxPayload), "with --stream, the largest `size` of TLVs that a header is believed")
	dialectFlag(c, &f.dialect)
	fs.Lookup("checksum").DefValue = ""
	for flag, names := range map[string][]string{"input": inputForms, "mode": {"bridge", "strict", "relay"}, "checksum": {"ignore", "verify-if-nonzero", "require"}} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}

func checkForm(form string, forms []string) error {
	for _, f := range forms {
		if form == f {
			return nil
		}
	}
	return usagef("%q: want one of %v", form, forms)
}

// decoding is one run of the command.
type decoding struct {
	*decodeFlags
	a       *app
	cmd     *cobra.Command
	name    string
	out     *bufio.Writer
	line    []byte
	refused uint64
}

// one decodes an input that is one message.
func (d *decoding) one(in io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(in, maxSingle+1))
	if err != nil {
		return err
	}
	if len(b) > maxSingle {
		return withHint(fmt.Errorf("%s: more than %s", d.name, config.FormatSize(maxSingle)), "--stream decodes many messages, one after the other")
	}
	missing, look := 0, d.checksum == codec.ChecksumIgnore
	if h, err := codec.ParseHeader(b); err == nil && d.mode == codec.ModeRelay {
		missing = codec.HeaderSize + int(h.PayloadSize) - len(b)
		b = b[:len(b)+min(missing, 0)]
		look = look || d.checksum == codec.ChecksumVerifyIfNonzero && h.Checksum == 0
	}
	var m codec.Message
	if missing > 0 && look {
		d.a.note(d.cmd, "%s missing at the end of the message", count(missing, "byte", "bytes"))
		m, err = codec.View(b)
	} else {
		m, err = codec.Parse(b, d.checksum)
	}
	if err == nil {
		err = d.walk(m)
	}
	if err != nil {
		return d.hint(refused(err, 0))
	}
	if missing < 0 {
		d.a.note(d.cmd, "%s after the message", count(-missing, "byte", "bytes"))
	}
	return d.message(m, 0, missing)
}

// walk applies the mode to the TLVs.
func (d *decoding) walk(m codec.Message) error {
	c := m.Cursor(d.mode)
	for c.Next() {
	}
	if d.mode == codec.ModeRelay && c.Err() != nil {
		d.a.note(d.cmd, "%v: the rest is not decoded", c.Err())
		return nil
	}
	return c.Err()
}

// hint tells the way to see a message that was refused nevertheless.
func (d *decoding) hint(err error) error {
	switch {
	case errors.Is(err, codec.ErrTrailingBytes):
		return withHint(err, "--stream decodes messages one after the other")
	case errors.Is(err, codec.ErrChecksumMismatch):
		return withHint(err, "--checksum ignore decodes it nevertheless, and --stream messages one after the other")
	case errors.Is(err, codec.ErrPayloadSizeMismatch):
		return withHint(err, "--mode relay leaves the sizes of payloads alone")
	case errors.Is(err, codec.ErrTruncatedTLV), errors.Is(err, codec.ErrInvalidExtendedTLV):
		return withHint(err, "--mode relay shows what comes before it")
	}
	return err
}

type decodedAt struct {
	Offset uint64 `json:"offset"`
	Length int    `json:"length"`
}

type skippedPart struct {
	decodedAt
	Reason string `json:"reason"`
}

type refusedMessage struct {
	decodedAt
	Reason       string `json:"reason"`
	ReasonOffset uint64 `json:"reason_offset"` // in the stream
	Error        string `json:"error"`
}

type decodedStream struct {
	Messages     uint64 `json:"messages,string"` // refused ones included
	MessageBytes uint64 `json:"message_bytes,string"`
	Refused      uint64 `json:"refused,string"`
	Skips        uint64 `json:"skips,string"`
	SkippedBytes uint64 `json:"skipped_bytes,string"`
	Tail         int    `json:"undecided_tail"` // bytes at the end that need more to be a message
}

// all decodes a stream.
func (d *decoding) all(in io.Reader, limit uint32) error {
	s := codec.NewSplitter(codec.SplitterOptions{MaxPayload: limit})
	var cut atomic.Uint64
	stop := d.a.progress(d.cmd, func() string {
		if d.a.stdoutTTY {
			return ""
		}
		return fmt.Sprintf("decoded %s messages", humanCount(float64(cut.Load())))
	})
	defer stop()
	var skip skippedPart
	var rerr error
	for rerr == nil {
		var n int
		n, rerr = in.Read(s.Room(readBytes))
		s.Filled(n)
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			if p.Message == nil {
				if skip.Length == 0 {
					skip = skippedPart{decodedAt{p.Offset, 0}, p.Reason.Error()}
				}
				skip.Length += p.Skipped
				continue
			}
			if err := errors.Join(d.skipped(&skip), d.piece(p)); err != nil {
				return err
			}
			cut.Store(s.Stats().Messages)
		}
		if err := d.out.Flush(); err != nil {
			return err
		}
	}
	stop()
	if rerr == io.EOF {
		rerr = nil
	}
	st := s.Stats()
	sum := decodedStream{st.Messages, st.MessageBytes, d.refused, st.Skips, st.SkippedBytes, s.Pending()}
	if err := errors.Join(d.skipped(&skip), d.summary(&sum), rerr); err != nil {
		return err
	}
	if d.refused > 0 {
		return fmt.Errorf("%d of %d messages were refused", d.refused, st.Messages)
	}
	return nil
}

func (d *decoding) piece(p codec.Piece) error {
	m, err := codec.Parse(p.Message, d.checksum)
	if err == nil {
		err = d.walk(m)
	}
	if err == nil {
		return d.message(m, p.Offset, 0)
	}
	d.refused++
	err = refused(err, p.Offset)
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if d.a.output == "json" {
		return d.object("codec_refused", refusedMessage{decodedAt{p.Offset, len(p.Message)}, r.reason, r.offset, r.Error()})
	}
	return d.trouble(r.Error())
}

// skipped tells bytes that were skipped, once they are all known.
func (d *decoding) skipped(s *skippedPart) (err error) {
	switch {
	case s.Length == 0:
	case d.a.output == "json":
		err = d.object("codec_skip", s)
	default:
		err = d.trouble(fmt.Sprintf("skipped %s at byte %d: %s", count(s.Length, "byte", "bytes"), s.Offset, s.Reason))
	}
	*s = skippedPart{}
	return err
}

// trouble tells people what is missing in between, after what comes before it.
func (d *decoding) trouble(text string) error {
	err := d.out.Flush()
	if d.a.live.Load() {
		text = clearLine + text
	}
	fmt.Fprintln(d.cmd.ErrOrStderr(), text)
	return err
}

func (d *decoding) summary(s *decodedStream) error {
	if d.a.output == "json" {
		return d.object("codec_stream", s)
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf("%s, %s", count(s.Messages, "message", "messages"), humanBytes(float64(s.MessageBytes)))
	if s.SkippedBytes > 0 {
		text += fmt.Sprintf(", %s skipped at %s", count(s.SkippedBytes, "byte", "bytes"), count(s.Skips, "place", "places"))
	}
	if s.Tail > 0 {
		text += fmt.Sprintf(", %s of a message that does not end", count(s.Tail, "byte", "bytes"))
	}
	d.a.note(d.cmd, "%s", text)
	return nil
}

func (d *decoding) object(thing string, v any) error {
	b, err := withSchema(thing, v)
	if err != nil {
		return err
	}
	_, err = d.out.Write(append(b, '\n'))
	return err
}

// message prints a message that starts at this byte of the input and lacks
// bytes, or has some behind it where that is negative.
func (d *decoding) message(m codec.Message, at uint64, missing int) error {
	if d.a.output != "json" {
		d.a.writeMessage(d.out, m, at, d.dialect)
		return nil
	}
	b := fmt.Appendf(d.line[:0], `{"schema":%q,"offset":%d,"length":%d,`, schemaName("codec_message"), at, len(m.Bytes()))
	switch {
	case missing > 0:
		b = fmt.Appendf(b, `"missing_bytes":%d,`, missing)
	case missing < 0:
		b = fmt.Appendf(b, `"trailing_bytes":%d,`, -missing)
	}
	start := len(b)
	b = m.AppendJSON(b, d.dialect)
	b = append(b[:start], b[start+1:]...) // the object goes on
	d.line = append(b, '\n')
	_, err := d.out.Write(d.line)
	return err
}

// count is "1 byte", "2 bytes".
func count[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
