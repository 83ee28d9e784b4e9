package codec

// PoolAddressOf returns the address of the pool that a payload of type t is
// about, without reading the rest. ok is false if the layout has none or the
// payload does not have the layout's size.
func PoolAddressOf(t TLVType, payload []byte) (a Address, ok bool) {
	at, ok := poolAddressAt[t]
	if !ok || len(payload) != registry[t].Layout.Size {
		return a, false
	}
	return Address(payload[at:]), true
}

// InstrumentOf returns the instrument that a payload of type t is about: a
// Trade, a Quote (also one of QuoteShortSize) or an OrderBook.
func InstrumentOf(t TLVType, payload []byte) (id InstrumentID, ok bool) {
	at, ok := instrumentAt[t]
	if !ok || len(payload) != registry[t].Layout.Size && !(registry[t].Layout == &quoteLayout && len(payload) == QuoteShortSize) {
		return id, false
	}
	return InstrumentID{
		AssetID:  le.Uint64(payload[at.asset:]),
		Venue:    VenueID(le.Uint16(payload[at.venue:])),
		Type:     AssetType(payload[at.venue+2]),
		Reserved: payload[at.venue+3],
	}, true
}

// VenueOf returns the venue that a payload of type t names: that of its
// instrument or its pool. A GasPrice has none, its "venue" is the number of a network.
func VenueOf(t TLVType, payload []byte) (v VenueID, ok bool) {
	if id, ok := InstrumentOf(t, payload); ok {
		return id.Venue, true
	}
	at, ok := venueAt[t]
	if !ok || len(payload) != registry[t].Layout.Size {
		return 0, false
	}
	return VenueID(le.Uint16(payload[at:])), true
}

// Where the layouts have these fields. The parts of an instrument after the
// asset id follow one another from the venue.
var (
	poolAddressAt = fieldAt("pool_address")
	venueAt       = func() map[TLVType]int {
		at := fieldAt("venue")
		delete(at, TypeGasPrice)
		return at
	}()
	instrumentAt = func() map[TLVType]struct{ asset, venue int } {
		at := make(map[TLVType]struct{ asset, venue int })
		venue := fieldAt("venue_id")
		for t, asset := range fieldAt("asset_id") {
			at[t] = struct{ asset, venue int }{asset, venue[t]}
		}
		return at
	}()
)

func fieldAt(name string) map[TLVType]int {
	at := make(map[TLVType]int)
	for _, info := range registry {
		if info.Layout != nil {
			if f := info.Layout.Field(name); f != nil {
				at[info.Type] = f.Offset
			}
		}
	}
	return at
}
