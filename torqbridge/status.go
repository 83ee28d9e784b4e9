package torqbridge

import (
	"sync/atomic"
	"time"
)

// counters are a domain's, since it left mode legacy the first time.
type counters struct {
	in, fromBus, out                       atomic.Uint64
	greetings, refused, truncated          atomic.Uint64
	otherVersions                          atomic.Uint64
	resyncs, skippedBytes                  atomic.Uint64
	unmappable, oversize, notMessages      atomic.Uint64
	droppedBefore, accepted, replays, lost atomic.Uint64
	fromRelay, toRelay                     atomic.Uint64
	relayRefused, relayTooLarge            atomic.Uint64
	stalledNs                              atomic.Uint64
	topics                                 atomic.Int64 // open now
}

// Status is what a domain does. Counters begin with the bridge's process.
type Status struct {
	Domain string    `json:"domain"`
	Mode   Mode      `json:"mode"`
	Phase  string    `json:"phase"` // of a move under way, "" = none
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"` // of the last move, "" = on command
	Socket string    `json:"socket"`
	Served string    `json:"served_by"` // who answers at Socket: bridge, relay or nobody; unknown during a move

	Clients   int    `json:"clients"`
	Producers int    `json:"producers"` // clients that have sent something
	Accepted  uint64 `json:"accepted,string"`

	In            uint64   `json:"messages_in,string"`       // from clients
	Out           uint64   `json:"messages_out,string"`      // to clients, each counted
	FromBus       uint64   `json:"messages_from_bus,string"` // from publishers other than the bridge
	FromRelay     uint64   `json:"messages_from_relay,string"`
	ToRelay       uint64   `json:"messages_to_relay,string"`
	RelayUp       bool     `json:"relay_up"`
	RelayError    string   `json:"relay_error"`
	RelayDown     bool     `json:"relay_down"` // ten attempts have failed
	RelayRefused  uint64   `json:"relay_refused,string"`
	RelayTooLarge uint64   `json:"relay_too_large,string"`
	Dropped       uint64   `json:"dropped_slow,string"` // for slow clients
	Greetings     uint64   `json:"greetings,string"`
	Resyncs       uint64   `json:"resyncs,string"`
	SkippedBytes  uint64   `json:"skipped_bytes,string"`
	Truncated     uint64   `json:"truncated,string"`
	Refused       uint64   `json:"refused,string"`        // by the domain filter
	OtherVersions uint64   `json:"other_versions,string"` // of the protocol, than Torq writes; passed on
	Unmappable    uint64   `json:"unmappable,string"`
	Oversize      uint64   `json:"oversize,string"`     // too large for their topic
	NotMessages   uint64   `json:"not_messages,string"` // frames on the bus that are no V2 message
	Replays       uint64   `json:"replays,string"`
	Lost          uint64   `json:"lost,string"`
	StalledNs     uint64   `json:"stalled_ns"` // spent waiting for room on the bus
	Topics        int      `json:"topics"`
	Windows       []Window `json:"windows"`
}

// status looks at the domain.
func (d *domain) status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := &d.stats
	s := Status{
		Domain: d.cfg.Name, Mode: d.mode, Phase: d.phase, Since: d.since, Reason: d.reason, Socket: d.cfg.Socket, Topics: int(st.topics.Load()),
		Accepted: st.accepted.Load(), In: st.in.Load(), Out: st.out.Load(), FromBus: st.fromBus.Load(),
		Greetings: st.greetings.Load(), Resyncs: st.resyncs.Load(), SkippedBytes: st.skippedBytes.Load(), Truncated: st.truncated.Load(),
		Refused: st.refused.Load(), OtherVersions: st.otherVersions.Load(), Unmappable: st.unmappable.Load(), Oversize: st.oversize.Load(), NotMessages: st.notMessages.Load(),
		Replays: st.replays.Load(), Lost: st.lost.Load(), StalledNs: st.stalledNs.Load(), Dropped: st.droppedBefore.Load(),
		FromRelay: st.fromRelay.Load(), ToRelay: st.toRelay.Load(), RelayRefused: st.relayRefused.Load(), RelayTooLarge: st.relayTooLarge.Load(),
		Windows: []Window{},
	}
	s.Served = "nobody"
	if d.phase != "" { // a look is a connection, and a rollback counts those
		s.Served = "unknown"
	} else if h, err := d.names.holder(d.names.socket); err == nil && h == holderOwn {
		s.Served = "bridge"
	} else if err == nil && h == holderOther {
		s.Served = "relay"
	}
	for c := range d.clients {
		if c.ours {
			continue
		}
		s.Clients++
		if c.messages.Load() > 0 {
			s.Producers++
		}
		_, dropped := c.tap.at()
		s.Dropped += dropped
	}
	if d.serving != nil {
		m := d.serving.mirror
		m.mu.Lock()
		s.RelayUp, s.RelayDown = m.conn != nil, m.conn == nil && m.backoff.down()
		if m.conn == nil && m.err != nil {
			s.RelayError = m.err.Error()
		}
		m.mu.Unlock()
	}
	s.Windows = append(s.Windows, d.windows...)
	return s
}
