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
//	{"header":{"magic":"0xDEADBEEF","relay_domain":0,...},
//	 "tlvs":[{"offset":32,"format":"standard","type":1,"length":40,"payload_offset":34,"fields":{...}},...]}
//
// 64-bit numbers are strings, since JavaScript cannot hold them. A TLV has
// "fields" if its layout is known (Trade, Quote of 56 bytes), else its
// "payload" in hex; padding that is not zero is in "padding". If the walk ends
// early, "error" follows "tlvs" with "reason" and "offset". The object takes at
// most 300 bytes, 500 for each TLV, and 2 for each byte of a payload in hex.
func (m Message) AppendJSON(dst []byte) []byte {
	h := m.Header()
	dst = fmt.Appendf(dst, `{"header":{"magic":"0x%08X","relay_domain":%d,"version":%d,"source":%d,"flags":%d,`,
		uint32(Magic), h.Domain, h.Version, h.Source, h.Flags)
	dst = fmt.Appendf(dst, `"sequence":"%d","timestamp":"%d","payload_size":%d,"checksum":"0x%08X"},"tlvs":[`,
		h.Sequence, h.TimestampNs, h.PayloadSize, h.Checksum)
	c := m.Cursor(ModeBridge)
	for first := true; c.Next(); first = false {
		if !first {
			dst = append(dst, ',')
		}
		dst = c.TLV.appendJSON(dst)
	}
	dst = append(dst, ']')
	var e *Error
	if errors.As(c.err, &e) {
		dst = fmt.Appendf(dst, `,"error":{"reason":%q,"offset":%d}`, e.Reason, e.Offset)
	}
	return append(dst, '}')
}

// MarshalJSON returns what AppendJSON appends. It never fails.
func (m Message) MarshalJSON() ([]byte, error) { return m.AppendJSON(nil), nil }

func (t *TLV) appendJSON(dst []byte) []byte {
	format := "standard"
	if t.Extended {
		format = "extended"
	}
	dst = fmt.Appendf(dst, `{"offset":%d,"format":%q,"type":%d,"length":%d,"payload_offset":%d,`,
		t.Offset, format, t.Type, len(t.Payload), t.PayloadOffset())
	var trade Trade
	var quote Quote
	switch {
	case t.Type == TypeTrade && trade.Parse(t.Payload) == nil:
		dst = trade.appendJSON(append(dst, `"fields":`...))
	case (t.Type == TypeQuote || t.Type == TypeQuoteUpdate) && len(t.Payload) == QuoteSize && quote.Parse(t.Payload) == nil:
		dst = quote.appendJSON(append(dst, `"fields":`...))
	default:
		dst = append(dst, `"payload":"`...)
		dst = hex.AppendEncode(dst, t.Payload)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

func (t *Trade) appendJSON(dst []byte) []byte {
	dst = fmt.Appendf(dst, `{"asset_id":"%d","price_e8":"%d","volume_e8":"%d","execution_timestamp_ns":"%d",`,
		t.Instrument.AssetID, t.Price, t.Volume, t.ExecutionTimestampNs)
	dst = t.Instrument.appendTail(dst)
	dst = append(dst, `,"side":`...)
	dst = strconv.AppendUint(dst, uint64(t.Side), 10)
	if t.Padding != [3]byte{} {
		dst = fmt.Appendf(dst, `,"padding":"%x"`, t.Padding)
	}
	return append(dst, '}')
}

func (q *Quote) appendJSON(dst []byte) []byte {
	dst = fmt.Appendf(dst, `{"asset_id":"%d","bid_price_e8":"%d","bid_size_e8":"%d","ask_price_e8":"%d","ask_size_e8":"%d","quote_timestamp_ns":"%d",`,
		q.Instrument.AssetID, q.BidPrice, q.BidSize, q.AskPrice, q.AskSize, q.QuoteTimestampNs)
	dst = q.Instrument.appendTail(dst)
	if q.Padding != [4]byte{} {
		dst = fmt.Appendf(dst, `,"padding":"%x"`, q.Padding)
	}
	return append(dst, '}')
}

// appendTail appends what follows the numbers in Trade and Quote.
func (id InstrumentID) appendTail(dst []byte) []byte {
	return fmt.Appendf(dst, `"venue_id":%d,"asset_type":%d,"reserved":%d`, uint16(id.Venue), id.Type, id.Reserved)
}
