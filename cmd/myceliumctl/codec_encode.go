package main

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
)

type encodeFlags struct {
	form     string
	checksum string
}

type encodedMessage struct {
	Length   int    `json:"length"`
	Checksum string `json:"checksum"`
	Hex      string `json:"hex"`
}

func newCodecEncodeCommand(a *app) *cobra.Command {
	var f encodeFlags
	c := &cobra.Command{
		Use:   "encode [FILE]",
		Short: "Make messages of the JSON that decode prints",
		Long: `Make Protocol V2 messages of JSON objects in the shape of codec decode -o json,
one after the other, from a file or stdin: of what decode printed, exactly the
bytes that it was given. Objects that tell of skipped bytes and the summary of a
stream are passed over; so are, with a note, bytes after a message that --mode
relay only counted.

Written by hand, an object needs the header's relay_domain, version, source,
flags, sequence and timestamp, and of each TLV its type with either fields, all
of them, or payload in hex. What follows from those may be left out; a length or
payload_size that is there must be right. A checksum that is left out is
computed, one that is there is written as it is: --checksum compute or zero
overrides that.`,
		Example: `  myceliumctl codec decode -o json message.bin | myceliumctl codec encode --output-form raw >same.bin
  myceliumctl codec encode --checksum compute edited.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkForm(f.form, outputForms); err != nil {
				return err
			}
			if err := checkForm(f.checksum, checksumChoices); err != nil {
				return err
			}
			in, name, done, err := openInput(cmd, args, "raw")
			if err != nil {
				return err
			}
			defer done()
			out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
			err = f.encodeAll(a, cmd, name, in, out)
			if ferr := out.Flush(); err == nil {
				err = ferr
			}
			return err
		},
	}
	c.Flags().StringVar(&f.form, "output-form", "hex", "`form` of the bytes: hex or base64, a line each, or raw")
	c.Flags().StringVar(&f.checksum, "checksum", "keep", "`what` to write: keep, compute or zero")
	_ = c.RegisterFlagCompletionFunc("output-form", cobra.FixedCompletions(outputForms, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("checksum", cobra.FixedCompletions(checksumChoices, cobra.ShellCompDirectiveNoFileComp))
	return c
}

var (
	outputForms     = []string{"hex", "base64", "raw"}
	checksumChoices = []string{"keep", "compute", "zero"}
)

func (f *encodeFlags) encodeAll(a *app, cmd *cobra.Command, name string, in io.Reader, out io.Writer) error {
	d := json.NewDecoder(in)
	var line, msg []byte
	for n := 1; ; n++ {
		var text json.RawMessage
		err := d.Decode(&text)
		if err == io.EOF {
			if n == 1 {
				return fmt.Errorf("%s: no message", name)
			}
			return nil
		}
		if err != nil {
			at := d.InputOffset()
			var e *json.SyntaxError
			if errors.As(err, &e) {
				at = e.Offset - 1 // InputOffset is still where the object starts
			}
			return fmt.Errorf("%s: object %d, byte %d: %w", name, n, at, err)
		}
		var tag struct {
			Schema   string
			Trailing uint64 `json:"trailing_bytes"`
		}
		switch _ = json.Unmarshal(text, &tag); tag.Schema {
		case schemaName("codec_skip"), schemaName("codec_stream"):
			continue
		case schemaName("codec_refused"):
			return fmt.Errorf("%s: object %d: this message was refused when it was decoded, its bytes are not here", name, n)
		}
		msg, err = codec.AppendMessage(msg[:0], text)
		if err != nil {
			var e *codec.JSONError
			if errors.As(err, &e) && e.Path == "header" {
				err = withHint(err, "want objects as codec decode -o json prints them")
			}
			return fmt.Errorf("%s: object %d: %w", name, n, err)
		}
		line, err = f.appendLine(a, line[:0], msg)
		if err != nil {
			return err
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		if tag.Trailing > 0 {
			a.note(cmd, "object %d: %s after the message are not here, so not written", n, count(tag.Trailing, "byte", "bytes"))
		}
	}
}

// appendLine appends a message in the form that is wanted.
func (f *encodeFlags) appendLine(a *app, line, msg []byte) ([]byte, error) {
	sum := msg[codec.HeaderSize-4 : codec.HeaderSize]
	switch f.checksum {
	case "compute":
		binary.LittleEndian.PutUint32(sum, codec.Checksum(msg))
	case "zero":
		clear(sum)
	}
	switch {
	case a.output == "json":
		b, err := withSchema("codec_bytes", encodedMessage{len(msg), fmt.Sprintf("0x%08X", binary.LittleEndian.Uint32(sum)), hex.EncodeToString(msg)})
		return append(append(line, b...), '\n'), err
	case f.form == "raw":
		return append(line, msg...), nil
	case f.form == "base64":
		return append(base64.StdEncoding.AppendEncode(line, msg), '\n'), nil
	}
	return append(hex.AppendEncode(line, msg), '\n'), nil
}
