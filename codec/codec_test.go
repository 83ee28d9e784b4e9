package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestMain ends the whole run if it hangs: nothing here blocks or loops without bound.
func TestMain(m *testing.M) {
	if !fuzzing() {
		time.AfterFunc(time.Minute, func() { panic("codec tests hang") })
	}
	os.Exit(m.Run())
}

// fuzzing reports whether this process fuzzes, which has a time limit of its own.
func fuzzing() bool {
	for _, arg := range os.Args {
		if strings.HasPrefix(arg, "-test.fuzz=") || strings.HasPrefix(arg, "-test.fuzzworker") || strings.HasPrefix(arg, "-test.bench=") {
			return true
		}
	}
	return false
}

// Messages written out by hand from the layout, field by field; their
// checksums were computed apart from this package.
const (
	// BTC on Kraken, 45000.50, 0.125, buy, checksum set.
	krakenTrade = "efbeadde 00 01 03 00 0100000000000000 15cd853dfe9c9717 2a000000 2b4e6cea" +
		"01 28 0000000000435442 80b8e1bf17040000 20bcbe0000000000 2dc9853dfe9c9717 6500 33 00 00 000000"
	// BTC on Binance, 56-byte Quote, checksum 0.
	binanceQuote = "efbeadde 00 01 01 00 0200000000000000 15cd853dfe9c9717 3a000000 00000000" +
		"02 38 0000000000435442 00c8e6bc17040000 40420f0000000000 00a9dcc217040000 40420f0000000000" +
		"45c5853dfe9c9717 6400 33 00 00000000"
	// The Trade again, in extended form, followed by an empty vendor TLV.
	extendedTrade = "efbeadde 00 01 03 00 0100000000000000 15cd853dfe9c9717 2f000000 00000000" +
		"ff 00 01 2800 0000000000435442 80b8e1bf17040000 20bcbe0000000000 2dc9853dfe9c9717 6500 33 00 01 010203" +
		"cb 00"
	greetingHex = "efbeadde 01 01 02 00 0000000000000000 0000000000000000 00000000 00000000"
)

var (
	krakenHeader = Header{Version: 1, Source: SourceKraken, Sequence: 1, TimestampNs: 1700000000123456789, PayloadSize: 42, Checksum: 0xEA6C4E2B}
	btcTrade     = Trade{
		Instrument:           Coin(VenueKraken, "BTC"),
		Price:                4500050000000,
		Volume:               12500000,
		ExecutionTimestampNs: 1700000000123455789,
		Side:                 SideBuy,
	}
	btcQuote = Quote{
		Instrument:       Coin(VenueBinance, "BTC"),
		BidPrice:         4500000000000,
		BidSize:          1000000,
		AskPrice:         4500100000000,
		AskSize:          1000000,
		QuoteTimestampNs: 1700000000123454789,
	}
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parseTrade(payload []byte) (t Trade, err error) {
	err = t.Parse(payload)
	return t, err
}

func parseQuote(payload []byte) (q Quote, err error) {
	q.Padding = [4]byte{9, 9, 9, 9} // of an earlier quote
	err = q.Parse(payload)
	return q, err
}

func parseInstrumentID(b []byte) (id InstrumentID, err error) {
	err = id.Parse(b)
	return id, err
}

func mustParse(t testing.TB, b []byte, policy ChecksumPolicy) Message {
	t.Helper()
	m, err := Parse(b, policy)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantError checks the whole typed error, and that its text has the place and what is needed.
func wantError(t *testing.T, err error, want Error, texts ...string) {
	t.Helper()
	var got *Error
	if !errors.As(err, &got) || *got != want || !errors.Is(err, want.Reason) {
		t.Fatalf("error %#v (%v), want %#v", err, err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q lacks %q", err, text)
		}
	}
}

func TestTradeOnTheWireIsNotWhatTorqReads(t *testing.T) {
	b := unhex(t, krakenTrade)
	m := mustParse(t, b, ChecksumRequire)
	if m.Header() != krakenHeader {
		t.Errorf("header %+v", m.Header())
	}
	c := m.Cursor(ModeStrict)
	if !c.Next() {
		t.Fatal(c.Err())
	}
	tlv := c.TLV
	if tlv.Type != TypeTrade || tlv.Extended || tlv.Offset != 32 || tlv.PayloadOffset() != 34 {
		t.Errorf("TLV %+v", tlv)
	}
	if trade, err := parseTrade(tlv.Payload); err != nil || trade != btcTrade {
		t.Errorf("trade %+v, %v", trade, err)
	}
	if c.Next() || c.Err() != nil {
		t.Errorf("the walk went on after the last TLV, or failed: %v", c.Err())
	}

	out := make([]byte, TradeMessageSize)
	build := NewBuilder(out, krakenHeader)
	build.AppendTrade(&btcTrade)
	if n, err := build.Finish(true); n != len(b) || err != nil || !bytes.Equal(out, b) {
		t.Errorf("built %d, %v\n% x, want\n% x", n, err, out, b)
	}
	if n, err := build.Finish(false); n != len(b) || err != nil || le.Uint32(out[28:]) != 0 {
		t.Errorf("without checksum: %d, %v, checksum % x", n, err, out[28:32])
	}
	if !bytes.Equal(m.Bytes(), b) {
		t.Error("Bytes are not the parsed bytes")
	}
}

func TestQuoteOnTheWireIsNotWhatTorqReads(t *testing.T) {
	b := unhex(t, binanceQuote)
	m := mustParse(t, b, ChecksumVerifyIfNonzero)
	for tlv, err := range m.TLVs() {
		if err != nil || tlv.Type != TypeQuote {
			t.Fatal(tlv, err)
		}
		if quote, err := parseQuote(tlv.Payload); err != nil || quote != btcQuote {
			t.Errorf("quote %+v, %v", quote, err)
		}
		if quote, err := parseQuote(tlv.Payload[:QuoteShortSize]); err != nil || quote != btcQuote {
			t.Errorf("52-byte quote %+v, %v", quote, err)
		}
	}
	out := make([]byte, QuoteMessageSize)
	build := NewBuilder(out, m.Header())
	build.AppendQuote(&btcQuote)
	if n, err := build.Finish(false); n != len(b) || err != nil || !bytes.Equal(out, b) {
		t.Errorf("built %d, %v\n% x, want\n% x", n, err, out, b)
	}
	c := m.Cursor(ModeStrict)
	if c.Next() {
		t.Error("strict mode takes the 56-byte Quote that Torq's parser refuses")
	}
	wantError(t, c.Err(), Error{Reason: ErrPayloadSizeMismatch, Offset: 32, Type: TypeQuote, Got: 56, Want: 52}, "byte 32", "Quote", "56 bytes, need 52")
}

func TestPaddingAndExtendedFormAreLost(t *testing.T) {
	b := unhex(t, extendedTrade)
	m := mustParse(t, b, ChecksumIgnore)
	var got []TLV
	for tlv, err := range m.TLVs() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tlv)
	}
	want := []TLV{
		{Type: TypeTrade, Extended: true, Offset: 32, Payload: b[37:77]},
		{Type: 203, Offset: 77, Payload: []byte{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("TLVs %+v, want %+v", got, want)
	}
	trade, err := parseTrade(got[0].Payload)
	if err != nil || trade.Side != SideSell || trade.Padding != [3]byte{1, 2, 3} {
		t.Errorf("trade %+v, %v", trade, err)
	}
	var out [TradeSize]byte
	if trade.Put(out[:]); !bytes.Equal(out[:], got[0].Payload) {
		t.Errorf("round trip % x, want % x", out, got[0].Payload)
	}
	for tlv := range m.TLVs() {
		if tlv.Type != TypeTrade {
			t.Error("the range went on after break")
		}
		break
	}
}

func TestChecksumZeroIsTakenForCorruption(t *testing.T) {
	good := unhex(t, krakenTrade)
	flipped := bytes.Clone(good)
	flipped[60] ^= 1
	zero := bytes.Clone(good)
	clear(zero[28:32])
	one := bytes.Clone(zero)
	one[28] = 1
	tests := []struct {
		name   string
		b      []byte
		policy ChecksumPolicy
		stored uint64 // in the error
		ok     bool
	}{
		{"right, ignore", good, ChecksumIgnore, 0, true},
		{"right, verify", good, ChecksumVerifyIfNonzero, 0, true},
		{"right, require", good, ChecksumRequire, 0, true},
		{"wrong, ignore", flipped, ChecksumIgnore, 0, true},
		{"wrong, verify", flipped, ChecksumVerifyIfNonzero, 0xEA6C4E2B, false},
		{"wrong, require", flipped, ChecksumRequire, 0xEA6C4E2B, false},
		{"one, verify", one, ChecksumVerifyIfNonzero, 1, false},
		{"zero, ignore", zero, ChecksumIgnore, 0, true},
		{"zero, verify", zero, ChecksumVerifyIfNonzero, 0, true},
		{"zero, require", zero, ChecksumRequire, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.b, test.policy)
			if test.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, Error{Reason: ErrChecksumMismatch, Offset: 28, Got: test.stored, Want: uint64(Checksum(test.b))}, "byte 28", "0x")
		})
	}
	if Checksum(good) != 0xEA6C4E2B || Checksum(zero) != 0xEA6C4E2B {
		t.Error("the checksum depends on its own field")
	}
	if Checksum(good[:31]) != 0 {
		t.Error("less than a header has a checksum")
	}
}

func TestWrongMessageIsParsed(t *testing.T) {
	good := unhex(t, krakenTrade)
	bigEndian := append([]byte{0xde, 0xad, 0xbe, 0xef}, good[4:]...)
	huge := bytes.Clone(good)
	le.PutUint32(huge[24:], math.MaxUint32)
	tests := []struct {
		name string
		b    []byte
		want Error
		text string
	}{
		{"nothing", nil, Error{Reason: ErrMessageTooSmall, Want: 32}, "0 bytes, need 32"},
		{"short header", good[:31], Error{Reason: ErrMessageTooSmall, Got: 31, Want: 32}, "31 bytes, need 32"},
		{"big-endian magic", bigEndian, Error{Reason: ErrInvalidMagic, Got: 0xEFBEADDE, Want: Magic}, "0xEFBEADDE, want 0xDEADBEEF"},
		{"trailing byte", append(bytes.Clone(good), 0), Error{Reason: ErrTrailingBytes, Offset: 74, Got: 75, Want: 74}, "one whole message"},
		{"cut", good[:73], Error{Reason: ErrMessageTooSmall, Offset: 24, Got: 73, Want: 74}, "73 bytes, need 74"},
		{"two in one slice", append(bytes.Clone(good), good...), Error{Reason: ErrTrailingBytes, Offset: 74, Got: 148, Want: 74}, "148"},
		{"4 GiB payload_size", huge, Error{Reason: ErrMessageTooSmall, Offset: 24, Got: 74, Want: 32 + math.MaxUint32}, "4294967327"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.b, ChecksumIgnore)
			wantError(t, err, test.want, test.text)
		})
	}
}

// messageOf returns a message whose TLV area is tail.
func messageOf(tail []byte) Message {
	b := append(make([]byte, HeaderSize), tail...)
	Header{PayloadSize: uint32(len(tail))}.Put(b)
	return Message{bytes: b}
}

func TestWrongTLVIsWalkedPast(t *testing.T) {
	tests := []struct {
		name   string
		tail   string
		mode   Mode
		before int // good TLVs first
		want   Error
	}{
		{"dangling type byte", "c80101 07", ModeBridge, 1, Error{Reason: ErrTruncatedTLV, Offset: 35, Got: 1, Want: 2}},
		{"length past the end", "c80a010203", ModeBridge, 0, Error{Reason: ErrTruncatedTLV, Offset: 32, Type: 200, Got: 5, Want: 12}},
		{"length one past the end", "c804010203", ModeBridge, 0, Error{Reason: ErrTruncatedTLV, Offset: 32, Type: 200, Got: 5, Want: 6}},
		{"extended head cut", "ff00c801", ModeBridge, 0, Error{Reason: ErrTruncatedTLV, Offset: 32, Type: TypeExtended, Got: 4, Want: 5}},
		{"marker alone", "ff", ModeBridge, 0, Error{Reason: ErrTruncatedTLV, Offset: 32, Got: 1, Want: 2}},
		{"extended reserved byte", "cb00 ff01c80300616263", ModeBridge, 1, Error{Reason: ErrInvalidExtendedTLV, Offset: 34, Type: TypeExtended, Got: 1}},
		{"extended length past the end", "ff00c8ffff00", ModeBridge, 0, Error{Reason: ErrTruncatedTLV, Offset: 32, Type: 200, Got: 6, Want: 65540}},
		{"strict, 1-byte Trade", "0101ff", ModeStrict, 0, Error{Reason: ErrPayloadSizeMismatch, Offset: 32, Type: TypeTrade, Got: 1, Want: 40}},
		{"strict, empty Heartbeat", "9600 6400", ModeStrict, 1, Error{Reason: ErrPayloadSizeMismatch, Offset: 34, Type: 100, Want: 16}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := messageOf(unhex(t, test.tail))
			c := m.Cursor(test.mode)
			for range test.before {
				if !c.Next() {
					t.Fatal(c.Err())
				}
			}
			if c.Next() {
				t.Fatal("walked past it")
			}
			if err := c.Err(); c.Next() || c.Err() != err {
				t.Fatalf("the walk went on after %v: %v", err, c.Err())
			}
			wantError(t, c.Err(), test.want, "at byte")
			if test.mode == ModeStrict {
				return
			}
			n := 0
			var last error
			for _, err := range m.TLVs() {
				n++
				last = err
			}
			if n != test.before+1 {
				t.Errorf("the range gave %d, want %d and the error", n, test.before)
			}
			wantError(t, last, test.want)
		})
	}
	// What is odd but legal: unknown types, inner type 255, extended Trade of any size in strict mode.
	m := messageOf(unhex(t, "0000 960101 ff00ff0000 ff00010100aa"))
	c := m.Cursor(ModeStrict)
	var types []TLVType
	for c.Next() {
		types = append(types, c.TLV.Type)
	}
	if c.Err() != nil || !reflect.DeepEqual(types, []TLVType{0, 150, 255, 1}) {
		t.Errorf("types %v, %v", types, c.Err())
	}
}

func TestPayloadOfTheWrongSizeIsRead(t *testing.T) {
	buf := make([]byte, 100)
	for n := range buf {
		_, err := parseTrade(buf[:n])
		if n == TradeSize {
			if err != nil {
				t.Error(n, err)
			}
		} else {
			wantError(t, err, Error{Reason: ErrPayloadSizeMismatch, Type: TypeTrade, Got: uint64(n), Want: 40}, "Trade")
		}
		_, err = parseQuote(buf[:n])
		if n == QuoteSize || n == QuoteShortSize {
			if err != nil {
				t.Error(n, err)
			}
		} else {
			wantError(t, err, Error{Reason: ErrPayloadSizeMismatch, Type: TypeQuote, Got: uint64(n), Want: 56}, "Quote")
		}
		_, err = parseInstrumentID(buf[:n])
		if n == InstrumentIDSize {
			if err != nil {
				t.Error(n, err)
			}
		} else {
			wantError(t, err, Error{Reason: ErrPayloadSizeMismatch, Got: uint64(n), Want: 12})
		}
	}
}

func TestLengthWrapsAt255(t *testing.T) {
	for _, test := range []struct {
		n    int
		head string
	}{
		{0, "c800"}, {1, "c801"}, {255, "c8ff"},
		{256, "ff00c80001"}, {1000, "ff00c8e803"}, {65535, "ff00c8ffff"},
	} {
		dst := make([]byte, MessageSize(test.n))
		payload := bytes.Repeat([]byte{0x5a}, test.n)
		b := NewBuilder(dst, Header{})
		if err := b.Append(200, payload); err != nil {
			t.Fatal(err)
		}
		n, err := b.Finish(true)
		if n != len(dst) || err != nil || hex.EncodeToString(dst[32:n-test.n]) != test.head {
			t.Errorf("%d bytes: %d, %v, head % x", test.n, n, err, dst[32:n-test.n])
		}
		m := mustParse(t, dst, ChecksumRequire)
		c := m.Cursor(ModeStrict)
		if !c.Next() || c.TLV.Type != 200 || !bytes.Equal(c.TLV.Payload, payload) || c.Next() || c.Err() != nil {
			t.Errorf("%d bytes do not come back: %v", test.n, c.Err())
		}
	}
}

func TestBuilderWritesWhatNobodyCanRead(t *testing.T) {
	big := make([]byte, 2*MaxMessage)
	tests := []struct {
		name  string
		dst   []byte
		build func(*Builder)
		want  Error
		text  string
	}{
		{"no room for a header", big[:31], func(*Builder) {},
			Error{Reason: ErrBufferTooSmall, Got: 31, Want: 32}, "31 bytes, need 32"},
		{"no room for a header, nil", nil, func(b *Builder) { b.AppendTrade(&btcTrade) },
			Error{Reason: ErrBufferTooSmall, Want: 32}, "need 32"},
		{"no room for a Trade", big[:TradeMessageSize-1], func(b *Builder) { b.AppendTrade(&btcTrade) },
			Error{Reason: ErrBufferTooSmall, Offset: 32, Type: TypeTrade, Got: 73, Want: 74}, "Trade"},
		{"no room for a Quote", big[:QuoteMessageSize-1], func(b *Builder) { b.AppendQuote(&btcQuote) },
			Error{Reason: ErrBufferTooSmall, Offset: 32, Type: TypeQuote, Got: 89, Want: 90}, "Quote"},
		{"no room for the second TLV", big[:TradeMessageSize+1], func(b *Builder) { b.AppendTrade(&btcTrade); b.Append(203, nil) },
			Error{Reason: ErrBufferTooSmall, Offset: 74, Type: 203, Got: 75, Want: 76}, "at byte 74"},
		{"65536 bytes", big, func(b *Builder) { b.Append(200, big[:65536]) },
			Error{Reason: ErrPayloadTooLarge, Offset: 32, Type: 200, Got: 65536, Want: 65535}, "at most 65535"},
		{"more than 1 MiB", big, func(b *Builder) {
			for range 17 {
				b.Append(200, big[:65535])
			}
		}, Error{Reason: ErrMessageTooLarge, Offset: 32 + 15*65540, Type: 200, Got: 32 + 16*65540, Want: 1 << 20}, "at most 1048576"},
		{"the extended marker", big, func(b *Builder) { b.Append(TypeExtended, nil) },
			Error{Reason: ErrReservedType, Offset: 32, Type: TypeExtended}, "use 0 to 254"},
		{"a Trade of 24 bytes", big, func(b *Builder) { b.Append(TypeTrade, big[:24]) },
			Error{Reason: ErrPayloadSizeMismatch, Offset: 32, Type: TypeTrade, Got: 24, Want: 40}, "24 bytes, need 40"},
		{"an Economics of 30 bytes", big, func(b *Builder) { b.Append(22, big[:30]) },
			Error{Reason: ErrPayloadSizeMismatch, Offset: 32, Type: 22, Got: 30, Want: 32}, "Economics"},
		{"after a refusal", big[:40], func(b *Builder) { b.AppendTrade(&btcTrade); b.Append(203, nil) },
			Error{Reason: ErrBufferTooSmall, Offset: 32, Type: TypeTrade, Got: 40, Want: 74}, "need 74"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := NewBuilder(test.dst, Header{})
			test.build(&b)
			n, err := b.Finish(true)
			if n != 0 {
				t.Errorf("built %d bytes", n)
			}
			wantError(t, err, test.want, test.text)
		})
	}
}

func TestZeroMessagePanics(t *testing.T) {
	var m Message
	for tlv, err := range m.TLVs() {
		t.Error(tlv, err)
	}
	if m.Header() != (Header{}) || m.Bytes() != nil || !json.Valid(m.AppendJSON(nil, DialectTypes)) {
		t.Errorf("header %+v, bytes % x, JSON %s", m.Header(), m.Bytes(), m.AppendJSON(nil, DialectTypes))
	}
}

func TestHotPathAllocates(t *testing.T) {
	msg := unhex(t, krakenTrade)
	dst := make([]byte, 256)
	payload := make([]byte, 32)
	var failed error
	for name, run := range map[string]func(){
		"parse and cursor": func() {
			m, err := Parse(msg, ChecksumRequire)
			if err != nil {
				failed = err
			}
			c := m.Cursor(ModeStrict)
			for c.Next() {
				if trade, err := parseTrade(c.TLV.Payload); err != nil || trade != btcTrade {
					failed = errors.New("wrong trade")
				}
			}
			failed = errors.Join(failed, c.Err())
		},
		"parse and range": func() {
			m, err := Parse(msg, ChecksumIgnore)
			if err != nil {
				failed = err
			}
			n := 0
			for tlv, err := range m.TLVs() {
				if err != nil {
					failed = err
				}
				n += len(tlv.Payload)
			}
			if n != TradeSize {
				failed = errors.New("wrong payload")
			}
		},
		"build": func() {
			b := NewBuilder(dst, krakenHeader)
			b.AppendTrade(&btcTrade)
			b.AppendQuote(&btcQuote)
			b.Append(108, payload)
			if _, err := b.Finish(true); err != nil {
				failed = err
			}
		},
		"fixed point": func() {
			if v, err := ParseFixed8("116827.85"); err != nil || v != 11682785000000 {
				failed = errors.New("wrong number")
			}
		},
	} {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if failed != nil {
		t.Error(failed)
	}
}

func TestSymbolIsReversedOrCut(t *testing.T) {
	tests := []struct {
		id     InstrumentID
		wire   string
		symbol string
		topic  string
	}{
		{Coin(VenueKraken, "BTC"), "0000000000435442 6500 33 00", "BTC", "kraken.BTC"},
		{Coin(VenueCoinbase, "BTC/USD"), "004453552f435442 6600 33 00", "BTC/USD", "coinbase.BTC-USD"},
		{CoinbaseInstrument("ETH-USD"), "004453552f485445 6600 33 00", "ETH/USD", "coinbase.ETH-USD"},
		{Stock(2, "AAPL"), "000000004c504141 0200 01 00", "AAPL", "nasdaq.AAPL"},
		{Stock(1, "BRK.B"), "000000422e4b5242 0100 01 00", "BRK.B", "nyse.1-42524b2e42000000"},
		{Bond(1, "T-10Y"), "00000059 30312d54 0100 02 00", "T-10Y", "nyse.T-10Y"},
		{Coin(VenueBinance, "VERYLONGSYMBOL"), "474e4f4c59524556 6400 33 00", "VERYLONG", "binance.VERYLONG"},
		{Coin(VenueBinance, ""), "0000000000000000 6400 33 00", "", "binance.51-0000000000000000"},
		{Coin(VenueBinance, "a\x00b"), "0000000000620061 6400 33 00", "", "binance.51-6100620000000000"},
		{Coin(VenueBinance, "\x7f"), "000000000000007f 6400 33 00", "", "binance.51-7f00000000000000"},
		{InstrumentID{AssetID: 0xa0b86991c6218b36, Venue: 200, Type: 50, Reserved: 7}, "368b21c69169b8a0 c800 32 07", "", "ethereum.50-a0b86991c6218b36"},
	}
	for _, test := range tests {
		var wire [InstrumentIDSize]byte
		test.id.Put(wire[:])
		if want := unhex(t, test.wire); !bytes.Equal(wire[:], want) {
			t.Errorf("%v: % x, want % x", test.id, wire, want)
		}
		if back, err := parseInstrumentID(wire[:]); err != nil || back != test.id {
			t.Errorf("%v comes back as %v, %v", test.id, back, err)
		}
		if symbol, ok := test.id.Symbol(); symbol != test.symbol || ok != (test.symbol != "") {
			t.Errorf("%v: symbol %q, %v, want %q", test.id, symbol, ok, test.symbol)
		}
		if test.id.String() != test.topic {
			t.Errorf("%+v: topic %q, want %q", test.id, test.id, test.topic)
		}
	}
}

func TestDecimalIsRounded(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "-0": 0, "1": 1e8, "0.1": 1e7, "116827.85": 11682785000000, "0.00004147": 4147,
		"0.00000001": 1, "-0.00000001": -1, "00012.50": 1250000000, "-45000.5": -4500050000000,
		"92233720368.54775807":  math.MaxInt64,
		"-92233720368.54775808": math.MinInt64,
		"0.12345678":            12345678,
		// A float64 holds neither of these.
		"90071992.54740993": 9007199254740993, "90071992547.40993": 9007199254740993000,
	} {
		if v, err := ParseFixed8(text); err != nil || v != want {
			t.Errorf("%q gives %d, %v, want %d", text, v, err, want)
		}
	}
	for v, want := range map[int64]string{
		0: "0", 1: "0.00000001", -1: "-0.00000001", 1e8: "1", 11682785000000: "116827.85", -250000000: "-2.5",
		math.MaxInt64: "92233720368.54775807", math.MinInt64: "-92233720368.54775808",
	} {
		text := FormatFixed8(v)
		if text != want {
			t.Errorf("%d gives %q, want %q", v, text, want)
		}
		if back, err := ParseFixed8(text); err != nil || back != v {
			t.Errorf("%q comes back as %d, %v, want %d", text, back, err, v)
		}
	}
	for text, want := range map[string]error{
		"": ErrFixed8Syntax, "-": ErrFixed8Syntax, ".": ErrFixed8Syntax, "1.": ErrFixed8Syntax, ".5": ErrFixed8Syntax,
		"-.5": ErrFixed8Syntax, "1.2.3": ErrFixed8Syntax, "+1": ErrFixed8Syntax, "--1": ErrFixed8Syntax, "1e5": ErrFixed8Syntax,
		" 1": ErrFixed8Syntax, "1 ": ErrFixed8Syntax, "0x10": ErrFixed8Syntax, "1_000": ErrFixed8Syntax, "NaN": ErrFixed8Syntax, "١": ErrFixed8Syntax,
		"0.123456789": ErrFixed8Precision, "1.000000000": ErrFixed8Precision,
		"92233720368.54775808": ErrFixed8Range, "-92233720368.54775809": ErrFixed8Range, "92233720369": ErrFixed8Range,
		"18446744073709551616": ErrFixed8Range, "9223372036854775807": ErrFixed8Range, "9223372036854775808": ErrFixed8Range,
		strings.Repeat("9", 1000): ErrFixed8Range,
	} {
		v, err := ParseFixed8(text)
		if !errors.Is(err, want) || v != 0 {
			t.Errorf("%q gives %d, %v, want %v", text, v, err, want)
		} else if !strings.Contains(err.Error(), "at byte") || len(err.Error()) > 150 {
			t.Errorf("%q: the error lacks the place or repeats too much: %v", text, err)
		}
	}
}

func TestNamesAndSizesLeaveTheRegistry(t *testing.T) {
	named, fixed := 0, 0
	for i := range 256 {
		typ := TLVType(i)
		if typ.String() != "Unknown" && typ.Info().Group != "vendor" {
			named++
		}
		if typ.FixedSize() != 0 {
			fixed++
			if typ.String() == "Unknown" {
				t.Errorf("%d has a size and no name", i)
			}
		}
	}
	// 79 types in Torq's registry, the extended marker included; 34 of them with a fixed size.
	if named != 79 || fixed != 34 {
		t.Errorf("%d names, %d fixed sizes", named, fixed)
	}
	for typ, want := range map[TLVType]string{TypeTrade: "Trade", TypeQuote: "Quote", TypeQuoteUpdate: "QuoteUpdate", 150: "Unknown", TypeExtended: "ExtendedTLV"} {
		if typ.String() != want {
			t.Errorf("%d is %v, want %v", uint8(typ), typ, want)
		}
	}
}

func TestJSONIsNotWhatScriptsRead(t *testing.T) {
	header := `{"header":{"magic":"0xDEADBEEF","relay_domain":0,"version":1,"source":3,"flags":0,` +
		`"sequence":"1","timestamp":"1700000000123456789","payload_size":`
	trade := `"fields":{"asset_id":"4779518771825999872","price_e8":"4500050000000","volume_e8":"12500000",` +
		`"execution_timestamp_ns":"1700000000123455789","venue_id":101,"asset_type":51,"reserved":0,"side":`
	quote := `"fields":{"asset_id":"4779518771825999872","bid_price_e8":"4500000000000","bid_size_e8":"1000000",` +
		`"ask_price_e8":"4500100000000","ask_size_e8":"1000000","quote_timestamp_ns":"1700000000123454789",` +
		`"venue_id":100,"asset_type":51,"reserved":0`
	padded := btcQuote
	padded.Padding = [4]byte{1, 2, 3, 4}
	var paddedPayload [QuoteSize]byte
	padded.Put(paddedPayload[:])
	dst := make([]byte, MessageSize(QuoteSize))
	b := NewBuilder(dst, Header{Version: 1, Source: 3, Sequence: 1, TimestampNs: 1700000000123456789})
	b.Append(TypeQuoteUpdate, paddedPayload[:])
	b.Finish(false)

	for _, test := range []struct {
		name, hex, want string
	}{
		{"trade", krakenTrade, header + `42,"checksum":"0xEA6C4E2B"},"domain":"MarketData","source":"KrakenCollector","tlvs":[` +
			`{"offset":32,"format":"standard","type":1,"length":40,"payload_offset":34,"name":"Trade","instrument":"kraken.BTC",` + trade + `0}}]}`},
		{"extended, padding, empty vendor TLV", extendedTrade, header + `47,"checksum":"0x00000000"},"domain":"MarketData","source":"KrakenCollector","tlvs":[` +
			`{"offset":32,"format":"extended","type":1,"length":40,"payload_offset":37,"name":"Trade","instrument":"kraken.BTC",` + trade + `1,"padding":"010203"}},` +
			`{"offset":77,"format":"standard","type":203,"length":0,"payload_offset":79,"name":"CustomMetrics","payload":""}]}`},
		{"quote", binanceQuote, `{"header":{"magic":"0xDEADBEEF","relay_domain":0,"version":1,"source":1,"flags":0,` +
			`"sequence":"2","timestamp":"1700000000123456789","payload_size":58,"checksum":"0x00000000"},"domain":"MarketData","source":"BinanceCollector","tlvs":[` +
			`{"offset":32,"format":"standard","type":2,"length":56,"payload_offset":34,"name":"Quote","instrument":"binance.BTC",` + quote + `}}]}`},
		{"quote update with padding", hex.EncodeToString(dst), header + `58,"checksum":"0x00000000"},"domain":"MarketData","source":"KrakenCollector","tlvs":[` +
			`{"offset":32,"format":"standard","type":17,"length":56,"payload_offset":34,"name":"QuoteUpdate","instrument":"binance.BTC",` + quote + `,"padding":"01020304"}}]}`},
		{"greeting", greetingHex, `{"header":{"magic":"0xDEADBEEF","relay_domain":1,"version":1,"source":2,"flags":0,` +
			`"sequence":"0","timestamp":"0","payload_size":0,"checksum":"0x00000000"},"domain":"Signal","source":"CoinbaseCollector","greeting":true,"tlvs":[]}`},
		{"short trade, then a cut TLV", strings.TrimSuffix(greetingHex, "00000000 00000000") + "06000000 00000000 0102abcd c80a",
			`{"header":{"magic":"0xDEADBEEF","relay_domain":1,"version":1,"source":2,"flags":0,` +
				`"sequence":"0","timestamp":"0","payload_size":6,"checksum":"0x00000000"},"domain":"Signal","source":"CoinbaseCollector","tlvs":[` +
				`{"offset":32,"format":"standard","type":1,"length":2,"payload_offset":34,"name":"Trade","payload":"abcd"}],` +
				`"error":{"reason":"TruncatedTLV","offset":36}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := mustParse(t, unhex(t, test.hex), ChecksumVerifyIfNonzero)
			if got := string(m.AppendJSON([]byte("x"), DialectTypes)); got != "x"+test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if got, err := json.Marshal(m); err != nil || string(got) != test.want {
				t.Errorf("json.Marshal: %s, %v", got, err)
			}
		})
	}
}
