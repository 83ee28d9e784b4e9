package tcp

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Status is what a forwarder tells of itself. Counters count since its start.
type Status struct {
	Node         string       `json:"node"`
	NodeID       string       `json:"node_id"`
	Bus          string       `json:"bus"`
	UptimeNs     int64        `json:"uptime_ns"`
	Listen       []string     `json:"listen"`
	TLS          bool         `json:"tls"`
	CertExpires  string       `json:"cert_expires,omitempty"` // RFC 3339
	CertReloads  uint64       `json:"cert_reloads"`
	Accepted     uint64       `json:"accepted"`
	Refused      uint64       `json:"refused"`
	AuthFailures uint64       `json:"auth_failures"`
	Plaintext    uint64       `json:"plaintext"` // connections without TLS
	Crowded      uint64       `json:"crowded"`   // turned away: too many that say nothing
	Panics       uint64       `json:"panics"`
	MirrorLanes  int          `json:"mirror_lanes"`
	Links        []LinkStatus `json:"links"`
}

// LinkStatus is one link.
type LinkStatus struct {
	Link           string         `json:"link"`
	Peer           string         `json:"peer"`
	Address        string         `json:"address,omitempty"` // that is dialled; "" = the peer dials
	State          string         `json:"state"`             // up, down, paused
	SinceNs        int64          `json:"since_ns"`          // since the last change between up and down
	RTTNs          int64          `json:"rtt_ns"`            // 0 = not known
	Connects       uint64         `json:"connects"`
	Reconnects     uint64         `json:"reconnects"`
	LastError      string         `json:"last_error,omitempty"`
	WireIn         uint64         `json:"wire_in_bytes"`
	WireOut        uint64         `json:"wire_out_bytes"`
	Writes         uint64         `json:"writes"`
	Reads          uint64         `json:"reads"`
	ProtocolErrors uint64         `json:"protocol_errors"`
	Silences       uint64         `json:"silences"`
	Sent           Traffic        `json:"sent"`
	Received       Traffic        `json:"received"`
	LagFrames      *uint64        `json:"lag_frames"` // published here, and not there yet: what is known of it; nil = there is some, of which nothing is known
	LagBytes       *uint64        `json:"lag_bytes"`  // likewise
	Exports        []StreamStatus `json:"exports"`
	Imports        []StreamStatus `json:"imports"`
}

// Traffic is what went one way.
type Traffic struct {
	Frames     uint64 `json:"frames"`
	Bytes      uint64 `json:"bytes"` // of the rings, headers included
	Gaps       uint64 `json:"gaps"`
	Missed     uint64 `json:"missed"` // sequences in them
	Duplicates uint64 `json:"duplicates_dropped"`
	Evictions  uint64 `json:"evictions"`
	Resumes    uint64 `json:"resumes"`
	Refusals   uint64 `json:"refusals"`
	Loops      uint64 `json:"loop_refusals"`
}

// StreamStatus is one lane on its way, out or in.
type StreamStatus struct {
	Topic       string  `json:"topic"`
	Source      string  `json:"source"`
	OriginNode  string  `json:"origin_node"`
	OriginEpoch string  `json:"origin_epoch"`
	State       string  `json:"state"`
	Why         string  `json:"why,omitempty"` // of the last refusal
	NextSeq     uint64  `json:"next_seq,string"`
	AckedSeq    uint64  `json:"acked_seq,string"`
	Unacked     uint64  `json:"unacked_bytes"`
	LagFrames   *uint64 `json:"lag_frames"` // of an export, nil as in LinkStatus; nil of an import
	LagBytes    *uint64 `json:"lag_bytes"`  // likewise
	WindowBytes uint64  `json:"window_bytes"`
	Frames      uint64  `json:"frames"`
	Bytes       uint64  `json:"bytes"`
	Gaps        uint64  `json:"gaps"`
	Missed      uint64  `json:"missed"`
	Duplicates  uint64  `json:"duplicates_dropped"`
	Lossy       bool    `json:"lossy,omitempty"`
	Hops        uint8   `json:"hops"`
}

// Status reads everything. It holds up a link for no longer than one step.
func (f *Forwarder) Status() Status {
	s := Status{Node: f.opt.Node, NodeID: f.node.String(), Bus: f.client.Bus(), UptimeNs: time.Since(f.started).Nanoseconds(),
		Listen: []string{}, TLS: f.opt.TLS != nil,
		Accepted: f.counters.accepted.Load(), Refused: f.counters.refused.Load(), AuthFailures: f.counters.authFailures.Load(),
		Plaintext: f.counters.plaintext.Load(), Crowded: f.counters.crowded.Load(), Panics: f.counters.panics.Load(), Links: []LinkStatus{}}
	for _, a := range f.Addrs() {
		s.Listen = append(s.Listen, a.String())
	}
	if t := f.opt.TLS; t != nil {
		s.CertReloads = t.Reloads()
		if at := t.expiry(f.log); !at.IsZero() {
			s.CertExpires = at.UTC().Format(time.RFC3339)
		}
	}
	f.shared.mu.Lock()
	s.MirrorLanes = len(f.shared.all)
	f.shared.mu.Unlock()
	for _, l := range f.links {
		s.Links = append(s.Links, l.status())
	}
	return s
}

func (l *link) status() LinkStatus {
	c := &l.counters
	s := LinkStatus{Link: l.opt.name(), Peer: l.opt.Peer, Address: l.opt.Address, State: "down", RTTNs: c.rtt.Load(),
		Connects: c.connects.Load(), WireIn: c.wireIn.Load(), WireOut: c.wireOut.Load(), Writes: c.writes.Load(), Reads: c.reads.Load(),
		ProtocolErrors: c.protocolErrors.Load(), Silences: c.silences.Load(), Exports: []StreamStatus{}, Imports: []StreamStatus{}}
	s.Reconnects = max(s.Connects, 1) - 1
	since := time.Unix(0, c.since.Load())
	if c.since.Load() == 0 {
		since = l.f.started
	}
	s.SinceNs = time.Since(since).Nanoseconds()
	if p := c.lastError.Load(); p != nil {
		s.LastError = *p
	}
	l.connMu.Lock()
	cur, in := l.cur, c.in
	l.connMu.Unlock()
	if cur != nil {
		s.State = "up"
		cur.in.mu.Lock()
		in.add(&cur.in.total)
		for _, k := range cur.in.intakes {
			s.Imports = append(s.Imports, k.status())
		}
		cur.in.mu.Unlock()
	} else {
		s.RTTNs = 0
	}
	s.Received = Traffic{Frames: in.frames, Bytes: in.bytes, Gaps: in.gaps, Missed: in.missed, Duplicates: in.duplicates,
		Resumes: in.resumes, Refusals: in.refusals, Loops: in.loops}
	l.mu.Lock()
	t := l.send.total
	if l.send.paused {
		s.State = "paused"
	}
	var frames, bytes uint64
	untold := false
	for _, st := range l.send.streams {
		x := st.status()
		s.Exports = append(s.Exports, x)
		switch {
		case st.state == streamSkimmed:
		case x.LagFrames == nil:
			untold = true
		default:
			frames += *x.LagFrames
			bytes += *x.LagBytes
		}
	}
	l.mu.Unlock()
	if frames > 0 || !untold {
		s.LagFrames, s.LagBytes = &frames, &bytes
	}
	s.Sent = Traffic{Frames: t.frames, Bytes: t.bytes, Gaps: t.gaps, Missed: t.missed, Evictions: t.evictions,
		Resumes: t.resumes, Refusals: t.refusals, Loops: t.loops}
	for _, list := range [][]StreamStatus{s.Exports, s.Imports} {
		slices.SortFunc(list, func(a, b StreamStatus) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Source, b.Source))
		})
	}
	return s
}

func (st *stream) status() StreamStatus {
	i := st.lane.Info()
	s := StreamStatus{Topic: i.Topic, Source: i.Source, OriginNode: i.OriginNode.String(), OriginEpoch: i.OriginEpoch.String(), State: st.state.String(),
		NextSeq: st.lane.Due(), AckedSeq: st.lane.Acked(), Unacked: st.lane.PendingBytes(), WindowBytes: st.window, Lossy: st.lossy, Hops: i.Hops + 1,
		Frames: st.stats.frames, Bytes: st.stats.bytes, Gaps: st.stats.gaps, Missed: st.stats.missed}
	if frames, bytes, more := st.lane.Lag(); frames > 0 || !more {
		s.LagFrames, s.LagBytes = &frames, &bytes
	}
	if st.why != 0 {
		s.Why = st.why.String()
	}
	return s
}

func (in *intake) status() StreamStatus {
	s := StreamStatus{Topic: in.open.topic, Source: in.open.source, OriginNode: in.open.originNode.String(), OriginEpoch: in.open.originEpoch.String(),
		State: in.state.String(), WindowBytes: in.window, Lossy: in.open.lossy, Hops: in.open.hops,
		Frames: in.stats.frames, Bytes: in.stats.bytes, Gaps: in.stats.gaps, Missed: in.stats.missed, Duplicates: in.stats.duplicates}
	if in.m != nil && in.state != intakeClosing {
		s.NextSeq = in.m.Due()
		s.AckedSeq = s.NextSeq
	}
	return s
}

// Link is the status of one link: "peer", or "peer/link" where there are several.
func (s *Status) Link(name string) (*LinkStatus, error) {
	var found *LinkStatus
	for i := range s.Links {
		l := &s.Links[i]
		if l.Peer+"/"+l.Link == name {
			return l, nil
		}
		if l.Peer == name {
			if found != nil {
				return nil, fmt.Errorf("there are several links with %s: name one, as in %s/%s", name, l.Peer, l.Link)
			}
			found = l
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s", errNoLink, name)
	}
	return found, nil
}
