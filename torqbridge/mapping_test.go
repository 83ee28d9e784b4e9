package torqbridge

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/topic"
)

// build makes a message of these TLVs.
func build(t testing.TB, h codec.Header, add func(b *codec.Builder) error) []byte {
	t.Helper()
	buf := make([]byte, 4096)
	h.Version = codec.Version
	b := codec.NewBuilder(buf, h)
	if add != nil {
		must(t, add(&b))
	}
	n, err := b.Finish(false)
	must(t, err)
	return buf[:n]
}

func opaque(typ codec.TLVType, n int) func(b *codec.Builder) error {
	return func(b *codec.Builder) error { return b.Append(typ, make([]byte, n)) }
}

func address(c byte) (a codec.Address) {
	return codec.Address(bytes.Repeat([]byte{c}, codec.AddressSize))
}

func TestMessageGoesToTheWrongTopic(t *testing.T) {
	m := NewMapping(&Config{})
	instrument := func(id codec.InstrumentID) func(b *codec.Builder) error {
		return func(b *codec.Builder) error { return b.AppendTrade(&codec.Trade{Instrument: id}) }
	}
	short := make([]byte, codec.QuoteShortSize)
	q := codec.Quote{Instrument: codec.Coin(codec.VenueBinance, "ETH")}
	full := make([]byte, codec.QuoteSize)
	q.Put(full)
	copy(short, full)
	for _, c := range []struct {
		socket string
		source codec.Source
		add    func(b *codec.Builder) error
		want   string
	}{
		{"market_data", 2, instrument(codec.CoinbaseInstrument("BTC-USD")), "market.coinbase.BTC-USD"},
		{"signals", 2, instrument(codec.Coin(codec.VenueKraken, "BTC")), "market.kraken.BTC"},
		{"market_data", 2, instrument(codec.Stock(2, "AAPL")), "market.nasdaq.AAPL@stock"},
		{"market_data", 2, instrument(codec.Bond(1, "T 10.Y")), "market.nyse.T:2010:2eY@bond"},
		{"market_data", 2, instrument(codec.Coin(999, "raw")), "market.999.:72aw"},
		{"market_data", 2, instrument(codec.InstrumentID{AssetID: 42, Venue: 300, Type: 100, Reserved: 1}), "market.uniswapv2.100-000000000000002a-01"},
		{"market_data", 2, instrument(codec.EthereumToken(address(0xa0))), "market.ethereum.50-a0a0a0a0a0a0a0a0"},
		{"market_data", 1, func(b *codec.Builder) error { return b.Append(codec.TypeQuote, full) }, "market.binance.ETH"},
		{"market_data", 1, func(b *codec.Builder) error { return b.Append(codec.TypeQuoteUpdate, short) }, "market.binance.ETH"},
		{"market_data", 4, func(b *codec.Builder) error {
			return b.AppendPoolSwap(&codec.PoolSwap{Venue: 400, PoolAddress: address(0xab)})
		}, "market.quickswap.0x" + strings.Repeat("ab", 20)},
		{"market_data", 61, func(b *codec.Builder) error { return b.AppendGasPrice(&codec.GasPrice{Venue: 137}) }, "market.chain-137.gas_price"},
		{"signals", 10, func(b *codec.Builder) error {
			return b.AppendArbitrageSignal(&codec.ArbitrageSignal{StrategyID: 21, TokenIn: address(0x33)})
		}, "signals.21.0x" + strings.Repeat("33", 20)},
		{"market_data", 15, opaque(codec.TypeStateInvalidation, 224), "system.state_invalidation"},
		{"execution", 15, opaque(109, 3), "system.109"},
		{"execution", 20, opaque(40, 32), "execution.executionengine.raw"},
		{"market_data", 3, opaque(28, 40), "signals.kraken.raw"},
		{"market_data", 3, opaque(60, 32), "signals.kraken.raw"},
		{"market_data", 3, opaque(5, 7), "market.kraken.raw"},
		{"signals", 200, opaque(204, 24), "signals.source-200.raw"},
		{"execution", 4, opaque(150, 1), "execution.polygon.raw"},
		{"signals", 99, nil, "signals.testclient.heartbeat"},
	} {
		msg := build(t, codec.Header{Source: c.source}, c.add)
		if got := m.Topic(c.socket, msg); got != c.want || topic.Check(got) != nil {
			t.Errorf("on %s: %q, want %q", c.socket, got, c.want)
		}
	}
	short24 := build(t, codec.Header{Source: 3}, opaque(5, 24))
	short24[codec.HeaderSize] = byte(codec.TypeTrade) // as some of Torq's tests build it
	if got := m.Topic("market_data", short24); got != "market.kraken.raw" {
		t.Errorf("a trade of 24 bytes: %q", got)
	}
	for name, s := range map[string]string{
		"truncated TLV": "efbeadde000103000100000000000000000000000000000003000000000000000128ff",
		"no magic":      strings.Repeat("00", 40),
		"short":         "efbe",
	} {
		b, err := hex.DecodeString(s)
		must(t, err)
		if got := m.Topic("market_data", b); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestDialectChangesVenues(t *testing.T) {
	m := NewMapping(&Config{Dialect: DialectCodec})
	msg := build(t, codec.Header{Source: 2}, func(b *codec.Builder) error {
		return b.AppendTrade(&codec.Trade{Instrument: codec.Coin(201, "MATIC")})
	})
	if got := m.Topic("market_data", msg); got != "market.polygon.MATIC" {
		t.Errorf("%q", got)
	}
	if got := m.Topic("market_data", build(t, codec.Header{Source: 2}, opaque(5, 1))); got != "market.kraken.raw" {
		t.Errorf("%q", got)
	}
}

func TestRenamedTopicIsNone(t *testing.T) {
	m := NewMapping(&Config{Maps: []MapConfig{
		{Match: "market.kraken.*", Topic: "md.{3}.{2}"},
		{Match: "market.kraken.ETH", Topic: "eth"},
		{Match: "market.binance.>", Topic: "x.{9}"},
	}})
	for symbol, want := range map[string]string{"BTC": "md.BTC.kraken", "ETH": "eth"} {
		if got := m.Topic("market_data", trade(3, symbol, 1)); got != want {
			t.Errorf("%s: %q, want %q", symbol, got, want)
		}
	}
	msg := build(t, codec.Header{}, func(b *codec.Builder) error {
		return b.AppendTrade(&codec.Trade{Instrument: codec.Coin(codec.VenueBinance, "BTC")})
	})
	if got := m.Topic("market_data", msg); got != "" {
		t.Errorf("%q", got)
	}
}

func TestTopicAllocates(t *testing.T) {
	m := NewMapping(&Config{})
	a, b := trade(3, "BTC", 1), trade(3, "ETH", 2)
	swap := build(t, codec.Header{}, func(b *codec.Builder) error { return b.AppendPoolSwap(&codec.PoolSwap{Venue: 400}) })
	if n := testing.AllocsPerRun(100, func() {
		m.Topic("market_data", a)
		m.Topic("market_data", b)
		m.Topic("market_data", swap)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzTopicComesBack: whatever the instrument, the topic is one, and leads back.
func FuzzTopicComesBack(f *testing.F) {
	f.Add(uint64(0x4254432f55534400), uint16(102), uint8(51), uint8(0))
	f.Add(uint64(0x2d3a402e2f5f0000), uint16(101), uint8(1), uint8(0))
	f.Add(uint64(0x7261770000000000), uint16(7), uint8(2), uint8(0))
	f.Add(uint64(0xa0b86991c6218b36), uint16(200), uint8(50), uint8(9))
	f.Fuzz(func(t *testing.T, asset uint64, venue uint16, typ, reserved uint8) {
		m := NewMapping(&Config{})
		id := codec.InstrumentID{AssetID: asset, Venue: codec.VenueID(venue), Type: codec.AssetType(typ), Reserved: reserved}
		msg := build(t, codec.Header{}, func(b *codec.Builder) error { return b.AppendTrade(&codec.Trade{Instrument: id}) })
		name := m.Topic("market_data", msg)
		if err := topic.Check(name); err != nil {
			t.Fatal(err)
		}
		s, ok := m.Parse(name)
		if !ok || s.Instrument != id || s.IsPool {
			t.Fatalf("%q leads to %+v, want %+v", name, s, id)
		}
	})
}

func TestTopicOfAPoolComesBack(t *testing.T) {
	m := NewMapping(&Config{})
	msg := build(t, codec.Header{}, func(b *codec.Builder) error {
		return b.AppendPoolSync(&codec.PoolSync{Venue: 301, PoolAddress: address(0xc0)})
	})
	s, ok := m.Parse(m.Topic("market_data", msg))
	if !ok || !s.IsPool || s.Pool != address(0xc0) || s.Venue != 301 {
		t.Errorf("%+v %v", s, ok)
	}
	for _, name := range []string{"market.kraken", "signals.kraken.BTC", "market.nowhere.BTC", "market.0101.BTC", "market.kraken.raw",
		"market.chain-137.gas_price", "market.kraken.BTC@coin", "market.kraken.a:zz", "market.kraken.a:6", "market.kraken.:41", "market.kraken.BTC@stock@x",
		"market.kraken.999-0000000000000001", "market.kraken.LONGSYMBOLX", "market.kraken.50-0000000000000001-zz", "market.kraken.:72:61:77", "market.kraken.@"} {
		if s, ok := m.Parse(name); ok {
			t.Errorf("%s leads to %+v", name, s)
		}
	}
}

func TestTypeTokens(t *testing.T) {
	for typ, want := range map[codec.TLVType]string{1: "trade", 5: "l2_snapshot", 28: "mev_bundle", 106: "state_invalidation", 109: "109"} {
		if got := typeToken(typ); got != want {
			t.Errorf("%d: %q, want %q", typ, got, want)
		}
	}
}
