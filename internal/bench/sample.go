package bench

import (
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/coinbase"
)

// sample is the demo's feed: some hundred made-up matches of three products,
// the same ones always.
func sample() []coinbase.Match {
	products := []struct {
		id    string
		price int64 // times 1e8
	}{{"BTC-USD", 116_800_00000000}, {"ETH-USD", 4_830_00000000}, {"SOL-USD", 201_00000000}}
	const matches = 600
	var (
		feed  []coinbase.Match
		at    = time.Date(2025, time.August, 22, 20, 0, 0, 0, time.UTC).UnixNano()
		state = uint64(1)
	)
	random := func(n int64) int64 { // Knuth's MMIX generator
		state = state*6364136223846793005 + 1442695040888963407
		return int64(state>>33) % n
	}
	for range matches {
		p := &products[random(int64(len(products)))]
		p.price += (random(2001) - 1000) * 1_000_000 / 4
		at += random(50_000_000)
		feed = append(feed, coinbase.Match{Product: p.id, Side: codec.Side(random(2)), Price: p.price, Size: 1 + random(1e8), TimeNs: uint64(at)})
	}
	return feed
}
