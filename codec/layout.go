package codec

// Layout describes a payload whose fields are known. JSON is read and written
// by it, and the structs of this package are tested against it.
type Layout struct {
	Size   int     // bytes
	Fields []Field // by offset; bytes between them are padding
}

// Field is one field of a payload.
type Field struct {
	Name   string // in JSON
	Offset int    // bytes from the start of the payload, or of the element
	Kind   Kind
	List   *List // of a KindList
}

// List describes a field that has a count, a u16 at the field's offset, and
// room for Max elements, of which the first count are in use.
type List struct {
	Counted bool // the field before it shows the count
	Slots   int  // byte offset of the first element in the payload
	Max     int  // elements
	Element Layout
}

// Kind is how the bytes of a field are read.
type Kind uint8

const (
	KindUint8   Kind = iota
	KindUint16       // all integers are little-endian
	KindUint32       //
	KindUint64       // a string in JSON, as are all wider ones and KindInt64
	KindInt32        //
	KindInt64        //
	KindUint128      //
	KindUint256      //
	KindAddress      // 20 bytes, in hex
	KindBytes8       // 8 bytes, in hex
	KindList         // see List
)

var kinds = [...]struct {
	name string
	size int // bytes
}{
	KindUint8: {"u8", 1}, KindUint16: {"u16", 2}, KindUint32: {"u32", 4}, KindUint64: {"u64", 8},
	KindInt32: {"i32", 4}, KindInt64: {"i64", 8}, KindUint128: {"u128", 16}, KindUint256: {"u256", 32},
	KindAddress: {"address", AddressSize}, KindBytes8: {"bytes8", 8}, KindList: {"list", 2},
}

// String returns "u64", "address", "list" and so on.
func (k Kind) String() string { return kinds[k].name }

// Size returns the bytes of a value, for a list those of its count.
func (k Kind) Size() int { return kinds[k].size }

// Field returns the field of that name, nil if there is none.
func (l *Layout) Field(name string) *Field {
	for i := range l.Fields {
		if l.Fields[i].Name == name {
			return &l.Fields[i]
		}
	}
	return nil
}

// count returns how many elements a payload says the list has.
func (f *Field) count(payload []byte) int { return int(le.Uint16(payload[f.Offset:])) }

// fits reports whether payload has the layout's size and no list of more elements than slots.
func (l *Layout) fits(payload []byte) bool {
	if len(payload) != l.Size {
		return false
	}
	for i := range l.Fields {
		if f := &l.Fields[i]; f.Kind == KindList && f.count(payload) > f.List.Max {
			return false
		}
	}
	return true
}

// padding yields the bytes of a payload that fits and that no field shows: those between
// fields and the slots that a list does not use.
func (l *Layout) padding(payload []byte, yield func(gap []byte)) {
	at := 0
	upTo := func(from, to int) {
		if from > at {
			yield(payload[at:from])
		}
		at = max(at, to)
	}
	for i := range l.Fields {
		f := &l.Fields[i]
		upTo(f.Offset, f.Offset+f.Kind.Size())
		if f.Kind == KindList {
			upTo(f.List.Slots, f.List.Slots+f.count(payload)*f.List.Element.Size)
		}
	}
	upTo(l.Size, l.Size)
}

// span is a run of padding bytes [from, to) that a struct keeps.
type span struct{ from, to int }

// takePadding copies the spans of b one after the other into dst.
func takePadding(dst, b []byte, spans []span) {
	for _, s := range spans {
		dst = dst[copy(dst, b[s.from:s.to]):]
	}
}

// putPadding copies src back into the spans of b.
func putPadding(b, src []byte, spans []span) {
	for _, s := range spans {
		src = src[copy(b[s.from:s.to], src):]
	}
}
