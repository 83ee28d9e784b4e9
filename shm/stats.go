package shm

import (
	"runtime"

	"github.com/torq/mycelium/internal/layout"
)

// Stats are a subscriber's own counters.
type Stats struct {
	Frames, Bytes uint64
	Gaps, Missed  uint64 // gap reports, sequences missing in them
	Evictions     uint64
	OverrunPoll   uint64 // laps found before a frame was read
	OverrunRead   uint64 // laps found after
	Parks         uint64
	Faults        uint64 // lanes detached
	Lanes         uint64
}

// Stats reads the counters; safe from any goroutine. They are stored at every gap,
// once per quarter of a credit step of data, and when 64 polls in a row found
// nothing: until then they are behind.
func (s *Subscriber) Stats() Stats {
	s.control.Lock()
	defer s.control.Unlock()
	if s.unmapped {
		return s.final
	}
	var w [layout.SubMetricWords]uint64
	shielded(s.mem, func() {
		for !s.stats.Load(w[:]) {
			runtime.Gosched()
		}
	})
	return statsOf(w[:])
}

func statsOf(w []uint64) Stats {
	return Stats{Frames: w[layout.SubFrames], Bytes: w[layout.SubBytes], Gaps: w[layout.SubGaps], Missed: w[layout.SubMissed],
		Evictions: w[layout.SubEvictions], OverrunPoll: w[layout.SubOverrunPoll], OverrunRead: w[layout.SubOverrunRead],
		Parks: w[layout.SubParks], Faults: w[layout.SubFaults], Lanes: w[layout.SubLanes]}
}

// TopicName is the name behind a frame's topic id, "" if unknown.
func (s *Subscriber) TopicName(id TopicID) string { return s.name(id) }

// SourceName is the name behind a frame's source id, "" if unknown.
func (s *Subscriber) SourceName(id SourceID) string { return s.name(id) }

func (s *Subscriber) name(id any) string {
	if v, ok := s.names.Load(id); ok {
		return v.(string)
	}
	return ""
}
