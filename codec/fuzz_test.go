package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, text := range []string{krakenTrade, binanceQuote, extendedTrade, greetingHex, "efbeadde", "deadbeef"} {
		f.Add(unhex(f, text))
	}
	tail := func(text string) {
		f.Add(messageOf(unhex(f, text)).bytes)
	}
	tail("c80101 07")
	tail("ff01c80300616263")
	tail("ff00c8ffff00")
	tail("0101ff 0000 ff00ff0000")
	tail(strings.Repeat("1138"+strings.Repeat("ff", QuoteSize), 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b, ChecksumIgnore)
		_, verified := Parse(b, ChecksumVerifyIfNonzero)
		_, required := Parse(b, ChecksumRequire)
		if err != nil {
			if verified == nil || required == nil {
				t.Fatalf("refused (%v), but not when the checksum is looked at too", err)
			}
			requireTyped(t, err, len(b))
			return
		}
		if required == nil && verified != nil {
			t.Fatalf("require accepts what verify-if-nonzero refuses: %v", verified)
		}
		var header [HeaderSize]byte
		if m.Header().Put(header[:]); !bytes.Equal(header[:], b[:HeaderSize]) {
			t.Fatalf("header % x comes back as % x", b[:HeaderSize], header)
		}

		var tlvs []TLV
		next, canonical := HeaderSize, true
		var walk error
		for tlv, err := range m.TLVs() {
			if err != nil {
				walk = err
				break
			}
			if tlv.Offset != next || tlv.PayloadOffset()+len(tlv.Payload) > len(b) {
				t.Fatalf("TLV %+v does not follow the last one at %d within %d bytes", tlv, next, len(b))
			}
			next = tlv.PayloadOffset() + len(tlv.Payload)
			canonical = canonical && tlv.Extended == (len(tlv.Payload) > 255) && tlv.Type != TypeExtended
			tlvs = append(tlvs, tlv)
		}
		if walk != nil {
			requireTyped(t, walk, len(b))
		} else if next != len(b) {
			t.Fatalf("the walk ended at %d of %d bytes without an error", next, len(b))
		}

		strict, n := m.Cursor(ModeStrict), 0
		for strict.Next() {
			n++
		}
		if n > len(tlvs) || n < len(tlvs) && !errors.Is(strict.Err(), ErrPayloadSizeMismatch) {
			t.Fatalf("strict gives %d TLVs of %d, %v", n, len(tlvs), strict.Err())
		}

		text := m.AppendJSON(nil)
		if !json.Valid(text) || bytes.Contains(text, []byte(`"error"`)) != (walk != nil) {
			t.Fatalf("JSON %s", text)
		}
		if limit := 300 + 2*len(b) + 500*len(tlvs); len(text) > limit {
			t.Fatalf("%d bytes of JSON for %d bytes with %d TLVs, want at most %d", len(text), len(b), len(tlvs), limit)
		}

		if walk == nil && canonical && len(b) <= MaxMessage {
			out := make([]byte, len(b))
			build := NewBuilder(out, m.Header())
			for _, tlv := range tlvs {
				build.Append(tlv.Type, tlv.Payload)
			}
			n, err := build.Finish(required == nil)
			le.PutUint32(out[offChecksum:], m.Header().Checksum)
			if n != len(b) || err != nil || !bytes.Equal(out, b) {
				t.Fatalf("built again: %d, %v\n% x, want\n% x", n, err, out, b)
			}
		}

		// Bytes that a writer overwrites during a walk give wrong values, never a panic.
		torn := Message{bytes: bytes.Clone(b)}
		c := torn.Cursor(ModeBridge)
		for c.Next() {
			slices.Reverse(torn.bytes[HeaderSize:])
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

func FuzzTrade(f *testing.F) {
	f.Add(unhex(f, krakenTrade)[34:])
	f.Add(unhex(f, extendedTrade)[37:77])
	f.Fuzz(func(t *testing.T, payload []byte) {
		trade, err := parseTrade(payload)
		if (err == nil) != (len(payload) == TradeSize) {
			t.Fatalf("%d bytes: %v", len(payload), err)
		}
		if err != nil {
			requireTyped(t, err, len(payload))
			return
		}
		var out [TradeSize]byte
		if trade.Put(out[:]); !bytes.Equal(out[:], payload) {
			t.Fatalf("% x comes back as % x", payload, out)
		}
		requireToken(t, trade.Instrument)
	})
}

func FuzzQuote(f *testing.F) {
	f.Add(unhex(f, binanceQuote)[34:])
	f.Add(unhex(f, binanceQuote)[34:86])
	f.Fuzz(func(t *testing.T, payload []byte) {
		quote, err := parseQuote(payload)
		if (err == nil) != (len(payload) == QuoteSize || len(payload) == QuoteShortSize) {
			t.Fatalf("%d bytes: %v", len(payload), err)
		}
		if err != nil {
			requireTyped(t, err, len(payload))
			return
		}
		var out [QuoteSize]byte
		if quote.Put(out[:]); !bytes.Equal(out[:len(payload)], payload) || len(payload) == QuoteShortSize && le.Uint32(out[QuoteShortSize:]) != 0 {
			t.Fatalf("% x comes back as % x", payload, out)
		}
		requireToken(t, quote.Instrument)
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
				if size <= len(dst) && size <= MaxMessage && typ != TypeExtended {
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
