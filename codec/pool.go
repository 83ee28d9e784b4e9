package codec

// Payload bytes of pool events, and what PoolLiquidity has room for.
const (
	PoolSwapSize      = 208
	PoolMintSize      = 208 // and of PoolBurn
	PoolSyncSize      = 160
	PoolTickSize      = 64
	PoolStateSize     = 192
	PoolLiquiditySize = 208
	MaxPoolTokens     = 8
)

// PoolSwap is one swap in a pool. Amounts are in the tokens' own units. On the
// wire every address is followed by 12 zero bytes:
//
//	 0         16         32              48       56     64   68    70       72  80    112      144       176             208
//	+---------+----------+---------------+--------+------+----+-----+--------+---+-----+--------+---------+---------------+
//	|amount in|amount out|liquidity after|time ns |block |tick|venue|decimals| 0 |pool |token in|token out|sqrt price x96 |
//	+---------+----------+---------------+--------+------+----+-----+--------+---+-----+--------+---------+---------------+
type PoolSwap struct {
	AmountIn          Uint128
	AmountOut         Uint128
	LiquidityAfter    Uint128 // active liquidity; one of Torq's collectors puts the price here, too
	TimestampNs       uint64  // since the Unix epoch
	BlockNumber       uint64
	TickAfter         int32
	Venue             VenueID // the pool's, or its chain
	AmountInDecimals  uint8
	AmountOutDecimals uint8
	PoolAddress       Address
	TokenIn           Address
	TokenOut          Address
	SqrtPriceX96After Uint256  // Torq fills the low 128 bits
	Padding           [44]byte // the zero bytes after the decimals and after each address
}

var poolSwapPadding = []span{{72, 80}, {100, 112}, {132, 144}, {164, 176}}

// Parse reads the payload of a TypePoolSwap TLV into p; on an error p stays as it is.
func (p *PoolSwap) Parse(b []byte) error {
	if len(b) != PoolSwapSize {
		return wrongSize(TypePoolSwap, len(b), PoolSwapSize)
	}
	p.AmountIn = readUint128(b)
	p.AmountOut = readUint128(b[16:])
	p.LiquidityAfter = readUint128(b[32:])
	p.TimestampNs = le.Uint64(b[48:])
	p.BlockNumber = le.Uint64(b[56:])
	p.TickAfter = int32(le.Uint32(b[64:]))
	p.Venue = VenueID(le.Uint16(b[68:]))
	p.AmountInDecimals = b[70]
	p.AmountOutDecimals = b[71]
	p.PoolAddress = Address(b[80:])
	p.TokenIn = Address(b[112:])
	p.TokenOut = Address(b[144:])
	p.SqrtPriceX96After = readUint256(b[176:])
	takePadding(p.Padding[:], b, poolSwapPadding)
	return nil
}

// Put writes the payload into b[:PoolSwapSize]. It panics if b is shorter.
func (p *PoolSwap) Put(b []byte) {
	b = b[:PoolSwapSize]
	p.AmountIn.put(b)
	p.AmountOut.put(b[16:])
	p.LiquidityAfter.put(b[32:])
	le.PutUint64(b[48:], p.TimestampNs)
	le.PutUint64(b[56:], p.BlockNumber)
	le.PutUint32(b[64:], uint32(p.TickAfter))
	le.PutUint16(b[68:], uint16(p.Venue))
	b[70] = p.AmountInDecimals
	b[71] = p.AmountOutDecimals
	copy(b[80:], p.PoolAddress[:])
	copy(b[112:], p.TokenIn[:])
	copy(b[144:], p.TokenOut[:])
	p.SqrtPriceX96After.put(b[176:])
	putPadding(b, p.Padding[:], poolSwapPadding)
}

// AppendPoolSwap adds a TypePoolSwap TLV.
func (b *Builder) AppendPoolSwap(p *PoolSwap) error {
	if dst := b.standard(TypePoolSwap, PoolSwapSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

// PoolBurn is the removal of liquidity from a pool: the same fields as PoolMint.
type PoolBurn = PoolMint

// PoolMint is the addition of liquidity to a pool. On the wire every address is
// followed by 12 zero bytes:
//
//	 0               16       32       48      56         60         64    66       68  80    112      144     176     208
//	+---------------+--------+--------+-------+----------+----------+-----+--------+---+-----+--------+-------+-------+
//	|liquidity delta|amount 0|amount 1|time ns|tick lower|tick upper|venue|decimals| 0 |pool |provider|token 0|token 1|
//	+---------------+--------+--------+-------+----------+----------+-----+--------+---+-----+--------+-------+-------+
type PoolMint struct {
	LiquidityDelta Uint128
	Amount0        Uint128
	Amount1        Uint128
	TimestampNs    uint64 // since the Unix epoch
	TickLower      int32
	TickUpper      int32
	Venue          VenueID
	Token0Decimals uint8
	Token1Decimals uint8
	PoolAddress    Address
	Provider       Address
	Token0         Address
	Token1         Address
	Padding        [60]byte // the zero bytes after the decimals and after each address
}

var poolMintPadding = []span{{68, 80}, {100, 112}, {132, 144}, {164, 176}, {196, 208}}

// Parse reads the payload of a TypePoolMint TLV into p; on an error p stays as it is.
func (p *PoolMint) Parse(b []byte) error {
	if len(b) != PoolMintSize {
		return wrongSize(TypePoolMint, len(b), PoolMintSize)
	}
	p.LiquidityDelta = readUint128(b)
	p.Amount0 = readUint128(b[16:])
	p.Amount1 = readUint128(b[32:])
	p.TimestampNs = le.Uint64(b[48:])
	p.TickLower = int32(le.Uint32(b[56:]))
	p.TickUpper = int32(le.Uint32(b[60:]))
	p.Venue = VenueID(le.Uint16(b[64:]))
	p.Token0Decimals = b[66]
	p.Token1Decimals = b[67]
	p.PoolAddress = Address(b[80:])
	p.Provider = Address(b[112:])
	p.Token0 = Address(b[144:])
	p.Token1 = Address(b[176:])
	takePadding(p.Padding[:], b, poolMintPadding)
	return nil
}

// Put writes the payload into b[:PoolMintSize]. It panics if b is shorter.
func (p *PoolMint) Put(b []byte) {
	b = b[:PoolMintSize]
	p.LiquidityDelta.put(b)
	p.Amount0.put(b[16:])
	p.Amount1.put(b[32:])
	le.PutUint64(b[48:], p.TimestampNs)
	le.PutUint32(b[56:], uint32(p.TickLower))
	le.PutUint32(b[60:], uint32(p.TickUpper))
	le.PutUint16(b[64:], uint16(p.Venue))
	b[66] = p.Token0Decimals
	b[67] = p.Token1Decimals
	copy(b[80:], p.PoolAddress[:])
	copy(b[112:], p.Provider[:])
	copy(b[144:], p.Token0[:])
	copy(b[176:], p.Token1[:])
	putPadding(b, p.Padding[:], poolMintPadding)
}

// AppendPoolMint adds a TypePoolMint TLV.
func (b *Builder) AppendPoolMint(p *PoolMint) error {
	if dst := b.standard(TypePoolMint, PoolMintSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

// AppendPoolBurn adds a TypePoolBurn TLV.
func (b *Builder) AppendPoolBurn(p *PoolMint) error {
	if dst := b.standard(TypePoolBurn, PoolMintSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

// PoolSync is the reserves of a pool after a change. On the wire every address
// is followed by 12 zero bytes:
//
//	 0         16        32      40    48    50       52  64    96      128     160
//	+---------+---------+-------+-----+-----+--------+---+-----+-------+-------+
//	|reserve 0|reserve 1|time ns|block|venue|decimals| 0 |pool |token 0|token 1|
//	+---------+---------+-------+-----+-----+--------+---+-----+-------+-------+
type PoolSync struct {
	Reserve0       Uint128
	Reserve1       Uint128
	TimestampNs    uint64 // since the Unix epoch
	BlockNumber    uint64
	Venue          VenueID
	Token0Decimals uint8
	Token1Decimals uint8
	PoolAddress    Address
	Token0         Address
	Token1         Address
	Padding        [48]byte // the zero bytes after the decimals and after each address
}

var poolSyncPadding = []span{{52, 64}, {84, 96}, {116, 128}, {148, 160}}

// Parse reads the payload of a TypePoolSync TLV into p; on an error p stays as it is.
func (p *PoolSync) Parse(b []byte) error {
	if len(b) != PoolSyncSize {
		return wrongSize(TypePoolSync, len(b), PoolSyncSize)
	}
	p.Reserve0 = readUint128(b)
	p.Reserve1 = readUint128(b[16:])
	p.TimestampNs = le.Uint64(b[32:])
	p.BlockNumber = le.Uint64(b[40:])
	p.Venue = VenueID(le.Uint16(b[48:]))
	p.Token0Decimals = b[50]
	p.Token1Decimals = b[51]
	p.PoolAddress = Address(b[64:])
	p.Token0 = Address(b[96:])
	p.Token1 = Address(b[128:])
	takePadding(p.Padding[:], b, poolSyncPadding)
	return nil
}

// Put writes the payload into b[:PoolSyncSize]. It panics if b is shorter.
func (p *PoolSync) Put(b []byte) {
	b = b[:PoolSyncSize]
	p.Reserve0.put(b)
	p.Reserve1.put(b[16:])
	le.PutUint64(b[32:], p.TimestampNs)
	le.PutUint64(b[40:], p.BlockNumber)
	le.PutUint16(b[48:], uint16(p.Venue))
	b[50] = p.Token0Decimals
	b[51] = p.Token1Decimals
	copy(b[64:], p.PoolAddress[:])
	copy(b[96:], p.Token0[:])
	copy(b[128:], p.Token1[:])
	putPadding(b, p.Padding[:], poolSyncPadding)
}

// AppendPoolSync adds a TypePoolSync TLV.
func (b *Builder) AppendPoolSync(p *PoolSync) error {
	if dst := b.standard(TypePoolSync, PoolSyncSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

// PoolTick is a tick of a pool that was initialised or crossed. On the wire:
//
//	 0             8          16      24   28    30  32    52  64
//	+-------------+----------+-------+----+-----+---+-----+---+
//	|liquidity net|price sqrt|time ns|tick|venue| 0 |pool | 0 |
//	+-------------+----------+-------+----+-----+---+-----+---+
type PoolTick struct {
	LiquidityNet int64
	PriceSqrt    uint64
	TimestampNs  uint64 // since the Unix epoch
	Tick         int32
	Venue        VenueID
	PoolAddress  Address
	Padding      [14]byte // the zero bytes after the venue and the address
}

var poolTickPadding = []span{{30, 32}, {52, 64}}

// Parse reads the payload of a TypePoolTick TLV into p; on an error p stays as it is.
func (p *PoolTick) Parse(b []byte) error {
	if len(b) != PoolTickSize {
		return wrongSize(TypePoolTick, len(b), PoolTickSize)
	}
	p.LiquidityNet = int64(le.Uint64(b))
	p.PriceSqrt = le.Uint64(b[8:])
	p.TimestampNs = le.Uint64(b[16:])
	p.Tick = int32(le.Uint32(b[24:]))
	p.Venue = VenueID(le.Uint16(b[28:]))
	p.PoolAddress = Address(b[32:])
	takePadding(p.Padding[:], b, poolTickPadding)
	return nil
}

// Put writes the payload into b[:PoolTickSize]. It panics if b is shorter.
func (p *PoolTick) Put(b []byte) {
	b = b[:PoolTickSize]
	le.PutUint64(b, uint64(p.LiquidityNet))
	le.PutUint64(b[8:], p.PriceSqrt)
	le.PutUint64(b[16:], p.TimestampNs)
	le.PutUint32(b[24:], uint32(p.Tick))
	le.PutUint16(b[28:], uint16(p.Venue))
	copy(b[32:], p.PoolAddress[:])
	putPadding(b, p.Padding[:], poolTickPadding)
}

// AppendPoolTick adds a TypePoolTick TLV.
func (b *Builder) AppendPoolTick(p *PoolTick) error {
	if dst := b.standard(TypePoolTick, PoolTickSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

// PoolState is the whole state of a pool. On the wire every address is followed
// by 12 zero bytes:
//
//	 0         16        32             48        64    72      80   84       88    90   91       93  96    128     160     192
//	+---------+---------+--------------+---------+-----+-------+----+--------+-----+----+--------+---+-----+-------+-------+
//	|reserve 0|reserve 1|sqrt price x96|liquidity|block|time ns|tick|fee rate|venue|type|decimals| 0 |pool |token 0|token 1|
//	+---------+---------+--------------+---------+-----+-------+----+--------+-----+----+--------+---+-----+-------+-------+
type PoolState struct {
	Reserve0       Uint128
	Reserve1       Uint128
	SqrtPriceX96   Uint128 // 0 for pools that have none
	Liquidity      Uint128
	BlockNumber    uint64
	TimestampNs    uint64 // since the Unix epoch
	Tick           int32
	FeeRate        uint32 // in basis points
	Venue          VenueID
	PoolType       PoolType
	Token0Decimals uint8
	Token1Decimals uint8
	PoolAddress    Address
	Token0         Address
	Token1         Address
	Padding        [39]byte // the zero bytes after the decimals and after each address
}

var poolStatePadding = []span{{93, 96}, {116, 128}, {148, 160}, {180, 192}}

// Parse reads the payload of a TypePoolState TLV into p; on an error p stays as it is.
func (p *PoolState) Parse(b []byte) error {
	if len(b) != PoolStateSize {
		return wrongSize(TypePoolState, len(b), PoolStateSize)
	}
	p.Reserve0 = readUint128(b)
	p.Reserve1 = readUint128(b[16:])
	p.SqrtPriceX96 = readUint128(b[32:])
	p.Liquidity = readUint128(b[48:])
	p.BlockNumber = le.Uint64(b[64:])
	p.TimestampNs = le.Uint64(b[72:])
	p.Tick = int32(le.Uint32(b[80:]))
	p.FeeRate = le.Uint32(b[84:])
	p.Venue = VenueID(le.Uint16(b[88:]))
	p.PoolType = PoolType(b[90])
	p.Token0Decimals = b[91]
	p.Token1Decimals = b[92]
	p.PoolAddress = Address(b[96:])
	p.Token0 = Address(b[128:])
	p.Token1 = Address(b[160:])
	takePadding(p.Padding[:], b, poolStatePadding)
	return nil
}

// Put writes the payload into b[:PoolStateSize]. It panics if b is shorter.
func (p *PoolState) Put(b []byte) {
	b = b[:PoolStateSize]
	p.Reserve0.put(b)
	p.Reserve1.put(b[16:])
	p.SqrtPriceX96.put(b[32:])
	p.Liquidity.put(b[48:])
	le.PutUint64(b[64:], p.BlockNumber)
	le.PutUint64(b[72:], p.TimestampNs)
	le.PutUint32(b[80:], uint32(p.Tick))
	le.PutUint32(b[84:], p.FeeRate)
	le.PutUint16(b[88:], uint16(p.Venue))
	b[90] = byte(p.PoolType)
	b[91] = p.Token0Decimals
	b[92] = p.Token1Decimals
	copy(b[96:], p.PoolAddress[:])
	copy(b[128:], p.Token0[:])
	copy(b[160:], p.Token1[:])
	putPadding(b, p.Padding[:], poolStatePadding)
}

// AppendPoolState adds a TypePoolState TLV.
func (b *Builder) AppendPoolState(p *PoolState) error {
	if dst := b.standard(TypePoolState, PoolStateSize); dst != nil {
		p.Put(dst)
	}
	return b.err
}

const (
	offReserveCount = 16
	offReserves     = 32 // the list's elements are 16-aligned, unlike those of other lists
)

// PoolLiquidity is the reserves of a pool of up to eight tokens. On the wire:
//
//	 0       8    16    18  24   32           160   180 192   194 200  208
//	+-------+----+-----+---+----+------------+-----+---+-----+---+----+
//	|time ns| ## |count| 0 | ## |8 reserves  |pool | 0 |venue| 0 | ## |
//	+-------+----+-----+---+----+------------+-----+---+-----+---+----+
//
// The bytes marked ## are uninitialised in Torq: ignored by Parse, written as
// 0 by Put. Torq built before Rust 1.77 had 184 bytes, which Parse refuses.
type PoolLiquidity struct {
	TimestampNs uint64 // since the Unix epoch
	Count       uint16 // reserves in use
	PoolAddress Address
	Venue       VenueID
	Reserves    [MaxPoolTokens]Uint128 // of which the first Count are in use
	Padding     [24]byte               // the bytes that Torq writes as 0
}

var poolLiquidityPadding = []span{{18, 24}, {180, 192}, {194, 200}}

// Parse reads the payload of a TypePoolLiquidity TLV into p; on an error p stays as it is.
func (p *PoolLiquidity) Parse(b []byte) error {
	if len(b) != PoolLiquiditySize {
		return wrongSize(TypePoolLiquidity, len(b), PoolLiquiditySize)
	}
	if n := le.Uint16(b[offReserveCount:]); n > MaxPoolTokens {
		return tooMany(TypePoolLiquidity, offReserveCount, n, MaxPoolTokens)
	}
	p.TimestampNs = le.Uint64(b)
	p.Count = le.Uint16(b[16:])
	p.PoolAddress = Address(b[160:])
	p.Venue = VenueID(le.Uint16(b[192:]))
	for i := range p.Reserves {
		p.Reserves[i] = readUint128(b[offReserves+16*i:])
	}
	takePadding(p.Padding[:], b, poolLiquidityPadding)
	return nil
}

// Put writes the payload into b[:PoolLiquiditySize]. It panics if b is shorter.
func (p *PoolLiquidity) Put(b []byte) {
	b = b[:PoolLiquiditySize]
	le.PutUint64(b, p.TimestampNs)
	le.PutUint16(b[16:], p.Count)
	copy(b[160:], p.PoolAddress[:])
	le.PutUint16(b[192:], uint16(p.Venue))
	for i := range p.Reserves {
		p.Reserves[i].put(b[offReserves+16*i:])
	}
	clear(b[8:16])
	clear(b[24:32])
	clear(b[200:208])
	putPadding(b, p.Padding[:], poolLiquidityPadding)
}

// AppendPoolLiquidity adds a TypePoolLiquidity TLV.
func (b *Builder) AppendPoolLiquidity(p *PoolLiquidity) error {
	if dst := b.standard(TypePoolLiquidity, PoolLiquiditySize); dst != nil {
		p.Put(dst)
	}
	return b.err
}
