package codec

const (
	TradeSize      = 40 // payload bytes of a Trade
	QuoteSize      = 56 // payload bytes of a Quote as producers send it
	QuoteShortSize = 52 // payload bytes of a Quote as the registry lists it: without the padding

	TradeMessageSize = HeaderSize + standardHead + TradeSize // bytes of a message that holds one Trade
	QuoteMessageSize = HeaderSize + standardHead + QuoteSize // bytes of a message that holds one Quote
)

// Side is the side of a trade.
type Side uint8

const (
	SideBuy  Side = 0
	SideSell Side = 1
)

// Trade is one execution. On the wire the parts of Instrument are not
// contiguous:
//
//	 0         8       16      24              32    34     35     36   37      40
//	+---------+-------+-------+---------------+-----+------+------+----+-------+
//	|asset id | price |volume | exec. time ns |venue| type | rsvd |side|padding|
//	+---------+-------+-------+---------------+-----+------+------+----+-------+
type Trade struct {
	Instrument           InstrumentID
	Price                int64  // times 1e8
	Volume               int64  // times 1e8
	ExecutionTimestampNs uint64 // since the Unix epoch
	Side                 Side
	Padding              [3]byte // 0 from every known producer; kept so that a round trip is exact
}

// Parse reads the payload of a TypeTrade TLV into t. The payload must be
// TradeSize bytes; on ErrPayloadSizeMismatch t stays as it is.
func (t *Trade) Parse(payload []byte) error {
	if len(payload) != TradeSize {
		return &Error{Reason: ErrPayloadSizeMismatch, Type: TypeTrade, Got: uint64(len(payload)), Want: TradeSize}
	}
	t.Instrument.AssetID = le.Uint64(payload)
	t.Price = int64(le.Uint64(payload[8:]))
	t.Volume = int64(le.Uint64(payload[16:]))
	t.ExecutionTimestampNs = le.Uint64(payload[24:])
	t.Instrument.Venue = VenueID(le.Uint16(payload[32:]))
	t.Instrument.Type = AssetType(payload[34])
	t.Instrument.Reserved = payload[35]
	t.Side = Side(payload[36])
	t.Padding = [3]byte(payload[37:])
	return nil
}

// Put writes the payload into b[:TradeSize]. It panics if b is shorter.
func (t *Trade) Put(b []byte) {
	b = b[:TradeSize]
	le.PutUint64(b, t.Instrument.AssetID)
	le.PutUint64(b[8:], uint64(t.Price))
	le.PutUint64(b[16:], uint64(t.Volume))
	le.PutUint64(b[24:], t.ExecutionTimestampNs)
	le.PutUint16(b[32:], uint16(t.Instrument.Venue))
	b[34] = byte(t.Instrument.Type)
	b[35] = t.Instrument.Reserved
	b[36] = byte(t.Side)
	b[37], b[38], b[39] = t.Padding[0], t.Padding[1], t.Padding[2]
}

// Quote is the best bid and ask of an instrument. On the wire:
//
//	 0         8         16        24        32        40            48    50     51     52      56
//	+---------+---------+---------+---------+---------+-------------+-----+------+------+-------+
//	|asset id |bid price|bid size |ask price|ask size |quote time ns|venue| type | rsvd |padding|
//	+---------+---------+---------+---------+---------+-------------+-----+------+------+-------+
type Quote struct {
	Instrument       InstrumentID
	BidPrice         int64   // times 1e8
	BidSize          int64   // times 1e8
	AskPrice         int64   // times 1e8
	AskSize          int64   // times 1e8
	QuoteTimestampNs uint64  // since the Unix epoch
	Padding          [4]byte // 0 from every known producer; kept so that a round trip is exact
}

// Parse reads the payload of a TypeQuote or TypeQuoteUpdate TLV into q. It
// takes QuoteSize bytes and also QuoteShortSize, the same without the padding;
// on ErrPayloadSizeMismatch q stays as it is.
func (q *Quote) Parse(payload []byte) error {
	if len(payload) != QuoteSize && len(payload) != QuoteShortSize {
		return &Error{Reason: ErrPayloadSizeMismatch, Type: TypeQuote, Got: uint64(len(payload)), Want: QuoteSize}
	}
	q.Instrument.AssetID = le.Uint64(payload)
	q.BidPrice = int64(le.Uint64(payload[8:]))
	q.BidSize = int64(le.Uint64(payload[16:]))
	q.AskPrice = int64(le.Uint64(payload[24:]))
	q.AskSize = int64(le.Uint64(payload[32:]))
	q.QuoteTimestampNs = le.Uint64(payload[40:])
	q.Instrument.Venue = VenueID(le.Uint16(payload[48:]))
	q.Instrument.Type = AssetType(payload[50])
	q.Instrument.Reserved = payload[51]
	q.Padding = [4]byte{}
	copy(q.Padding[:], payload[QuoteShortSize:])
	return nil
}

// Put writes the payload into b[:QuoteSize]. It panics if b is shorter.
func (q *Quote) Put(b []byte) {
	b = b[:QuoteSize]
	le.PutUint64(b, q.Instrument.AssetID)
	le.PutUint64(b[8:], uint64(q.BidPrice))
	le.PutUint64(b[16:], uint64(q.BidSize))
	le.PutUint64(b[24:], uint64(q.AskPrice))
	le.PutUint64(b[32:], uint64(q.AskSize))
	le.PutUint64(b[40:], q.QuoteTimestampNs)
	le.PutUint16(b[48:], uint16(q.Instrument.Venue))
	b[50] = byte(q.Instrument.Type)
	b[51] = q.Instrument.Reserved
	copy(b[QuoteShortSize:], q.Padding[:])
}
