package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"
)

// walk returns the types of a message's TLVs in a mode and the error that ended the walk.
func walk(m Message, mode Mode) (types []TLVType, err error) {
	c := m.Cursor(mode)
	for c.Next() {
		types = append(types, c.TLV.Type)
	}
	return types, c.Err()
}

// TestTorqIsNotWhatItsDocumentsSay has a part for each oddity of Torq that a codec
// meets, by its number in the list of them: reproduced, tolerated or refused.
func TestTorqIsNotWhatItsDocumentsSay(t *testing.T) {
	trade := func() []byte { return unhex(t, krakenTrade) }
	standard := func(typ byte, n int) Message { return messageOf(append([]byte{typ, byte(n)}, make([]byte, n)...)) }
	extended := func(typ byte, n int) Message {
		return messageOf(append([]byte{255, 0, typ, byte(n), byte(n >> 8)}, make([]byte, n)...))
	}
	sizeMismatch := func(err error) bool { return errors.Is(err, ErrPayloadSizeMismatch) }

	t.Run("1 checksum 0", func(t *testing.T) {
		b := trade()
		clear(b[offChecksum:HeaderSize])
		for policy, want := range map[ChecksumPolicy]bool{ChecksumIgnore: true, ChecksumVerifyIfNonzero: true, ChecksumRequire: false} {
			if _, err := Parse(b, policy); (err == nil) != want {
				t.Errorf("%v: %v", policy, err)
			}
		}
		again, err := AppendMessage(nil, mustParse(t, b, ChecksumIgnore).AppendJSON(nil, DialectTypes))
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("a checksum was filled in: % x, %v", again, err)
		}
		out := make([]byte, TradeMessageSize)
		for with, want := range map[bool]uint32{false: 0, true: 0xEA6C4E2B} {
			build := NewBuilder(out, krakenHeader)
			build.AppendTrade(&btcTrade)
			if _, err := build.Finish(with); err != nil || le.Uint32(out[offChecksum:]) != want {
				t.Errorf("checksum %v: 0x%08X, %v", with, le.Uint32(out[offChecksum:]), err)
			}
		}
	})
	t.Run("2 the field is left out and the slice is covered whole", func(t *testing.T) {
		b := trade()
		zeroed := bytes.Clone(b)
		clear(zeroed[offChecksum:HeaderSize])
		for name, sum := range map[string]uint32{"zeroed": crc32.ChecksumIEEE(zeroed), "payload only": crc32.ChecksumIEEE(b[HeaderSize:])} {
			le.PutUint32(b[offChecksum:], sum)
			if _, err := Parse(b, ChecksumVerifyIfNonzero); !errors.Is(err, ErrChecksumMismatch) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, tail := range map[string][]byte{"a byte": {0}, "a message": trade()} {
			both := append(trade(), tail...)
			if _, err := Parse(both, ChecksumRequire); !errors.Is(err, ErrChecksumMismatch) {
				t.Errorf("%s behind, strict: %v", name, err)
			}
			if _, err := Parse(both, ChecksumVerifyIfNonzero); !errors.Is(err, ErrTrailingBytes) {
				t.Errorf("%s behind, bridge: %v", name, err)
			}
		}
	})
	t.Run("3 a hash over its own field", func(t *testing.T) {
		b := trade()
		le.PutUint32(b[offChecksum:], crc32.ChecksumIEEE(b))
		if _, err := Parse(b, ChecksumVerifyIfNonzero); !errors.Is(err, ErrChecksumMismatch) {
			t.Error(err)
		}
	})
	t.Run("4 and 5 two dialects, any domain", func(t *testing.T) {
		for domain := range 256 {
			b := trade()
			b[offDomain], b[offSource] = byte(domain), byte(255-domain)
			m := mustParse(t, b, ChecksumIgnore)
			if h := m.Header(); h.Domain != Domain(domain) || h.Source != Source(255-domain) {
				t.Errorf("%+v", h)
			}
			for _, d := range []Dialect{DialectTypes, DialectCodec} {
				if again, err := AppendMessage(nil, m.AppendJSON(nil, d)); err != nil || !bytes.Equal(again, b) {
					t.Errorf("domain %d, %v: %v", domain, d, err)
				}
			}
		}
	})
	t.Run("6 Quote of 52 or 56 bytes", func(t *testing.T) {
		for n, want := range map[int]struct{ bridge, strict bool }{52: {true, true}, 56: {true, false}, 54: {}, 0: {}} {
			for _, typ := range []byte{2, 17} {
				_, bridge := walk(standard(typ, n), ModeBridge)
				_, strict := walk(standard(typ, n), ModeStrict)
				if (bridge == nil) != want.bridge || (strict == nil) != want.strict || bridge != nil && !sizeMismatch(bridge) {
					t.Errorf("type %d, %d bytes: bridge %v, strict %v", typ, n, bridge, strict)
				}
			}
		}
		out := make([]byte, QuoteMessageSize)
		build := NewBuilder(out, krakenHeader)
		if build.AppendQuote(&btcQuote); out[33] != 56 {
			t.Errorf("a Quote of %d bytes is built", out[33])
		}
	})
	t.Run("7 pool payloads over their bounds", func(t *testing.T) {
		for typ, n := range map[byte]int{10: 208, 11: 208, 12: 208, 13: 208, 14: 64, 15: 192, 16: 160, 30: 1, 108: 0} {
			for _, mode := range []Mode{ModeBridge, ModeStrict, ModeRelay} {
				if _, err := walk(standard(typ, n), mode); err != nil {
					t.Errorf("type %d, %d bytes, %v: %v", typ, n, mode, err)
				}
			}
		}
	})
	t.Run("8 ArbitrageSignal of 170 bytes", func(t *testing.T) {
		for n, want := range map[int]bool{168: false, 170: true} {
			if _, err := walk(standard(32, n), ModeBridge); (err == nil) != want {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	})
	t.Run("9 extended form of anything", func(t *testing.T) {
		for _, m := range []Message{extended(1, 0), extended(1, 40), extended(1, 300), extended(255, 3), extended(0, 0)} {
			for _, mode := range []Mode{ModeBridge, ModeStrict, ModeRelay} {
				if types, err := walk(m, mode); err != nil || len(types) != 1 {
					t.Errorf("% x, %v: %v, %v", m.bytes[32:37], mode, types, err)
				}
			}
		}
		out := make([]byte, 400)
		for n, head := range map[int]byte{0: 200, 255: 200, 256: 255} {
			build := NewBuilder(out, krakenHeader)
			if build.Append(200, make([]byte, n)); out[HeaderSize] != head {
				t.Errorf("%d bytes begin with %d", n, out[HeaderSize])
			}
		}
	})
	t.Run("10 and 11 what nobody reads back is not built", func(t *testing.T) {
		out := make([]byte, 1<<17)
		build := NewBuilder(out, krakenHeader)
		if err := build.Append(200, make([]byte, 65536)); !errors.Is(err, ErrPayloadTooLarge) {
			t.Error(err)
		}
		build = NewBuilder(out, krakenHeader)
		if err := build.Append(TypeExtended, make([]byte, 10)); !errors.Is(err, ErrReservedType) {
			t.Error(err)
		}
		for _, text := range []string{
			`{"type":255,"format":"standard","payload":"00"}`, `{"type":200,"format":"standard","payload":"` + strings.Repeat("00", 256) + `"}`,
		} {
			if _, err := AppendMessage(nil, []byte(jsonHead+text+"]}")); err == nil {
				t.Errorf("%.60s is built", text)
			}
		}
	})
	t.Run("12 payload_size beyond the data", func(t *testing.T) {
		b := trade()
		le.PutUint32(b[offPayloadSize:], 43)
		for _, policy := range []ChecksumPolicy{ChecksumIgnore, ChecksumVerifyIfNonzero} {
			if _, err := Parse(b, policy); !errors.Is(err, ErrMessageTooSmall) {
				t.Errorf("%v: %v", policy, err)
			}
		}
		le.PutUint32(b[offChecksum:], Checksum(b))
		if _, err := Parse(b, ChecksumRequire); !errors.Is(err, ErrMessageTooSmall) {
			t.Error(err)
		}
		m, err := View(b)
		if types, werr := walk(m, ModeBridge); err != nil || werr != nil || len(types) != 1 || !bytes.Equal(m.Bytes(), b) {
			t.Errorf("seen as it is: %v, %v, %v", types, err, werr)
		}
		for want, bad := range map[error][]byte{ErrMessageTooSmall: b[:31], ErrInvalidMagic: b[1:]} {
			if m, err := View(bad); !errors.Is(err, want) || m.Bytes() != nil {
				t.Errorf("%v, want %v", err, want)
			}
		}
	})
	t.Run("13 any version and flags", func(t *testing.T) {
		b := trade()
		b[offVersion], b[offFlags] = 2, 0xFF
		le.PutUint32(b[offChecksum:], Checksum(b))
		m := mustParse(t, b, ChecksumRequire)
		if h := m.Header(); h.Version != 2 || h.Flags != 0xFF {
			t.Errorf("%+v", h)
		}
		if again, err := AppendMessage(nil, m.AppendJSON(nil, DialectTypes)); err != nil || !bytes.Equal(again, b) {
			t.Error(err)
		}
	})
	t.Run("15 a header anywhere", func(t *testing.T) {
		room := make([]byte, 8+TradeMessageSize)
		for at := range 8 {
			mustParse(t, room[at:at+copy(room[at:], trade())], ChecksumRequire)
		}
	})
	t.Run("16 uninitialised padding", func(t *testing.T) {
		for _, p := range payloads {
			if p.implicit == nil {
				continue
			}
			payload := bytes.Repeat([]byte{0}, p.typ.Info().Layout.Size)
			for _, s := range p.implicit {
				for i := s.from; i < s.to; i++ {
					payload[i] = 0x5A
				}
			}
			clean, dirty := p.new(), p.new()
			if clean.Parse(make([]byte, len(payload))) != nil || dirty.Parse(payload) != nil {
				t.Fatal(p.typ)
			}
			a, b := make([]byte, len(payload)), bytes.Repeat([]byte{1}, len(payload))
			clean.Put(a)
			if dirty.Put(b); !bytes.Equal(a, b) {
				t.Errorf("%v: the padding matters: % x", p.typ, b)
			}
			m := messageOf(append([]byte{255, 0, byte(p.typ), byte(len(payload)), byte(len(payload) >> 8)}, payload...))
			le.PutUint32(m.bytes[offChecksum:], Checksum(m.bytes))
			if again, err := AppendMessage(nil, m.AppendJSON(nil, DialectTypes)); err != nil || !bytes.Equal(again, m.bytes) {
				t.Errorf("%v: the padding is not carried: %v", p.typ, err)
			}
		}
	})
	t.Run("17 PoolLiquidity of 184 bytes is opaque", func(t *testing.T) {
		m := standard(10, 184)
		if _, err := walk(m, ModeStrict); err != nil {
			t.Error(err)
		}
		if err := new(PoolLiquidity).Parse(m.bytes[34:]); !sizeMismatch(err) {
			t.Error(err)
		}
		if text := m.AppendJSON(nil, DialectTypes); bytes.Contains(text, []byte("fields")) || !json.Valid(text) {
			t.Errorf("%s", text)
		}
	})
	t.Run("18 OrderBook has bids at 40 and asks at 1248", func(t *testing.T) {
		book := OrderBook{BidCount: 1, AskCount: 1}
		book.Bids[0].Price, book.Asks[0].Price = 1, 2
		b := make([]byte, OrderBookSize)
		book.Put(b)
		if OrderBookSize != 2456 || b[40] != 1 || b[48] != 1 || b[1248] != 1 || b[1256] != 2 {
			t.Errorf("% x", b)
		}
	})
	t.Run("20 the greeting is no data", func(t *testing.T) {
		b := unhex(t, greetingHex)
		if m := mustParse(t, b, ChecksumVerifyIfNonzero); !IsGreeting(b) || !bytes.Contains(m.AppendJSON(nil, DialectTypes), []byte(`"greeting":true`)) {
			t.Errorf("% x", b)
		}
	})
	t.Run("22 a system type under a header of market data", func(t *testing.T) {
		if TypeStateInvalidation.Domain() != DomainSystem || TypeRecoveryRequest.Domain() != DomainSystem {
			t.Error("the types do not belong to System")
		}
		if _, err := walk(standard(106, 224), ModeStrict); err != nil {
			t.Error(err)
		}
	})
	t.Run("23 kraken_signals", func(t *testing.T) {
		b := krakenSignal()
		for _, policy := range []ChecksumPolicy{ChecksumIgnore, ChecksumVerifyIfNonzero, ChecksumRequire} {
			if _, err := Parse(b, policy); err == nil {
				t.Errorf("%v takes it", policy)
			}
		}
		h, err := ParseHeader(b)
		if err != nil || h.PayloadSize < 300<<20 {
			t.Errorf("payload_size %d, %v: not the shape that is meant", h.PayloadSize, err)
		}
		if _, err := walk(messageOf(b[HeaderSize:]), ModeBridge); !sizeMismatch(err) {
			t.Errorf("its TLVs: %v", err)
		}
	})
	t.Run("26 a pool's address is not its first bytes", func(t *testing.T) {
		swap := PoolSwap{AmountIn: Uint128{^uint64(0), 1}, PoolAddress: Address{1, 2, 3}}
		b := make([]byte, PoolSwapSize)
		swap.Put(b)
		if a, ok := PoolAddressOf(TypePoolSwap, b); !ok || a != swap.PoolAddress || b[80] != 1 {
			t.Error(a, ok)
		}
	})
	t.Run("28 symbols are stored from the end", func(t *testing.T) {
		var b [InstrumentIDSize]byte
		if Coin(VenueKraken, "BTC").Put(b[:]); string(b[5:8]) != "CTB" {
			t.Errorf("% x", b)
		}
	})
	t.Run("29 the venue of a GasPrice is a network", func(t *testing.T) {
		b := make([]byte, GasPriceSize)
		(&GasPrice{Venue: 137}).Put(b)
		if v, ok := VenueOf(TypeGasPrice, b); ok {
			t.Errorf("venue %v", v)
		}
	})
	t.Run("31 the magic inside a payload", func(t *testing.T) {
		inside := append([]byte{0xEF, 0xBE, 0xAD, 0xDE}, bytes.Repeat([]byte{0xFF}, 28)...)
		stream := append(append([]byte("lost"), inside...), trade()...)
		s := NewSplitter(SplitterOptions{})
		s.Write(stream)
		skipped, ok := s.Next()
		if message, there := s.Next(); !ok || skipped.Skipped != 36 || !there || !bytes.Equal(message.Message, trade()) {
			t.Errorf("%+v, then %+v", skipped, message)
		}
	})
}

// TestShortChecksumIsAnother compares every length around the two ways with the standard library.
func TestShortChecksumIsAnother(t *testing.T) {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(i * 37)
	}
	for n := range b {
		if got, want := tableCRC(0x12345678, b[:n]), crc32.Update(0x12345678, crc32.IEEETable, b[:n]); got != want {
			t.Errorf("%d bytes: %08x, want %08x", n, got, want)
		}
		want := uint32(0)
		if n >= HeaderSize {
			want = crc32.Update(crc32.ChecksumIEEE(b[:28]), crc32.IEEETable, b[32:n])
		}
		if got := Checksum(b[:n]); got != want {
			t.Errorf("a message of %d bytes: %08x, want %08x", n, got, want)
		}
	}
}

func TestTradeInOnePieceIsTheBuilders(t *testing.T) {
	trade := Trade{Instrument: InstrumentID{AssetID: 0x0102030405060708, Venue: 0xA1B2, Type: 0xC3, Reserved: 0xD4}, Price: math.MinInt64, Volume: -2,
		ExecutionTimestampNs: math.MaxUint64, Side: 0xE5, Padding: [3]byte{0xF6, 0x07, 0x18}}
	h := Header{Domain: 9, Version: 8, Source: 7, Flags: 6, Sequence: 5, TimestampNs: 4, PayloadSize: 3, Checksum: 2}
	for _, withChecksum := range []bool{false, true} {
		want, got := make([]byte, TradeMessageSize), bytes.Repeat([]byte{0xFF}, TradeMessageSize+1)
		b := NewBuilder(want, h)
		_ = b.AppendTrade(&trade)
		if _, err := b.Finish(withChecksum); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { trade.PutMessage(got, &h, withChecksum) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if !bytes.Equal(got, append(want, 0xFF)) {
			t.Errorf("checksum %v:\n% x, want\n% x", withChecksum, got, want)
		}
	}
}

func TestOtherTradeIsRead(t *testing.T) {
	read := func(b []byte) (t Trade, ok bool) {
		ok = Message{bytes: b}.ReadTrade(&t)
		return t, ok
	}
	if got, ok := read(unhex(t, krakenTrade)); !ok || got != btcTrade {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := read(unhex(t, extendedTrade)); !ok || got.Side != SideSell {
		t.Errorf("extended: %+v, %v", got, ok)
	}
	if got, ok := read(unhex(t, binanceQuote)); ok {
		t.Errorf("a Quote: %+v", got)
	}
	if got, ok := read(messageOf(unhex(t, "0102abcd")).bytes); ok {
		t.Errorf("2 bytes: %+v", got)
	}
	if _, ok := read(nil); ok {
		t.Error("nothing is a Trade")
	}
	var buf Trade
	m := mustParse(t, unhex(t, krakenTrade), ChecksumIgnore)
	if n := testing.AllocsPerRun(100, func() { m.ReadTrade(&buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	var b Builder
	dst := make([]byte, TradeMessageSize)
	if n := testing.AllocsPerRun(100, func() {
		b.Start(dst, &krakenHeader)
		b.AppendTrade(&btcTrade)
		b.Finish(true)
	}); n != 0 || !bytes.Equal(dst, unhex(t, krakenTrade)) {
		t.Errorf("%v allocations, % x", n, dst)
	}
	b.Start(dst[:31], &krakenHeader)
	if err := b.AppendTrade(&btcTrade); !errors.Is(err, ErrBufferTooSmall) {
		t.Error(err)
	}
	b.Start(dst, &krakenHeader) // a refusal is forgotten
	if err := b.AppendTrade(&btcTrade); err != nil {
		t.Error(err)
	}
}
