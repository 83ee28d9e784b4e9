package codec

import "strconv"

// Dialect is one of the two ways in which Torq numbers domains, sources,
// venues, asset types and pool types. A header does not tell which; producers
// use "types", the relays' own code and configuration "codec".
//
// The named constants of this package are numbers of "types"; a name that only
// "codec" has stands for its number there, which is free in "types".
type Dialect uint8

const (
	DialectTypes Dialect = iota // MarketData 0, Coinbase 2, Kraken 3, Polygon 202
	DialectCodec                // MarketData 1, Kraken 2, Coinbase 3, Polygon 201
)

var dialectNames = []string{"types", "codec"}

// String returns "types" or "codec".
func (d Dialect) String() string { return enumName(dialectNames, uint8(d)) }

// UnmarshalText takes "types" or "codec".
func (d *Dialect) UnmarshalText(text []byte) error {
	return parseEnum((*uint8)(d), "dialect", string(text), dialectNames)
}

// number is a row of a table of names.
type number struct {
	name         string
	types, codec int // none = the dialect has no number for it
}

const none = -1

// numbers is a table of names with an index for each dialect.
type numbers struct {
	rows []number
	at   [2]map[int]int // number to row
}

func newNumbers(rows []number) *numbers {
	t := &numbers{rows: rows}
	for d := range t.at {
		t.at[d] = make(map[int]int)
		for i := range rows {
			if n := rows[i].in(Dialect(d)); n != none {
				t.at[d][n] = i
			}
		}
	}
	return t
}

func (r *number) in(d Dialect) int {
	if d == DialectCodec {
		return r.codec
	}
	return r.types
}

// constant is the number that the row's constant has.
func (r *number) constant() int {
	if r.types == none {
		return r.codec
	}
	return r.types
}

func (t *numbers) row(d Dialect, n int) *number {
	if i, ok := t.at[d&1][n]; ok {
		return &t.rows[i]
	}
	return nil
}

func (t *numbers) name(d Dialect, n int) string {
	if r := t.row(d, n); r != nil {
		return r.name
	}
	return ""
}

// meaning returns the constant that n of dialect d stands for.
func (t *numbers) meaning(d Dialect, n int) (int, bool) {
	r := t.row(d, n)
	if r == nil {
		return n, false
	}
	return r.constant(), true
}

// wire is the inverse of meaning.
func (t *numbers) wire(d Dialect, constant int) (int, bool) {
	r := t.row(DialectTypes, constant)
	if r == nil {
		r = t.row(DialectCodec, constant)
	}
	if r == nil || r.constant() != constant || r.in(d) == none {
		return constant, false
	}
	return r.in(d), true
}

// Named is a number with its name.
type Named struct {
	Name   string
	Number int
}

// nameOr returns name, or n if there is none.
func nameOr(name string, n int) string {
	if name == "" {
		return strconv.Itoa(n)
	}
	return name
}

func (t *numbers) all(d Dialect) []Named {
	var list []Named
	for i := range t.rows {
		if n := t.rows[i].in(d); n != none {
			list = append(list, Named{t.rows[i].name, n})
		}
	}
	return list
}

// DomainName returns the name of a domain as d numbers it, "" if it has none;
// SourceName, VenueName, AssetTypeName and PoolTypeName likewise.
func (d Dialect) DomainName(v Domain) string { return domains.name(d, int(v)) }

// SourceName returns the name of a source as d numbers it, "" if it has none.
func (d Dialect) SourceName(v Source) string { return sources.name(d, int(v)) }

// VenueName returns the name of a venue as d numbers it, "" if it has none.
func (d Dialect) VenueName(v VenueID) string { return venues.name(d, int(v)) }

// AssetTypeName returns the name of an asset type as d numbers it, "" if it has none.
func (d Dialect) AssetTypeName(v AssetType) string { return assetTypes.name(d, int(v)) }

// PoolTypeName returns the name of a pool type as d numbers it, "" if it has none.
func (d Dialect) PoolTypeName(v PoolType) string { return poolTypes.name(d, int(v)) }

// VenueToken returns a venue as a topic token: its name in lower case, or its
// number if d has no name for it. It allocates nothing if there is a name.
func (d Dialect) VenueToken(v VenueID) string {
	if token, ok := venueTokens[d&1][v]; ok {
		return token
	}
	return strconv.Itoa(int(v))
}

// Domain returns the constant that a number on the wire stands for; where ok
// is false it has none and is returned as it is. Source, Venue and AssetType likewise.
func (d Dialect) Domain(wire Domain) (v Domain, ok bool) {
	n, ok := domains.meaning(d, int(wire))
	return Domain(n), ok
}

// Source returns the constant that a number on the wire stands for.
func (d Dialect) Source(wire Source) (v Source, ok bool) {
	n, ok := sources.meaning(d, int(wire))
	return Source(n), ok
}

// Venue returns the constant that a number on the wire stands for.
func (d Dialect) Venue(wire VenueID) (v VenueID, ok bool) {
	n, ok := venues.meaning(d, int(wire))
	return VenueID(n), ok
}

// AssetType returns the constant that a number on the wire stands for.
func (d Dialect) AssetType(wire AssetType) (v AssetType, ok bool) {
	n, ok := assetTypes.meaning(d, int(wire))
	return AssetType(n), ok
}

// WireDomain returns the number that d has for a constant; where ok is false
// it has none. WireSource, WireVenue and WireAssetType likewise.
func (d Dialect) WireDomain(v Domain) (wire Domain, ok bool) {
	n, ok := domains.wire(d, int(v))
	return Domain(n), ok
}

// WireSource returns the number that d has for a constant.
func (d Dialect) WireSource(v Source) (wire Source, ok bool) {
	n, ok := sources.wire(d, int(v))
	return Source(n), ok
}

// WireVenue returns the number that d has for a constant.
func (d Dialect) WireVenue(v VenueID) (wire VenueID, ok bool) {
	n, ok := venues.wire(d, int(v))
	return VenueID(n), ok
}

// WireAssetType returns the number that d has for a constant.
func (d Dialect) WireAssetType(v AssetType) (wire AssetType, ok bool) {
	n, ok := assetTypes.wire(d, int(v))
	return AssetType(n), ok
}

// Domains, Sources, Venues, AssetTypes and PoolTypes return all that d has a
// number for.
func (d Dialect) Domains() []Named { return domains.all(d) }

// Sources returns all sources that d has a number for.
func (d Dialect) Sources() []Named { return sources.all(d) }

// Venues returns all venues that d has a number for.
func (d Dialect) Venues() []Named { return venues.all(d) }

// AssetTypes returns all asset types that d has a number for.
func (d Dialect) AssetTypes() []Named { return assetTypes.all(d) }

// PoolTypes returns all pool types that d has a number for.
func (d Dialect) PoolTypes() []Named { return poolTypes.all(d) }
