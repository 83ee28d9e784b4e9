package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestDecodedMessageEncodesToOtherBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		var tail []byte
		for range r.IntN(5) {
			typ := byte(r.Uint32())
			payload := make([]byte, r.IntN(400))
			if l := TLVType(typ).Info().Layout; l != nil && r.IntN(4) > 0 {
				payload = randomPayload(r, l)
				if r.IntN(2) == 0 { // a third of it zero, as padding is
					clear(payload[len(payload)/3 : 2*len(payload)/3])
				}
				if !l.fits(payload) {
					continue
				}
			}
			if typ == 255 || len(payload) > 255 || r.IntN(5) == 0 {
				tail = append(tail, 255, 0, typ, byte(len(payload)), byte(len(payload)>>8))
			} else {
				tail = append(tail, typ, byte(len(payload)))
			}
			tail = append(tail, payload...)
		}
		m := messageOf(tail)
		for i := 4; i < 24; i++ { // every byte of the header but for magic and payload_size
			m.bytes[i] = byte(r.Uint32())
		}
		le.PutUint32(m.bytes[offChecksum:], r.Uint32())
		text := m.AppendJSON(nil, Dialect(r.IntN(2)))
		b, err := AppendMessage([]byte("x"), text)
		if err != nil || !bytes.Equal(b, append([]byte("x"), m.bytes...)) {
			t.Fatalf("%s\n%v\n%x, want\n%x", text, err, b, m.bytes)
		}
	}
}

func TestPaddingIsLost(t *testing.T) {
	for _, p := range payloads {
		l := p.typ.Info().Layout
		for at := range l.Size {
			payload := make([]byte, l.Size)
			payload[at] = 0x5A
			if !l.fits(payload) { // a count of more than there is room for
				continue
			}
			m := messageOf(append([]byte{255, 0, byte(p.typ), byte(l.Size), byte(l.Size >> 8)}, payload...))
			text := m.AppendJSON(nil, DialectTypes)
			if b, err := AppendMessage(nil, text); err != nil || !bytes.Equal(b, append(m.bytes[:offChecksum:offChecksum], b[offChecksum:]...)) {
				t.Fatalf("%v, byte %d: %v\n%s", p.typ, at, err, text)
			}
		}
	}
}

const jsonHead = `{"header":{"relay_domain":0,"version":1,"source":3,"flags":0,"sequence":1,"timestamp":1700000000123456789},"tlvs":[`

func TestHandWrittenMessageIsRefused(t *testing.T) {
	trade := `{"type":1,"fields":{"asset_id":4779518771825999872,"price_e8":4500050000000,"volume_e8":"12500000",` +
		`"execution_timestamp_ns":"1700000000123455789","venue_id":101,"asset_type":51,"reserved":0,"side":0}}`
	b, err := AppendMessage(nil, []byte(jsonHead+trade+`]}`))
	if err != nil || !bytes.Equal(b, unhex(t, krakenTrade)) {
		t.Errorf("%v: %x, want %s", err, b, krakenTrade)
	}
	short := strings.Replace(`{"type":2,"length":52,"fields":{"asset_id":1,"bid_price_e8":2,"bid_size_e8":3,"ask_price_e8":-4,"ask_size_e8":5,`+
		`"quote_timestamp_ns":6,"venue_id":"0x64","asset_type":51,"reserved":0}}`, "\n", "", -1)
	b, err = AppendMessage(nil, []byte(jsonHead+short+`]}`))
	if err != nil || hex.EncodeToString(b[32:36]) != "02340100" || len(b) != MessageSize(QuoteShortSize) {
		t.Errorf("a Quote of 52 bytes: %v, %x", err, b)
	}
	b, err = AppendMessage(nil, []byte(strings.Replace(jsonHead, `1700000000123456789}`, `0,"checksum":"0x01020304","payload_size":2,"magic":3735928559}`, 1)+`{"type":200,"payload":""}]}`))
	if err != nil || hex.EncodeToString(b[24:]) != "0200000004030201c800" {
		t.Errorf("a checksum that is given: %v, %x", err, b)
	}
}

func TestWrongJSONIsEncoded(t *testing.T) {
	large := `{"type":200,"payload":"` + strings.Repeat("00", 65535) + `"}`
	gas := func(old, new string) string {
		return strings.Replace(`{"type":18,"fields":{"block_number":1,"timestamp_ns":2,"gas_price_gwei":3,"base_fee_gwei":4,"priority_fee_gwei":5,"venue":137,"reserved":0}}`, old, new, 1)
	}
	liquidity := func(old, new string) string {
		return strings.Replace(`{"type":10,"fields":{"timestamp_ns":1,"count":1,"reserves":["7"],"pool_address":"`+strings.Repeat("1", 40)+`","venue":202}}`, old, new, 1)
	}
	book := func(bids string) string {
		return `{"type":3,"fields":{"snapshot_timestamp_ns":1,"sequence":2,"precision_factor":3,"asset_id":4,"venue_id":5,"asset_type":6,"reserved":0,"bids":` + bids + `,"asks":[]}}`
	}
	head := func(old, new string) string { return strings.Replace(jsonHead, old, new, 1) + `]}` }
	for text, want := range map[string]string{
		``:                    "EOF",
		`{`:                   "unexpected EOF",
		`[]`:                  "want an object",
		`{} {}`:               "more after the object",
		`{}`:                  "header: missing",
		`{"header":[]}`:       "header: want an object",
		`{"header":{}}`:       "header.relay_domain: missing",
		jsonHead + `],"x":1}`: `no member "x" is known here`,
		jsonHead + `],"error":{"reason":"TruncatedTLV","offset":36}}`:                                 "error: the message was not decoded whole",
		jsonHead + `],"missing_bytes":1}`:                                                             "missing_bytes: the message was not decoded whole",
		strings.TrimSuffix(jsonHead, `"tlvs":[`) + `"tlvs":7}`:                                        "tlvs: want a list",
		head(`"relay_domain":0`, `"relay_domain":256`):                                                "header.relay_domain: 256 is no number from 0 to 255",
		head(`"relay_domain":0`, `"relay_domain":-1`):                                                 "header.relay_domain: -1 is no",
		head(`"relay_domain":0`, `"relay_domain":1.5`):                                                "header.relay_domain: 1.5 is no",
		head(`"relay_domain":0`, `"relay_domain":{}`):                                                 "header.relay_domain: {} is no",
		head(`"version":1,`, ``):                                                                      "header.version: missing",
		head(`"sequence":1`, `"sequence":"18446744073709551616"`):                                     "from 0 to 18446744073709551615",
		head(`"flags":0`, `"flags":0,"magic":"0xEFBEADDE"`):                                           `header.magic: "0xEFBEADDE", want "0xDEADBEEF"`,
		head(`"flags":0`, `"flags":0,"payload_size":3`):                                               "header.payload_size: 3, but the TLVs take 0 bytes",
		head(`"flags":0`, `"flags":0,"checksum":"zero"`):                                              `header.checksum: "zero" is no number`,
		head(`"flags":0`, `"flag":0,"flags":0`):                                                       `header: no member "flag" is known here`,
		jsonHead + `7]}`:                                                                              "tlvs[0]: want an object",
		jsonHead + `{"payload":""}]}`:                                                                 "tlvs[0].type: missing",
		jsonHead + `{"type":200}]}`:                                                                   "tlvs[0]: want either fields or payload",
		jsonHead + `{"type":1,"fields":{},"payload":""}]}`:                                            "tlvs[0]: want either fields or payload",
		jsonHead + `{"type":200,"payload":"0"}]}`:                                                     "tlvs[0].payload: \"0\" is no string of hex digits",
		jsonHead + `{"type":200,"payload":7}]}`:                                                       "tlvs[0].payload: 7 is no string",
		jsonHead + `{"type":200,"payload":"","length":1}]}`:                                           "tlvs[0].length: 1, but the payload takes 0 bytes",
		jsonHead + `{"type":200,"payload":"","name":"x","x":1}]}`:                                     `tlvs[0]: no member "x" is known here`,
		jsonHead + `{"type":200,"payload":"","format":"long"}]}`:                                      `tlvs[0].format: "long", want`,
		jsonHead + `{"type":200,"format":"standard","payload":"` + strings.Repeat("00", 256) + `"}]}`: "need the extended form",
		jsonHead + `{"type":255,"payload":""}]}`:                                                      "tlvs[0].type: 255 marks the extended form",
		jsonHead + `{"type":200,"payload":"` + strings.Repeat("00", 65536) + `"}]}`:                   "tlvs[0]: 65536 bytes of payload, at most 65535",
		jsonHead + strings.Repeat(large+",", 17) + large + `]}`:                                       "tlvs[15]: the message has 1048640 bytes of TLVs up to here, at most 1048576",
		jsonHead + `{"type":40,"fields":{}}]}`:                                                        "tlvs[0].fields: the payload of type 40 (OrderRequest) has no known layout",
		jsonHead + `{"type":18,"fields":7}]}`:                                                         "tlvs[0].fields: want an object",
		jsonHead + gas(`"venue":137,`, ``) + `]}`:                                                     "tlvs[0].fields.venue: missing",
		jsonHead + gas(`"venue":137`, `"venue":65536`) + `]}`:                                         "tlvs[0].fields.venue: 65536 is no number from 0 to 65535",
		jsonHead + gas(`"venue":137`, `"venue":137,"padding":"00"`) + `]}`:                            "tlvs[0].fields.padding: 1 bytes, want 0",
		jsonHead + gas(`"venue":137`, `"venue":137,"venu":1`) + `]}`:                                  `tlvs[0].fields: no member "venu" is known here`,
		jsonHead + `{"type":14,"fields":{"liquidity_net":"9223372036854775808"}}]}`:                   "from -9223372036854775808 to 9223372036854775807",
		jsonHead + liquidity(`["7"]`, `7`) + `]}`:                                                     "tlvs[0].fields.reserves: want a list",
		jsonHead + liquidity(`["7"]`, `["7","8"]`) + `]}`:                                             "tlvs[0].fields.reserves: 2 elements, but count is 1",
		jsonHead + liquidity(`["7"]`, `[1,2,3,4,5,6,7,8,9]`) + `]}`:                                   "tlvs[0].fields.reserves: 9 elements, room for 8",
		jsonHead + liquidity(`"7"`, `"340282366920938463463374607431768211456"`) + `]}`:               "is no number of at most 128 bits",
		jsonHead + liquidity(`"7"`, `"-1"`) + `]}`:                                                    "is no number of at most 128 bits",
		jsonHead + liquidity(`11`, ``) + `]}`:                                                         "tlvs[0].fields.pool_address: 19 bytes, want 20",
		jsonHead + book(`[7]`) + `]}`:                                                                 "tlvs[0].fields.bids[0]: want an object",
		jsonHead + book(`[{"price":1,"size":2,"order_count":3}]`) + `]}`:                              "tlvs[0].fields.bids[0].reserved: missing",
	} {
		b, err := AppendMessage([]byte("x"), []byte(text))
		var e *JSONError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) || string(b) != "x" {
			t.Errorf("%.200s\n%v (%d bytes), want %s", text, err, len(b), want)
		}
	}
	for _, name := range []string{strings.Repeat("x", 1000), strings.Repeat("\xff", 1000), `\u001b[2J`} {
		_, err := AppendMessage(nil, []byte(`{"header":{"relay_domain":0,"version":1,"source":1,"flags":0,"sequence":0,"timestamp":0,"`+name+`":1},"tlvs":[]}`))
		if err == nil || len(err.Error()) > 200 || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("a long or odd name: %q", err)
		}
	}
	if !json.Valid([]byte(jsonHead + gas("", "") + "]}")) {
		t.Error("the text that the others were made from is no JSON")
	}
	if _, err := AppendMessage(nil, []byte(jsonHead+gas("", "")+","+liquidity("", "")+","+book("[]")+"]}")); err != nil {
		t.Error(err)
	}
}

func TestLongNumberIsWrong(t *testing.T) {
	for _, test := range []struct {
		u    Uint128
		text string
	}{
		{Uint128{}, "0"}, {Uint128{1, 0}, "1"}, {Uint128{0, 1}, "18446744073709551616"},
		{Uint128{1e19 - 1, 0}, "9999999999999999999"}, {Uint128{1e19, 0}, "10000000000000000000"},
		{Uint128{^uint64(0), ^uint64(0)}, "340282366920938463463374607431768211455"},
	} {
		if test.u.String() != test.text {
			t.Errorf("%v, want %s", test.u, test.text)
		}
		if u, ok := ParseUint128(test.text); !ok || u != test.u {
			t.Errorf("%s gives %v, %v", test.text, u, ok)
		}
	}
	full := Uint256{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	const most = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
	if full.String() != most {
		t.Error(full)
	}
	if u, ok := ParseUint256(most); !ok || u != full {
		t.Error(u, ok)
	}
	if _, ok := ParseUint256(most[:77] + "6"); ok {
		t.Error("2^256 fits into 256 bits")
	}
	for _, text := range []string{"", "-1", "+1", "1 ", "0x1", "1e3", "٣"} {
		if _, ok := ParseUint128(text); ok {
			t.Errorf("%q is a number", text)
		}
	}
	for text, want := range map[string]bool{
		"0x" + strings.Repeat("aB", 20): true, strings.Repeat("00", 20): true,
		strings.Repeat("00", 19): false, strings.Repeat("00", 21): false, "0X" + strings.Repeat("00", 20): false, strings.Repeat("0g", 20): false,
	} {
		if a, ok := ParseAddress(text); ok != want || ok && !strings.EqualFold(a.String(), "0x"+strings.TrimPrefix(text, "0x")) {
			t.Errorf("%q gives %v, %v", text, a, ok)
		}
	}
}

func TestFieldIsNotShown(t *testing.T) {
	liquidity := PoolLiquidity{Count: 1, Reserves: [MaxPoolTokens]Uint128{{Lo: 7}, {Lo: 9}}}
	book := OrderBook{BidCount: 1}
	book.Bids[0] = OrderLevel{1, -2, 3, 4}
	payload := func(p payload, n int) []byte {
		b := make([]byte, n)
		p.Put(b)
		return b
	}
	for _, test := range []struct {
		tlv  TLV
		want string
	}{
		{TLV{Type: TypePoolLiquidity, Payload: payload(&liquidity, PoolLiquiditySize)},
			"timestamp_ns=0; count=1; reserves[0]=7; pool_address=" + strings.Repeat("00", 20) + "; venue=0; " +
				"padding=" + strings.Repeat("00", 8+6+8) + "09" + strings.Repeat("00", 15+6*16+12+14)},
		{TLV{Type: TypeOrderBook, Payload: payload(&book, OrderBookSize)},
			"snapshot_timestamp_ns=0; sequence=0; precision_factor=0; asset_id=0; venue_id=0; asset_type=0; reserved=0; " +
				"bids[0]=price 1, size -2, order_count 3, reserved 4"},
		{TLV{Type: TypeGasPrice, Payload: make([]byte, 31)}, ""},
		{TLV{Type: 200, Payload: make([]byte, 31)}, ""},
	} {
		var got []string
		for name, value := range test.tlv.Fields() {
			got = append(got, name+"="+value)
		}
		if strings.Join(got, "; ") != test.want {
			t.Errorf("%v: %s, want %s", test.tlv.Type, strings.Join(got, "; "), test.want)
		}
		for stop := range len(got) {
			n := 0
			for range test.tlv.Fields() {
				if n++; n > stop {
					break
				}
			}
			if n != stop+1 {
				t.Errorf("%v: the loop went on after field %d", test.tlv.Type, stop)
			}
		}
	}
}
