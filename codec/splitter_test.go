package codec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// naivePieces cuts a whole stream byte by byte, by the picture beside Splitter.
func naivePieces(stream []byte, limit int) (pieces []string, tail int) {
	lost, skipped, reason := false, 0, error(nil)
	flush := func(at int) {
		if skipped > 0 {
			pieces = append(pieces, fmt.Sprintf("skip %d at %d: %v", skipped, at-skipped, reason))
		}
		skipped = 0
	}
	for at := 0; at < len(stream); {
		rest := stream[at:]
		var why error
		size := 0
		switch {
		case !bytes.Equal(rest[:min(4, len(rest))], []byte{0xEF, 0xBE, 0xAD, 0xDE}[:min(4, len(rest))]):
			why = ErrInvalidMagic
		case len(rest) < 32:
			flush(at)
			return pieces, len(rest)
		default:
			h, err := ParseHeader(rest)
			size = 32 + int(h.PayloadSize)
			switch {
			case err != nil:
				why = err
			case int(h.PayloadSize) > limit:
				why = ErrPayloadTooLarge
			case lost && h.Version != 1:
				why = ErrUnsupportedVersion
			case size > len(rest):
				flush(at)
				return pieces, len(rest)
			}
		}
		if why == nil {
			flush(at)
			pieces = append(pieces, fmt.Sprintf("message %d at %d", size, at))
			lost = false
			at += size
			continue
		}
		if !lost {
			lost, reason = true, why
		}
		skipped++
		at++
	}
	flush(len(stream))
	return pieces, 0
}

// splitPieces feeds a stream to s in parts of the sizes that cut returns, and joins skips that follow one another.
func splitPieces(t testing.TB, s *Splitter, stream []byte, cut func() int) (pieces []string) {
	t.Helper()
	var skipped int
	var from uint64
	var reason error
	flush := func() {
		if skipped > 0 {
			pieces = append(pieces, fmt.Sprintf("skip %d at %d: %v", skipped, from, reason))
		}
		skipped = 0
	}
	next := uint64(0)
	for rest := stream; ; {
		n := min(max(cut(), 1), len(rest))
		if _, err := s.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			if p.Offset != next || (p.Message == nil) != (p.Skipped > 0) || (p.Reason == nil) != (p.Skipped == 0) {
				t.Fatalf("piece %+v does not follow byte %d", p, next)
			}
			if p.Message == nil {
				if skipped == 0 {
					from, reason = p.Offset, p.Reason
				}
				skipped += p.Skipped
			} else {
				flush()
				at := int(p.Offset)
				if !bytes.Equal(p.Message, stream[at:at+len(p.Message)]) {
					t.Fatalf("the message at %d has other bytes", at)
				}
				pieces = append(pieces, fmt.Sprintf("message %d at %d", len(p.Message), at))
			}
			next += uint64(len(p.Message) + p.Skipped)
		}
		if len(rest) == 0 {
			flush()
			return pieces
		}
	}
}

// krakenSignal is the shape that Torq's kraken_signals writes: domain, version, source and flags
// where they belong, then payload_size, sequence and timestamp.
func krakenSignal() []byte {
	b := make([]byte, 32+2+20+2+54)
	Header{Domain: DomainSignal, Version: 1, Source: SourceKrakenSignalStrategy}.Put(b)
	le.PutUint32(b[8:], 78)
	le.PutUint64(b[12:], 1)
	le.PutUint64(b[20:], 1700000000123456789)
	b[32], b[33] = 20, 14
	b[54], b[55] = 22, 30
	return b
}

func TestStreamIsCutInTheWrongPlace(t *testing.T) {
	trade, quote := string(unhex(t, krakenTrade)), string(unhex(t, binanceQuote))
	hello := string(unhex(t, greetingHex))
	versioned := []byte(trade)
	versioned[offVersion] = 2
	inside := string(messageOf(append([]byte{200, 32}, hello...)).bytes) // a header in a payload
	for _, test := range []struct {
		name, stream string
		want         string
		tail         int
	}{
		{"nothing", "", "", 0},
		{"one", trade, "message 74 at 0", 0},
		{"greeting and two", hello + trade + quote, "message 32 at 0; message 74 at 32; message 90 at 106", 0},
		{"garbage first", "hello" + trade, "skip 5 at 0: InvalidMagic; message 74 at 5", 0},
		{"garbage between", trade + "garbage" + quote, "message 74 at 0; skip 7 at 74: InvalidMagic; message 90 at 81", 0},
		{"garbage last", trade + "gar", "message 74 at 0; skip 3 at 74: InvalidMagic", 0},
		{"length prefixes", "\x4a\x00\x00\x00" + trade + "\x5a\x00\x00\x00" + quote, "skip 4 at 0: InvalidMagic; message 74 at 4; skip 4 at 78: InvalidMagic; message 90 at 82", 0},
		{"cut in the header", trade + quote[:31], "message 74 at 0", 31},
		{"cut in the payload", trade + quote[:89], "message 74 at 0", 89},
		{"cut in the magic", trade + quote[:2], "message 74 at 0", 2},
		{"kraken_signals", trade + string(krakenSignal()) + string(krakenSignal()) + quote, "message 74 at 0; skip 220 at 74: PayloadTooLarge; message 90 at 294", 0},
		{"other version in step", string(versioned) + trade, "message 74 at 0; message 74 at 74", 0},
		{"other version when lost", "x" + string(versioned) + trade, "skip 75 at 0: InvalidMagic; message 74 at 75", 0},
		{"a header in a payload", inside + trade, "message 66 at 0; message 74 at 66", 0},
		{"half a magic, then one", "\xef\xbe\xef\xbe\xad\xde" + trade[4:], "skip 2 at 0: InvalidMagic; message 74 at 2", 0},
		{"magic over and over", strings.Repeat("\xef", 100) + trade, "skip 100 at 0: InvalidMagic; message 74 at 100", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			naive, tail := naivePieces([]byte(test.stream), DefaultMaxPayload)
			if got := strings.Join(naive, "; "); got != test.want || tail != test.tail {
				t.Errorf("byte by byte: %s, tail %d, want %s, %d", got, tail, test.want, test.tail)
			}
			for _, n := range []int{1, 2, 3, 31, 32, 33, 1 << 20} {
				s := NewSplitter(SplitterOptions{})
				got := strings.Join(splitPieces(t, s, []byte(test.stream), func() int { return n }), "; ")
				if got != test.want || s.Pending() != test.tail {
					t.Errorf("reads of %d: %s, tail %d, want %s, %d", n, got, s.Pending(), test.want, test.tail)
				}
			}
		})
	}
}

func TestReadsOfOtherSizesGiveOtherMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := [][]byte{unhex(t, krakenTrade), unhex(t, binanceQuote), unhex(t, greetingHex), krakenSignal(), []byte("garbage"), {0xEF}, {0xEF, 0xBE, 0xAD, 0xDE}, make([]byte, 50)}
	s := NewSplitter(SplitterOptions{MaxPayload: 4096})
	for range 200 {
		var stream []byte
		for range r.IntN(20) {
			stream = append(stream, parts[r.IntN(len(parts))]...)
		}
		want, tail := naivePieces(stream, 4096)
		s.Reset()
		got := splitPieces(t, s, stream, func() int { return r.IntN(100) })
		if fmt.Sprint(got) != fmt.Sprint(want) || s.Pending() != tail {
			t.Fatalf("%x\ncut into %v, tail %d\nwant     %v, %d", stream, got, s.Pending(), want, tail)
		}
		stats := s.Stats()
		if stats.MessageBytes+stats.SkippedBytes+uint64(tail) != uint64(len(stream)) {
			t.Fatalf("%d bytes: %+v and a tail of %d", len(stream), stats, tail)
		}
	}
}

func TestSplitterAllocatesOrGrows(t *testing.T) {
	stream := bytes.Repeat(append(unhex(t, krakenTrade), krakenSignal()...), 50)
	s := NewSplitter(SplitterOptions{})
	messages := 0
	feed := func() {
		for rest := stream; len(rest) > 0; {
			n := copy(s.Room(1000)[:min(1000, len(rest))], rest)
			s.Filled(n)
			rest = rest[n:]
			for p, ok := s.Next(); ok; p, ok = s.Next() {
				if p.Message != nil {
					messages++
				}
			}
		}
	}
	feed()
	if n := testing.AllocsPerRun(20, feed); n != 0 {
		t.Errorf("%v allocations in steady state", n)
	}
	if messages != 22*50 || len(s.buf) > 8000 {
		t.Errorf("%d messages, buffer %d bytes", messages, len(s.buf))
	}

	// A header that claims 1 MiB makes it wait, not allocate.
	claim := make([]byte, HeaderSize)
	Header{Version: 1, PayloadSize: DefaultMaxPayload}.Put(claim)
	if _, ok := s.Next(); ok || s.Pending() != 0 {
		t.Fatal("not at a boundary")
	}
	s.Write(claim)
	if _, ok := s.Next(); ok || s.Pending() != HeaderSize || len(s.buf) > 8000 {
		t.Errorf("pending %d, buffer %d bytes", s.Pending(), len(s.buf))
	}
	s.Write(make([]byte, DefaultMaxPayload))
	if p, ok := s.Next(); !ok || len(p.Message) != HeaderSize+DefaultMaxPayload {
		t.Errorf("the largest message is not cut: %+v", p.Skipped)
	}
}

func TestGreetingCountsAsData(t *testing.T) {
	hello := unhex(t, greetingHex)
	if !IsGreeting(hello) || IsGreeting(hello[:31]) || IsGreeting(append(hello, 0)) {
		t.Error("the greeting, or a part of it, is not told from data")
	}
	for i := range hello {
		other := bytes.Clone(hello)
		other[i]++
		if IsGreeting(other) {
			t.Errorf("byte %d does not matter", i)
		}
	}
}
