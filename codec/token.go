package codec

// Token returns the id of a token on a chain, VenueEthereum for one. The asset
// id is the first 8 bytes of the address, so tokens can share an id: use the
// addresses that pool payloads carry where it matters.
func Token(chain VenueID, address Address) InstrumentID {
	var prefix uint64
	for _, c := range address[:8] {
		prefix = prefix<<8 | uint64(c)
	}
	return InstrumentID{AssetID: prefix, Venue: chain, Type: AssetToken}
}

// EthereumToken is Token with VenueEthereum; PolygonToken, BSCToken and
// ArbitrumToken likewise.
func EthereumToken(address Address) InstrumentID { return Token(VenueEthereum, address) }

// PolygonToken is Token with VenuePolygon.
func PolygonToken(address Address) InstrumentID { return Token(VenuePolygon, address) }

// BSCToken is Token with VenueBSC.
func BSCToken(address Address) InstrumentID { return Token(VenueBSC, address) }

// ArbitrumToken is Token with VenueArbitrum.
func ArbitrumToken(address Address) InstrumentID { return Token(VenueArbitrum, address) }

// AddressPrefix returns the first 8 bytes of the address that Token was given.
// ok is false if the id is of another kind.
func (id InstrumentID) AddressPrefix() (prefix [8]byte, ok bool) {
	for i := range prefix {
		prefix[i] = byte(id.AssetID >> (56 - 8*i))
	}
	return prefix, id.Type == AssetToken
}

// Pool returns the id of a pool of two instruments, whatever their order. It
// mixes their asset ids: there is no way back, and pools can share an id.
func Pool(dex VenueID, a, b InstrumentID) InstrumentID {
	lo, hi := min(a.AssetID, b.AssetID), max(a.AssetID, b.AssetID)
	return InstrumentID{AssetID: 31*lo + hi, Venue: dex, Type: AssetPool}
}

// TriangularPool is Pool for three instruments; Reserved is 1.
func TriangularPool(dex VenueID, a, b, c InstrumentID) InstrumentID {
	lo, hi := min(a.AssetID, b.AssetID, c.AssetID), max(a.AssetID, b.AssetID, c.AssetID)
	mid := a.AssetID ^ b.AssetID ^ c.AssetID ^ lo ^ hi
	return InstrumentID{AssetID: 31*lo + 17*mid + hi, Venue: dex, Type: AssetPool, Reserved: 1}
}

// LPToken returns the id of the token that stands for a share of a pool.
func LPToken(dex VenueID, pool InstrumentID) InstrumentID {
	return InstrumentID{AssetID: pool.AssetID, Venue: dex, Type: AssetLPToken}
}

// PoolOf returns the pool that LPToken was given, if it was on the same venue
// and not a triangular one. ok is false if the id is of another kind.
func (id InstrumentID) PoolOf() (pool InstrumentID, ok bool) {
	return InstrumentID{AssetID: id.AssetID, Venue: id.Venue, Type: AssetPool}, id.Type == AssetLPToken
}

// OptionTerms are the parts of an option's id. The id keeps the low 20 bits of
// Expiry, which a date like 20241225 does not fit, and the low 11 bits of the
// symbol read as in Coin, which are 0 for symbols of up to 6 bytes.
type OptionTerms struct {
	Strike     uint32
	Expiry     uint32
	Call       bool
	SymbolBits uint16
}

const (
	expiryMask = 1<<20 - 1
	symbolMask = 1<<11 - 1
)

// Option returns the id of an option on symbol; of strike it keeps 32 bits, see
// OptionTerms for the rest.
func Option(venue VenueID, symbol string, strike, expiry uint64, call bool) InstrumentID {
	id := strike&(1<<32-1)<<32 | expiry&expiryMask<<12 | symbolID(venue, AssetOption, symbol).AssetID&symbolMask
	if call {
		id |= 1 << 11
	}
	return InstrumentID{AssetID: id, Venue: venue, Type: AssetOption}
}

// OptionTerms returns what is left of what Option was given. ok is false if the
// id is of another kind.
func (id InstrumentID) OptionTerms() (t OptionTerms, ok bool) {
	return OptionTerms{
		Strike:     uint32(id.AssetID >> 32),
		Expiry:     uint32(id.AssetID >> 12 & expiryMask),
		Call:       id.AssetID>>11&1 == 1,
		SymbolBits: uint16(id.AssetID & symbolMask),
	}, id.Type == AssetOption
}

// CacheKey returns the id as one number of 96 bits that no other id has.
func (id InstrumentID) CacheKey() Uint128 {
	return Uint128{Lo: id.AssetID, Hi: uint64(id.Venue)<<16 | uint64(id.Type)<<8 | uint64(id.Reserved)}
}

// InstrumentOfCacheKey is the inverse of CacheKey; ok is false for a number that no id has.
func InstrumentOfCacheKey(key Uint128) (id InstrumentID, ok bool) {
	return InstrumentID{AssetID: key.Lo, Venue: VenueID(key.Hi >> 16), Type: AssetType(key.Hi >> 8), Reserved: uint8(key.Hi)}, key.Hi>>32 == 0
}

// Uint64 returns the short form of the id that Torq uses as a key: venue, asset
// type and the low 40 bits of the asset id. Ids can share it.
func (id InstrumentID) Uint64() uint64 {
	return uint64(id.Venue)<<48 | uint64(id.Type)<<40 | id.AssetID&(1<<40-1)
}

// InstrumentOfUint64 returns an id with that short form: Reserved and the high
// 24 bits of the asset id are 0.
func InstrumentOfUint64(v uint64) InstrumentID {
	return InstrumentID{AssetID: v & (1<<40 - 1), Venue: VenueID(v >> 48), Type: AssetType(v >> 40)}
}
