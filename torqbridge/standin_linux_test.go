package torqbridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/coinbase"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
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
	check(t, onBus, "bus", codec.SourceKraken, 0, n)
	s := p.status()
	if s.In != n || s.Greetings != 1 || s.Topics != 4 || s.Lost != 0 || s.Served != "bridge" || s.Producers != 1 || s.Unmappable != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestCoinbaseDayChangesOnItsWay replays real trades, or a sample of the same form,
// as an old producer does, and compares every byte.
func TestCoinbaseDayChangesOnItsWay(t *testing.T) {
	var matches []coinbase.Match
	f, err := os.Open("../../shared/data/coinbase-matches-2025-08-22.json")
	if err == nil {
		defer f.Close()
		matches, err = coinbase.Read(f, nil)
		must(t, err)
	} else {
		for i := range 10_000 {
			matches = append(matches, coinbase.Match{Product: []string{"BTC-USD", "ETH-USD", "SOL-EUR"}[i%3], Side: codec.Side(i % 2),
				Price: int64(i) * 1e8, Size: int64(i%97) + 1, TimeNs: 1_755_000_000_000_000_000 + uint64(i)*1_000_003})
		}
	}
	var want bytes.Buffer
	var b [coinbase.MessageBytes]byte
	for i := range matches {
		matches[i].Put(b[:], uint64(i+1))
		want.Write(b[:])
	}

	p := newPlace(t)
	p.start(p.config(ModeBus))
	onBus := make([]byte, want.Len()) // each message at its sequence's place
	var busBytes atomic.Int64
	sub, err := p.dial().Subscriber(p.ctx, "market.coinbase.*", &shm.SubscriberOptions{Mode: shm.Lossless})
	must(t, err)
	defer sub.Close()
	go func() {
		_ = sub.Run(p.ctx, nil, func(f shm.Frame) {
			seq := binary.LittleEndian.Uint64(f.Payload[8:])
			copy(onBus[(seq-1)*coinbase.MessageBytes:], f.Payload)
			busBytes.Add(int64(len(f.Payload)))
		})
	}()
	c := dialRaw(t, p.socket("market_data"))
	eventually(t, "the consumer is in", func() bool { return p.status().Clients == 1 })
	got := make(chan []byte, 1)
	go func() {
		all := make([]byte, want.Len())
		n, _ := io.ReadFull(c, all)
		got <- all[:n]
	}()
	prod := p.produce(p.socket("market_data"))
	for m := want.Bytes(); len(m) > 0; m = m[coinbase.MessageBytes:] {
		must(t, prod.Send(m[:coinbase.MessageBytes]))
	}
	if !bytes.Equal(<-got, want.Bytes()) {
		t.Error("the consumer's bytes are others")
	}
	eventually(t, "the bus has all", func() bool { return busBytes.Load() >= int64(want.Len()) })
	if !bytes.Equal(onBus, want.Bytes()) {
		t.Error("the subscriber's bytes are others")
	}
	if s := p.status(); s.Lost != 0 || s.Dropped != 0 || s.In != uint64(len(matches)) {
		t.Errorf("status %+v", s)
	}
	t.Logf("%d matches", len(matches))
}

// readN reads n messages of the size of a trade.
func readN(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, n*codec.TradeMessageSize)
	if got, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read %d of %d bytes: %v", got, len(b), err)
	}
	return b
}

// silent demands that nothing comes for a while.
func silent(t testing.TB, c net.Conn) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v: want nothing", n, err)
	}
}

func TestStreamIsCutWrongly(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	out, in := dialRaw(t, p.socket("market_data")), dialRaw(t, p.socket("market_data"))
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	var m [8][]byte
	for i := range m {
		m[i] = trade(1, "BTC", uint64(i))
	}
	// A header that announces 400 MB, as a stale layout gives: what follows must not wait for it.
	stale := trade(1, "BTC", 99)
	binary.LittleEndian.PutUint32(stale[24:], 400_000_000)
	for _, part := range [][]byte{
		append(bytes.Clone(legacy.Greeting), m[0]...), // coalesced
		append(bytes.Clone(m[1]), m[2]...),
		m[3][:10], m[3][10:40], append(bytes.Clone(m[3][40:]), m[4][:5]...), m[4][5:], // split
		[]byte("garbage"), m[5],
		stale, m[6],
	} {
		_, err := in.Write(part)
		must(t, err)
		time.Sleep(5 * time.Millisecond)
	}
	if got := readN(t, out, 7); !bytes.Equal(got, bytes.Join([][]byte{m[0], m[1], m[2], m[3], m[4], m[5], m[6]}, nil)) {
		t.Error("the consumer's bytes are others")
	}
	silent(t, out)
	if got := readN(t, in, 7); !bytes.Equal(got[:74], m[0]) {
		t.Error("no echo")
	}
	_, err := in.Write(m[7][:50])
	must(t, err)
	must(t, in.Close())
	eventually(t, "the client has gone", func() bool { return p.status().Clients == 1 })
	s := p.status()
	if s.Greetings != 1 || s.In != 7 || s.Resyncs != 2 || s.SkippedBytes != 7+uint64(len(stale)) || s.Truncated != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestMessagesAreJoinedForAReaderThatKeepsUp(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	out, in := dialRaw(t, p.socket("market_data")), dialRaw(t, p.socket("market_data"))
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	buf := make([]byte, 64<<10)
	for i := range uint64(200) {
		_, err := in.Write(trade(1, "BTC", i))
		must(t, err)
		if n, err := out.Read(buf); err != nil || n != codec.TradeMessageSize {
			t.Fatalf("one read returns %d bytes, %v", n, err)
		}
	}
}

func TestClientThatNeverReadsHoldsUpTheOthers(t *testing.T) {
	p := newPlace(t)
	cfg := p.config(ModeBus)
	cfg.Domains[0].Queue = 1000
	p.start(cfg)
	deaf := dialRaw(t, p.socket("market_data"))
	_, other := p.consume(p.socket("market_data"))
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	const n = 30_000
	prod := p.produce(p.socket("market_data")) // never reads either
	for i := range uint64(n) {
		must(t, prod.Send(trade(1, "BTC", i)))
		if i%256 == 0 { // the other one has a queue of 1000 too
			eventually(t, "the other keeps up", func() bool { return other.Total() > int(i)-500 })
		}
	}
	eventually(t, "the other has all", func() bool { return other.Total() == n })
	check(t, other, "other", 1, 0, n)
	eventually(t, "the slow ones have lost some", func() bool { return p.status().Dropped > 0 })
	// It reads at last: whole messages, in order, a gap, and the newest.
	must(t, deaf.SetReadDeadline(time.Now().Add(10*time.Second)))
	last, gaps, seen := uint64(0), 0, uint64(0)
	m := make([]byte, codec.TradeMessageSize)
	for last != n-1 {
		if _, err := io.ReadFull(deaf, m); err != nil {
			t.Fatal(err)
		}
		seq := binary.LittleEndian.Uint64(m[8:])
		if seq != last+1 && seen > 0 {
			gaps++
		}
		last = seq
		seen++
	}
	if gaps != 1 || seen < 1000 {
		t.Errorf("%d messages with %d gaps", seen, gaps)
	}
	if s := p.status(); s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestHalfClosedClientIsCutOff(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	path := p.socket("market_data")
	mute, deaf, in := dialRaw(t, path), dialRaw(t, path), dialRaw(t, path)
	eventually(t, "all are in", func() bool { return p.status().Clients == 3 })
	must(t, mute.CloseWrite())
	must(t, deaf.CloseRead())
	time.Sleep(20 * time.Millisecond)
	first := trade(1, "BTC", 1)
	_, err := in.Write(first)
	must(t, err)
	if got := readN(t, mute, 1); !bytes.Equal(got, first) {
		t.Error("who writes no more gets other bytes")
	}
	second := trade(1, "BTC", 2)
	_, err = deaf.Write(second)
	must(t, err)
	if got := readN(t, mute, 1); !bytes.Equal(got, second) {
		t.Error("who reads no more is not heard")
	}
	// All gone: without a message that would tell.
	for _, c := range []*net.UnixConn{mute, deaf, in} {
		must(t, c.Close())
	}
	eventually(t, "all are gone", func() bool { return p.status().Clients == 0 })
}

func TestEchoAndFilterDoNotFollowTheConfiguration(t *testing.T) {
	p := newPlace(t)
	cfg := p.config(ModeBus)
	d := &cfg.Domains[0]
	d.NoEcho, d.DomainFilter, d.Greeting = true, string(DialectTypes), greetForward
	p.start(cfg)
	out, in := dialRaw(t, p.socket("market_data")), dialRaw(t, p.socket("market_data"))
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	foreign := trade(1, "BTC", 1)
	foreign[4] = 2 // Execution
	m := trade(1, "BTC", 2)
	m[5] = 2 // a version that no reader of Torq's looks at
	for _, b := range [][]byte{legacy.Greeting, foreign, m} {
		_, err := in.Write(b)
		must(t, err)
	}
	got := make([]byte, len(legacy.Greeting)+len(m))
	must(t, out.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := io.ReadFull(out, got)
	must(t, err)
	if !bytes.Equal(got, append(bytes.Clone(legacy.Greeting), m...)) {
		t.Error("the consumer's bytes are others")
	}
	silent(t, in)
	if s := p.status(); s.Refused != 1 || s.Greetings != 1 || s.OtherVersions != 1 || s.In != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestFilterInTheOtherDialect(t *testing.T) {
	d := &domain{info: &domains[1], cfg: DomainConfig{DomainFilter: string(DialectCodec)}}
	m := trade(1, "BTC", 1)
	for domain, want := range map[byte]bool{0: true, 1: true, 2: false, 3: true, 9: true} {
		if m[4] = domain; d.foreign(m) != want {
			t.Errorf("domain %d: foreign = %v", domain, !want)
		}
	}
	if !d.foreign(m[:10]) {
		t.Error("no message is one of ours")
	}
}

func TestMessageWithoutATopicIsDropped(t *testing.T) {
	p := newPlace(t)
	cfg := p.config(ModeBus)
	cfg.Maps = []MapConfig{{Match: "market.*.NOWHERE", Topic: "a.{9}"}}
	p.start(cfg)
	onBus := p.subscribe("torq.unmapped")
	all := p.subscribe(">")
	out, in := dialRaw(t, p.socket("market_data")), dialRaw(t, p.socket("market_data"))
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	bad := trade(1, "BTC", 1)
	bad[33] = 200 // the TLV is longer than the message
	nowhere := trade(1, "NOWHERE", 2)
	large := build(t, codec.Header{Source: 1, Sequence: 3}, nil)
	large = append(large, 0xFF, 0, 5, 0xFF, 0xFF) // an L2Snapshot in the extended form
	large = append(large, make([]byte, 0xFFFF)...)
	large = append(large, 5, 2, 0, 0)
	binary.LittleEndian.PutUint32(large[24:], uint32(len(large)-codec.HeaderSize))
	for _, b := range [][]byte{bad, nowhere, large} {
		_, err := in.Write(b)
		must(t, err)
	}
	want := bytes.Join([][]byte{bad, nowhere, large}, nil)
	got := make([]byte, len(want))
	must(t, out.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := io.ReadFull(out, got)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the consumer's bytes are others")
	}
	eventually(t, "the bus has all", func() bool { return onBus.Total() == 3 && all.Total() == 3 })
	check(t, onBus, "unmapped", 1, 1, 4)
	if s := p.status(); s.Unmappable != 2 || s.Oversize != 1 || s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestMessageLandsOnTheTopicOfAnother has more topics than are found without a map, in
// runs and alone, in writes of many messages.
func TestMessageLandsOnTheTopicOfAnother(t *testing.T) {
	p := newPlaceWith(t, "", "[[topic]]\nname = \"market.>\"\nring = \"64KiB\"")
	p.start(p.config(ModeBus))
	const topics, n = 2*recentLanes + 7, 6000
	var wrong, got atomic.Int64
	m := NewMapping(&Config{})
	l := &legacy.Ledger{}
	sub, err := p.dial().Subscriber(p.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	must(t, err)
	ctx, stop := context.WithCancel(p.ctx)
	done := make(chan error, 1)
	go func() {
		done <- sub.Run(ctx, nil, func(f shm.Frame) {
			if f.Topic != shm.TopicID(topic.ID(m.Topic("market_data", f.Payload))) || f.Type != uint16(codec.TypeTrade) {
				wrong.Add(1)
			}
			l.Add(uint64(f.Topic), f.Payload)
			got.Add(1)
		})
	}()
	in := dialRaw(t, p.socket("market_data"))
	for i := uint64(0); i < n; {
		var b []byte
		for range 1 + i%50 {
			for range 1 + i%3 { // a run
				b = append(b, trade(1, strconv.Itoa(int(i/5%topics)), i)...)
				i++
			}
		}
		_, err := in.Write(b)
		must(t, err)
	}
	sent := p.status
	eventually(t, "the bus has all", func() bool { s := sent(); return s.In >= n && uint64(got.Load()) == s.In })
	stop()
	<-done
	must(t, sub.Close())
	check(t, l, "bus", 1, 0, uint64(got.Load()))
	if s := p.status(); wrong.Load() != 0 || s.Lost != 0 || s.Unmappable != 0 || s.Topics != topics+1 {
		t.Errorf("%d on another topic; status %+v", wrong.Load(), s)
	}
}

func TestTopicThatCannotBeOpenedLosesMessages(t *testing.T) {
	p := newPlaceWith(t, "max_topics = 3", "")
	p.start(p.config(ModeBus))
	all := p.subscribe(">")
	in := p.produce(p.socket("market_data"))
	for i := range uint64(6) {
		must(t, in.Send(trade(1, []string{"A", "B", "C"}[i%3], i)))
	}
	eventually(t, "the bus has all", func() bool { return all.Total() == 6 })
	if s := p.status(); s.Unmappable != 2 || s.Topics != 3 || s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

func TestPublisherOnTheBusIsNotHeardOnTheSocket(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	out := dialRaw(t, p.socket("market_data"))
	eventually(t, "it is in", func() bool { return p.status().Clients == 1 })
	c := p.dial()
	publish := func(topic string, b []byte) {
		t.Helper()
		pub, err := c.Publisher(p.ctx, topic, &shm.PublisherOptions{Source: topic})
		must(t, err)
		_, err = pub.Publish(1, b)
		must(t, err)
		must(t, pub.Close())
	}
	direct := trade(1, "BTC", 1)
	publish("market.kraken.BTC", direct)
	if !bytes.Equal(readN(t, out, 1), direct) {
		t.Error("the consumer's bytes are others")
	}
	publish("market.kraken.ETH", []byte("no message")) // would break the stream
	// Domain-wide topics: the header says whose they are.
	ours, theirs := trade(1, "SYS", 2), trade(1, "SYS", 3)
	theirs[4] = byte(codec.DomainSignal)
	publish("system.state_invalidation", theirs)
	publish("system.recovery_request", ours)
	if !bytes.Equal(readN(t, out, 1), ours) {
		t.Error("the consumer's bytes are others")
	}
	silent(t, out)
	eventually(t, "all are counted", func() bool { s := p.status(); return s.FromBus == 2 && s.NotMessages == 1 })
}

func TestStuckSubscriberLosesMessagesOfOldProducers(t *testing.T) {
	p := newPlaceWith(t, "", "[[topic]]\nname = \"market.>\"\nring = \"64KiB\"\npolicy = \"block:10ms\"\n[[topic]]\nname = \"signals.>\"\npolicy = \"fail\"")
	r := p.start(p.config(ModeBus))
	sub, err := p.dial().Subscriber(p.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	must(t, err)
	defer sub.Close()
	in := p.produce(p.socket("market_data"))
	const n = 3000 // more than the ring holds
	go func() {
		for i := range uint64(n) {
			if in.Send(trade(1, "BTC", i)) != nil {
				return
			}
		}
	}()
	eventually(t, "the bridge waits", func() bool { return p.status().StalledNs > 0 })
	l := &legacy.Ledger{}
	for l.Total() < n {
		if _, err := sub.Poll(func(f shm.Frame) { l.Add(0, f.Payload) }, 0); err != nil {
			t.Fatal(err)
		}
	}
	check(t, l, "subscriber", 1, 0, n)

	// A publisher that has ended under it is opened anew.
	d := r.bridge.domains[0]
	d.in.Lock()
	for _, lane := range d.byTopic {
		_ = lane.p.Close()
	}
	d.in.Unlock()
	must(t, in.Send(trade(1, "BTC", n)))
	for l.Total() < n+1 {
		if _, err := sub.Poll(func(f shm.Frame) { l.Add(0, f.Payload) }, 0); err != nil {
			t.Fatal(err)
		}
	}
	if s := p.status(); s.Lost != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestRollbackLosesMoreTogetherThanOneByOne: when a rollback does not wait for a stuck
// subscriber, what still fits in the ring is published, as a batch or not.
func TestRollbackLosesMoreTogetherThanOneByOne(t *testing.T) {
	p := newPlaceWith(t, "", "[[topic]]\nname = \"market.>\"\nring = \"64KiB\"\npolicy = \"fail\"")
	cfg := p.config(ModeBus)
	cfg.NoAutoRollback = true
	r := p.start(cfg)
	d := r.bridge.domains[0]
	fit := func(symbol string, together int) (n uint64) {
		sub, err := p.dial().Subscriber(p.ctx, "market.kraken."+symbol, &shm.SubscriberOptions{Mode: shm.Lossless})
		must(t, err)
		defer sub.Close()
		d.ingest(firstClient, [][]byte{trade(1, symbol, 0)}) // a new topic waits for who has subscribed before
		for n == 0 {
			_, err := sub.Poll(func(shm.Frame) { n++ }, 0)
			must(t, err)
		}
		d.hurry.Store(true)
		defer d.hurry.Store(false)
		lost := p.status().Lost
		const sent = 1000
		for i := uint64(1); i <= sent; i += uint64(together) {
			var msgs [][]byte
			for j := range uint64(together) {
				msgs = append(msgs, trade(1, symbol, i+j))
			}
			d.ingest(firstClient, msgs)
		}
		l := &legacy.Ledger{}
		for n = 1; n > 0; {
			n = 0
			_, err := sub.Poll(func(f shm.Frame) { l.Add(0, f.Payload); n++ }, 0)
			must(t, err)
		}
		n = uint64(l.Total())
		check(t, l, symbol, 1, 1, n+1)
		if got := p.status().Lost - lost; got != sent-n {
			t.Errorf("%d of %d arrived, and %d are counted as lost", n, sent, got)
		}
		return n
	}
	if alone, together := fit("A", 1), fit("B", 500); together < alone {
		t.Errorf("one by one %d fit, together %d", alone, together)
	}
}

func TestBridgeIsThereBeforeTheRegistry(t *testing.T) {
	p := newPlace(t)
	late := p.registry + ".late"
	config := func() Config {
		cfg := p.config(ModeLegacy)
		cfg.Registry = late
		return cfg
	}
	for _, comes := range []bool{true, false} {
		ctx, stop := context.WithCancel(p.ctx)
		waits, ready, done := make(chan string, 10), make(chan struct{}), make(chan error, 1)
		go func() {
			done <- Serve(ctx, config(), Options{Ready: func() { close(ready) }, Waiting: func(socket string, _ error) { waits <- socket }})
		}()
		if at := <-waits; at != late {
			t.Errorf("waits at %s", at)
		}
		if _, err := GetStatus(p.ctx, p.control(), ""); !errors.Is(err, shm.ErrRegistryDown) || !strings.Contains(err.Error(), "waits for its registry") {
			t.Errorf("status of a bridge that waits: %v", err)
		}
		if _, err := p.tryStart(config()); !errors.Is(err, ErrLive) {
			t.Errorf("another bridge beside one that waits: %v", err)
		}
		if comes {
			must(t, os.Symlink(p.registry, late))
			<-ready
			if s, err := GetStatus(p.ctx, p.control(), ""); err != nil || len(s) != 1 {
				t.Errorf("status: %v, %v", s, err)
			}
			must(t, os.Remove(late))
		}
		stop()
		if err := <-done; comes != (err == nil) || !comes && !errors.Is(err, shm.ErrRegistryDown) {
			t.Errorf("the registry comes: %v, the end: %v", comes, err)
		}
		if len(waits) > 0 {
			t.Error("told twice")
		}
	}
}

func TestLiveSocketIsStolen(t *testing.T) {
	p := newPlace(t)
	path := p.socket("market_data")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	if _, err := p.tryStart(p.config(ModeBus)); !errors.Is(err, ErrLive) {
		t.Errorf("with somebody on the socket: %v", err)
	}
	must(t, l.Close()) // as a killed relay leaves it
	r := p.start(p.config(ModeBus))
	if s := p.status(); s.Served != "bridge" {
		t.Errorf("a stale socket is in the way: %+v", s)
	}
	// Another bridge: on the same control socket, and on the same bus.
	if _, err := p.tryStart(p.config(ModeBus)); !errors.Is(err, ErrLive) {
		t.Errorf("a second bridge: %v", err)
	}
	cfg := p.config(ModeBus)
	cfg.Control += "2"
	cfg.Domains[0].Socket += "2"
	if _, err := p.tryStart(cfg); !errors.Is(err, shm.ErrSourceBusy) {
		t.Errorf("a second bridge on the bus: %v", err)
	}
	r.end()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	// What is no socket is nobody's to remove.
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := p.tryStart(p.config(ModeBus)); !errors.Is(err, os.ErrExist) {
		t.Errorf("with a file in the way: %v", err)
	}
	must(t, os.Remove(path))
	must(t, os.WriteFile(path+".bus", nil, 0o600))
	if _, err := p.tryStart(p.config(ModeShadow)); !errors.Is(err, os.ErrExist) {
		t.Errorf("with a file in the way: %v", err)
	}
	cfg = p.config(ModeBus)
	cfg.Registry = path + ".none"
	if _, err := p.tryStart(cfg); !errors.Is(err, shm.ErrRegistryDown) {
		t.Errorf("without a registry: %v", err)
	}
	if _, err := p.tryStart(Config{}); err == nil {
		t.Error("without a domain")
	}
}
