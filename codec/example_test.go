package codec_test

import (
	"fmt"

	"github.com/torq/mycelium/codec"
)

func Example() {
	price, _ := codec.ParseFixed8("116827.85")
	volume, _ := codec.ParseFixed8("0.00004147")
	trade := codec.Trade{
		Instrument:           codec.CoinbaseInstrument("BTC-USD"),
		Price:                price,
		Volume:               volume,
		ExecutionTimestampNs: 1755893490012637000,
		Side:                 codec.SideBuy,
	}

	claim := make([]byte, codec.TradeMessageSize) // the bytes of a claim
	b := codec.NewBuilder(claim, codec.Header{
		Domain:      codec.DomainMarketData,
		Version:     codec.Version,
		Source:      codec.SourceCoinbase,
		Sequence:    1,
		TimestampNs: 1755893490013000000,
	})
	b.AppendTrade(&trade)
	if _, err := b.Finish(false); err != nil { // reports what AppendTrade refused, too
		fmt.Println(err)
		return
	}

	m, err := codec.Parse(claim, codec.ChecksumVerifyIfNonzero)
	if err != nil {
		fmt.Println(err)
		return
	}
	for tlv, err := range m.TLVs() {
		if err != nil {
			fmt.Println(err)
			return
		}
		if tlv.Type == codec.TypeTrade {
			var t codec.Trade
			if err := t.Parse(tlv.Payload); err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("market."+t.Instrument.String(), codec.FormatFixed8(t.Price), codec.FormatFixed8(t.Volume))
		}
	}
	// Output: market.coinbase.BTC-USD 116827.85 0.00004147
}

func ExampleSplitter() {
	trade := make([]byte, codec.TradeMessageSize)
	b := codec.NewBuilder(trade, codec.Header{Version: codec.Version, Source: codec.SourceKraken})
	b.AppendTrade(&codec.Trade{Instrument: codec.Coin(codec.VenueKraken, "BTC"), Price: 4500050000000})
	if _, err := b.Finish(true); err != nil {
		fmt.Println(err)
		return
	}
	stream := append(append([]byte("noise"), trade...), trade[:50]...)

	s := codec.NewSplitter(codec.SplitterOptions{})
	for len(stream) > 0 { // as many reads as it takes
		n := copy(s.Room(64), stream)
		s.Filled(n)
		stream = stream[n:]
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			if p.Message == nil {
				fmt.Println("skipped", p.Skipped, "bytes at", p.Offset, p.Reason)
				continue
			}
			m, err := codec.Parse(p.Message, codec.ChecksumVerifyIfNonzero)
			if err != nil {
				fmt.Println(err)
				continue
			}
			var t codec.Trade
			fmt.Println("message at", p.Offset, m.ReadTrade(&t), codec.FormatFixed8(t.Price))
		}
	}
	fmt.Println(s.Pending(), "bytes are not a whole message")
	// Output:
	// skipped 5 bytes at 0 InvalidMagic
	// message at 5 true 45000.5
	// 50 bytes are not a whole message
}

func ExampleValidator() {
	v, err := codec.NewValidator(codec.Limits{Preset: codec.PresetProduction}, codec.TLVs{Mode: codec.ModeBridge})
	if err != nil {
		fmt.Println(err)
		return
	}
	const now = 1_700_000_000_000_000_000 // of the caller's clock
	for _, h := range []codec.Header{
		{Version: 1, Source: codec.SourceKraken, Sequence: 1, TimestampNs: now},
		{Version: 1, Source: codec.SourceKraken, Sequence: 100, TimestampNs: now},
		{Version: 1, Source: codec.SourceKraken, Sequence: 100, TimestampNs: now - 31e9},
	} {
		b := make([]byte, codec.HeaderSize)
		h.Put(b)
		m, err := codec.Parse(b, codec.ChecksumIgnore)
		if err == nil {
			err = v.Validate(m, codec.DomainMarketData, now)
		}
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// codec: SequenceGap at byte 8: source KrakenCollector, sequence 100, expected 2: 98 missing
	// codec: TimestampTooOld at byte 16: 1699999969000000000 ns, at least 1699999970000000000
	// codec: DuplicateSequence at byte 8: source KrakenCollector, sequence 100, expected 101
}
