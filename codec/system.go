package codec

// Payload bytes, and what StateInvalidation has room for.
const (
	StateInvalidationSize = 224
	SystemHealthSize      = 48
	TraceContextSize      = 32
	RecoveryRequestSize   = 24
	MaxInstruments        = 16
)

// listHead is the bytes of a list before its first element: u16 count, 6 zero bytes.
const listHead = 8

const (
	offInstrumentCount = 16
	offInstruments     = offInstrumentCount + listHead
)

// InvalidationReason says why the state of instruments is void. It is also the
// whole payload of a TypeStateInvalidationReason TLV.
type InvalidationReason uint8

const (
	InvalidDisconnection InvalidationReason = iota
	InvalidAuthFailure
	InvalidRateLimited
	InvalidStaleness
	InvalidMaintenance
	InvalidRecovery
)

var invalidationReasonNames = []string{"Disconnection", "AuthFailure", "RateLimited", "Staleness", "Maintenance", "Recovery"}

// String returns Torq's name, or the number.
func (r InvalidationReason) String() string { return enumName(invalidationReasonNames, uint8(r)) }

// Parse reads the payload of a TypeStateInvalidationReason TLV, which is one byte.
func (r *InvalidationReason) Parse(b []byte) error {
	if len(b) != 1 {
		return wrongSize(TypeStateInvalidationReason, len(b), 1)
	}
	*r = InvalidationReason(b[0])
	return nil
}

// AppendInvalidationReason adds a TypeStateInvalidationReason TLV.
func (b *Builder) AppendInvalidationReason(r InvalidationReason) error {
	if dst := b.standard(TypeStateInvalidationReason, 1); dst != nil {
		dst[0] = byte(r)
	}
	return b.err
}

// StateInvalidation says that what is known of instruments is void. Torq sends
// it under a header of DomainMarketData. On the wire:
//
//	 0        8       16    18  24                  216   218    219 224
//	+--------+-------+-----+---+-------------------+-----+------+---+
//	|sequence|time ns|count| 0 |16 instrument ids  |venue|reason| 0 |
//	+--------+-------+-----+---+-------------------+-----+------+---+
type StateInvalidation struct {
	Sequence    uint64
	TimestampNs uint64 // since the Unix epoch
	Count       uint16 // instruments in use
	Venue       VenueID
	Reason      InvalidationReason
	Instruments [MaxInstruments]InstrumentID // of which the first Count are in use
	Padding     [11]byte                     // the bytes that Torq writes as 0
}

var stateInvalidationPadding = []span{{18, 24}, {219, 224}}

// Parse reads the payload of a TypeStateInvalidation TLV into s; on an error s stays as it is.
func (s *StateInvalidation) Parse(b []byte) error {
	if len(b) != StateInvalidationSize {
		return wrongSize(TypeStateInvalidation, len(b), StateInvalidationSize)
	}
	if n := le.Uint16(b[offInstrumentCount:]); n > MaxInstruments {
		return tooMany(TypeStateInvalidation, offInstrumentCount, n, MaxInstruments)
	}
	s.Sequence = le.Uint64(b)
	s.TimestampNs = le.Uint64(b[8:])
	s.Count = le.Uint16(b[16:])
	s.Venue = VenueID(le.Uint16(b[216:]))
	s.Reason = InvalidationReason(b[218])
	for i := range s.Instruments {
		s.Instruments[i].read(b[offInstruments+InstrumentIDSize*i:])
	}
	takePadding(s.Padding[:], b, stateInvalidationPadding)
	return nil
}

// Put writes the payload into b[:StateInvalidationSize]. It panics if b is shorter.
func (s *StateInvalidation) Put(b []byte) {
	b = b[:StateInvalidationSize]
	le.PutUint64(b, s.Sequence)
	le.PutUint64(b[8:], s.TimestampNs)
	le.PutUint16(b[16:], s.Count)
	le.PutUint16(b[216:], uint16(s.Venue))
	b[218] = byte(s.Reason)
	for i := range s.Instruments {
		s.Instruments[i].Put(b[offInstruments+InstrumentIDSize*i:])
	}
	putPadding(b, s.Padding[:], stateInvalidationPadding)
}

// AppendStateInvalidation adds a TypeStateInvalidation TLV.
func (b *Builder) AppendStateInvalidation(s *StateInvalidation) error {
	if dst := b.standard(TypeStateInvalidation, StateInvalidationSize); dst != nil {
		s.Put(dst)
	}
	return b.err
}

// HealthStatus is the state of a service.
type HealthStatus uint8

const (
	Healthy HealthStatus = iota
	HealthDegraded
	HealthUnhealthy
	HealthUnknown
)

// SystemHealth is the state of a service. On the wire:
//
//	 0       8           12          16         20     22     24      25     26  27  28  48
//	+-------+-----------+-----------+----------+------+------+-------+------+---+---+---+
//	|time ns|connections|messages/s |last error|errors|p95 us|service|status|cpu|mem| 0 |
//	+-------+-----------+-----------+----------+------+------+-------+------+---+---+---+
type SystemHealth struct {
	TimestampNs          uint64 // since the Unix epoch
	ConnectionCount      uint32
	MessageRatePerSec    uint32
	LastErrorCode        uint32 // 0 = none
	ErrorRatePerThousand uint16 // errors per thousand messages
	LatencyP95Us         uint16
	ServiceType          Source
	HealthStatus         HealthStatus
	CPUUsagePct          uint8
	MemoryUsagePct       uint8
	Padding              [20]byte // 0 from every known producer
}

var systemHealthPadding = []span{{28, 48}}

// Parse reads the payload of a TypeSystemHealth TLV into h; on an error h stays as it is.
func (h *SystemHealth) Parse(b []byte) error {
	if len(b) != SystemHealthSize {
		return wrongSize(TypeSystemHealth, len(b), SystemHealthSize)
	}
	h.TimestampNs = le.Uint64(b)
	h.ConnectionCount = le.Uint32(b[8:])
	h.MessageRatePerSec = le.Uint32(b[12:])
	h.LastErrorCode = le.Uint32(b[16:])
	h.ErrorRatePerThousand = le.Uint16(b[20:])
	h.LatencyP95Us = le.Uint16(b[22:])
	h.ServiceType = Source(b[24])
	h.HealthStatus = HealthStatus(b[25])
	h.CPUUsagePct = b[26]
	h.MemoryUsagePct = b[27]
	takePadding(h.Padding[:], b, systemHealthPadding)
	return nil
}

// Put writes the payload into b[:SystemHealthSize]. It panics if b is shorter.
func (h *SystemHealth) Put(b []byte) {
	b = b[:SystemHealthSize]
	le.PutUint64(b, h.TimestampNs)
	le.PutUint32(b[8:], h.ConnectionCount)
	le.PutUint32(b[12:], h.MessageRatePerSec)
	le.PutUint32(b[16:], h.LastErrorCode)
	le.PutUint16(b[20:], h.ErrorRatePerThousand)
	le.PutUint16(b[22:], h.LatencyP95Us)
	b[24] = byte(h.ServiceType)
	b[25] = byte(h.HealthStatus)
	b[26] = h.CPUUsagePct
	b[27] = h.MemoryUsagePct
	putPadding(b, h.Padding[:], systemHealthPadding)
}

// AppendSystemHealth adds a TypeSystemHealth TLV.
func (b *Builder) AppendSystemHealth(h *SystemHealth) error {
	if dst := b.standard(TypeSystemHealth, SystemHealthSize); dst != nil {
		h.Put(dst)
	}
	return b.err
}

// Stages of a TraceContext, in StageFlags.
const (
	StageCollected = 1 << iota
	StageRelayed
	StageProcessed
	StageExecuted
)

// TraceContext follows a message through services. On the wire:
//
//	 0             8               16      17    18     19  24       32
//	+-------------+---------------+-------+-----+------+---+--------+
//	|start time ns|current time ns|service|depth|stages| 0 |trace id|
//	+-------------+---------------+-------+-----+------+---+--------+
type TraceContext struct {
	StartTimestampNs   uint64 // since the Unix epoch
	CurrentTimestampNs uint64 // since the Unix epoch
	SourceService      Source
	SpanDepth          uint8
	StageFlags         uint8 // StageCollected and so on
	TraceID            [8]byte
	Padding            [5]byte // 0 from every known producer
}

var traceContextPadding = []span{{19, 24}}

// Parse reads the payload of a TypeTraceContext TLV into c; on an error c stays as it is.
func (c *TraceContext) Parse(b []byte) error {
	if len(b) != TraceContextSize {
		return wrongSize(TypeTraceContext, len(b), TraceContextSize)
	}
	c.StartTimestampNs = le.Uint64(b)
	c.CurrentTimestampNs = le.Uint64(b[8:])
	c.SourceService = Source(b[16])
	c.SpanDepth = b[17]
	c.StageFlags = b[18]
	c.TraceID = [8]byte(b[24:])
	takePadding(c.Padding[:], b, traceContextPadding)
	return nil
}

// Put writes the payload into b[:TraceContextSize]. It panics if b is shorter.
func (c *TraceContext) Put(b []byte) {
	b = b[:TraceContextSize]
	le.PutUint64(b, c.StartTimestampNs)
	le.PutUint64(b[8:], c.CurrentTimestampNs)
	b[16] = byte(c.SourceService)
	b[17] = c.SpanDepth
	b[18] = c.StageFlags
	copy(b[24:], c.TraceID[:])
	putPadding(b, c.Padding[:], traceContextPadding)
}

// AppendTraceContext adds a TypeTraceContext TLV.
func (b *Builder) AppendTraceContext(c *TraceContext) error {
	if dst := b.standard(TypeTraceContext, TraceContextSize); dst != nil {
		c.Put(dst)
	}
	return b.err
}

// Values of RecoveryRequest.RequestType.
const (
	RecoveryRetransmit = 1
	RecoverySnapshot   = 2
)

// RecoveryRequest asks for what a consumer missed: the sequences between the
// two. It travels in the domain of the relay that it is for. On the wire:
//
//	 0             8                16          20           24
//	+-------------+----------------+-----------+------------+
//	|last sequence|current sequence|consumer id|request type|
//	+-------------+----------------+-----------+------------+
type RecoveryRequest struct {
	LastSequence    uint64 // the last one received in order
	CurrentSequence uint64 // the one received after the gap
	ConsumerID      uint32
	RequestType     uint32 // RecoveryRetransmit or RecoverySnapshot
}

// Parse reads the payload of a TypeRecoveryRequest TLV into r; on an error r stays as it is.
func (r *RecoveryRequest) Parse(b []byte) error {
	if len(b) != RecoveryRequestSize {
		return wrongSize(TypeRecoveryRequest, len(b), RecoveryRequestSize)
	}
	r.LastSequence = le.Uint64(b)
	r.CurrentSequence = le.Uint64(b[8:])
	r.ConsumerID = le.Uint32(b[16:])
	r.RequestType = le.Uint32(b[20:])
	return nil
}

// Put writes the payload into b[:RecoveryRequestSize]. It panics if b is shorter.
func (r *RecoveryRequest) Put(b []byte) {
	b = b[:RecoveryRequestSize]
	le.PutUint64(b, r.LastSequence)
	le.PutUint64(b[8:], r.CurrentSequence)
	le.PutUint32(b[16:], r.ConsumerID)
	le.PutUint32(b[20:], r.RequestType)
}

// AppendRecoveryRequest adds a TypeRecoveryRequest TLV.
func (b *Builder) AppendRecoveryRequest(r *RecoveryRequest) error {
	if dst := b.standard(TypeRecoveryRequest, RecoveryRequestSize); dst != nil {
		r.Put(dst)
	}
	return b.err
}
