package codec

import (
	"fmt"
	"strings"
)

// InstrumentIDSize is the size of an InstrumentID on the wire, in bytes.
const InstrumentIDSize = 12

// InstrumentID names an instrument. On the wire:
//
//	 0               8     10     11     12
//	+---------------+-----+------+------+
//	| asset id      |venue| type | rsvd |
//	+---------------+-----+------+------+
type InstrumentID struct {
	AssetID  uint64 // for stock, bond and coin the symbol, see Coin
	Venue    VenueID
	Type     AssetType
	Reserved uint8
}

// Coin returns the id of a coin or pair. The asset id is the first 8 bytes of
// symbol, NUL-padded, read as a big-endian number; stored little-endian, the
// text appears reversed: "BTC" is 00 00 00 00 00 43 54 42. Longer symbols are
// cut, so two of them can share an id.
func Coin(venue VenueID, symbol string) InstrumentID {
	return symbolID(venue, AssetCoin, symbol)
}

// Stock returns the id of a stock; the symbol is stored as in Coin.
func Stock(venue VenueID, symbol string) InstrumentID {
	return symbolID(venue, AssetStock, symbol)
}

// Bond returns the id of a bond; the symbol is stored as in Coin.
func Bond(venue VenueID, symbol string) InstrumentID {
	return symbolID(venue, AssetBond, symbol)
}

// CoinbaseInstrument returns the id that Torq's Coinbase collector gives to a
// product: "BTC-USD" becomes Coin(VenueCoinbase, "BTC/USD").
func CoinbaseInstrument(productID string) InstrumentID {
	return Coin(VenueCoinbase, strings.ReplaceAll(productID, "-", "/"))
}

func symbolID(venue VenueID, typ AssetType, symbol string) InstrumentID {
	var id uint64
	for i := 0; i < 8; i++ {
		id <<= 8
		if i < len(symbol) {
			id |= uint64(symbol[i])
		}
	}
	return InstrumentID{AssetID: id, Venue: venue, Type: typ}
}

// Symbol returns the symbol that Coin, Stock or Bond was given, up to 8 bytes.
// ok is false if the id is of another kind or holds no printable ASCII text.
func (id InstrumentID) Symbol() (symbol string, ok bool) {
	switch id.Type {
	case AssetCoin, AssetStock, AssetBond:
	default:
		return "", false
	}
	var text [8]byte
	n := 0
	for rest := id.AssetID; rest != 0; rest <<= 8 {
		c := byte(rest >> 56)
		if c < ' ' || c > '~' {
			return "", false
		}
		text[n] = c
		n++
	}
	return string(text[:n]), n > 0
}

// String returns Token in DialectTypes.
func (id InstrumentID) String() string { return id.Token(DialectTypes) }

// Token returns venue and instrument as two topic tokens, to follow a first
// one: "coinbase.BTC-USD". The second is the symbol with '/' written as '-', or
// asset type and asset id ("50-a0b86991c6218b36") if there is no symbol or it
// has bytes that a topic may not have. Only the venue's name depends on d.
func (id InstrumentID) Token(d Dialect) string {
	token, ok := id.Symbol()
	token = strings.ReplaceAll(token, "/", "-")
	if !ok || strings.ContainsFunc(token, notInToken) {
		token = fmt.Sprintf("%d-%016x", uint8(id.Type), id.AssetID)
	}
	return d.VenueToken(id.Venue) + "." + token
}

// notInToken reports whether r may not stand in a topic token.
func notInToken(r rune) bool {
	return !('A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("_:@-", r))
}

// Parse reads id from b, which must hold exactly InstrumentIDSize bytes; on
// ErrPayloadSizeMismatch id stays as it is.
func (id *InstrumentID) Parse(b []byte) error {
	if len(b) != InstrumentIDSize {
		return wrongSize(0, len(b), InstrumentIDSize)
	}
	id.read(b)
	return nil
}

// read reads id from b[:InstrumentIDSize].
func (id *InstrumentID) read(b []byte) {
	b = b[:InstrumentIDSize]
	id.AssetID = le.Uint64(b)
	id.Venue = VenueID(le.Uint16(b[8:]))
	id.Type = AssetType(b[10])
	id.Reserved = b[11]
}

// Put writes id into b[:InstrumentIDSize]. It panics if b is shorter.
func (id InstrumentID) Put(b []byte) {
	b = b[:InstrumentIDSize]
	le.PutUint64(b, id.AssetID)
	le.PutUint16(b[8:], uint16(id.Venue))
	b[10] = byte(id.Type)
	b[11] = id.Reserved
}
