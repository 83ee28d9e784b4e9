// Package coinbase reads recorded `match` messages of the Coinbase feed and
// turns them into Protocol V2 trades.
//
// A recording is a JSON array of messages, or one message after the other
// (NDJSON). Of a message, these members count; the others are ignored:
//
//	type        "match"
//	product_id  "BTC-USD", one token of a topic
//	side        "buy" or "sell"
//	price, size decimal texts above 0, at most 8 decimals
//	time        RFC 3339
package coinbase

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/topic"
)

// DefaultPrefix is what a product's topic begins with.
const DefaultPrefix = "market.coinbase"

// Match is one trade of the feed.
type Match struct {
	Product string // "BTC-USD"
	Side    codec.Side
	Price   int64  // times 1e8
	Size    int64  // times 1e8
	TimeNs  uint64 // since the Unix epoch
}

// Topic is the topic of a product: the prefix, a dot, the product as it is.
func Topic(prefix, product string) string { return prefix + "." + product }

// Trade is the match as Protocol V2 has it.
func (m *Match) Trade() codec.Trade {
	return codec.Trade{Instrument: codec.CoinbaseInstrument(m.Product), Price: m.Price, Volume: m.Size, ExecutionTimestampNs: m.TimeNs, Side: m.Side}
}

// MessageBytes is the size of what Put writes.
const MessageBytes = codec.TradeMessageSize

// Put writes the match into b[:MessageBytes] as a message with this sequence
// in its header. It panics if b is shorter.
func (m *Match) Put(b []byte, sequence uint64) {
	t := m.Trade()
	t.PutMessage(b, &codec.Header{Domain: codec.DomainMarketData, Version: codec.Version,
		Source: codec.SourceCoinbase, Sequence: sequence, TimestampNs: m.TimeNs}, false)
}

// RecordError is one record that is not a usable match.
type RecordError struct {
	Index  int // of the record, from 0
	Line   int // where it begins, from 1
	Reason string
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("record %d, line %d: %s", e.Index, e.Line, e.Reason)
}

// SyntaxError is text after which no further record can be found.
type SyntaxError struct {
	Line   int // from 1
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// ErrEmpty is a recording without a single record.
var ErrEmpty = errors.New("no records")

// Read reads a whole recording, about 60 bytes of memory a match. A record that
// cannot be used is handed to bad, and its error ends the reading unless bad
// returns nil; a nil bad ends it at the first. Errors: *RecordError,
// *SyntaxError, ErrEmpty, those of r.
func Read(r io.Reader, bad func(*RecordError) error) ([]Match, error) {
	if bad == nil {
		bad = func(e *RecordError) error { return e }
	}
	in := &lines{r: r, line: 1}
	buffered := bufio.NewReaderSize(in, 64<<10)
	first, err := firstByte(buffered)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrEmpty
		}
		return nil, err
	}
	p := parser{in: in, dec: json.NewDecoder(buffered), bad: bad, names: map[string]string{}}
	p.skipped = int64(first.skipped)
	if first.b == '[' {
		err = p.array()
	} else {
		err = p.sequence()
	}
	if err == nil && p.index == 0 {
		err = ErrEmpty
	}
	return p.matches, err
}

type parser struct {
	in      *lines
	dec     *json.Decoder
	skipped int64 // bytes before the decoder's first
	bad     func(*RecordError) error
	names   map[string]string // one string a product
	matches []Match
	index   int
}

func (p *parser) array() error {
	if _, err := p.dec.Token(); err != nil {
		return p.syntax(err)
	}
	for p.dec.More() {
		if err := p.record(); err != nil {
			return err
		}
	}
	if _, err := p.dec.Token(); err != nil {
		return p.syntax(err)
	}
	line := p.in.at(p.skipped + p.dec.InputOffset())
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return &SyntaxError{line, "text after the end of the array"}
	}
	return nil
}

func (p *parser) sequence() error {
	for p.dec.More() {
		if err := p.record(); err != nil {
			return err
		}
	}
	// More is also false at a closing bracket, which then is out of place.
	if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		return p.syntax(err)
	}
	return nil
}

func (p *parser) record() error {
	var raw json.RawMessage
	if err := p.dec.Decode(&raw); err != nil {
		return p.syntax(err)
	}
	// The offset is after the record; it begins as many lines before as it has.
	line := p.in.at(p.skipped+p.dec.InputOffset()) - bytes.Count(raw, []byte{'\n'})
	m, reason := p.match(raw)
	if reason != "" {
		if err := p.bad(&RecordError{Index: p.index, Line: line, Reason: reason}); err != nil {
			return err
		}
	} else {
		p.matches = append(p.matches, m)
	}
	p.index++
	return nil
}

// syntax places an error of the decoder.
func (p *parser) syntax(err error) error {
	at := p.skipped + p.dec.InputOffset()
	var s *json.SyntaxError
	switch {
	case err == nil:
		return &SyntaxError{p.in.at(at), "closing bracket without an opening one"}
	case errors.As(err, &s):
		// The decoder counts from a place of its own; look again from ours.
		rest, _ := io.ReadAll(p.dec.Buffered())
		if errors.As(json.Unmarshal(rest, new(any)), &s) && s.Offset > 0 {
			at += s.Offset - 1
		}
		return &SyntaxError{p.in.at(at), s.Error()}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &SyntaxError{p.in.at(1 << 62), "the text ends inside a record or array"}
	}
	return err
}

// match checks one record; reason is "" if it can be used.
func (p *parser) match(raw []byte) (m Match, reason string) {
	var r struct {
		Type    *string `json:"type"`
		Product *string `json:"product_id"`
		Side    *string `json:"side"`
		Price   *string `json:"price"`
		Size    *string `json:"size"`
		Time    *string `json:"time"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		var t *json.UnmarshalTypeError
		switch {
		case errors.As(err, &t) && t.Field != "":
			return m, fmt.Sprintf("%s is a JSON %s: want a string", t.Field, t.Value)
		case errors.As(err, &t):
			return m, fmt.Sprintf("a JSON %s: want an object", t.Value)
		}
		return m, err.Error()
	}
	for _, f := range []struct {
		name string
		v    *string
	}{{"type", r.Type}, {"product_id", r.Product}, {"side", r.Side}, {"price", r.Price}, {"size", r.Size}, {"time", r.Time}} {
		if f.v == nil {
			return m, f.name + " is missing"
		}
		if f.name == "type" && *f.v != "match" {
			return m, fmt.Sprintf("type %q: want \"match\"", *f.v)
		}
	}
	var known bool
	if m.Product, known = p.names[*r.Product]; !known {
		if err := topic.Check(*r.Product); err != nil {
			return m, "product_id: " + err.Error()
		}
		if strings.Contains(*r.Product, ".") {
			return m, fmt.Sprintf("product_id %q: a dot would make two tokens of it", *r.Product)
		}
		m.Product = strings.Clone(*r.Product)
		p.names[m.Product] = m.Product
	}
	switch *r.Side {
	case "buy":
		m.Side = codec.SideBuy
	case "sell":
		m.Side = codec.SideSell
	default:
		return m, fmt.Sprintf("side %q: want \"buy\" or \"sell\"", *r.Side)
	}
	for _, f := range []struct {
		name, text string
		v          *int64
	}{{"price", *r.Price, &m.Price}, {"size", *r.Size, &m.Size}} {
		v, err := codec.ParseFixed8(f.text)
		if err == nil && v <= 0 {
			err = errors.New("must be above 0")
		}
		if err != nil {
			return m, fmt.Sprintf("%s %q: %v", f.name, f.text, err)
		}
		*f.v = v
	}
	t, err := time.Parse(time.RFC3339Nano, *r.Time)
	if err != nil {
		return m, fmt.Sprintf("time %q: want RFC 3339, as in 2025-08-22T20:11:30.012637Z", *r.Time)
	}
	if t.Before(time.Unix(0, 0)) || t.Year() > 2261 {
		return m, fmt.Sprintf("time %q: outside 1970 to 2261", *r.Time)
	}
	m.TimeNs = uint64(t.UnixNano())
	return m, ""
}

// lines passes bytes on and finds the line of an offset. Offsets asked for do
// not go back.
type lines struct {
	r       io.Reader
	off     int64
	pending []int64 // offsets of newlines after the last offset asked for
	line    int
}

func (l *lines) Read(b []byte) (int, error) {
	n, err := l.r.Read(b)
	for i, c := range b[:n] {
		if c == '\n' {
			l.pending = append(l.pending, l.off+int64(i))
		}
	}
	l.off += int64(n)
	return n, err
}

func (l *lines) at(off int64) int {
	i := 0
	for i < len(l.pending) && l.pending[i] < off {
		i++
	}
	l.pending = l.pending[i:]
	l.line += i
	return l.line
}

type opening struct {
	b       byte
	skipped int
}

// firstByte skips blanks and a byte order mark and looks at what follows.
func firstByte(r *bufio.Reader) (o opening, err error) {
	if b, _ := r.Peek(3); bytes.Equal(b, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
		o.skipped = 3
	}
	for {
		if o.b, err = r.ReadByte(); err != nil {
			return o, err
		}
		if !strings.ContainsRune(" \t\r\n", rune(o.b)) {
			return o, r.UnreadByte()
		}
		o.skipped++
	}
}
