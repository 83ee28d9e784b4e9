package torqbridge

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/torq/mycelium/codec"
)

// Tokens of topics. A symbol becomes a token that can be turned back:
//
//	A-Z a-z 0-9 _   as they are
//	/               -          "BTC/USD" is BTC-USD
//	anything else   :hh        two lower-case hex digits, "BTC-USD" is BTC:2dUSD
//
// So a '-' in a token is a '/' in the symbol, a ':' begins an escape, and '@' never
// comes from a symbol: it sets off the asset type of what is no coin, AAPL@stock.
// A symbol that would read like a word of ours has its first byte escaped.
const hexDigits = "0123456789abcdef"

// Last tokens that are no instruments.
const (
	tokenRaw       = "raw"       // payloads without a known layout
	tokenHeartbeat = "heartbeat" // messages without a TLV
	tokenGas       = "gas_price"
)

func isOurs(token string) bool {
	return token == tokenRaw || token == tokenHeartbeat || token == tokenGas
}

func escapeSymbol(symbol string) string {
	b := make([]byte, 0, 3*len(symbol))
	for i := range len(symbol) {
		switch c := symbol[i]; {
		case c == '/':
			b = append(b, '-')
		case isWord(c) && !(i == 0 && isOurs(symbol)):
			b = append(b, c)
		default:
			b = append(b, ':', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}

// unescapeSymbol undoes escapeSymbol; false = it made no such token.
func unescapeSymbol(token string) (string, bool) {
	var b []byte
	for i := 0; i < len(token); i++ {
		switch c := token[i]; {
		case c == '-':
			b = append(b, '/')
		case isWord(c):
			b = append(b, c)
		case c == ':' && i+2 < len(token):
			hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			return "", false
		}
	}
	s := string(b)
	return s, s != "" && escapeSymbol(s) == token
}

// instrumentToken is an instrument without its venue:
//
//	BTC-USD                     a coin by its symbol
//	AAPL@stock                  a stock or bond
//	50-a0b86991c6218b36         anything else: asset type, asset id
//	100-000000000000002a-01     likewise, with a reserved byte
func instrumentToken(d codec.Dialect, id codec.InstrumentID) string {
	if symbol, ok := id.Symbol(); ok && id.Reserved == 0 {
		if id.Type == codec.AssetCoin {
			return escapeSymbol(symbol)
		}
		return escapeSymbol(symbol) + "@" + strings.ToLower(d.AssetTypeName(id.Type))
	}
	s := fmt.Sprintf("%d-%016x", id.Type, id.AssetID)
	if id.Reserved != 0 {
		s += fmt.Sprintf("-%02x", id.Reserved)
	}
	return s
}

// parseInstrument undoes instrumentToken.
func parseInstrument(d codec.Dialect, venue codec.VenueID, token string) (codec.InstrumentID, bool) {
	ok := func(id codec.InstrumentID) (codec.InstrumentID, bool) { return id, instrumentToken(d, id) == token }
	if typ, hex, cut := strings.Cut(token, "-"); cut {
		id := codec.InstrumentID{Venue: venue}
		t, err := strconv.ParseUint(typ, 10, 8)
		hex, reserved, more := strings.Cut(hex, "-")
		asset, err2 := strconv.ParseUint(hex, 16, 64)
		var r uint64
		var err3 error
		if more {
			r, err3 = strconv.ParseUint(reserved, 16, 8)
		}
		if err == nil && err2 == nil && err3 == nil && len(hex) == 16 {
			id.Type, id.AssetID, id.Reserved = codec.AssetType(t), asset, uint8(r)
			return ok(id)
		}
	}
	name, kind, typed := strings.Cut(token, "@")
	symbol, good := unescapeSymbol(name)
	switch {
	case !good || len(symbol) > 8:
		return codec.InstrumentID{}, false
	case !typed:
		return ok(codec.Coin(venue, symbol))
	case strings.EqualFold(kind, d.AssetTypeName(codec.AssetStock)):
		return ok(codec.Stock(venue, symbol))
	}
	return ok(codec.Bond(venue, symbol))
}

// parseVenue undoes Dialect.VenueToken.
func parseVenue(d codec.Dialect, token string) (codec.VenueID, bool) {
	for _, v := range d.Venues() {
		if strings.ToLower(v.Name) == token {
			return codec.VenueID(v.Number), true
		}
	}
	n, err := strconv.ParseUint(token, 10, 16)
	v := codec.VenueID(n)
	return v, err == nil && d.VenueToken(v) == token
}

// sourceToken names who made a message: kraken, metricscollector, source-200.
func sourceToken(d codec.Dialect, s codec.Source) string {
	name := strings.ToLower(d.SourceName(s))
	if name == "" {
		return fmt.Sprintf("source-%d", s)
	}
	if name != "metricscollector" {
		name = strings.TrimSuffix(name, "collector")
	}
	return name
}

// typeToken is a TLV type: state_invalidation, or its number if it has no name.
func typeToken(t codec.TLVType) string {
	name := t.Info().Name
	if name == "" {
		return strconv.Itoa(int(t))
	}
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
