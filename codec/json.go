package codec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
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
// hex; padding that is not zero is in "padding", in hex, all of it in order. If
// the walk ends early, "error" follows "tlvs" with "reason" and "offset". Names
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
	c := m.Cursor(ModeBridge)
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
	zero := true
	l.padding(payload, func(gap []byte) {
		for _, c := range gap {
			zero = zero && c == 0
		}
	})
	if !zero {
		dst = append(dst, `,"padding":"`...)
		l.padding(payload, func(gap []byte) { dst = hex.AppendEncode(dst, gap) })
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
