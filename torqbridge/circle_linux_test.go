package torqbridge

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/tests/legacy"
)

// load sends from one producer until it is stopped.
type load struct {
	p       *legacy.Producer
	source  codec.Source
	sent    atomic.Uint64
	restart atomic.Bool
	quit    chan struct{}
	done    sync.WaitGroup
}

func (p *place) load(path string, source codec.Source) *load {
	l := &load{p: p.produce(path), source: source, quit: make(chan struct{})}
	l.done.Go(func() {
		for {
			select {
			case <-l.quit:
				return
			default:
			}
			if l.restart.CompareAndSwap(true, false) {
				if err := l.p.Restart(); err != nil {
					p.t.Error(err)
					return
				}
			}
			i := l.sent.Load()
			if err := l.p.Send(trade(source, []string{"BTC", "ETH"}[i%2], i)); err != nil {
				p.t.Error(err)
				return
			}
			l.sent.Store(i + 1)
			time.Sleep(200 * time.Microsecond)
		}
	})
	return l
}

func (l *load) stop() uint64 {
	close(l.quit)
	l.done.Wait()
	return l.sent.Load()
}

func (p *place) move(to Mode, force bool) Move {
	p.t.Helper()
	m, err := MoveTo(p.ctx, p.control(), "market_data", to, force, false)
	must(p.t, err)
	return m
}

func (p *place) verdict() string {
	s := p.status()
	for i := len(s.Windows) - 1; i >= 0; i-- {
		if v := s.Windows[i].Verdict; v != VerdictIdle {
			return v
		}
	}
	return ""
}

func TestMessageIsLostOrDoubledOnTheWayThereAndBack(t *testing.T) {
	p := newPlace(t)
	path := p.socket("market_data")
	relay, err := legacy.Listen(path, legacy.AnyDomain) // with a filter it drops what is read together with a greeting
	must(t, err)
	defer relay.Close()
	_, c1 := p.consume(path)
	p1 := p.load(path, 1)
	p2 := p.load(path, 2)

	p.start(p.config(ModeShadow))
	onBus := p.subscribe("market.>")
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	fromHere := p1.sent.Load()
	eventually(t, "both sides are the same", func() bool { return p.verdict() == VerdictSame })

	// A publisher on the bus reaches the consumers of the relay, and later of the bridge.
	pub, err := p.dial().Publisher(p.ctx, "market.kraken.DOT", nil)
	must(t, err)
	direct := func(from, to uint64) {
		for i := from; i < to; i++ {
			if _, err := pub.Publish(1, trade(3, "DOT", i)); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	direct(0, 500)
	p.move(ModeBus, false)
	if s := p.status(); s.Served != "bridge" || s.Mode != ModeBus {
		t.Fatalf("after the cutover: %+v", s)
	}
	_, c2 := p.consume(path)
	eventually(t, "the new consumer is in", func() bool { return p.status().Clients == 1 })
	direct(500, 1000)
	p1.restart.Store(true)
	p2.restart.Store(true)
	eventually(t, "the producers have moved", func() bool { return p.status().Producers == 2 })
	from1, from2 := p1.sent.Load()+100, p2.sent.Load()+100
	eventually(t, "the producers go on", func() bool { return p1.sent.Load() > from1+200 && p2.sent.Load() > from2+200 })
	direct(1000, 1500)

	m := p.move(ModeShadow, false)
	if s := p.status(); s.Served != "relay" || s.Mode != ModeShadow || m.Took > 10*time.Second || m.Forced != 0 || m.Note != "" {
		t.Errorf("after the rollback: %+v, %+v", m, s)
	}
	direct(1500, 2000)
	at := p1.sent.Load()
	eventually(t, "the producers go on", func() bool { return p1.sent.Load() > at+500 })
	n1, n2 := p1.stop(), p2.stop()
	for end := time.Now().Add(5 * time.Second); c1.Total() < int(n1+n2+2000) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	time.Sleep(300 * time.Millisecond) // what comes now is too much
	check(t, c1, "old consumer", 1, 0, n1)
	check(t, c1, "old consumer", 2, 0, n2)
	check(t, c1, "old consumer", 3, 0, 2000)
	check(t, c2, "new consumer", 1, from1, n1)
	check(t, c2, "new consumer", 2, from2, n2)
	check(t, c2, "new consumer", 3, 500, 2000)
	if s := p.status(); s.Lost != 0 || s.RelayRefused != 0 {
		t.Errorf("status %+v", s)
	}
	if p1.p.Reconnects == 0 {
		t.Error("the rollback did not reach the producers")
	}
	check(t, onBus, "bus", 1, fromHere+100, n1)
}
