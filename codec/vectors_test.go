package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// vectorFile is the part of the shared golden vectors that this package answers for.
type vectorFile struct {
	Valid, Invalid []vector
	Streams        []struct {
		Name, Hex     string
		Messages      []struct{ Offset, Length int }
		UndecidedTail int `json:"undecided_tail"`
	}
	InstrumentIDs []struct {
		Description string
		AssetID     string `json:"asset_id"`
		Venue       uint16
		AssetType   uint8 `json:"asset_type"`
		Reserved    uint8
		Bytes12     string
	} `json:"instrument_ids"`
}

type vector struct {
	Name, Hex    string
	ChecksumMode string `json:"checksum_mode"`
	ComputedCRC  string `json:"computed_crc"`
	Expect       struct {
		ParseHeader        string `json:"parse_header"`
		ParseHeaderLax     string `json:"parse_header_without_checksum"`
		ParseTLVExtensions string `json:"parse_tlv_extensions"`
		PayloadComplete    *bool  `json:"payload_complete"`
	}
	Decoded any // numbers as json.Number
}

// ownVectors keep this test meaningful where the shared file is absent. They
// were written out by hand; checksums were computed apart from this package.
const ownVectors = `{
"valid": [{
	"name": "own_sell_trade", "checksum_mode": "set", "computed_crc": "0x5DC03D10",
	"expect": {"parse_header": "ok", "parse_header_without_checksum": "ok", "parse_tlv_extensions": "ok"},
	"decoded": {
		"header": {"magic": "0xDEADBEEF", "relay_domain": 0, "version": 1, "source": 2, "flags": 128, "sequence": 18446744073709551615,
			"timestamp": 1755893490012637000, "payload_size": 42, "checksum": "0x5DC03D10"},
		"tlvs": [{"offset": 32, "format": "standard", "type": 1, "length": 40, "payload_offset": 34, "fields": {
			"asset_id": 4779518975120983040, "price_e8": 11682785000000, "volume_e8": 4147, "execution_timestamp_ns": 1755893490012637000,
			"venue_id": 102, "asset_type": 51, "reserved": 0, "side": 1}}]},
	"hex": "efbeadde00010280ffffffffffffffff48c79f77d32f5e182a000000103dc05d0128004453552f43544240fa3f1ca00a0000331000000000000048c79f77d32f5e186600330001000000"
}],
"invalid": [{
	"name": "own_dangling_byte",
	"expect": {"parse_header": "ChecksumMismatch", "parse_header_without_checksum": "ok", "parse_tlv_extensions": "TruncatedTLV", "payload_complete": true},
	"hex": "efbeadde0301630001000000000000000000000000000000030000000100000096000a"
}, {
	"name": "own_short",
	"expect": {"parse_header": "MessageTooSmall", "parse_header_without_checksum": "MessageTooSmall", "parse_tlv_extensions": "n/a", "payload_complete": false},
	"hex": "efbeadde"
}]}`

func torqName(err error) string {
	var e *Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Reason.Error()
	}
	return err.Error()
}

// loadVectors returns our own vectors and those of the shared file, if there is one above this directory.
func loadVectors(t *testing.T) []vectorFile {
	texts := [][]byte{[]byte(ownVectors)}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "shared", "protocol", "protocol-v2-vectors.json"))
		if err == nil {
			texts = append(texts, text)
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Log("no shared vectors above this directory: own vectors only")
			break
		}
		dir = parent
	}
	files := make([]vectorFile, len(texts))
	for i, text := range texts {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&files[i]); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestVectorIsReadDifferently(t *testing.T) {
	for _, file := range loadVectors(t) {
		for _, v := range append(file.Valid, file.Invalid...) {
			t.Run(v.Name, func(t *testing.T) { checkParse(t, v) })
		}
		for _, v := range file.Valid {
			t.Run(v.Name+"/round trip", func(t *testing.T) { checkRoundTrip(t, v) })
		}
		for _, s := range file.Streams {
			t.Run(s.Name, func(t *testing.T) {
				b := unhex(t, s.Hex)
				splitter := NewSplitter(SplitterOptions{})
				splitter.Write(b)
				for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
					if p.Message == nil {
						continue
					}
					if len(s.Messages) == 0 || p.Offset != uint64(s.Messages[0].Offset) || len(p.Message) != s.Messages[0].Length {
						t.Fatalf("a message of %d bytes at %d, want %v", len(p.Message), p.Offset, s.Messages)
					}
					s.Messages = s.Messages[1:]
					mustParse(t, p.Message, ChecksumVerifyIfNonzero)
				}
				if len(s.Messages) > 0 || splitter.Pending() != s.UndecidedTail {
					t.Errorf("tail %d, want %d; not found: %v", splitter.Pending(), s.UndecidedTail, s.Messages)
				}
			})
		}
		for _, v := range file.InstrumentIDs {
			t.Run(v.Description, func(t *testing.T) {
				asset, err := strconv.ParseUint(v.AssetID, 0, 64)
				if err != nil {
					t.Fatal(err)
				}
				want := InstrumentID{asset, VenueID(v.Venue), AssetType(v.AssetType), v.Reserved}
				wire := unhex(t, v.Bytes12)
				id, err := parseInstrumentID(wire)
				if err != nil || id != want {
					t.Errorf("%+v, %v, want %+v", id, err, want)
				}
				var out [InstrumentIDSize]byte
				if want.Put(out[:]); !bytes.Equal(out[:], wire) {
					t.Errorf("% x, want % x", out, wire)
				}
				if symbol, ok := id.Symbol(); ok && symbolID(id.Venue, id.Type, symbol) != id {
					t.Errorf("symbol %q does not give the id back", symbol)
				}
			})
		}
	}
}

// checkParse compares the three operations of Torq's parser with ours.
func checkParse(t *testing.T, v vector) {
	b := unhex(t, v.Hex)
	h, err := ParseHeader(b)
	if got := torqName(err); got != v.Expect.ParseHeaderLax {
		t.Errorf("header: %v, want %s", err, v.Expect.ParseHeaderLax)
	}
	// Torq takes a slice that is not one message if its checksum is right; Parse does not.
	whole := err == nil && len(b) == HeaderSize+int(h.PayloadSize)
	strict := err
	if err == nil && Checksum(b) != h.Checksum {
		strict = &Error{Reason: ErrChecksumMismatch}
	}
	if got := torqName(strict); got != v.Expect.ParseHeader {
		t.Errorf("header and checksum: %s, want %s", got, v.Expect.ParseHeader)
	}
	if _, err := Parse(b, ChecksumRequire); whole && torqName(err) != v.Expect.ParseHeader || !whole && err == nil {
		t.Errorf("Parse, ChecksumRequire: %v, want %s", err, v.Expect.ParseHeader)
	}
	if _, err := Parse(b, ChecksumIgnore); whole != (err == nil) {
		t.Errorf("Parse, ChecksumIgnore: %v", err)
	}
	if v.ComputedCRC != "" && fmt.Sprintf("0x%08X", Checksum(b)) != v.ComputedCRC {
		t.Errorf("checksum 0x%08X, want %s", Checksum(b), v.ComputedCRC)
	}
	complete := err == nil && len(b) >= HeaderSize+int(h.PayloadSize)
	if want := v.Expect.PayloadComplete; want != nil && *want && err == nil && !complete {
		t.Error("the payload is taken for incomplete")
	}
	if v.Expect.ParseTLVExtensions == "n/a" {
		return
	}
	if complete {
		b = b[:HeaderSize+int(h.PayloadSize)]
	}
	c := Message{bytes: b}.Cursor(ModeStrict)
	for c.Next() {
	}
	if got := torqName(c.Err()); got != v.Expect.ParseTLVExtensions {
		t.Errorf("TLVs, strict: %v, want %s", c.Err(), v.Expect.ParseTLVExtensions)
	}
}

// checkRoundTrip compares the decoded form, and builds the message again from what was parsed.
func checkRoundTrip(t *testing.T, v vector) {
	b := unhex(t, v.Hex)
	m := mustParse(t, b, ChecksumVerifyIfNonzero)
	var got any
	d := json.NewDecoder(bytes.NewReader(m.AppendJSON(nil, DialectTypes)))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	wantSame(t, "decoded", got, v.Decoded)

	again, err := AppendMessage(nil, m.AppendJSON(nil, DialectCodec))
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encoded again: %v\n%x, want\n%x", err, again, b)
	}

	// The structs and the builder make the same bytes.
	out := make([]byte, len(b))
	build := NewBuilder(out, m.Header())
	canonical := true
	for tlv, err := range m.TLVs() {
		if err != nil {
			t.Fatal(err)
		}
		canonical = canonical && tlv.Extended == (len(tlv.Payload) > 255)
		build.Append(tlv.Type, rebuilt(t, tlv))
	}
	n, err := build.Finish(v.ChecksumMode == "set")
	if err != nil {
		t.Fatal(err)
	}
	if canonical && !bytes.Equal(out[:n], b) {
		t.Errorf("built again: %x\nwant         %x", out[:n], b)
	}
}

// rebuilt is the payload as its struct reads and writes it, if it has one.
func rebuilt(t *testing.T, tlv TLV) []byte {
	for _, p := range payloads {
		if p.typ == tlv.Type && p.typ.Info().Layout.Size == len(tlv.Payload) {
			v := p.new()
			if err := v.Parse(tlv.Payload); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, len(tlv.Payload))
			v.Put(b)
			return b
		}
	}
	return tlv.Payload
}

// wantSame checks that got has everything that want has, and a payload in hex
// where want has no fields.
func wantSame(t *testing.T, path string, got, want any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v", path, got)
			return
		}
		for key, value := range want {
			wantSame(t, path+"."+key, object[key], value)
		}
		if _, fields := want["fields"]; !fields && want["payload_offset"] != nil {
			if object["fields"] != nil {
				t.Errorf("%s has fields: %v", path, object)
			}
			payload, err := hex.DecodeString(fmt.Sprint(object["payload"]))
			if err != nil || fmt.Sprint(len(payload)) != fmt.Sprint(want["length"]) {
				t.Errorf("%s: payload %v, %v", path, object["payload"], err)
			}
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			t.Errorf("%s is %v", path, got)
			return
		}
		for i := range want {
			wantSame(t, fmt.Sprintf("%s[%d]", path, i), list[i], want[i])
		}
	case json.Number: // a string on our side if it has 64 bits
		if n, ok := got.(json.Number); fmt.Sprint(got) != want.String() || ok && len(n) > 11 {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	default:
		if got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}
