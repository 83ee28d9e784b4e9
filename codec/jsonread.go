package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// JSONError says what in a JSON text is not a message, and where.
type JSONError struct {
	Path    string // "tlvs[0].fields.side"; "" = the whole
	Problem string
}

func (e *JSONError) Error() string {
	if e.Path == "" {
		return "codec: JSON: " + e.Problem
	}
	return "codec: JSON: " + e.Path + ": " + e.Problem
}

// AppendMessage appends to dst the message that a JSON object describes, in the
// shape of AppendJSON, and returns the result: of an object that AppendJSON
// made without "error" exactly the message's bytes.
//
// Of the header, "magic", "payload_size" and "checksum" may be missing and are
// then computed; a checksum that is there is written as it is, right or wrong.
// Of a TLV only "type" and either "fields" or "payload" must be there;
// "format" is chosen by length unless it is there. Numbers of any width may be
// numbers or strings. What follows from the rest (names, offsets, lengths) is
// not needed, but a "length" or "payload_size" that is there must be right.
// Members that mean nothing are refused.
//
// Errors are *JSONError.
func AppendMessage(dst, text []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return dst, &JSONError{Problem: err.Error()}
	}
	if _, err := d.Token(); err != io.EOF {
		return dst, &JSONError{Problem: "more after the object"}
	}
	var r jsonReader
	out := r.message(dst, r.object("", v))
	if r.err != nil {
		return dst, r.err
	}
	return out, nil
}

// jsonReader keeps the first error; what it returns after one means nothing.
type jsonReader struct{ err error }

// members is a JSON object that is being taken apart.
type members struct {
	path string
	m    map[string]any
}

func (o members) at(key string) string {
	if o.path == "" {
		return key
	}
	return o.path + "." + key
}

func (r *jsonReader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = &JSONError{path, fmt.Sprintf(format, args...)}
	}
}

func (r *jsonReader) object(path string, v any) members {
	m, ok := v.(map[string]any)
	if !ok {
		r.fail(path, "want an object")
	}
	return members{path, m}
}

// take removes a member and returns it, nil if there is none.
func (r *jsonReader) take(o members, key string) any {
	v := o.m[key]
	delete(o.m, key)
	return v
}

// need is take for a member that must be there.
func (r *jsonReader) need(o members, key string) any {
	v, ok := o.m[key]
	if !ok {
		r.fail(o.at(key), "missing")
	}
	delete(o.m, key)
	return v
}

// done refuses what is left, but for the members that only inform.
func (r *jsonReader) done(o members, ignored ...string) {
	left := ""
	for key := range o.m {
		if !slices.Contains(ignored, key) && (left == "" || key < left) {
			left = key
		}
	}
	if left != "" {
		r.fail(o.path, "no member %s is known here", show(left))
	}
}

// numberText returns the text of a number or of a string, "" for anything else.
func numberText(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	}
	return ""
}

func (r *jsonReader) uint(path string, v any, bits int) uint64 {
	text := numberText(v)
	base := 10
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		text, base = digits, 16
	}
	n, err := strconv.ParseUint(text, base, bits)
	if err != nil && r.err == nil {
		r.fail(path, "%v is no number from 0 to %d", show(v), uint64(math.MaxUint64)>>(64-bits))
	}
	return n
}

func (r *jsonReader) int(path string, v any, bits int) int64 {
	n, err := strconv.ParseInt(numberText(v), 10, bits)
	if err != nil && r.err == nil {
		limit := int64(math.MaxInt64) >> (64 - bits)
		r.fail(path, "%v is no number from %d to %d", show(v), -limit-1, limit)
	}
	return n
}

func (r *jsonReader) hex(path string, v any) []byte {
	text, ok := v.(string)
	b, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if !ok || err != nil {
		r.fail(path, "%v is no string of hex digits, two for each byte", show(v))
	}
	return b
}

// show is a value as a message quotes it.
func show(v any) string {
	const shown = 40
	b, _ := json.Marshal(v)
	if len(b) > shown {
		return strings.ToValidUTF8(string(b[:shown]), "") + "..."
	}
	return string(b)
}

func (r *jsonReader) message(dst []byte, o members) []byte {
	head := r.object("header", r.need(o, "header"))
	if magic := r.take(head, "magic"); magic != nil && r.uint("header.magic", magic, 32) != Magic {
		r.fail("header.magic", "%v, want \"0x%08X\"", show(magic), uint32(Magic))
	}
	h := Header{
		Domain:      Domain(r.uint("header.relay_domain", r.need(head, "relay_domain"), 8)),
		Version:     uint8(r.uint("header.version", r.need(head, "version"), 8)),
		Source:      Source(r.uint("header.source", r.need(head, "source"), 8)),
		Flags:       uint8(r.uint("header.flags", r.need(head, "flags"), 8)),
		Sequence:    r.uint("header.sequence", r.need(head, "sequence"), 64),
		TimestampNs: r.uint("header.timestamp", r.need(head, "timestamp"), 64),
	}
	size, sum := r.take(head, "payload_size"), r.take(head, "checksum")
	r.done(head)

	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	list, ok := r.need(o, "tlvs").([]any)
	if !ok {
		r.fail("tlvs", "want a list")
	}
	for i := 0; i < len(list) && r.err == nil; i++ {
		path := fmt.Sprintf("tlvs[%d]", i)
		dst = r.tlv(dst, r.object(path, list[i]))
		if n := len(dst) - start - HeaderSize; n > DefaultMaxPayload {
			r.fail(path, "the message has %d bytes of TLVs up to here, at most %d are possible", n, DefaultMaxPayload)
		}
	}
	for _, part := range []string{"error", "missing_bytes"} {
		if r.take(o, part) != nil {
			r.fail(part, "the message was not decoded whole, so it cannot be encoded")
		}
	}
	r.done(o, "schema", "domain", "source", "greeting", "offset", "length", "trailing_bytes")
	if r.err != nil {
		return nil
	}
	msg := dst[start:]
	h.PayloadSize = uint32(len(msg) - HeaderSize)
	if size != nil {
		if n := r.uint("header.payload_size", size, 32); n != uint64(h.PayloadSize) {
			r.fail("header.payload_size", "%d, but the TLVs take %d bytes; leave it out to have it computed", n, h.PayloadSize)
		}
	}
	h.Put(msg)
	if sum == nil {
		h.Checksum = Checksum(msg)
	} else {
		h.Checksum = uint32(r.uint("header.checksum", sum, 32))
	}
	le.PutUint32(msg[offChecksum:], h.Checksum)
	return dst
}

func (r *jsonReader) tlv(dst []byte, o members) []byte {
	typ := TLVType(r.uint(o.at("type"), r.need(o, "type"), 8))
	length := -1
	if v := r.take(o, "length"); v != nil {
		length = int(r.uint(o.at("length"), v, 16))
	}
	var payload []byte
	fields, opaque := r.take(o, "fields"), r.take(o, "payload")
	switch {
	case (fields == nil) == (opaque == nil):
		r.fail(o.path, "want either fields or payload")
	case opaque != nil:
		payload = r.hex(o.at("payload"), opaque)
	default:
		payload = r.fields(o.at("fields"), fields, typ, length)
	}
	n := len(payload)
	if length >= 0 && length != n {
		r.fail(o.at("length"), "%d, but the payload takes %d bytes; leave it out to have it computed", length, n)
	}
	extended := n > maxStandard
	switch format := r.take(o, "format"); {
	case n > MaxPayload:
		r.fail(o.path, "%d bytes of payload, at most %d are possible", n, MaxPayload)
	case format == "extended":
		extended = true
	case format != nil && format != "standard":
		r.fail(o.at("format"), "%v, want \"standard\" or \"extended\"", show(format))
	case format != nil && extended:
		r.fail(o.at("format"), "%d bytes of payload need the extended form", n)
	case typ == TypeExtended:
		r.fail(o.at("type"), "255 marks the extended form, it is no type in the standard form")
	}
	r.done(o, "offset", "payload_offset", "name", "instrument", "venue")
	if r.err != nil {
		return nil
	}
	var head [extendedHead]byte
	return append(append(dst, head[:putHead(head[:], typ, n, extended)]...), payload...)
}

// fields makes a payload of its fields; length is that of the TLV if it is known, else -1.
func (r *jsonReader) fields(path string, v any, typ TLVType, length int) []byte {
	l := typ.Info().Layout
	if l == nil {
		r.fail(path, "the payload of type %d (%s) has no known layout: give it in hex as payload", uint8(typ), typ)
		return nil
	}
	payload := make([]byte, l.Size)
	r.layout(payload, l, r.object(path, v))
	if l == &quoteLayout && length == QuoteShortSize {
		return payload[:QuoteShortSize]
	}
	return payload
}

func (r *jsonReader) layout(b []byte, l *Layout, o members) {
	for i := range l.Fields {
		f := &l.Fields[i]
		v := r.need(o, f.Name)
		if r.err != nil {
			return
		}
		if f.Kind == KindList {
			r.list(b, f, o.at(f.Name), v)
		} else {
			r.value(b[f.Offset:], f.Kind, o.at(f.Name), v)
		}
	}
	if v := r.take(o, "padding"); v != nil && r.err == nil {
		bytes := r.hex(o.at("padding"), v)
		n := 0
		l.padding(b, func(gap []byte) { n += copy(gap, bytes[min(n, len(bytes)):]) })
		size := 0
		l.padding(b, func(gap []byte) { size += len(gap) })
		if len(bytes) != size {
			r.fail(o.at("padding"), "%d bytes, want %d", len(bytes), size)
		}
	}
	r.done(o)
}

func (r *jsonReader) list(b []byte, f *Field, path string, v any) {
	list, ok := v.([]any)
	if !ok {
		r.fail(path, "want a list")
		return
	}
	if len(list) > f.List.Max {
		r.fail(path, "%d elements, room for %d", len(list), f.List.Max)
		return
	}
	if count := f.count(b); f.List.Counted && count != len(list) {
		r.fail(path, "%d elements, but count is %d", len(list), count)
		return
	}
	le.PutUint16(b[f.Offset:], uint16(len(list)))
	element := &f.List.Element
	for i, v := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		slot := b[f.List.Slots+i*element.Size:][:element.Size]
		if element.Fields[0].Name == "" {
			r.value(slot, element.Fields[0].Kind, at, v)
		} else {
			r.layout(slot, element, r.object(at, v))
		}
	}
}

// value writes one value at the start of b.
func (r *jsonReader) value(b []byte, k Kind, path string, v any) {
	bits := 8 * k.Size()
	switch k {
	case KindUint8:
		b[0] = byte(r.uint(path, v, bits))
	case KindUint16:
		le.PutUint16(b, uint16(r.uint(path, v, bits)))
	case KindUint32:
		le.PutUint32(b, uint32(r.uint(path, v, bits)))
	case KindUint64:
		le.PutUint64(b, r.uint(path, v, bits))
	case KindInt32:
		le.PutUint32(b, uint32(r.int(path, v, bits)))
	case KindInt64:
		le.PutUint64(b, uint64(r.int(path, v, bits)))
	case KindUint128, KindUint256:
		limbs := make([]uint64, k.Size()/8)
		if !parseDecimal(numberText(v), limbs) {
			r.fail(path, "%s is no number of at most %d bits", show(v), bits)
		}
		for i, limb := range limbs {
			le.PutUint64(b[8*i:], limb)
		}
	case KindAddress, KindBytes8:
		bytes := r.hex(path, v)
		if len(bytes) != k.Size() {
			r.fail(path, "%d bytes, want %d", len(bytes), k.Size())
		}
		copy(b[:k.Size()], bytes)
	}
}
