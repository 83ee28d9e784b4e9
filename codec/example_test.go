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
	b := codec.NewBuilder(claim, &codec.Header{
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
