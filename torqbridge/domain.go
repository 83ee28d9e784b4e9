package torqbridge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/shm"
)

// domain is one of Torq's relays on its way to the bus.
//
//	clients --read--> ingest --+--> hub --taps--> clients, mirror
//	relay --mirror--> ingest --+--> publishers, one per topic        (the bus)
//	bus --subscribers--------------> hub
//
// ingest keeps the order of its callers: what one connection sends is put into the hub
// and published in that order, so order per source holds on every topic, and over
// all topics for whoever reads a socket.
//
// Lock order: moving, in, mu, hub.mu.
type domain struct {
	b    *Bridge
	cfg  DomainConfig
	info *domainInfo
	log  *slog.Logger

	maxMessage int
	nextID     atomic.Uint32
	stats      counters

	moving sync.Mutex // one move at a time
	over   bool       // the bridge ends: no move begins any more; guarded by moving

	in       sync.Mutex // what ingest uses
	mapping  *Mapping
	lanes    map[subjectKey]*lane
	byTopic  map[string]*lane
	unmapped *lane
	recent   [recentLanes]struct {
		key  subjectKey
		lane *lane
	}
	to    *lane         // where run goes
	run   []shm.Message // collected for one lane
	keep  [][]byte
	hurry atomic.Bool // do not wait for the bus any longer: a rollback is under way

	mu      sync.Mutex // what follows
	mode    Mode
	phase   string // of a move under way, "" = none
	since   time.Time
	reason  string
	names   names
	clients map[*client]struct{}
	serving *serving // nil in mode legacy
	gap     *gap
	windows []Window

	hub *hub // set while serving != nil
	wg  sync.WaitGroup
}

// serving is what runs in the modes shadow and bus.
type serving struct {
	ctx     context.Context
	stop    context.CancelFunc
	mirror  *mirror
	compare *witnesses
	judge   judge
}

// gap is what the clients of a relay that has ended have not had.
type gap struct {
	from  uint64 // index in the hub
	until uint64 // what came from the relay before this index, its clients have had
	ticks int64  // since boot: processes that started later were no clients of it
	end   time.Time
}

func (g *gap) seen(index uint64, origin uint32) bool { return origin == originRelay && index < g.until }

func newDomain(b *Bridge, cfg DomainConfig) *domain {
	d := &domain{b: b, cfg: cfg, info: domainOf(cfg.Name), log: b.log, maxMessage: int(b.cfg.MaxMessage),
		mapping: NewMapping(&b.cfg), mode: ModeLegacy, since: time.Now(), clients: map[*client]struct{}{},
		names: names{socket: cfg.Socket, legacy: cfg.LegacySocket, bus: cfg.BusSocket}}
	d.nextID.Store(firstClient)
	return d
}

// source is the name under which the domain publishes.
func (d *domain) source() string { return d.b.cfg.Source + "." + d.cfg.Name }

// relayPath is where the old relay answers.
func (d *domain) relayPath() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names.relay()
}

// start runs everything but the public socket.
func (d *domain) start(ctx context.Context) error {
	d.mu.Lock()
	err := d.names.restore()
	if err == nil {
		err = d.names.listen()
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.hub = newHub(int(d.b.cfg.History))
	d.lanes, d.byTopic = map[subjectKey]*lane{}, map[string]*lane{}
	d.hurry.Store(false)
	sctx, stop := context.WithCancel(d.b.ctx)
	s := &serving{ctx: sctx, stop: stop, judge: judge{maxDropPercent: d.b.cfg.MaxDropPercent}}
	s.mirror, s.compare = newMirror(d), newWitnesses(d)
	d.mu.Lock()
	d.serving = s
	l := d.names.l
	d.mu.Unlock()
	if err := d.openBus(ctx, s); err != nil {
		d.halt()
		return err
	}
	d.wg.Add(3)
	go d.accept(l)
	go s.mirror.run(sctx)
	go d.watch(s)
	return nil
}

// halt undoes start.
func (d *domain) halt() {
	d.mu.Lock()
	s := d.serving
	d.serving = nil
	d.hurry.Store(true)
	d.names.close()
	for c := range d.clients {
		c.cutOff()
	}
	d.mu.Unlock()
	s.stop()
	d.hub.close()
	d.wg.Wait()
	d.closeBus()
	d.mu.Lock()
	d.gap, d.windows = nil, nil
	d.mu.Unlock()
}

// accept admits connections until the listener is closed.
func (d *domain) accept(l *net.UnixListener) {
	defer d.wg.Done()
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			d.admit(conn, false)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors: some may come back
			d.log.Error("torqbridge: accept", "domain", d.cfg.Name, "error", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// ingest takes messages that have come over a socket: to every other socket, then to
// the bus, which may have to wait for room. It returns how many were data.
func (d *domain) ingest(origin uint32, msgs [][]byte) uint64 {
	d.in.Lock()
	defer d.in.Unlock()
	keep, greetings := d.keep[:0], 0
	for _, m := range msgs {
		switch {
		case codec.IsGreeting(m):
			d.stats.greetings.Add(1)
			if d.cfg.Greeting == greetForward {
				greetings++
				keep = append(keep, m)
			}
		case d.foreign(m):
			d.stats.refused.Add(1)
		default:
			if h, _ := codec.ParseHeader(m); h.Version != codec.Version && d.stats.otherVersions.Add(1) == 1 {
				d.log.Warn("torqbridge: a message of another protocol version: such are passed on as they are, and counted", "domain", d.cfg.Name, "version", h.Version)
			}
			keep = append(keep, m)
		}
	}
	d.keep = keep
	n := uint64(len(keep) - greetings)
	if origin != originRelay {
		d.stats.in.Add(n)
	}
	d.hub.put(origin, keep)
	for _, m := range keep {
		if greetings == 0 || !codec.IsGreeting(m) {
			d.collect(m)
		}
	}
	d.publish()
	return n
}

// foreign reports whether the domain filter refuses a message.
func (d *domain) foreign(m []byte) bool {
	if d.cfg.DomainFilter == filterOff {
		return false
	}
	h, err := codec.ParseHeader(m)
	if err != nil {
		return true
	}
	dialect := codec.DialectTypes
	if d.cfg.DomainFilter == string(DialectCodec) {
		dialect = codec.DialectCodec
	}
	v, ok := dialect.Domain(h.Domain)
	return !ok || v != d.info.number
}

// relayEnded notes where a relay's clients are when it ends.
func (d *domain) relayEnded(from uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving != nil {
		d.gap = &gap{from: from, until: d.hub.position(), ticks: sinceBoot(), end: time.Now().Add(d.b.cfg.Replay)}
	}
}

// missed is what a new client has missed since the old relay ended, if it was a
// client of that: its process must be older than the relay's end, and come in time.
func (d *domain) missed(c *client) *gap {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gap == nil || d.mode != ModeBus || time.Now().After(d.gap.end) || c.ours {
		return nil
	}
	if ticks, ok := startedAt(c.pid); !ok || ticks > d.gap.ticks {
		return nil
	}
	return d.gap
}
