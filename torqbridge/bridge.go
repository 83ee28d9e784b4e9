package torqbridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// ErrUnknownDomain: the bridge has no domain of that name.
var ErrUnknownDomain = errors.New("no such domain")

// Options of Serve. The zero value is the default.
type Options struct {
	Log   *slog.Logger // nil = none
	Ready func()       // called once, when every domain is in its mode; nil = nobody waits

	// Waiting has Serve wait for the registry, as registry.DialOptions.Waiting does; nil =
	// shm.ErrRegistryDown.
	Waiting func(socket string, why error)

	made func(*Bridge) // for tests
}

// Bridge runs the domains of a configuration. Its methods are safe for concurrent use.
type Bridge struct {
	cfg     Config
	log     *slog.Logger
	ctx     context.Context
	client  *shm.Client
	own     []shm.SourceID // what the bridge itself publishes as
	domains []*domain
	state   *state
	busy    chan struct{} // places for busy sockets
	waits   atomic.Bool   // for the registry
	begun   chan struct{} // closed when every domain is in its mode: commands are answered
}

// Serve runs a bridge until ctx ends. Then every public socket goes back to the old
// relay that is there, or is removed; a domain's mode is kept for the next start.
//
// Errors: those of the configuration, shm.ErrRegistryDown (see Options.Waiting), ErrLive
// for a domain in mode bus on whose socket somebody else listens, shm.ErrSourceBusy if
// another bridge runs on the bus.
func Serve(ctx context.Context, cfg Config, o Options) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	bctx, stop := context.WithCancel(context.Background())
	defer stop()
	b := &Bridge{cfg: cfg, log: o.Log, ctx: bctx, busy: make(chan struct{}, maxBusy), begun: make(chan struct{})}
	control, err := listenControl(cfg.Control)
	if err != nil {
		return err
	}
	defer control.close()
	b.state = loadState(cfg.Control+stateSuffix, o.Log)
	go control.serve(b)
	if err := b.dial(ctx, o.Waiting); err != nil {
		return err
	}
	defer b.client.Close()
	for _, dc := range cfg.Domains {
		d := newDomain(b, dc)
		b.domains = append(b.domains, d)
		b.own = append(b.own, sourceID(d.source()))
	}
	if o.made != nil {
		o.made(b)
	}
	defer b.end()
	for _, d := range b.domains {
		if err := b.begin(ctx, d); err != nil {
			return err
		}
	}
	b.save()
	close(b.begun)
	if o.Ready != nil {
		o.Ready()
	}
	<-ctx.Done()
	control.close() // no move begins any more
	return nil
}

// dial attaches to the bus, and waits for its registry if somebody wants to be told.
func (b *Bridge) dial(ctx context.Context, waiting func(socket string, why error)) (err error) {
	o := &registry.DialOptions{Program: "torqbridge", Log: b.log}
	if waiting != nil {
		o.Waiting = func(socket string, why error) {
			b.waits.Store(true)
			waiting(socket, why)
		}
	}
	b.client, err = registry.Dial(ctx, b.cfg.Registry, o)
	b.waits.Store(false)
	return err
}

// begin brings a domain into the mode in which it is to start.
func (b *Bridge) begin(ctx context.Context, d *domain) error {
	mode, mayTake, reason := b.state.begin(d.cfg.Name, d.cfg.Mode, time.Now(), &b.cfg)
	if mode == ModeBus {
		d.mu.Lock()
		h, err := d.names.holder(d.names.socket)
		d.mu.Unlock()
		if err != nil {
			return err
		}
		if h == holderOther && !mayTake {
			return fmt.Errorf("%s: %w, and %s is to begin in mode bus: stop it, or begin in mode shadow and cut over", d.names.socket, ErrLive, d.cfg.Name)
		}
	}
	if reason != "" {
		b.log.Error("torqbridge: not in mode bus", "domain", d.cfg.Name, "reason", reason)
	}
	_, err := d.move(ctx, mode, true, false, reason)
	return err
}

// end hands back every public socket and stops.
func (b *Bridge) end() {
	var handedBack []string
	for _, d := range b.domains {
		d.moving.Lock()
		d.over = true
		d.mu.Lock()
		running, mode := d.serving, d.mode
		d.mu.Unlock()
		if running == nil {
			d.moving.Unlock()
			continue
		}
		if mode == ModeBus && running.mirror.connected() {
			var m Move
			if err := d.during("rolling back", func() error { return d.handBack(&m) }); err != nil {
				b.log.Error("torqbridge: the socket could not be handed back", "domain", d.cfg.Name, "error", err)
			} else {
				handedBack = append(handedBack, d.cfg.Name)
			}
		}
		d.halt()
		d.moving.Unlock()
	}
	b.state.end(handedBack)
}

// domain finds a domain by name.
func (b *Bridge) domain(name string) (*domain, error) {
	i := slices.IndexFunc(b.domains, func(d *domain) bool { return d.cfg.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%w: %q", ErrUnknownDomain, name)
	}
	return b.domains[i], nil
}

// automatic is a rollback that nobody asked for.
func (b *Bridge) automatic(d *domain, reason string) {
	if _, err := d.move(b.ctx, ModeShadow, false, false, "automatic: "+reason); err != nil {
		b.log.Error("torqbridge: could not go back", "domain", d.cfg.Name, "error", err)
	}
}

// save keeps the modes for the next start.
func (b *Bridge) save() {
	modes := map[string]Mode{}
	for _, d := range b.domains {
		d.mu.Lock()
		modes[d.cfg.Name] = d.mode
		d.mu.Unlock()
	}
	b.state.save(modes)
}
