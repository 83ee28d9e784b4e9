package torqbridge

import (
	"context"
	"testing"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/shm"
)

// BenchmarkClaimTrade builds a Trade straight into the lane: Claim and Commit are in
// the figure, a reader is not.
func BenchmarkClaimTrade(b *testing.B) {
	d, err := shm.OpenLocal("", nil)
	must(b, err)
	defer d.Close()
	client, err := d.Client(context.Background())
	must(b, err)
	defer client.Close()
	pub, err := client.Publisher(b.Context(), "market.kraken.BTC", nil)
	must(b, err)
	defer pub.Close()
	var build codec.Builder
	for _, way := range []struct {
		name string
		put  func(dst []byte, h *codec.Header, t *codec.Trade, checksum bool) error
	}{
		{"PutMessage", func(dst []byte, h *codec.Header, t *codec.Trade, checksum bool) error {
			t.PutMessage(dst, h, checksum)
			return nil
		}},
		{"Builder", func(dst []byte, h *codec.Header, t *codec.Trade, checksum bool) error {
			build.Start(dst, h)
			_ = build.AppendTrade(t)
			_, err := build.Finish(checksum)
			return err
		}},
	} {
		for _, checksum := range []bool{false, true} {
			name := way.name
			if checksum {
				name += "Checksum"
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				h := codec.Header{Domain: codec.DomainMarketData, Version: codec.Version, Source: codec.SourceKraken}
				t := codec.Trade{Instrument: codec.Coin(codec.VenueKraken, "BTC")}
				must(b, pub.Protect(func() error {
					for b.Loop() {
						h.Sequence++
						t.Price++
						claim, err := pub.Claim(uint16(codec.TypeTrade), codec.TradeMessageSize)
						if err != nil {
							return err
						}
						if err := way.put(claim.Bytes(), &h, &t, checksum); err != nil {
							return err
						}
						claim.Commit()
					}
					return nil
				}))
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
			})
		}
	}
}
