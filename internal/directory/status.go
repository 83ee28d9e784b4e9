package directory

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// What list and inspect tell is put together in two steps: under the mutex,
// which lanes and subscribers there are; without it, what their words say.

const (
	listPage     = 64        // topics in one answer to list
	inspectPage  = 40 << 10  // bytes of lanes and subscribers in one answer to inspect
	inspectLanes = 128       // lanes in one subscriber entry; more make another entry
	liveWalk     = 256 << 10 // bytes of a live ring that are walked for its next sequence
)

var laneMetrics = [...]string{
	layout.MetricFrames:         "frames",
	layout.MetricBytesPublished: "bytes",
	layout.MetricBatches:        "batches",
	layout.MetricPads:           "pads",
	layout.MetricBackpressure:   "backpressure",
	layout.MetricBackpressureNs: "backpressure_ns",
	layout.MetricEvictions:      "evictions",
	layout.MetricTooLarge:       "too_large",
	layout.MetricWakes:          "wakes",
	layout.MetricRefills:        "refills",
	layout.MetricAborts:         "aborts",
	layout.MetricFaults:         "faults",
	layout.MetricDeadReleases:   "dead_releases",
}

var subMetrics = [...]string{
	layout.SubFrames:      "frames",
	layout.SubBytes:       "bytes",
	layout.SubGaps:        "gaps",
	layout.SubMissed:      "missed",
	layout.SubEvictions:   "evictions",
	layout.SubOverrunPoll: "overrun_poll",
	layout.SubOverrunRead: "overrun_read",
	layout.SubParks:       "parks",
	layout.SubWakes:       "wakes",
	layout.SubFaults:      "faults",
	layout.SubLanes:       "lanes",
}

// laneView and subView are what a status needs of a lane and a subscriber.
type laneView struct {
	file  ref
	head  layout.LaneHeader
	phase phase
	dead  bool
}

type subView struct {
	file ref
	head layout.CursorHeader
	held map[layout.ID16]uint64 // by epoch of the lane: what was joined for it, from where on
}

// topicView is one topic under the mutex.
type topicView struct {
	info  control.TopicInfo
	lanes []laneView
	subs  []subView
}

func (c *core) view(t *topicState) topicView {
	v := topicView{info: control.TopicInfo{Topic: t.name, LaneCount: len(t.lanes)}}
	if cfg, err := c.config(t.name); err == nil {
		g := cfg.Geometry.WithDefaults()
		v.info.Ring, v.info.MaxMsg, v.info.Step, v.info.Policy = g.Ring, g.MaxMsg, g.Step, policyText(cfg.Policy)
	}
	for _, l := range t.lanes {
		if l.phase == live || l.phase == orphan {
			v.info.Publishers++
		}
		if l.head.Mirror {
			v.info.Mirrors++
		}
		v.lanes = append(v.lanes, laneView{l.file, l.head, l.phase, l.final != nil && l.final.Dead})
	}
	for _, u := range c.readers(t) {
		v.info.Subscribers++
		held := map[layout.ID16]uint64{}
		for _, l := range t.lanes {
			if j := l.joins[u]; j != nil && j.state == joined && j.ticket != 0 && !j.drained && !j.again && u.head.Mode == layout.Lossless {
				held[l.head.Epoch] = j.pos
			}
		}
		v.subs = append(v.subs, subView{u.file, u.head, held})
	}
	return v
}

// page is up to listPage topics after a name that match a pattern and that peer
// may see, and whether more follow.
func (c *core) page(pattern, after string, peer control.Peer) (views []topicView, more bool) {
	for _, name := range slices.Sorted(maps.Keys(c.topics)) {
		if name <= after || !topic.Match(pattern, name) || !c.sees(peer, name) {
			continue
		}
		if len(views) == listPage {
			return views, true
		}
		views = append(views, c.viewFor(peer, c.topics[name]))
	}
	return views, false
}

// viewFor tells a peer as well whether it may read the topic.
func (c *core) viewFor(peer control.Peer, t *topicState) topicView {
	v := c.view(t)
	v.info.Unreadable = c.authorize(peer, t.name, VerbSubscribe) != nil
	return v
}

// sees reports whether a peer may do anything at all with a topic.
func (c *core) sees(p control.Peer, name string) bool {
	return c.authorize(p, name, VerbSubscribe) == nil || c.authorize(p, name, VerbPublish) == nil || c.authorize(p, name, VerbAdmin) == nil
}

// list is one page, as peer may see it.
func (s *Server) list(pattern, after string, peer control.Peer) ([]control.TopicInfo, bool) {
	views, more := s.page(pattern, after, peer)
	infos := make([]control.TopicInfo, len(views))
	for i := range views {
		infos[i] = views[i].info
		for j := range views[i].lanes {
			st := s.laneStatus(&views[i].lanes[j])
			infos[i].Frames += st.NextSeq - views[i].lanes[j].head.FirstSeq
			infos[i].Bytes += st.Metrics["bytes"]
		}
	}
	return infos, more
}

func (s *Server) page(pattern, after string, peer control.Peer) ([]topicView, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.page(pattern, after, peer)
}

// topic is one topic, if peer may see it.
func (s *Server) topic(name string, peer control.Peer) (topicView, *control.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.core.topics[name]
	if t == nil || !s.core.sees(peer, name) {
		return topicView{}, noTopic(name)
	}
	return s.core.viewFor(peer, t), nil
}

func noTopic(name string) *control.Error {
	return refusal(control.CodeNotFound, "see the list of topics", "no topic %s", short(name))
}

// inspect is a page of about bytes of a topic's lanes and then subscribers,
// from the given entry on, and the entry to continue at; 0 = that was all.
func (s *Server) inspect(v *topicView, from, bytes int) (control.TopicInfo, int) {
	info := v.info
	size := 0
	fits := func(entry any) bool {
		b, _ := json.Marshal(entry)
		size += len(b)
		return size <= bytes || size == len(b)
	}
	status := make(map[layout.ID16]control.LaneStatus, len(v.lanes))
	laneOf := func(i int) control.LaneStatus {
		st, known := status[v.lanes[i].head.Epoch]
		if !known {
			st = s.laneStatus(&v.lanes[i])
			status[st.Epoch] = st
		}
		return st
	}
	for i := range v.lanes {
		info.Frames += laneOf(i).NextSeq - v.lanes[i].head.FirstSeq
		info.Bytes += laneOf(i).Metrics["bytes"]
	}
	entry := 0
	for i := range v.lanes {
		if entry++; entry <= from {
			continue
		}
		if st := laneOf(i); fits(st) {
			info.Lanes = append(info.Lanes, st)
		} else {
			return info, entry - 1
		}
	}
	chunks := max(1, (len(v.lanes)+inspectLanes-1)/inspectLanes)
	for i := range v.subs {
		for k := range chunks {
			if entry++; entry <= from {
				continue
			}
			first := k * inspectLanes
			st := s.subStatus(&v.subs[i], v.lanes[first:min(first+inspectLanes, len(v.lanes))], func(n int) control.LaneStatus { return laneOf(first + n) })
			if k > 0 && len(st.Lanes) == 0 {
				continue
			}
			if fits(st) {
				info.Subs = append(info.Subs, st)
			} else {
				return info, entry - 1
			}
		}
	}
	return info, 0
}

// laneStatus reads one lane's words. What cannot be read stays zero.
func (s *Server) laneStatus(v *laneView) control.LaneStatus {
	st := control.LaneStatus{
		Epoch: v.head.Epoch, Number: v.head.Lane, Source: v.head.Source, UID: v.head.UID, BeatAgeNs: -1,
		State: "new", NextSeq: v.head.FirstSeq, Tail: v.head.FirstPos, Intent: v.head.FirstPos,
		Mirror: v.head.Mirror, OriginNode: v.head.OriginNode, Hops: v.head.Hops,
	}
	f, err := s.store.open(v.file, false)
	if err != nil || v.phase == granted {
		if f != nil {
			_ = f.Close()
		}
		return st
	}
	defer f.Close()
	word, _ := readWord(f, layout.OffState)
	st.PID = uint32(word >> 32)
	st.Intent, _ = readWord(f, layout.OffIntent)
	s.progress(f, v, &st)
	st.BeatAgeNs = beatAge(f, layout.OffLaneBeat)
	switch {
	case v.phase == orphan:
		st.State = "orphan"
	case v.phase == ended && v.dead:
		st.State = "dead"
	case v.phase == ended:
		st.State = "closed"
	default:
		st.State = layout.LaneState(uint32(word)).String()
	}
	return st
}

// progress reads how far a lane is. Its publisher stores the tail and then the
// metrics only now and then: the frames after the tail are counted here, those
// that the metrics, read after it, have already are not.
func (s *Server) progress(f io.ReaderAt, v *laneView, st *control.LaneStatus) {
	read, later := false, uint64(0)
	st.Tail, st.NextSeq = walk(f, &v.head, liveWalk, func(seq uint64, bytes uint32) {
		if !read {
			st.Metrics, read = metrics(f, layout.OffMetrics, laneMetrics[:]), true
		}
		if seq-v.head.FirstSeq >= st.Metrics["frames"] {
			later += uint64(bytes)
		}
	})
	switch {
	case !read:
		st.Metrics = metrics(f, layout.OffMetrics, laneMetrics[:])
	case st.Metrics != nil:
		st.Metrics["frames"] = max(st.Metrics["frames"], st.NextSeq-v.head.FirstSeq)
		st.Metrics["bytes"] += later
	}
}

// subStatus reads a subscriber's words and its slots for those lanes.
func (s *Server) subStatus(v *subView, lanes []laneView, status func(int) control.LaneStatus) control.SubscriberStat {
	st := control.SubscriberStat{Epoch: v.head.Epoch, Name: v.head.Name, Pattern: v.head.Pattern, UID: v.head.UID, Mode: modeText(v.head.Mode), BeatAge: -1}
	f, err := s.store.open(v.file, false)
	if err != nil {
		return st
	}
	defer f.Close()
	sleeping, _ := readWord(f, layout.OffSleeping)
	st.Sleeping = uint32(sleeping) != 0
	st.BeatAge = beatAge(f, layout.OffCursorBeat)
	st.Metrics = metrics(f, layout.OffSubMetrics, subMetrics[:])
	for i := range lanes {
		h := &lanes[i].head
		slot := int64(layout.SlotOff(h.Lane))
		epoch, _ := readWord(f, slot+layout.SlotEpoch)
		cursor, _ := readWord(f, slot+layout.SlotCursor)
		seq, ok := readWord(f, slot+layout.SlotSeq)
		if !ok || h.Lane >= v.head.Slots {
			continue
		}
		l := status(i)
		if epoch != h.Epoch.Low() {
			pos, is := v.held[h.Epoch]
			if about, _ := readWord(f, slot+layout.SlotLane); !is || about == h.Epoch.Low() {
				continue // not joined, or evicted
			}
			// It holds the publisher, and has not got to the lane: stopped, or just told.
			if cursor, seq = pos, l.NextSeq; pos == h.FirstPos {
				seq = h.FirstSeq
			}
		}
		st.Lanes = append(st.Lanes, control.SubscriberLane{Lane: h.Epoch, Cursor: cursor, Seq: seq,
			LagBytes: behind(l.Tail, cursor), LagFrames: behind(l.NextSeq, seq)})
	}
	return st
}

func modeText(m layout.Mode) string {
	if m == layout.Lossless {
		return "lossless"
	}
	return "lossy"
}

// behind is how far a trails head; 0 if it has overtaken what was read before.
func behind(head, a uint64) uint64 {
	if int64(head-a) < 0 {
		return 0
	}
	return head - a
}

// beatAge is how old a beat is, ns; -1 = there is none.
func beatAge(r io.ReaderAt, off int64) int64 {
	w, ok := cell(r, off, layout.BeatWords)
	if !ok || w[0] == 0 {
		return -1
	}
	return max(0, clock.Mono()-int64(w[0]))
}

func metrics(r io.ReaderAt, off int64, names []string) map[string]uint64 {
	w, ok := cell(r, off, len(names))
	if !ok {
		return nil
	}
	m := make(map[string]uint64, len(names))
	for i, name := range names {
		m[name] = w[i]
	}
	return m
}

// Stats describes the directory itself.
func (s *Server) Stats() control.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.core
	return control.Stats{
		Incarnation: c.bus.Incarnation, UptimeNs: int64(c.opt.Now().Sub(s.start)),
		Topics: len(c.topics), Lanes: len(c.lanes), Subscribers: len(c.subs), Connections: len(c.sessions),
		ShmBytes: c.shmBytes, ShmLimitBytes: c.opt.Quotas.MaxShmBytes, ShmFreeBytes: s.store.free(), Counters: maps.Clone(c.counters),
	}
}

// tell answers list, inspect and stats.
func (s *Server) tell(ss *session, m *control.Message) {
	a := &control.Message{Op: control.OpOK, ID: m.ID}
	var err *control.Error
	switch m.Op {
	case control.OpList:
		pattern := m.Topic
		if pattern == "" {
			pattern = ">"
		}
		if perr := topic.CheckPattern(pattern); perr != nil {
			err = refusal(control.CodeInvalid, "", "%v", perr)
			break
		}
		var more bool
		if a.Topics, more = s.list(pattern, m.Cursor, ss.peer); more {
			a.Cursor = a.Topics[len(a.Topics)-1].Topic
		}
	case control.OpInspect:
		err = s.tellInspect(ss, m, a)
	default:
		st := s.Stats()
		a.Stats = &st
	}
	if err != nil {
		s.mu.Lock()
		s.core.refuse(ss, m.ID, err)
		s.mu.Unlock()
		return
	}
	ss.send(a)
}

func (s *Server) tellInspect(ss *session, m, a *control.Message) *control.Error {
	from, perr := strconv.Atoi(m.Cursor)
	if m.Cursor != "" && (perr != nil || from < 0) {
		return refusal(control.CodeInvalid, "continue with the cursor of the answer before", "cursor %q", short(m.Cursor))
	}
	v, err := s.topic(m.Topic, ss.peer)
	if err != nil {
		return err
	}
	info, next := s.inspect(&v, from, inspectPage)
	a.Topics = []control.TopicInfo{info}
	if next > 0 {
		a.Cursor = fmt.Sprint(next)
	}
	return nil
}
