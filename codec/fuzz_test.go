package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func FuzzHeader(f *testing.F) {
	for _, text := range []string{krakenTrade, binanceQuote, extendedTrade, greetingHex, "efbeadde", "deadbeef"} {
		f.Add(unhex(f, text))
	}
	f.Add(krakenSignal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, herr := ParseHeader(b)
		isHeader := len(b) >= 32 && bytes.Equal(b[:4], []byte{0xEF, 0xBE, 0xAD, 0xDE})
		if (herr == nil) != isHeader {
			t.Fatalf("% x: %v", b[:min(len(b), 32)], herr)
		}
		whole := isHeader && uint64(len(b)) == 32+uint64(h.PayloadSize)
		sum := uint32(0)
		if len(b) >= 32 {
			sum = naiveChecksum(append(bytes.Clone(b[:28]), b[32:]...))
		}
		if isHeader {
			var again [HeaderSize]byte
			if h.Put(again[:]); !bytes.Equal(again[:], b[:HeaderSize]) {
				t.Fatalf("header % x comes back as % x", b[:HeaderSize], again)
			}
		}
		if Checksum(b) != sum {
			t.Fatalf("checksum %08x, want %08x", Checksum(b), sum)
		}
		for policy, want := range map[ChecksumPolicy]bool{
			ChecksumIgnore:          whole,
			ChecksumVerifyIfNonzero: whole && (h.Checksum == 0 || h.Checksum == sum),
			ChecksumRequire:         whole && h.Checksum == sum,
		} {
			m, err := Parse(b, policy)
			if (err == nil) != want {
				t.Fatalf("%v: %v, want %v", policy, err, want)
			}
			if err != nil {
				requireTyped(t, err, len(b))
			} else if m.Header() != h || !bytes.Equal(m.Bytes(), b) {
				t.Fatalf("%v: other header or bytes", policy)
			}
		}
		if IsGreeting(b) && !whole {
			t.Fatal("a greeting that is no message")
		}
	})
}

// naiveChecksum is CRC-32 (IEEE) bit by bit.
func naiveChecksum(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0xEDB88320*(crc&1)
		}
	}
	return ^crc
}

// naiveTLVs parses TLVs by the tables of the protocol, recursively; why is nil at the end of b.
func naiveTLVs(b []byte, at int, mode Mode) (all []TLV, why error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 2 {
		return nil, ErrTruncatedTLV
	}
	t := TLV{Type: TLVType(b[0]), Offset: at}
	n, head := int(b[1]), 2
	if b[0] == 255 {
		if len(b) < 5 {
			return nil, ErrTruncatedTLV
		}
		if b[1] != 0 {
			return nil, ErrInvalidExtendedTLV
		}
		t.Type, t.Extended, head, n = TLVType(b[2]), true, 5, int(b[3])+256*int(b[4])
	}
	if head+n > len(b) {
		return nil, ErrTruncatedTLV
	}
	if rule := t.Type.Info().Size; !t.Extended && rule.Fixed() && n != rule.Min {
		isQuote := (t.Type == 2 || t.Type == 17) && n == 56
		if mode == ModeStrict || mode == ModeBridge && !isQuote {
			return nil, ErrPayloadSizeMismatch
		}
	}
	t.Payload = b[head : head+n]
	rest, why := naiveTLVs(b[head+n:], at+head+n, mode)
	return append([]TLV{t}, rest...), why
}

func FuzzTLVs(f *testing.F) {
	tail := func(text string) { f.Add(unhex(f, text)) }
	for _, text := range []string{krakenTrade, binanceQuote, extendedTrade} {
		f.Add(unhex(f, text)[HeaderSize:])
	}
	tail("c80101 07")
	tail("ff01c80300616263")
	tail("ff00c8ffff00")
	tail("0101ff 0000 ff00ff0000")
	tail(strings.Repeat("1138"+strings.Repeat("ff", QuoteSize), 40))
	f.Add(krakenSignal()[HeaderSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return // the naive parser recurses
		}
		m := messageOf(b)
		for _, mode := range []Mode{ModeBridge, ModeStrict, ModeRelay} {
			want, why := naiveTLVs(b, HeaderSize, mode)
			c := m.Cursor(mode)
			n := 0
			for ; c.Next(); n++ {
				if n == len(want) || !reflect.DeepEqual(c.TLV.Payload, want[n].Payload) && len(want[n].Payload)+len(c.TLV.Payload) > 0 ||
					c.TLV.Type != want[n].Type || c.TLV.Extended != want[n].Extended || c.TLV.Offset != want[n].Offset {
					t.Fatalf("%v: TLV %d is %+v, want %+v", mode, n, c.TLV, want)
				}
			}
			if n != len(want) || !errors.Is(c.Err(), why) || (c.Err() == nil) != (why == nil) {
				t.Fatalf("%v: %d TLVs, %v, want %d, %v", mode, n, c.Err(), len(want), why)
			}
			if why != nil {
				requireTyped(t, c.Err(), len(m.bytes))
			}
		}
		n := 0
		for _, err := range m.TLVs() {
			if err == nil {
				n++
			}
		}
		all, _ := naiveTLVs(b, HeaderSize, ModeBridge)
		if n != len(all) {
			t.Fatalf("the range gives %d TLVs, want %d", n, len(all))
		}

		all, why := naiveTLVs(b, HeaderSize, ModeRelay)
		text := m.AppendJSON(nil, DialectTypes)
		if !json.Valid(text) || bytes.Contains(text, []byte(`"error"`)) != (why != nil) {
			t.Fatalf("JSON %s", text)
		}
		if limit := 500 + 6*len(m.bytes) + 600*len(all); len(text) > limit {
			t.Fatalf("%d bytes of JSON for %d bytes with %d TLVs, want at most %d", len(text), len(b), len(all), limit)
		}
		again, err := AppendMessage(nil, text)
		if why == nil && (err != nil || !bytes.Equal(again, m.bytes)) {
			t.Fatalf("%s\nencodes to %v\n% x, want\n% x", text, err, again, m.bytes)
		}
		if why != nil && err == nil {
			t.Fatalf("a message that was not decoded whole is encoded: %s", text)
		}
		for _, tlv := range all {
			fields := 0
			for name, value := range tlv.Fields() {
				if name == "" || value == "" {
					t.Fatalf("TLV %d has a field %q: %q", tlv.Type, name, value)
				}
				fields++
			}
			if l := tlv.Type.Info().Layout; (fields > 0) != (l != nil && l.fits(tlv.Payload)) {
				t.Fatalf("TLV %d of %d bytes has %d fields", tlv.Type, len(tlv.Payload), fields)
			}
		}

		// Bytes that a writer overwrites during a walk give wrong values, never a panic.
		torn := Message{bytes: bytes.Clone(m.bytes)}
		c := torn.Cursor(ModeBridge)
		for c.Next() {
			slices.Reverse(torn.bytes[HeaderSize:])
		}
	})
}

// FuzzSplitter takes a stream, the sizes of the reads and the cap.
func FuzzSplitter(f *testing.F) {
	trade := unhex(f, krakenTrade)
	f.Add(append(unhex(f, greetingHex), trade...), []byte{1, 2, 3}, uint16(4096))
	f.Add(append([]byte("hello"), trade...), []byte{33}, uint16(42))
	f.Add(append(krakenSignal(), trade...), []byte{}, uint16(0))
	f.Add(append(bytes.Clone(trade), trade[:40]...), []byte{200}, uint16(41))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, limit uint16) {
		s := NewSplitter(SplitterOptions{MaxPayload: uint32(limit)})
		most := int(limit)
		if most == 0 {
			most = DefaultMaxPayload
		}
		want, tail := naivePieces(stream, most)
		n := -1
		got := splitPieces(t, s, stream, func() int {
			if n++; len(cuts) > 0 {
				return int(cuts[n%len(cuts)])
			}
			return len(stream)
		})
		if !slices.Equal(got, want) || s.Pending() != tail {
			t.Fatalf("cut into %v, tail %d, want %v, %d", got, s.Pending(), want, tail)
		}
		if len(s.buf) > 4*(len(stream)+256) {
			t.Fatalf("%d bytes of buffer for %d of stream", len(s.buf), len(stream))
		}
		st := s.Stats()
		if st.MessageBytes+st.SkippedBytes+uint64(tail) != uint64(len(stream)) {
			t.Fatalf("%d bytes: %+v, tail %d", len(stream), st, tail)
		}
	})
}

// requireTyped checks that err is an *Error about a byte of an input of size bytes, or about its end.
func requireTyped(t *testing.T, err error, size int) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason == nil || e.Offset < 0 || e.Offset > size || err.Error() == "" {
		t.Fatalf("error %#v for %d bytes", err, size)
	}
}

// FuzzPayload reads each payload as every type that has a struct.
func FuzzPayload(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, p := range payloads {
		f.Add(randomPayload(r, p.typ.Info().Layout))
		f.Add(make([]byte, p.typ.Info().Layout.Size))
		f.Add(make([]byte, p.typ.Info().Layout.Size-1))
	}
	f.Add(make([]byte, QuoteShortSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := range payloads {
			readsBack(t, i, b)
		}
	})
}

// readsBack reads b as payload i and writes it again.
func readsBack(t *testing.T, i int, b []byte) {
	p := payloads[i]
	l := p.typ.Info().Layout
	v := p.new()
	err := v.Parse(b)
	short := l == &quoteLayout && len(b) == QuoteShortSize
	if (err == nil) != (l.fits(b) || short) {
		t.Fatalf("%v of %d bytes: %v", p.typ, len(b), err)
	}
	id, hasID := InstrumentOf(p.typ, b)
	if hasID {
		requireToken(t, id)
	}
	PoolAddressOf(p.typ, b)
	VenueOf(p.typ, b)
	if err != nil {
		requireTyped(t, err, len(b))
		return
	}
	want := make([]byte, l.Size)
	copy(want, b)
	for _, s := range p.implicit {
		clear(want[s.from:s.to])
	}
	out := make([]byte, l.Size)
	if v.Put(out); !bytes.Equal(out, want) {
		t.Fatalf("%v: % x comes back as % x", p.typ, b, out)
	}
}

// FuzzAppendMessage takes any text for JSON: what it makes of it decodes to a text that makes the same.
func FuzzAppendMessage(f *testing.F) {
	for _, text := range []string{krakenTrade, binanceQuote, extendedTrade, greetingHex} {
		f.Add(mustParse(f, unhex(f, text), ChecksumIgnore).AppendJSON(nil, DialectTypes))
	}
	r := rand.New(rand.NewPCG(11, 12))
	for _, p := range payloads {
		if l := p.typ.Info().Layout; l.Size < 256 {
			f.Add(messageOf(append([]byte{byte(p.typ), byte(l.Size)}, randomPayload(r, l)...)).AppendJSON(nil, DialectTypes))
		}
	}
	f.Add([]byte(jsonHead + `{"type":200,"payload":"00"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := AppendMessage(nil, text)
		if err != nil {
			var e *JSONError
			if !errors.As(err, &e) || len(b) != 0 || len(err.Error()) > 300 {
				t.Fatalf("%d bytes, %v", len(b), err)
			}
			return
		}
		m := mustParse(t, b, ChecksumIgnore)
		again, err := AppendMessage(nil, m.AppendJSON(nil, DialectCodec))
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x encodes again to % x, %v", b, again, err)
		}
	})
}

// requireToken checks that the id makes two topic tokens and that its symbol, if it has one, gives it back.
func requireToken(t *testing.T, id InstrumentID) {
	t.Helper()
	venue, token, _ := strings.Cut(id.String(), ".")
	if venue == "" || token == "" || strings.ContainsFunc(venue+token, notInToken) {
		t.Fatalf("%+v makes the topic tokens %q", id, id)
	}
	if symbol, ok := id.Symbol(); ok {
		if back := symbolID(id.Venue, id.Type, symbol); back.AssetID != id.AssetID {
			t.Fatalf("symbol %q of %+v gives %+v", symbol, id, back)
		}
	}
}

// FuzzBuilder reads ops as a list of TLVs to append: type, then length in units of 16 bytes.
func FuzzBuilder(f *testing.F) {
	f.Add(uint32(TradeMessageSize), []byte{1, 3}, true)
	f.Add(uint32(31), []byte{}, true)
	f.Add(uint32(4096), []byte{200, 15, 200, 16, 2, 0, 0, 255}, false)
	f.Add(uint32(100), []byte{255, 0}, false)
	f.Fuzz(func(t *testing.T, room uint32, ops []byte, withChecksum bool) {
		dst := make([]byte, room%(1<<17))
		payload := bytes.Repeat([]byte{0xa5}, 255*16)
		b := NewBuilder(dst, krakenHeader)
		size := HeaderSize
		type want struct {
			typ TLVType
			n   int
		}
		var wants []want
		for ; len(ops) >= 2; ops = ops[2:] {
			typ, n := TLVType(ops[0]), int(ops[1])*16
			var err error
			switch {
			case typ == TypeTrade:
				n = TradeSize
				err = b.AppendTrade(&btcTrade)
			case typ == TypeQuote:
				n = QuoteSize
				err = b.AppendQuote(&btcQuote)
			default:
				err = b.Append(typ, payload[:n])
			}
			size += MessageSize(n) - HeaderSize
			if err != nil {
				requireTyped(t, err, len(dst))
				fixed := typ.FixedSize()
				odd := typ != TypeTrade && typ != TypeQuote && typ != TypeExtended && n <= 255 && fixed != 0 && fixed != n
				if errors.Is(err, ErrPayloadSizeMismatch) != (odd && len(dst) >= HeaderSize) ||
					!odd && size <= len(dst) && size <= MaxMessage && typ != TypeExtended {
					t.Fatalf("refused %d bytes of %d: %v", size, len(dst), err)
				}
				break
			}
			wants = append(wants, want{typ, n})
		}
		n, err := b.Finish(withChecksum)
		if err != nil {
			if n != 0 {
				t.Fatalf("refused and built %d bytes: %v", n, err)
			}
			requireTyped(t, err, len(dst))
			return
		}
		if n != size {
			t.Fatalf("built %d bytes, want %d", n, size)
		}
		policy := ChecksumIgnore
		if withChecksum {
			policy = ChecksumRequire
		}
		m := mustParse(t, dst[:n], policy)
		for tlv, err := range m.TLVs() {
			if err != nil || len(wants) == 0 || tlv.Type != wants[0].typ || len(tlv.Payload) != wants[0].n {
				t.Fatalf("TLV %+v, %v, want %v", tlv, err, wants)
			}
			wants = wants[1:]
		}
		if len(wants) != 0 {
			t.Fatalf("lost %v", wants)
		}
	})
}

func FuzzFixed8(f *testing.F) {
	for _, text := range []string{"116827.85", "-0.00000001", "92233720368.54775807", "-92233720368.54775808", "1e5", "1.", "0.123456789"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseFixed8(text)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok || want.Mul(want, big.NewRat(fixed8One, 1)).Cmp(new(big.Rat).SetInt64(v)) != 0 {
			t.Fatalf("%q gives %d, want %v", text, v, want)
		}
		if back, err := ParseFixed8(FormatFixed8(v)); back != v || err != nil {
			t.Fatalf("%d comes back as %d, %v", v, back, err)
		}
	})
}
