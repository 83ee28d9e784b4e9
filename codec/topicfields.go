package codec

// PoolAddressOf returns the address of the pool that a payload of type t is
// about, without reading the rest. ok is false if the layout has none or the
// payload does not have the layout's size.
func PoolAddressOf(t TLVType, payload []byte) (a Address, ok bool) {
	at := &poolAt[t]
	if at.address == nowhere || len(payload) != registry[t].Layout.Size {
		return a, false
	}
	return Address(payload[at.address:]), true
}

// InstrumentOf returns the instrument that a payload of type t is about: a
// Trade, a Quote (also one of QuoteShortSize) or an OrderBook.
func InstrumentOf(t TLVType, payload []byte) (id InstrumentID, ok bool) {
	at := &instrumentAt[t]
	if at.asset == nowhere || len(payload) != at.size && len(payload) != at.shortSize {
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
	at := &poolAt[t]
	if at.venue == nowhere || len(payload) != registry[t].Layout.Size {
		return 0, false
	}
	return VenueID(le.Uint16(payload[at.venue:])), true
}

// nowhere is the offset of a field that a layout does not have.
const nowhere = -1

// Where the layout of each type has these fields. The parts of an instrument after
// the asset id follow one another from the venue.
var (
	poolAt = func() (at [256]struct{ address, venue int }) {
		for t := range at {
			at[t].address, at[t].venue = fieldAt(TLVType(t), "pool_address"), fieldAt(TLVType(t), "venue")
		}
		at[TypeGasPrice].venue = nowhere
		return at
	}()
	instrumentAt = func() (at [256]struct{ asset, venue, size, shortSize int }) {
		for t := range at {
			a := &at[t]
			a.asset, a.venue = fieldAt(TLVType(t), "asset_id"), fieldAt(TLVType(t), "venue_id")
			if layout := registry[t].Layout; a.asset != nowhere {
				a.size, a.shortSize = layout.Size, layout.Size
				if layout == &quoteLayout {
					a.shortSize = QuoteShortSize
				}
			}
		}
		return at
	}()
)

func fieldAt(t TLVType, name string) int {
	if layout := registry[t].Layout; layout != nil {
		if f := layout.Field(name); f != nil {
			return f.Offset
		}
	}
	return nowhere
}
