package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/codec"
)

func newCodecCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "codec", Short: "Decode and encode Protocol V2 messages, list its types"}
	c.AddCommand(newCodecDecodeCommand(a), newCodecEncodeCommand(a), newCodecTypesCommand(a))
	return c
}

// refusal is bytes that are no message, by the name of the reason and the
// place in the input.
type refusal struct {
	err    error
	reason string
	offset uint64
}

func (e *refusal) Error() string { return e.err.Error() }
func (e *refusal) Unwrap() error { return e.err }

// refused makes a refusal of the codec's error about a message that starts at
// this byte of the input.
func refused(err error, at uint64) error {
	var e *codec.Error
	if !errors.As(err, &e) {
		return err
	}
	r := &refusal{err: err, reason: e.Reason.Error(), offset: at + uint64(e.Offset)}
	if at > 0 {
		r.err = fmt.Errorf("message at byte %d: %w", at, err)
	}
	return r
}

// dialectFlag adds --dialect.
func dialectFlag(c *cobra.Command, d *codec.Dialect) {
	c.Flags().Var(&textFlag{d, "dialect"}, "dialect", "`dialect` of numbers: types (Torq's producers) or codec (its relays)")
	_ = c.RegisterFlagCompletionFunc("dialect", cobra.FixedCompletions([]string{"types", "codec"}, cobra.ShellCompDirectiveNoFileComp))
}

// textFlag is a flag whose value is one of a few names.
type textFlag struct {
	v interface {
		UnmarshalText(text []byte) error
		String() string
	}
	typ string
}

func (f *textFlag) String() string {
	if f.v == nil { // cobra asks a zero value
		return ""
	}
	return f.v.String()
}
func (f *textFlag) Set(s string) error { return f.v.UnmarshalText([]byte(s)) }
func (f *textFlag) Type() string       { return f.typ }
