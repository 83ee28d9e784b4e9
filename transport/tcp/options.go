package tcp

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
)

// Options of a Forwarder. Node and Links are required; other zero fields mean the
// default that is named.
type Options struct {
	Node     string   // this host's name: in its certificate, and in the peers' configurations
	Listen   []string // addresses on which links are accepted; none = only those that are dialled
	Links    []LinkOptions
	Keep     time.Duration // how long lanes are held for a forwarder that is down; 1 h
	MaxBody  uint32        // longest body that is taken, bytes; 128 KiB; bounds the messages that can be had
	Beat     time.Duration // 250 ms
	Dead     time.Duration // without a byte for so long, a connection is cut; 1 s
	Spin     time.Duration // how long to look for work before going to sleep; 50 us; < 0 = for ever
	TLS      *TLS          // nil = none
	Log      *slog.Logger  // nil = discard
	dialHook func(link string, attempt int)
}

// Export is what a link sends.
type Export struct {
	Pattern string
	Lossy   bool // hold no publisher back: what the link cannot take is a gap
}

// LinkOptions are one link: the connection with one peer, and what goes over it.
type LinkOptions struct {
	Name        string // the same on both sides; "main"
	Peer        string // the peer's Node
	Address     string // host:port to dial; "" = the peer dials
	Exports     []Export
	Imports     []string // patterns; nil = nothing is taken
	Transit     bool     // also send what came from other hosts
	Oldest      bool     // a first start sends what the rings still have, not only what comes
	Compression string   // off, zstd, s2; off
	Insecure    bool     // no TLS, also beyond this host
}

func (o *LinkOptions) name() string { return cmp.Or(o.Name, "main") }

func (o Options) withDefaults() Options {
	o.Keep = cmp.Or(o.Keep, time.Hour)
	o.MaxBody = cmp.Or(o.MaxBody, defaultBody)
	o.Beat = cmp.Or(o.Beat, 250*time.Millisecond)
	o.Dead = cmp.Or(o.Dead, time.Second)
	o.Spin = cmp.Or(o.Spin, 50*time.Microsecond)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// Validate reports everything that is wrong.
func (o *Options) Validate() error {
	var errs []error
	add := func(format string, a ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{shm.ErrInvalid}, a...)...))
	}
	if o.Node == "" || len(o.Node) > maxName {
		add("node name %q: want 1 to %d bytes", o.Node, maxName)
	}
	if o.MaxBody != 0 && (o.MaxBody < minBody || o.MaxBody > maxBody || o.MaxBody%8 != 0) {
		add("max_body of %d bytes: want a multiple of 8 from %d to %d", o.MaxBody, minBody, maxBody)
	}
	if d := o.withDefaults(); d.Dead <= d.Beat {
		add("dead after %v, with a beat each %v: want more", d.Dead, d.Beat)
	}
	if len(o.Links) == 0 {
		add("no link")
	}
	seen := map[string]bool{}
	for i := range o.Links {
		l := &o.Links[i]
		at := "link " + l.name() + " to " + l.Peer
		switch {
		case l.Peer == "" || len(l.Peer) > maxName || len(l.Name) > maxName:
			add("link %d: want the peer's name, of up to %d bytes", i, maxName)
		case l.Peer == o.Node:
			add("%s: that is this host", at)
		case seen[l.name()+"\x00"+l.Peer]:
			add("%s: there are two: give one another name", at)
		}
		seen[l.name()+"\x00"+l.Peer] = true
		if l.Address == "" && len(o.Listen) == 0 {
			add("%s: nobody dials it: give an address, or listen", at)
		}
		exported := map[string]bool{}
		for _, e := range l.Exports {
			if err := topic.CheckPattern(e.Pattern); err != nil {
				add("%s: export: %v", at, err)
			}
			if exported[e.Pattern] {
				add("%s: %s is exported twice", at, e.Pattern)
			}
			exported[e.Pattern] = true
		}
		for _, p := range l.Imports {
			if err := topic.CheckPattern(p); err != nil {
				add("%s: import: %v", at, err)
			}
		}
		if len(l.Exports)+len(l.Imports) == 0 {
			add("%s: it exports and imports nothing", at)
		}
		switch l.Compression {
		case "", "off", "zstd", "s2":
		default:
			add("%s: compression %q: want off, zstd or s2", at, l.Compression)
		}
	}
	return errors.Join(errs...)
}

// Check is Validate, and reads the certificates.
func (o *Options) Check() error {
	if err := o.Validate(); err != nil || o.TLS == nil {
		return err
	}
	return o.TLS.Check()
}

// imports reports whether a link takes a topic.
func (o *LinkOptions) imports(name string) bool {
	return slices.ContainsFunc(o.Imports, func(p string) bool { return topic.Match(p, name) })
}

// carriedBy is the export that a topic belongs to, the most specific that matches;
// nil if none does.
func (o *LinkOptions) carriedBy(name string) *Export {
	var best *Export
	for i := range o.Exports {
		e := &o.Exports[i]
		if topic.Match(e.Pattern, name) && (best == nil || topic.MoreSpecific(e.Pattern, best.Pattern)) {
			best = e
		}
	}
	return best
}

// TLS says how peers prove who they are: TLS 1.3, certificates on both sides. The
// files are read again when they change; a bad one leaves the last good in force.
type TLS struct {
	Cert, Key, CA string // PEM files

	keeper keeper
}

// tlsVersion is the only one.
const tlsVersion = tls.VersionTLS13
