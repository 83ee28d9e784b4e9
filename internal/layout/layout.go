package layout

// Layout version. Major fixes every offset; minor only fills reserved space.
const (
	Major = 1
	Minor = 0
)

// Magic words, little-endian: the first byte in the file is 'M'.
const (
	LaneMagic   uint64 = 0x0145_4e41_4c43_594d // "MYCLANE\x01"
	CursorMagic uint64 = 0x0153_5255_4343_594d // "MYCCURS\x01"
)

// Sizes that hold for every segment.
const (
	PageBytes = 4096
	LineBytes = 128 // unit of separation between words of different writers

	immutableBytes = 0x0400 // copied once at attach
	offCRC         = 0x03FC
	OffReady       = 0x0400 // u64: magic ^ epoch low word, stored last
)

// Lane file: offsets of the header.
const (
	LaneHeaderBytes = 0x4000

	OffIntent     = 0x1000 // u64, own line
	OffTail       = 0x1080 // Cell of TailWords
	OffLaneBeat   = 0x1100 // Cell of BeatWords
	OffState      = 0x1140 // u32: LaneState
	OffPID        = 0x1144 // u32, information only
	OffStartTicks = 0x1148 // u64, information only
	OffWakeSeq    = 0x1180 // u32 futex word
	OffMetrics    = 0x1200 // Cell of MetricWords
	OffNotices    = 0x2000
	OffIndex      = 0x3000
	OffRing       = LaneHeaderBytes

	// Page 1: the words that the publisher changes.
	LiveOff   = 0x1000
	LiveBytes = PageBytes

	Notices     = 128 // the most lossless subscribers of one lane
	NoticeBytes = 32  // ticket, evict position, reason|time, consumer

	IndexEntries    = 256
	IndexEntryBytes = 16 // pos, seq

	TailWords  = 2 // pos, seq: a frame boundary at or before the tail
	TailBytes  = 8 * (1 + TailWords)
	OffTailPos = OffTail + 8 // the cell's words, for whoever needs no consistent pair
	OffTailSeq = OffTail + 16

	BeatWords = 2 // mono ns, wall ns of the same instant
	BeatBytes = 8 * (1 + BeatWords)

	MetricWords = 31
	MetricBytes = 8 * (1 + MetricWords)
)

// Words of the lane metrics cell.
const (
	MetricFrames = iota // data frames published
	MetricBytesPublished
	MetricBatches
	MetricPads
	MetricBackpressure   // events: a claim or publish found no room
	MetricBackpressureNs // time spent waiting for room
	MetricEvictions
	MetricTooLarge
	MetricWakes
	MetricRefills
	MetricAborts
	MetricFaults
	MetricDeadReleases // lossless subscribers released by the lock probe
)

// Words of the subscriber metrics cell.
const (
	SubFrames = iota // frames delivered
	SubBytes
	SubGaps   // gap events
	SubMissed // sequences missing in those gaps
	SubEvictions
	SubOverrunPoll // laps found before a frame was read
	SubOverrunRead // laps found after a frame was read
	SubParks
	SubWakes
	SubFaults
	SubLanes

	SubMetricWords = 15
	SubMetricBytes = 8 * (1 + SubMetricWords)
)

// Cursor file: offsets.
const (
	CursorHeaderBytes = PageBytes

	OffSleeping   = 0x0480 // u32, own line: not 0 while the subscriber is parked
	OffKick       = 0x0500 // u32 futex word, bumped by the subscriber's own process
	OffCursorBeat = 0x0580 // Cell of BeatWords
	OffSubMetrics = 0x0600 // Cell of SubMetricWords
	OffSlots      = CursorHeaderBytes

	SlotBytes  = 32 // epoch low word, cursor, seq, lane low word
	SlotEpoch  = 0
	SlotCursor = 8
	SlotSeq    = 16
	SlotLane   = 24 // whose cursor and seq these are, also while SlotEpoch is 0

	MaxLanes = 16384 // lane numbers of one bus, hence slots of one cursor file
)

// Ring geometry bounds.
const (
	Align       = 32
	MinRing     = 64 << 10
	MaxRing     = 1 << 30
	DefaultRing = 1 << 20
	DefaultStep = 64 << 10
	MaxPos      = 1 << 62 // genuine positions stay below
)

// LaneState is the word at OffState.
//
//	0 --ready--> ACTIVE --Close--> CLOSED
//	                |
//	                +--SIGBUS on the lane--> FAULT
type LaneState uint32

const (
	LaneActive LaneState = 1
	LaneClosed LaneState = 2
	LaneFault  LaneState = 3
)

func (s LaneState) String() string {
	switch s {
	case LaneActive:
		return "active"
	case LaneClosed:
		return "closed"
	case LaneFault:
		return "fault"
	}
	return "unknown"
}

// MaxHops bounds how many links a frame comes over.
const MaxHops = 4

// Timestamp says where the ts field of a lane's frames comes from.
type Timestamp uint8

const (
	TimestampOff   Timestamp = 0 // ts is 0
	TimestampTSC   Timestamp = 1 // calibrated time stamp counter, CLOCK_MONOTONIC ns
	TimestampClock Timestamp = 2 // CLOCK_MONOTONIC ns
)

// Mode of a subscriber.
type Mode uint8

const (
	Lossless Mode = 1 // holds the writer back
	Lossy    Mode = 2 // may be lapped
)
