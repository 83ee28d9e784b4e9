package codec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// AppendJSON appends the message to dst as one JSON object and returns the
// result:
//
//	{"header":{"magic":"0xDEADBEEF","relay_domain":0,...},"domain":"MarketData","source":"KrakenCollector",
//	 "tlvs":[{"offset":32,"format":"standard","type":1,"length":40,"payload_offset":34,"name":"Trade",
//	          "instrument":"kraken.BTC","fields":{...}},...]}
//
// Numbers of 64 and more bits are strings, since JavaScript cannot hold them. A
// TLV has "fields" if its payload has a known layout, else its "payload" in
// hex; padding that is not zero is in "padding", in hex, all of it in order. TLVs
// are walked in ModeRelay; if that ends early, "error" follows "tlvs" with "reason" and "offset". Names
// are those that d has for the numbers; where it has none the member is
// missing. [AppendMessage] is the inverse. The object takes at most 500 bytes,
// 600 for each TLV and 6 for each byte of the message.
func (m Message) AppendJSON(dst []byte, d Dialect) []byte {
	h := m.Header()
	dst = fmt.Appendf(dst, `{"header":{"magic":"0x%08X","relay_domain":%d,"version":%d,"source":%d,"flags":%d,`,
		uint32(Magic), uint8(h.Domain), h.Version, uint8(h.Source), h.Flags)
	dst = fmt.Appendf(dst, `"sequence":"%d","timestamp":"%d","payload_size":%d,"checksum":"0x%08X"}`,
		h.Sequence, h.TimestampNs, h.PayloadSize, h.Checksum)
	dst = appendName(dst, "domain", d.DomainName(h.Domain))
	dst = appendName(dst, "source", d.SourceName(h.Source))
	if IsGreeting(m.bytes) {
		dst = append(dst, `,"greeting":true`...)
	}
	dst = append(dst, `,"tlvs":[`...)
	c := m.Cursor(ModeRelay)
	for first := true; c.Next(); first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst = c.TLV.appendJSON(dst, d)
	}
	dst = append(dst, ']')
	var e *Error
	if errors.As(c.err, &e) {
		dst = fmt.Appendf(dst, `,"error":{"reason":%q,"offset":%d}`, e.Reason, e.Offset)
	}
	return append(dst, '}')
}

// MarshalJSON returns what AppendJSON appends in DialectTypes. It never fails.
func (m Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil, DialectTypes), nil }

// appendName appends a member whose value needs no escapes, unless it is empty.
func appendName(dst []byte, key, name string) []byte {
	if name == "" {
		return dst
	}
	dst = append(append(dst, `,"`...), key...)
	dst = append(append(dst, `":"`...), name...)
	return append(dst, '"')
}

func (t *TLV) appendJSON(dst []byte, d Dialect) []byte {
	format := "standard"
	if t.Extended {
		format = "extended"
	}
	dst = fmt.Appendf(dst, `{"offset":%d,"format":%q,"type":%d,"length":%d,"payload_offset":%d`,
		t.Offset, format, uint8(t.Type), len(t.Payload), t.PayloadOffset())
	dst = appendName(dst, "name", registry[t.Type].Name)
	if id, ok := InstrumentOf(t.Type, t.Payload); ok {
		dst = appendName(dst, "instrument", id.Token(d))
	} else if v, ok := VenueOf(t.Type, t.Payload); ok {
		dst = appendName(dst, "venue", d.VenueName(v))
	}
	if l := registry[t.Type].Layout; l != nil && l.fits(t.Payload) {
		dst = append(dst, `,"fields":`...)
		dst = l.appendFields(dst, t.Payload)
	} else {
		dst = append(dst, `,"payload":"`...)
		dst = hex.AppendEncode(dst, t.Payload)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// Fields ranges over the fields of a payload with a known layout, names and
// values as in JSON without quotes: "price_e8", "4500050000000". A list gives
// each element by itself: "bids[0]", "price 4500000000000, size 100000000, ...".
// Padding comes last, in hex, if it is not zero. An opaque payload has none.
func (t *TLV) Fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		l := registry[t.Type].Layout
		if l == nil || !l.fits(t.Payload) {
			return
		}
		for i := range l.Fields {
			f := &l.Fields[i]
			if f.Kind != KindList {
				if !yield(f.Name, f.Kind.text(t.Payload[f.Offset:])) {
					return
				}
				continue
			}
			for i := range f.count(t.Payload) {
				if !yield(fmt.Sprintf("%s[%d]", f.Name, i), f.List.Element.text(t.Payload[f.List.Slots+i*f.List.Element.Size:])) {
					return
				}
			}
		}
		if padding := l.appendPadding(nil, t.Payload); padding != nil {
			yield("padding", string(padding))
		}
	}
}

// text is the value at the start of b.
func (k Kind) text(b []byte) string { return strings.Trim(string(k.appendValue(nil, b)), `"`) }

// text is an element at the start of b on one line.
func (l *Layout) text(b []byte) string {
	var parts []string
	for i := range l.Fields {
		f := &l.Fields[i]
		parts = append(parts, strings.TrimLeft(f.Name+" "+f.Kind.text(b[f.Offset:]), " "))
	}
	return strings.Join(parts, ", ")
}

// appendPadding appends the padding of a payload that fits in hex, nothing if it is zero.
func (l *Layout) appendPadding(dst, payload []byte) []byte {
	zero := true
	l.padding(payload, func(gap []byte) {
		for _, c := range gap {
			zero = zero && c == 0
		}
	})
	if !zero {
		l.padding(payload, func(gap []byte) { dst = hex.AppendEncode(dst, gap) })
	}
	return dst
}

// appendFields appends the fields of a payload that fits as an object.
func (l *Layout) appendFields(dst, payload []byte) []byte {
	dst = append(dst, '{')
	for i := range l.Fields {
		f := &l.Fields[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), f.Name...), `":`...)
		if f.Kind == KindList {
			dst = f.appendList(dst, payload)
		} else {
			dst = f.Kind.appendValue(dst, payload[f.Offset:])
		}
	}
	const key = `,"padding":"`
	n := len(dst)
	dst = l.appendPadding(append(dst, key...), payload)
	if len(dst) == n+len(key) {
		dst = dst[:n]
	} else {
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

func (f *Field) appendList(dst, payload []byte) []byte {
	dst = append(dst, '[')
	for i := range f.count(payload) {
		if i > 0 {
			dst = append(dst, ',')
		}
		element := &f.List.Element
		b := payload[f.List.Slots+i*element.Size:][:element.Size]
		if element.Fields[0].Name == "" {
			dst = element.Fields[0].Kind.appendValue(dst, b)
		} else {
			dst = element.appendFields(dst, b)
		}
	}
	return append(dst, ']')
}

// appendValue appends the value at the start of b.
func (k Kind) appendValue(dst, b []byte) []byte {
	switch k {
	case KindUint8:
		return strconv.AppendUint(dst, uint64(b[0]), 10)
	case KindUint16:
		return strconv.AppendUint(dst, uint64(le.Uint16(b)), 10)
	case KindUint32:
		return strconv.AppendUint(dst, uint64(le.Uint32(b)), 10)
	case KindInt32:
		return strconv.AppendInt(dst, int64(int32(le.Uint32(b))), 10)
	}
	dst = append(dst, '"')
	switch k {
	case KindUint64:
		dst = strconv.AppendUint(dst, le.Uint64(b), 10)
	case KindInt64:
		dst = strconv.AppendInt(dst, int64(le.Uint64(b)), 10)
	case KindUint128:
		u := readUint128(b)
		dst = appendDecimal(dst, []uint64{u.Lo, u.Hi})
	case KindUint256:
		u := readUint256(b)
		dst = appendDecimal(dst, u[:])
	case KindAddress, KindBytes8:
		dst = hex.AppendEncode(dst, b[:k.Size()])
	}
	return append(dst, '"')
}
