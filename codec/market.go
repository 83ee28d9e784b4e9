package codec

const (
	TradeSize      = 40 // payload bytes of a Trade
	QuoteSize      = 56 // payload bytes of a Quote as producers send it
	QuoteShortSize = 52 // payload bytes of a Quote as the registry lists it: without the padding

	TradeMessageSize = HeaderSize + standardHead + TradeSize // bytes of a message that holds one Trade
	QuoteMessageSize = HeaderSize + standardHead + QuoteSize // bytes of a message that holds one Quote
)

// Payload bytes of an OrderBook and of one level in it, and the levels that each side has room for.
const (
	OrderBookSize  = 2456
	OrderLevelSize = 24
	MaxOrderLevels = 50
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
		return wrongSize(TypeTrade, len(payload), TradeSize)
	}
	t.Instrument.AssetID = le.Uint64(payload)
	t.Price = int64(le.Uint64(payload[8:]))
	t.Volume = int64(le.Uint64(payload[16:]))
	t.ExecutionTimestampNs = le.Uint64(payload[24:])
	tail := le.Uint64(payload[32:]) // once: its parts are loaded and stored together
	t.Instrument.Venue = VenueID(tail)
	t.Instrument.Type = AssetType(tail >> 16)
	t.Instrument.Reserved = uint8(tail >> 24)
	t.Side = Side(tail >> 32)
	t.Padding = [3]byte{byte(tail >> 40), byte(tail >> 48), byte(tail >> 56)}
	return nil
}

// ReadTrade reads the first Trade of the message into t; ok is false if there
// is none, or it has another size than TradeSize. A message that is one Trade,
// as nearly all are, needs no walk.
func (m Message) ReadTrade(t *Trade) (ok bool) {
	if b := m.bytes; len(b) == TradeMessageSize && b[HeaderSize] == byte(TypeTrade) && b[HeaderSize+1] == TradeSize {
		return t.Parse(b[HeaderSize+standardHead:]) == nil
	}
	tlv, ok := m.Find(TypeTrade)
	return ok && t.Parse(tlv.Payload) == nil
}

// Put writes the payload into b[:TradeSize]. It panics if b is shorter.
func (t *Trade) Put(b []byte) {
	b = b[:TradeSize]
	le.PutUint64(b, t.Instrument.AssetID)
	le.PutUint64(b[8:], uint64(t.Price))
	le.PutUint64(b[16:], uint64(t.Volume))
	le.PutUint64(b[24:], t.ExecutionTimestampNs)
	i, pad := &t.Instrument, &t.Padding
	low := uint32(i.Venue) | uint32(i.Type)<<16 | uint32(i.Reserved)<<24
	high := uint32(t.Side) | uint32(pad[0])<<8 | uint32(pad[1])<<16 | uint32(pad[2])<<24
	le.PutUint64(b[32:], uint64(low)|uint64(high)<<32)
}

// PutMessage writes the message that is this Trade into b[:TradeMessageSize], all at
// once: what a Builder makes of h and t. It panics if b is shorter.
func (t *Trade) PutMessage(b []byte, h *Header, withChecksum bool) {
	b = b[:TradeMessageSize]
	h.put(b)
	le.PutUint32(b[offPayloadSize:], TradeMessageSize-HeaderSize)
	le.PutUint16(b[HeaderSize:], uint16(TypeTrade)|TradeSize<<8)
	t.Put(b[HeaderSize+standardHead:])
	var sum uint32
	if withChecksum {
		sum = Checksum(b)
	}
	le.PutUint32(b[offChecksum:], sum)
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
		return wrongSize(TypeQuote, len(payload), QuoteSize)
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

const (
	offBids = 40
	offAsks = offBids + listHead + MaxOrderLevels*OrderLevelSize
)

// A book ends where its asks do.
var _ [OrderBookSize]byte = [offAsks + listHead + MaxOrderLevels*OrderLevelSize]byte{}

// OrderLevel is one price of an OrderBook.
type OrderLevel struct {
	Price      int64 // times OrderBook.PrecisionFactor
	Size       int64 // times OrderBook.PrecisionFactor
	OrderCount uint32
	Reserved   uint32
}

// OrderBook is a snapshot of an instrument's bids and asks, the best first. On
// the wire it is of the same size whatever its levels, in an extended TLV:
//
//	 0       8        16        24       32    34     35   36   40    42  48           1248  1250 1256          2456
//	+-------+--------+---------+--------+-----+------+----+----+-----+---+------------+-----+---+------------+
//	|time ns|sequence|precision|asset id|venue| type |rsvd| ## |count| 0 |50 bids     |count| 0 |50 asks     |
//	+-------+--------+---------+--------+-----+------+----+----+-----+---+------------+-----+---+------------+
//
// The bytes marked ## are uninitialised in Torq: ignored by Parse, written as 0
// by Put.
type OrderBook struct {
	SnapshotTimestampNs uint64 // since the Unix epoch
	Sequence            uint64
	PrecisionFactor     int64 // 1e8 for centralised exchanges
	Instrument          InstrumentID
	BidCount            uint16
	AskCount            uint16
	Bids                [MaxOrderLevels]OrderLevel // of which the first BidCount are in use
	Asks                [MaxOrderLevels]OrderLevel // of which the first AskCount are in use
	Padding             [12]byte                   // the bytes that Torq writes as 0
}

var orderBookPadding = []span{{offBids + 2, offBids + listHead}, {offAsks + 2, offAsks + listHead}}

// Parse reads the payload of a TypeOrderBook TLV into o; on an error o stays as it is.
func (o *OrderBook) Parse(b []byte) error {
	if len(b) != OrderBookSize {
		return wrongSize(TypeOrderBook, len(b), OrderBookSize)
	}
	for _, at := range [...]int{offBids, offAsks} {
		if n := le.Uint16(b[at:]); n > MaxOrderLevels {
			return tooMany(TypeOrderBook, at, n, MaxOrderLevels)
		}
	}
	o.SnapshotTimestampNs = le.Uint64(b)
	o.Sequence = le.Uint64(b[8:])
	o.PrecisionFactor = int64(le.Uint64(b[16:]))
	o.Instrument.read(b[24:])
	o.BidCount = readLevels(&o.Bids, b[offBids:])
	o.AskCount = readLevels(&o.Asks, b[offAsks:])
	takePadding(o.Padding[:], b, orderBookPadding)
	return nil
}

func readLevels(levels *[MaxOrderLevels]OrderLevel, b []byte) (count uint16) {
	for i := range levels {
		at := b[listHead+OrderLevelSize*i:][:OrderLevelSize]
		levels[i] = OrderLevel{int64(le.Uint64(at)), int64(le.Uint64(at[8:])), le.Uint32(at[16:]), le.Uint32(at[20:])}
	}
	return le.Uint16(b)
}

// Put writes the payload into b[:OrderBookSize]. It panics if b is shorter.
func (o *OrderBook) Put(b []byte) {
	b = b[:OrderBookSize]
	le.PutUint64(b, o.SnapshotTimestampNs)
	le.PutUint64(b[8:], o.Sequence)
	le.PutUint64(b[16:], uint64(o.PrecisionFactor))
	o.Instrument.Put(b[24:])
	clear(b[36:offBids])
	putLevels(b[offBids:], &o.Bids, o.BidCount)
	putLevels(b[offAsks:], &o.Asks, o.AskCount)
	putPadding(b, o.Padding[:], orderBookPadding)
}

func putLevels(b []byte, levels *[MaxOrderLevels]OrderLevel, count uint16) {
	le.PutUint16(b, count)
	for i := range levels {
		at := b[listHead+OrderLevelSize*i:][:OrderLevelSize]
		le.PutUint64(at, uint64(levels[i].Price))
		le.PutUint64(at[8:], uint64(levels[i].Size))
		le.PutUint32(at[16:], levels[i].OrderCount)
		le.PutUint32(at[20:], levels[i].Reserved)
	}
}

// AppendTrade adds a TypeTrade TLV.
func (b *Builder) AppendTrade(t *Trade) error {
	if dst := b.standard(TypeTrade, TradeSize); dst != nil {
		t.Put(dst)
	}
	return b.err
}

// AppendQuote adds a TypeQuote TLV of QuoteSize bytes.
func (b *Builder) AppendQuote(q *Quote) error { return b.appendQuote(TypeQuote, q) }

// AppendQuoteUpdate adds a TypeQuoteUpdate TLV of QuoteSize bytes.
func (b *Builder) AppendQuoteUpdate(q *Quote) error { return b.appendQuote(TypeQuoteUpdate, q) }

func (b *Builder) appendQuote(typ TLVType, q *Quote) error {
	if dst := b.standard(typ, QuoteSize); dst != nil {
		q.Put(dst)
	}
	return b.err
}

// AppendOrderBook adds a TypeOrderBook TLV.
func (b *Builder) AppendOrderBook(o *OrderBook) error {
	if dst := b.grow(TypeOrderBook, OrderBookSize); dst != nil {
		o.Put(dst)
	}
	return b.err
}
