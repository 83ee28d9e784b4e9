package torqbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
)

// direct publishes trades from, not including to, on the bus.
func (p *place) direct(pub *shm.Publisher, from, to uint64) {
	p.t.Helper()
	for i := from; i < to; i++ {
		if _, err := pub.Publish(1, trade(3, "DOT", i)); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *place) publisher() *shm.Publisher {
	p.t.Helper()
	pub, err := p.dial().Publisher(p.ctx, "market.kraken.DOT", nil)
	must(p.t, err)
	p.t.Cleanup(func() { _ = pub.Close() })
	return pub
}

func (p *place) relayProc() *testproc.Proc {
	p.t.Helper()
	r := testproc.Start(p.t, "relay", []string{p.socket("market_data")}, nil)
	if got := r.Line(); got != "ready" {
		p.t.Fatal(got)
	}
	return r
}

// TestConsumerOfADyingRelayMissesMessages: what the relay took and did not pass on is
// there for its consumers when they come to the bridge.
func TestConsumerOfADyingRelayMissesMessages(t *testing.T) {
	p := newPlace(t)
	relay := p.relayProc()
	_, got := p.consume(p.socket("market_data"))
	cfg := p.config(ModeShadow)
	p.start(cfg)
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	pub := p.publisher()
	p.direct(pub, 0, 100)
	eventually(t, "the relay passes on", func() bool { return got.Total() == 100 })
	p.move(ModeBus, true)
	p.direct(pub, 100, 200)
	eventually(t, "the relay passes on", func() bool { return got.Total() == 200 })
	relay.Stop()
	p.direct(pub, 200, 300)
	time.Sleep(50 * time.Millisecond)
	relay.Kill()
	p.direct(pub, 300, 400)
	eventually(t, "the consumer comes to the bridge", func() bool { return p.status().Clients == 1 })
	p.direct(pub, 400, 500)
	eventually(t, "the consumer has all", func() bool { return got.Total() >= 500 })
	time.Sleep(50 * time.Millisecond)
	check(t, got, "consumer", 3, 0, 500)
	if s := p.status(); s.Replays != 1 || s.RelayUp || s.RelayError == "" {
		t.Errorf("status %+v", s)
	}
	// Nobody is there to go back to.
	if _, err := MoveTo(p.ctx, p.control(), "market_data", ModeShadow, false, false); !errors.Is(err, ErrNoRelay) {
		t.Errorf("%v", err)
	}
	if m := p.move(ModeShadow, true); m.Clients != 1 {
		t.Errorf("%+v", m)
	}
	if _, err := net.Dial("unix", p.socket("market_data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is not free: %v", err)
	}
	p.relayProc()
	eventually(t, "the consumer is back", func() bool { return p.status().RelayUp })
}

func TestRelayStartedOverTheBridgeIsNotMirrored(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	path := p.socket("market_data")
	_, ours := p.consume(path)
	prod := p.load(path, 1)
	eventually(t, "both are in", func() bool { return p.status().Clients == 2 })
	relay, err := legacy.Listen(path, legacy.AnyDomain) // takes the name, as relays do
	must(t, err)
	defer relay.Close()
	eventually(t, "it is noticed", func() bool { s := p.status(); return s.Reason == relayCame && s.RelayUp && s.Served == "relay" })
	_, theirs := p.consume(path)
	eventually(t, "the relay's consumer gets what the bridge's producer sends", func() bool { return theirs.Total() > 100 })
	m := p.move(ModeShadow, false)
	if m.Clients != 2 || m.Forced != 0 || m.Note != "" {
		t.Errorf("%+v", m)
	}
	at := prod.sent.Load()
	eventually(t, "the producer goes on", func() bool { return prod.sent.Load() > at+200 })
	n := prod.stop()
	eventually(t, "the consumer has all", func() bool { return ours.Total() >= int(n) })
	check(t, ours, "consumer", 1, 0, n)
}

func TestNameOfTheSocketIsRemoved(t *testing.T) {
	p := newPlace(t)
	p.start(p.config(ModeBus))
	must(t, os.Remove(p.socket("market_data")))
	eventually(t, "it is put back", func() bool { return p.status().Served == "bridge" })
	must(t, dialRaw(t, p.socket("market_data")).Close())
}

// Fear: while the bridge ends, its public name is gone, which is put back otherwise: then
// somebody listens for ever, and the end never comes.
func TestEndedBridgeListensAgain(t *testing.T) {
	p := newPlace(t)
	r := p.start(p.config(ModeBus))
	d := r.bridge.domains[0]
	d.mu.Lock()
	s := d.serving
	d.mu.Unlock()
	r.end()
	d.lookForRelay(s) // as if it had waited for the lock
	if d.names.l != nil {
		t.Error("it listens")
	}
	if _, err := os.Lstat(p.socket("market_data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is there: %v", err)
	}
}

// Fear: a command that waits while the bridge ends meets a domain that is no longer there.
func TestMoveOfAnEndedBridge(t *testing.T) {
	for _, from := range []Mode{ModeLegacy, ModeShadow, ModeBus} {
		p := newPlace(t)
		r := p.start(p.config(from))
		r.end()
		for _, to := range []Mode{ModeLegacy, ModeShadow, ModeBus} {
			if _, err := r.bridge.domains[0].move(p.ctx, to, true, false, ""); !errors.Is(err, errStopping) {
				t.Errorf("from %s to %s: %v", from, to, err)
			}
		}
	}
}

func TestLossDoesNotBringTheOldRelayBack(t *testing.T) {
	p := newPlace(t)
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	r := p.start(p.config(ModeShadow))
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	p.move(ModeBus, true)
	r.bridge.domains[0].gapOnBus(&shm.GapError{From: 1, Next: 4})
	eventually(t, "it goes back", func() bool { return p.status().Mode == ModeShadow })
	if s := p.status(); !strings.Contains(s.Reason, "3 messages were lost") || s.Lost != 3 || s.Served != "relay" {
		t.Errorf("status %+v", s)
	}
	r.end()
	// Unless that is switched off.
	cfg := p.config(ModeShadow)
	cfg.NoAutoRollback = true
	r = p.start(cfg)
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	p.move(ModeBus, true)
	r.bridge.domains[0].gapOnBus(&shm.GapError{From: 1, Next: 4})
	n := len(p.status().Windows)
	eventually(t, "two windows pass", func() bool { return len(p.status().Windows) > n+1 })
	if s := p.status(); s.Mode != ModeBus {
		t.Errorf("status %+v", s)
	}
	// An end in order gives the relay its socket.
	r.end()
	before := relay.Clients()
	c := dialRaw(t, p.socket("market_data"))
	eventually(t, "the relay has the socket", func() bool { return relay.Clients() > before })
	must(t, c.Close())
	// And the next one takes it again: the domain is in mode bus.
	p.start(cfg)
	if s := p.status(); s.Mode != ModeBus || s.Served != "bridge" {
		t.Errorf("status %+v", s)
	}
}

func TestCutoverThatIsNotProvenIsMade(t *testing.T) {
	p := newPlace(t)
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	cfg := p.config(ModeLegacy)
	cfg.Domains = append(cfg.Domains, DomainConfig{Name: "signals", Socket: p.socket("signals")})
	p.start(cfg)
	try := func(domain string, to Mode, want error) {
		t.Helper()
		if _, err := MoveTo(p.ctx, p.control(), domain, to, false, false); !errors.Is(err, want) {
			t.Errorf("%s to %s: %v, want %v", domain, to, err, want)
		}
	}
	if s := p.status(); s.Mode != ModeLegacy || s.Served != "relay" {
		t.Errorf("%+v", s)
	}
	try("market_data", ModeBus, ErrTooFar)
	try("execution", ModeBus, ErrUnknownDomain)
	if m, err := MoveTo(p.ctx, p.control(), "market_data", ModeShadow, false, true); err != nil || m.Took != 0 || p.status().Mode != ModeLegacy {
		t.Errorf("a dry run: %+v, %v", m, err)
	}
	try("market_data", ModeShadow, nil)
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	try("market_data", ModeBus, ErrNotProven)
	try("market_data", ModeShadow, nil)
	// A socket that somebody has put where the relay's would go.
	l, err := net.Listen("unix", p.socket("market_data")+".legacy")
	must(t, err)
	if _, err := MoveTo(p.ctx, p.control(), "market_data", ModeBus, true, false); !errors.Is(err, ErrLive) {
		t.Errorf("%v", err)
	}
	must(t, l.Close())
	p.move(ModeLegacy, false)
	if s := p.status(); s.Mode != ModeLegacy || s.Served != "relay" || s.RelayUp {
		t.Errorf("%+v", s)
	}
	if _, err := os.Lstat(p.socket("market_data") + ".bus"); !errors.Is(err, os.ErrNotExist) {
		t.Error("the bridge's socket is left behind")
	}

	// What is no command.
	for _, line := range []string{"{}\n", "nonsense\n", "{\"op\":\"status\",\"domain\":\"none\"}\n"} {
		c, err := net.Dial("unix", p.control())
		must(t, err)
		_, err = c.Write([]byte(line))
		must(t, err)
		var a answer
		if err := json.NewDecoder(c).Decode(&a); err != nil || a.Error == "" {
			t.Errorf("%q: %+v, %v", line, a, err)
		}
		_ = c.Close()
	}
	if _, err := GetStatus(p.ctx, p.control()+".none", ""); !errors.Is(err, ErrBridgeDown) {
		t.Errorf("%v", err)
	}
	mute, err := net.Listen("unix", p.control()+".mute")
	must(t, err)
	defer mute.Close()
	go func() {
		if c, err := mute.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	if _, err := GetStatus(p.ctx, p.control()+".mute", ""); err == nil {
		t.Error("an answer from nobody")
	}
}

func TestKilledBridgeKeepsTheRelaysSocket(t *testing.T) {
	p := newPlace(t)
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	cfg := p.config(ModeShadow)
	args, err := json.Marshal(cfg)
	must(t, err)
	kill := func() {
		proc := testproc.Start(t, "bridge", []string{string(args)}, nil)
		if got := proc.Line(); got != "ready" {
			t.Fatal(got)
		}
		eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
		p.move(ModeBus, true)
		proc.Kill()
	}
	for range 2 {
		kill()
		// The next one goes on serving.
		r := p.start(cfg)
		if s := p.status(); s.Mode != ModeBus || s.Served != "bridge" {
			t.Fatalf("%+v", s)
		}
		eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
		p.move(ModeShadow, false)
		r.end()
	}
	kill()
	// After the third crash it does not.
	p.start(cfg)
	s := p.status()
	if s.Mode != ModeShadow || s.Served != "relay" || !strings.Contains(s.Reason, "crashed") {
		t.Fatalf("%+v", s)
	}
}

func TestMessageTooLargeForTheRelayBreaksItsStream(t *testing.T) {
	p := newPlace(t)
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	_, got := p.consume(p.socket("market_data"))
	p.start(p.config(ModeShadow))
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	pub, err := p.dial().Publisher(p.ctx, "market.kraken.big", &shm.PublisherOptions{RingBytes: 1 << 20, MaxMessageBytes: 128 << 10})
	must(t, err)
	big := append(trade(3, "DOT", 7)[:codec.HeaderSize], bytes.Repeat([]byte{0}, 70_000)...)
	big[24], big[25], big[26] = 0x70, 0x11, 0x01
	for _, m := range [][]byte{trade(3, "DOT", 0), big, trade(3, "DOT", 1)} {
		_, err := pub.Publish(1, m)
		must(t, err)
	}
	eventually(t, "the others get through", func() bool { return got.Total() == 2 })
	check(t, got, "consumer", 3, 0, 2)
	if s := p.status(); s.RelayTooLarge != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRelayThatReadsNothingHoldsUpTheDomain(t *testing.T) {
	p := newPlace(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p.socket("market_data"), Net: "unix"})
	must(t, err)
	defer l.Close()
	p.start(p.config(ModeShadow))
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	pub := p.publisher()
	p.direct(pub, 0, 10)
	time.Sleep(20 * time.Millisecond)
	p.direct(pub, 10, 20)
	eventually(t, "it is given up", func() bool {
		return strings.Contains(p.status().RelayError, errRelayStuck.Error()) || p.status().ToRelay > 10
	})
}

// TestStuckSubscriberKeepsTheOldWorldWaiting: a rollback does not wait for the bus.
func TestStuckSubscriberKeepsTheOldWorldWaiting(t *testing.T) {
	p := newPlaceWith(t, "", "[[topic]]\nname = \"market.>\"\nring = \"64KiB\"\npolicy = \"block:10ms\"")
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	cfg := p.config(ModeShadow)
	cfg.NoAutoRollback = true
	p.start(cfg)
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	p.move(ModeBus, true)
	sub, err := p.dial().Subscriber(p.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless}) // never polls
	must(t, err)
	defer sub.Close()
	_, got := p.consume(p.socket("market_data"))
	prod := p.load(p.socket("market_data"), 1)
	eventually(t, "the bridge waits", func() bool { return p.status().StalledNs > 0 })
	if m := p.move(ModeShadow, false); m.Took > 10*time.Second || m.Note == "" || m.Clients != 2 {
		t.Errorf("%+v", m)
	}
	at := prod.sent.Load()
	eventually(t, "the producer goes on", func() bool { return prod.sent.Load() > at+100 })
	n := prod.stop()
	eventually(t, "the consumer has all", func() bool { return got.Total() >= int(n) })
	check(t, got, "consumer", 1, 0, n)
	if s := p.status(); s.Lost == 0 {
		t.Error("what the bus did not get is not counted")
	}
}

func TestLossWithoutARelayEndsInNothing(t *testing.T) {
	p := newPlace(t)
	r := p.start(p.config(ModeBus))
	r.bridge.domains[0].gapOnBus(&shm.GapError{From: 1, Next: 2})
	n := len(p.status().Windows)
	eventually(t, "two windows pass", func() bool { return len(p.status().Windows) > n+1 })
	if s := p.status(); s.Mode != ModeBus || s.Served != "bridge" {
		t.Errorf("%+v", s)
	}
}

// TestNewProcessGetsWhatItNeverMissed: only who was there before the relay ended is
// given what came since.
func TestNewProcessGetsWhatItNeverMissed(t *testing.T) {
	p := newPlace(t)
	r := p.start(p.config(ModeBus))
	d := r.bridge.domains[0]
	d.relayEnded(0)
	time.Sleep(30 * time.Millisecond) // processes' ages count in steps of 10 ms
	young := testproc.Start(t, "relay", []string{p.socket("other")}, nil)
	young.Line()
	for _, c := range []struct {
		name string
		c    *client
		want bool
	}{
		{"an old process", &client{pid: os.Getpid()}, true},
		{"a new process", &client{pid: young.Pid()}, false},
		{"nobody knows who", &client{pid: 0}, false},
		{"the comparison", &client{pid: os.Getpid(), ours: true}, false},
	} {
		if got := d.missed(c.c) != nil; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	d.mu.Lock()
	d.gap.end = time.Now().Add(-time.Second)
	d.mu.Unlock()
	if d.missed(&client{pid: os.Getpid()}) != nil {
		t.Error("too late, and served")
	}
}

func TestControlSocketCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", nil, 0o600))
	for _, path := range []string{dir + "/file", dir + "/file/socket", dir + "/" + strings.Repeat("x", 200)} {
		if c, err := listenControl(path); err == nil {
			c.close()
			t.Errorf("%s: no error", path)
		}
	}
}

// TestConsumerThatComesBackLateMissesMessages: Torq's dashboard waits 5 s before it
// connects again; what is sent meanwhile waits for it, up to hold.
func TestConsumerThatComesBackLateMissesMessages(t *testing.T) {
	p := newPlace(t)
	relay, err := legacy.Listen(p.socket("market_data"), legacy.AnyDomain)
	must(t, err)
	defer relay.Close()
	p.start(p.config(ModeShadow))
	eventually(t, "the relay is mirrored", func() bool { return p.status().RelayUp })
	pub := p.publisher()
	sent := uint64(0)
	for _, c := range []struct {
		delay time.Duration
		late  bool
	}{{1500 * time.Millisecond, false}, {3 * time.Second, true}} {
		p.move(ModeBus, true)
		consumer, err := legacy.NewConsumer(p.socket("market_data"))
		must(t, err)
		consumer.Delay = c.delay
		l := &legacy.Ledger{}
		go func() { _ = consumer.Run(true, func(m []byte) { l.Add(0, m) }) }()
		eventually(t, "the consumer is in", func() bool { return p.status().Clients == 1 })
		from := sent
		done := make(chan Move, 1)
		go func() { done <- p.move(ModeShadow, false) }()
		var m Move
		for moved := false; !moved; {
			select {
			case m = <-done:
				moved = true
			default:
				p.direct(pub, sent, sent+1)
				sent++
				time.Sleep(time.Millisecond)
			}
		}
		if (m.Note != "") != c.late {
			t.Errorf("with a delay of %v: %+v", c.delay, m)
		}
		if !c.late {
			eventually(t, "the consumer has all", func() bool { return l.Total() >= int(sent-from) })
			check(t, l, "consumer", 3, from, sent)
		}
		_ = consumer.Close() // it may be between two connections
	}
}

// TestBridgeMirrorsItself: the name to which the mirror connects may become the bridge's
// own at that very moment.
func TestBridgeMirrorsItself(t *testing.T) {
	p := newPlace(t)
	for range 20 {
		r := p.start(p.config(ModeBus))
		if s := p.status(); s.RelayUp {
			t.Errorf("%+v", s)
		}
		eventually(t, "a connection to itself has ended", func() bool { return p.status().Clients == 0 })
		d := r.bridge.domains[0]
		d.mu.Lock()
		d.names.legacy, d.names.bus = d.names.socket, d.names.legacy // as if it had been resolved before
		d.mu.Unlock()
		if c, err := d.dialRelay(p.ctx); !errors.Is(err, errOwnSocket) {
			t.Errorf("%v, %v", c, err)
		}
		d.mu.Lock()
		d.names.legacy, d.names.bus = d.names.bus, d.cfg.BusSocket
		d.mu.Unlock()
		r.end()
	}
}

// TestComparisonIsPaidForWithoutARelay: the bridge's own consumer, which costs as much
// as any, is there while there is a relay to compare with, and only then.
func TestComparisonIsPaidForWithoutARelay(t *testing.T) {
	p := newPlace(t)
	path := p.socket("market_data")
	r := p.start(p.config(ModeBus))
	own := func() (n int) {
		d := r.bridge.domains[0]
		d.mu.Lock()
		defer d.mu.Unlock()
		for c := range d.clients {
			if c.ours {
				n++
			}
		}
		return n
	}
	time.Sleep(2 * witnessDelay)
	if n := own(); n != 0 {
		t.Errorf("%d consumers of its own, and no relay", n)
	}
	relay, err := legacy.Listen(path, legacy.AnyDomain)
	must(t, err)
	eventually(t, "there is something to compare", func() bool { return own() == 1 })
	must(t, relay.Close())
	eventually(t, "there is nothing to compare", func() bool { return own() == 0 })
}
