package torqbridge

import (
	"testing"

	"github.com/torq/mycelium/codec"
)

func TestMessageOfAnOldProducerIsLostOnItsWay(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	onBus := p.subscribe("market.>")
	_, onSocket := p.consume(p.socket("market_data"))
	eventually(t, "the consumer is in", func() bool { return p.status().Clients == 1 })
	const n = 5000
	prod := p.produce(p.socket("market_data"))
	for i := range uint64(n) {
		must(t, prod.Send(trade(codec.SourceKraken, []string{"BTC", "ETH", "SOL"}[i%3], i)))
	}
	eventually(t, "the bus has all", func() bool { return onBus.Total() == n })
	eventually(t, "the consumer has all", func() bool { return onSocket.Total() == n })
	check(t, onSocket, "consumer", codec.SourceKraken, 0, n)
	s := p.status()
	if s.In != n || s.Greetings != 1 || s.Topics != 4 || s.Lost != 0 || s.Served != "bridge" {
		t.Errorf("status %+v", s)
	}
}
