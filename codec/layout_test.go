package codec

import (
	"bytes"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// payload is what every struct of a known layout can do.
type payload interface {
	Parse(b []byte) error
	Put(b []byte)
}

// putReason makes a payload of InvalidationReason, which the builder writes as a byte.
type putReason struct{ Reason InvalidationReason }

func (p *putReason) Parse(b []byte) error { return p.Reason.Parse(b) }
func (p *putReason) Put(b []byte)         { b[0] = byte(p.Reason) }

// payloads are the structs by type, with the padding that Torq leaves uninitialised.
var payloads = []struct {
	typ      TLVType
	new      func() payload
	add      func(b *Builder, p payload) error
	implicit []span
}{
	{TypeTrade, func() payload { return new(Trade) }, func(b *Builder, p payload) error { return b.AppendTrade(p.(*Trade)) }, nil},
	{TypeQuote, func() payload { return new(Quote) }, func(b *Builder, p payload) error { return b.AppendQuote(p.(*Quote)) }, nil},
	{TypeOrderBook, func() payload { return new(OrderBook) }, func(b *Builder, p payload) error { return b.AppendOrderBook(p.(*OrderBook)) }, []span{{36, 40}}},
	{TypePoolLiquidity, func() payload { return new(PoolLiquidity) }, func(b *Builder, p payload) error { return b.AppendPoolLiquidity(p.(*PoolLiquidity)) }, []span{{8, 16}, {24, 32}, {200, 208}}},
	{TypePoolSwap, func() payload { return new(PoolSwap) }, func(b *Builder, p payload) error { return b.AppendPoolSwap(p.(*PoolSwap)) }, nil},
	{TypePoolMint, func() payload { return new(PoolMint) }, func(b *Builder, p payload) error { return b.AppendPoolMint(p.(*PoolMint)) }, nil},
	{TypePoolBurn, func() payload { return new(PoolBurn) }, func(b *Builder, p payload) error { return b.AppendPoolBurn(p.(*PoolBurn)) }, nil},
	{TypePoolTick, func() payload { return new(PoolTick) }, func(b *Builder, p payload) error { return b.AppendPoolTick(p.(*PoolTick)) }, nil},
	{TypePoolState, func() payload { return new(PoolState) }, func(b *Builder, p payload) error { return b.AppendPoolState(p.(*PoolState)) }, nil},
	{TypePoolSync, func() payload { return new(PoolSync) }, func(b *Builder, p payload) error { return b.AppendPoolSync(p.(*PoolSync)) }, nil},
	{TypeQuoteUpdate, func() payload { return new(Quote) }, func(b *Builder, p payload) error { return b.AppendQuoteUpdate(p.(*Quote)) }, nil},
	{TypeGasPrice, func() payload { return new(GasPrice) }, func(b *Builder, p payload) error { return b.AppendGasPrice(p.(*GasPrice)) }, nil},
	{TypeStateInvalidationReason, func() payload { return new(putReason) }, func(b *Builder, p payload) error { return b.AppendInvalidationReason(p.(*putReason).Reason) }, nil},
	{TypeArbitrageSignal, func() payload { return new(ArbitrageSignal) }, func(b *Builder, p payload) error { return b.AppendArbitrageSignal(p.(*ArbitrageSignal)) }, nil},
	{TypeStateInvalidation, func() payload { return new(StateInvalidation) }, func(b *Builder, p payload) error { return b.AppendStateInvalidation(p.(*StateInvalidation)) }, nil},
	{TypeSystemHealth, func() payload { return new(SystemHealth) }, func(b *Builder, p payload) error { return b.AppendSystemHealth(p.(*SystemHealth)) }, nil},
	{TypeTraceContext, func() payload { return new(TraceContext) }, func(b *Builder, p payload) error { return b.AppendTraceContext(p.(*TraceContext)) }, nil},
	{TypeRecoveryRequest, func() payload { return new(RecoveryRequest) }, func(b *Builder, p payload) error { return b.AppendRecoveryRequest(p.(*RecoveryRequest)) }, nil},
}

func TestLayoutOverlapsOrLeavesItsPayload(t *testing.T) {
	known := 0
	for _, info := range registry {
		l := info.Layout
		if l == nil {
			continue
		}
		known++
		end := 0
		for i, f := range l.Fields {
			counted := f.Kind == KindList && f.List.Counted && f.Offset == l.Fields[i-1].Offset
			if f.Name == "" || f.Offset < end && !counted {
				t.Errorf("%s: field %q at %d, the one before ends at %d", info.Name, f.Name, f.Offset, end)
			}
			end = f.Offset + f.Kind.Size()
			if f.Kind == KindList {
				end = f.List.Slots + f.List.Max*f.List.Element.Size
			}
		}
		if end > l.Size || l.Size > MaxPayload {
			t.Errorf("%s: fields up to %d of %d bytes", info.Name, end, l.Size)
		}
		if info.Size.Fixed() && info.Size.Min != l.Size && l != &quoteLayout {
			t.Errorf("%s: layout %d bytes, registry %d", info.Name, l.Size, info.Size.Min)
		}
	}
	if known != len(payloads) {
		t.Errorf("%d layouts, %d structs", known, len(payloads))
	}
}

// randomPayload makes a payload with random bytes everywhere but in the counts of lists.
func randomPayload(r *rand.Rand, l *Layout) []byte {
	b := make([]byte, l.Size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for _, f := range l.Fields {
		if f.Kind == KindList {
			le.PutUint16(b[f.Offset:], uint16(r.IntN(f.List.Max+1)))
		}
	}
	return b
}

func TestStructAndLayoutDisagree(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range payloads {
		l := p.typ.Info().Layout
		for range 20 {
			b := randomPayload(r, l)
			v := p.new()
			if err := v.Parse(b); err != nil {
				t.Fatalf("%v: %v", p.typ, err)
			}
			for _, f := range l.Fields {
				checkField(t, fmt.Sprintf("%v.%s", p.typ, f.Name), reflect.ValueOf(v).Elem(), f, b)
			}
			out := make([]byte, l.Size)
			for i := range out {
				out[i] = 0xAA
			}
			v.Put(out)
			for _, s := range p.implicit {
				clear(b[s.from:s.to])
			}
			if !bytes.Equal(out, b) {
				t.Fatalf("%v: % x comes back as % x", p.typ, b, out)
			}
			msg := make([]byte, MessageSize(l.Size))
			build := NewBuilder(msg, krakenHeader)
			if err := p.add(&build, v); err != nil {
				t.Fatalf("%v: %v", p.typ, err)
			}
			n, err := build.Finish(true)
			if err != nil || n != len(msg) {
				t.Fatalf("%v: %d, %v", p.typ, n, err)
			}
			tlv, ok := mustParse(t, msg, ChecksumRequire).Find(p.typ)
			if !ok || !bytes.Equal(tlv.Payload, b) || tlv.Extended != (l.Size > 255) {
				t.Fatalf("%v: built % x", p.typ, msg)
			}
		}
		for n := range l.Size + 10 {
			v := p.new()
			err := v.Parse(make([]byte, n))
			if n == l.Size || l == &quoteLayout && n == QuoteShortSize {
				if err != nil {
					t.Errorf("%v: %v", p.typ, err)
				}
				continue
			}
			typ := p.typ
			switch typ { // the struct knows one of its types
			case TypeQuoteUpdate:
				typ = TypeQuote
			case TypePoolBurn:
				typ = TypePoolMint
			}
			wantError(t, err, Error{Reason: ErrPayloadSizeMismatch, Type: typ, Got: uint64(n), Want: uint64(l.Size)})
		}
		full := NewBuilder(make([]byte, MessageSize(l.Size)-1), krakenHeader)
		wantError(t, p.add(&full, p.new()), Error{Reason: ErrBufferTooSmall, Offset: 32, Type: p.typ, Got: uint64(MessageSize(l.Size) - 1), Want: uint64(MessageSize(l.Size))})
	}
}

// checkField compares a field of the layout, read from b as a big integer, with the struct's field of the same name.
func checkField(t *testing.T, path string, v reflect.Value, f Field, b []byte) {
	t.Helper()
	if f.Kind == KindList {
		count := int(le.Uint16(b[f.Offset:]))
		if !f.List.Counted {
			if got := v.FieldByName(map[string]string{"bids": "BidCount", "asks": "AskCount"}[f.Name]); got.Uint() != uint64(count) {
				t.Fatalf("%s has %v elements, want %d", path, got, count)
			}
		}
		list := fieldNamed(v, f.Name)
		if list.Len() != f.List.Max {
			t.Fatalf("%s has room for %d, want %d", path, list.Len(), f.List.Max)
		}
		for i := range list.Len() {
			at := f.List.Slots + i*f.List.Element.Size
			for _, e := range f.List.Element.Fields {
				element := list.Index(i)
				if e.Name == "" {
					checkValue(t, path, element, e, b[at:])
				} else {
					checkField(t, path+"."+e.Name, element, e, b[at:])
				}
			}
		}
		return
	}
	checkValue(t, path, fieldNamed(v, f.Name), f, b)
}

func checkValue(t *testing.T, path string, v reflect.Value, f Field, b []byte) {
	t.Helper()
	raw := slices.Clone(b[f.Offset:][:f.Kind.Size()])
	var want string
	switch f.Kind {
	case KindAddress, KindBytes8:
		want = fmt.Sprintf("%x", raw)
	default:
		slices.Reverse(raw)
		n := new(big.Int).SetBytes(raw)
		if bits := uint(8 * len(raw)); (f.Kind == KindInt32 || f.Kind == KindInt64) && n.Bit(int(bits)-1) == 1 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), bits))
		}
		want = n.String()
	}
	var got string
	switch x := v.Interface().(type) {
	case Uint128, Uint256:
		got = fmt.Sprint(x)
	case Address:
		got = strings.TrimPrefix(x.String(), "0x")
	case [8]byte:
		got = fmt.Sprintf("%x", x)
	default:
		got = fmt.Sprintf("%d", x)
	}
	if got != want {
		t.Fatalf("%s is %s in the struct, %s by the layout", path, got, want)
	}
}

// fieldNamed finds the struct's field for a name of the layout: without blanks and units, an
// instrument's parts inside the struct's Instrument.
func fieldNamed(v reflect.Value, name string) reflect.Value {
	plain := strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(name, "_e8"), "_q8"), "_", "")
	byName := func(v reflect.Value, name string) reflect.Value {
		return v.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
	}
	if f := byName(v, plain); f.IsValid() {
		return f
	}
	if id := v.FieldByName("Instrument"); id.IsValid() {
		v = id
	}
	if part := map[string]string{"venueid": "Venue", "assettype": "Type"}[plain]; part != "" {
		plain = part
	}
	return byName(v, plain)
}

func TestMoreElementsThanSlotsAreRead(t *testing.T) {
	for _, p := range payloads {
		l := p.typ.Info().Layout
		for _, f := range l.Fields {
			if f.Kind != KindList {
				continue
			}
			b := make([]byte, l.Size)
			le.PutUint16(b[f.Offset:], uint16(f.List.Max))
			if err := p.new().Parse(b); err != nil || !l.fits(b) {
				t.Errorf("%v: %d elements: %v", p.typ, f.List.Max, err)
			}
			le.PutUint16(b[f.Offset:], uint16(f.List.Max+1))
			if l.fits(b) {
				t.Errorf("%v: %d elements fit", p.typ, f.List.Max+1)
			}
			wantError(t, p.new().Parse(b), Error{Reason: ErrInvalidPayload, Offset: f.Offset, Type: p.typ, Got: uint64(f.List.Max + 1), Want: uint64(f.List.Max)}, "room for")
		}
	}
}

func TestTopicComesFromTheWrongBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 256 {
		typ := TLVType(i)
		l := typ.Info().Layout
		if l == nil {
			l = &Layout{Size: 208}
		}
		b := randomPayload(r, l)
		pool, hasPool := PoolAddressOf(typ, b)
		id, hasID := InstrumentOf(typ, b)
		venue, hasVenue := VenueOf(typ, b)
		var p payload
		for _, known := range payloads {
			if known.typ == typ {
				p = known.new()
				if err := p.Parse(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		var wantPool Address
		var wantID InstrumentID
		var wantVenue VenueID
		switch p := p.(type) {
		case *Trade:
			wantID, wantVenue = p.Instrument, p.Instrument.Venue
		case *Quote:
			wantID, wantVenue = p.Instrument, p.Instrument.Venue
			if short, ok := InstrumentOf(typ, b[:QuoteShortSize]); !ok || short != wantID {
				t.Errorf("%v of 52 bytes: %v", typ, short)
			}
		case *OrderBook:
			wantID, wantVenue = p.Instrument, p.Instrument.Venue
		case *PoolSwap:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *PoolMint:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *PoolSync:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *PoolTick:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *PoolState:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *PoolLiquidity:
			wantPool, wantVenue = p.PoolAddress, p.Venue
		case *StateInvalidation:
			wantVenue = p.Venue
		}
		if pool != wantPool || hasPool != (wantPool != Address{}) || id != wantID || hasID != (wantID != InstrumentID{}) || venue != wantVenue || hasVenue != (wantVenue != 0) {
			t.Errorf("%v: pool %v %v, instrument %v %v, venue %v %v; want %v, %v, %v", typ, pool, hasPool, id, hasID, venue, hasVenue, wantPool, wantID, wantVenue)
		}
		if _, ok := PoolAddressOf(typ, b[1:]); ok {
			t.Errorf("%v: a pool in a payload that is cut", typ)
		}
		if _, ok := VenueOf(typ, b[1:]); ok {
			t.Errorf("%v: a venue in a payload that is cut", typ)
		}
	}
}
