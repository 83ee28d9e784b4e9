package torqbridge_test

import (
	"context"
	"log"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// docs/migration.md shows the bodies of consumer and producer; tests/docs_test.go
// compares them, and TestGuideMovesNobody runs them.

func Example_consumer() {
	consumer(context.Background(), func(t codec.Trade) { log.Print(t) }, func(err error) { log.Print(err) })
}

func consumer(ctx context.Context, use func(codec.Trade), report func(error)) {
	client, err := registry.Dial(ctx, "", nil)
	check(err)
	defer client.Close()
	sub, err := client.Subscriber(ctx, "market.coinbase.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	check(err)
	defer sub.Close()
	for frame, err := range sub.Frames(ctx) {
		if err != nil { // a gap, say: the stream goes on
			report(err)
			continue
		}
		message, err := codec.Parse(frame.Payload, codec.ChecksumVerifyIfNonzero)
		var trade codec.Trade
		if err == nil && message.ReadTrade(&trade) {
			use(trade)
		}
	}
}

func Example_producer() {
	trade := codec.Trade{Instrument: codec.CoinbaseInstrument("BTC-USD"), Price: 117_250_50000000, Volume: 2_000_000}
	producer(context.Background(), &trade, uint64(time.Now().UnixNano()))
}

func producer(ctx context.Context, trade *codec.Trade, now uint64) {
	client, err := registry.Dial(ctx, "", nil)
	check(err)
	defer client.Close()
	pub, err := client.Publisher(ctx, "market.coinbase.BTC-USD", &shm.PublisherOptions{Source: "coinbase-collector"})
	check(err)
	defer pub.Close()

	// For each trade:
	claim, err := pub.Claim(uint16(codec.TypeTrade), codec.TradeMessageSize)
	check(err)
	trade.PutMessage(claim.Bytes(), &codec.Header{Version: codec.Version, Source: codec.SourceCoinbase, TimestampNs: now}, false)
	claim.Commit()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
