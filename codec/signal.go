package codec

// Payload bytes.
const (
	ArbitrageSignalSize = 170
	GasPriceSize        = 32
)

// ArbitrageSignal is a chance to trade between two pools. On the wire its fields
// follow one another in the order of the struct without alignment; two zero
// bytes stand before TimestampNs.
type ArbitrageSignal struct {
	StrategyID           uint16
	SignalID             uint64
	ChainID              uint32
	SourcePool           Address
	TargetPool           Address
	SourceVenue          VenueID
	TargetVenue          VenueID
	TokenIn              Address
	TokenOut             Address
	ExpectedProfitUsd    int64 // times 1e8, as all amounts here
	RequiredCapitalUsd   int64
	SpreadBps            uint16
	DexFeesUsd           int64
	GasCostUsd           int64
	SlippageUsd          int64
	NetProfitUsd         int64
	SlippageToleranceBps uint16
	MaxGasPriceGwei      uint32
	ValidUntil           uint32 // seconds since the Unix epoch
	Priority             uint16
	TimestampNs          uint64  // since the Unix epoch
	Padding              [2]byte // 0 from every known producer
}

var arbitrageSignalPadding = []span{{160, 162}}

// Parse reads the payload of a TypeArbitrageSignal TLV into s; on an error s stays as it is.
func (s *ArbitrageSignal) Parse(b []byte) error {
	if len(b) != ArbitrageSignalSize {
		return wrongSize(TypeArbitrageSignal, len(b), ArbitrageSignalSize)
	}
	s.StrategyID = le.Uint16(b)
	s.SignalID = le.Uint64(b[2:])
	s.ChainID = le.Uint32(b[10:])
	s.SourcePool = Address(b[14:])
	s.TargetPool = Address(b[34:])
	s.SourceVenue = VenueID(le.Uint16(b[54:]))
	s.TargetVenue = VenueID(le.Uint16(b[56:]))
	s.TokenIn = Address(b[58:])
	s.TokenOut = Address(b[78:])
	s.ExpectedProfitUsd = int64(le.Uint64(b[98:]))
	s.RequiredCapitalUsd = int64(le.Uint64(b[106:]))
	s.SpreadBps = le.Uint16(b[114:])
	s.DexFeesUsd = int64(le.Uint64(b[116:]))
	s.GasCostUsd = int64(le.Uint64(b[124:]))
	s.SlippageUsd = int64(le.Uint64(b[132:]))
	s.NetProfitUsd = int64(le.Uint64(b[140:]))
	s.SlippageToleranceBps = le.Uint16(b[148:])
	s.MaxGasPriceGwei = le.Uint32(b[150:])
	s.ValidUntil = le.Uint32(b[154:])
	s.Priority = le.Uint16(b[158:])
	s.TimestampNs = le.Uint64(b[162:])
	takePadding(s.Padding[:], b, arbitrageSignalPadding)
	return nil
}

// Put writes the payload into b[:ArbitrageSignalSize]. It panics if b is shorter.
func (s *ArbitrageSignal) Put(b []byte) {
	b = b[:ArbitrageSignalSize]
	le.PutUint16(b, s.StrategyID)
	le.PutUint64(b[2:], s.SignalID)
	le.PutUint32(b[10:], s.ChainID)
	copy(b[14:], s.SourcePool[:])
	copy(b[34:], s.TargetPool[:])
	le.PutUint16(b[54:], uint16(s.SourceVenue))
	le.PutUint16(b[56:], uint16(s.TargetVenue))
	copy(b[58:], s.TokenIn[:])
	copy(b[78:], s.TokenOut[:])
	le.PutUint64(b[98:], uint64(s.ExpectedProfitUsd))
	le.PutUint64(b[106:], uint64(s.RequiredCapitalUsd))
	le.PutUint16(b[114:], s.SpreadBps)
	le.PutUint64(b[116:], uint64(s.DexFeesUsd))
	le.PutUint64(b[124:], uint64(s.GasCostUsd))
	le.PutUint64(b[132:], uint64(s.SlippageUsd))
	le.PutUint64(b[140:], uint64(s.NetProfitUsd))
	le.PutUint16(b[148:], s.SlippageToleranceBps)
	le.PutUint32(b[150:], s.MaxGasPriceGwei)
	le.PutUint32(b[154:], s.ValidUntil)
	le.PutUint16(b[158:], s.Priority)
	le.PutUint64(b[162:], s.TimestampNs)
	putPadding(b, s.Padding[:], arbitrageSignalPadding)
}

// AppendArbitrageSignal adds a TypeArbitrageSignal TLV.
func (b *Builder) AppendArbitrageSignal(s *ArbitrageSignal) error {
	if dst := b.standard(TypeArbitrageSignal, ArbitrageSignalSize); dst != nil {
		s.Put(dst)
	}
	return b.err
}

// GasPrice is the price of gas on a chain. On the wire:
//
//	 0            8       16        20       24           28       30       32
//	+------------+-------+---------+--------+------------+--------+--------+
//	|block number|time ns|gas price|base fee|priority fee|chain id|reserved|
//	+------------+-------+---------+--------+------------+--------+--------+
type GasPrice struct {
	BlockNumber     uint64
	TimestampNs     uint64 // since the Unix epoch
	GasPriceGwei    uint32
	BaseFeeGwei     uint32
	PriorityFeeGwei uint32
	Venue           uint16 // the number of the network (137 is Polygon), not a VenueID
	Reserved        uint16
}

// Parse reads the payload of a TypeGasPrice TLV into g; on an error g stays as it is.
func (g *GasPrice) Parse(b []byte) error {
	if len(b) != GasPriceSize {
		return wrongSize(TypeGasPrice, len(b), GasPriceSize)
	}
	g.BlockNumber = le.Uint64(b)
	g.TimestampNs = le.Uint64(b[8:])
	g.GasPriceGwei = le.Uint32(b[16:])
	g.BaseFeeGwei = le.Uint32(b[20:])
	g.PriorityFeeGwei = le.Uint32(b[24:])
	g.Venue = le.Uint16(b[28:])
	g.Reserved = le.Uint16(b[30:])
	return nil
}

// Put writes the payload into b[:GasPriceSize]. It panics if b is shorter.
func (g *GasPrice) Put(b []byte) {
	b = b[:GasPriceSize]
	le.PutUint64(b, g.BlockNumber)
	le.PutUint64(b[8:], g.TimestampNs)
	le.PutUint32(b[16:], g.GasPriceGwei)
	le.PutUint32(b[20:], g.BaseFeeGwei)
	le.PutUint32(b[24:], g.PriorityFeeGwei)
	le.PutUint16(b[28:], g.Venue)
	le.PutUint16(b[30:], g.Reserved)
}

// AppendGasPrice adds a TypeGasPrice TLV.
func (b *Builder) AppendGasPrice(g *GasPrice) error {
	if dst := b.standard(TypeGasPrice, GasPriceSize); dst != nil {
		g.Put(dst)
	}
	return b.err
}
