package torqbridge

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/topic"
)

// domainInfo is what a relay's domain is called where.
type domainInfo struct {
	name   string // in configuration, and of its socket
	prefix string // of its topics
	number codec.Domain
}

var domains = []domainInfo{
	{"market_data", "market", codec.DomainMarketData},
	{"signals", "signals", codec.DomainSignal},
	{"execution", "execution", codec.DomainExecution},
}

const (
	systemPrefix  = "system"
	systemPattern = systemPrefix + ".>"
)

var domainNames = func() (names []string) {
	for _, d := range domains {
		names = append(names, d.name)
	}
	return names
}()

// DomainNames are the names of the domains that have a relay.
func DomainNames() []string { return slices.Clone(domainNames) }

// domainOf returns the domain of that name, or the first.
func domainOf(name string) *domainInfo {
	for i := range domains {
		if domains[i].name == name {
			return &domains[i]
		}
	}
	return &domains[0]
}

// Mapping gives each message its topic:
//
//	market.{venue}.{instrument}    Trade, Quote, OrderBook: market.coinbase.BTC-USD
//	market.{venue}.0x{40 hex}      a pool, by its full address
//	market.chain-{id}.gas_price    GasPrice, whose venue is a chain
//	signals.{strategy}.0x{40 hex}  ArbitrageSignal, by the token it starts from
//	system.{type}                  TLV types 80 to 119: system.state_invalidation
//	{domain}.{source}.raw          payloads without a layout, and types 120 to 254
//	{domain}.{source}.heartbeat    messages without a TLV
//
// The first TLV decides. Its number names the domain: 1-19 market, 20-39 and 60-79
// signals, 40-59 execution, 80-119 system; what is left, and heartbeats, belong to
// the socket that the message came in on. A message whose first TLV is malformed has
// no topic. [MapConfig] entries then rename topics.
//
// A Mapping is for one goroutine at a time.
type Mapping struct {
	dialect codec.Dialect
	rename  topic.Set[string]
	cache   map[subjectKey]string
	last    subjectKey
	topic   string
}

// NewMapping makes the mapping of a configuration.
func NewMapping(c *Config) *Mapping {
	m := &Mapping{cache: map[subjectKey]string{}}
	_ = m.dialect.UnmarshalText([]byte(c.Dialect)) // "" is the default
	for _, r := range c.Maps {
		m.rename.Put(r.Match, r.Topic)
	}
	return m
}

// Topic returns the topic of a message that came in on a domain's socket, "" if it
// has none. It allocates nothing for a topic that it has given before.
func (m *Mapping) Topic(domain string, msg []byte) string {
	k, _ := m.key(domainOf(domain), msg)
	if k == (subjectKey{}) {
		return ""
	}
	return m.name(k)
}

func (m *Mapping) name(k subjectKey) string {
	if k == m.last {
		return m.topic
	}
	t, ok := m.cache[k]
	if !ok {
		t = m.renamed(k.name(m.dialect))
		m.cache[k] = t
	}
	m.last, m.topic = k, t
	return t
}

// subjectKey is what decides on a message's topic: four words, so that keys are made
// and compared in registers. From the lowest bit of what:
//
//	| kind 8 | 1 + domain 8 | type 8 | source 8 | venue, chain or strategy 16 | 0 |
//
// a, b and c are the 20 bytes of an address, or asset id, asset type and reserved byte of
// an instrument. The zero key is none.
type subjectKey struct{ what, a, b, c uint64 }

type subjectKind uint8

const (
	kindRaw subjectKind = iota
	kindHeartbeat
	kindInstrument
	kindPool
	kindGas
	kindArbitrage
	kindSystem
)

func what(kind subjectKind, domain codec.Domain, typ codec.TLVType, source codec.Source, num uint16) uint64 {
	return uint64(kind) | (uint64(domain)+1)<<8 | uint64(typ)<<16 | uint64(source)<<24 | uint64(num)<<32
}

// hash spreads keys; its low bits are as good as any.
func (k subjectKey) hash() uint64 {
	h := (k.what ^ bits.RotateLeft64(k.a, 17) ^ bits.RotateLeft64(k.b, 34) ^ k.c) * 0x9E3779B97F4A7C15
	return h >> 32
}

func (k subjectKey) kind() subjectKind    { return subjectKind(k.what) }
func (k subjectKey) domain() codec.Domain { return codec.Domain(k.what>>8) - 1 }
func (k subjectKey) typ() codec.TLVType   { return codec.TLVType(k.what >> 16) }
func (k subjectKey) source() codec.Source { return codec.Source(k.what >> 24) }
func (k subjectKey) num() uint16          { return uint16(k.what >> 32) }

// byAddress is the key of what has an address.
func byAddress(what uint64, b []byte) subjectKey {
	b = b[:codec.AddressSize]
	return subjectKey{what, binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), uint64(binary.LittleEndian.Uint32(b[16:]))}
}

func (k subjectKey) address() (a codec.Address) {
	binary.LittleEndian.PutUint64(a[:], k.a)
	binary.LittleEndian.PutUint64(a[8:], k.b)
	binary.LittleEndian.PutUint32(a[16:], uint32(k.c))
	return a
}

func (k subjectKey) instrument() codec.InstrumentID {
	return codec.InstrumentID{AssetID: k.a, Venue: codec.VenueID(k.num()), Type: codec.AssetType(k.b), Reserved: uint8(k.c)}
}

// Where the payloads have what codec has no function for.
var (
	gasPriceSize  = codec.TypeGasPrice.Info().Layout.Size
	gasChainAt    = codec.TypeGasPrice.Info().Layout.Field("venue").Offset
	arbitrageSize = codec.TypeArbitrageSignal.Info().Layout.Size
	strategyAt    = codec.TypeArbitrageSignal.Info().Layout.Field("strategy_id").Offset
	tokenInAt     = codec.TypeArbitrageSignal.Info().Layout.Field("token_in").Offset
)

// key finds what decides on the topic, and the type tag of the frame: the number of
// the first TLV, 0 without one. The zero key: no topic.
func (m *Mapping) key(on *domainInfo, msg []byte) (k subjectKey, tag uint16) {
	parsed, err := codec.Parse(msg, codec.ChecksumIgnore)
	if err != nil {
		return k, 0
	}
	cursor := parsed.Cursor(codec.ModeRelay)
	if !cursor.Next() {
		if cursor.Err() != nil {
			return k, 0
		}
		return subjectKey{what: what(kindHeartbeat, on.number, 0, parsed.Header().Source, 0)}, 0
	}
	typ, payload := cursor.TLV.Type, cursor.TLV.Payload
	domain := typ.Domain()
	if domain == codec.DomainNone {
		domain = on.number
	}
	switch id, ok := codec.InstrumentOf(typ, payload); {
	case domain == codec.DomainSystem:
		k.what = what(kindSystem, domain, typ, 0, 0)
	case ok:
		k = subjectKey{what(kindInstrument, domain, 0, 0, uint16(id.Venue)), id.AssetID, uint64(id.Type), uint64(id.Reserved)}
	case typ == codec.TypeGasPrice && len(payload) == gasPriceSize:
		k.what = what(kindGas, domain, 0, 0, binary.LittleEndian.Uint16(payload[gasChainAt:]))
	case typ == codec.TypeArbitrageSignal && len(payload) == arbitrageSize:
		k = byAddress(what(kindArbitrage, domain, 0, 0, binary.LittleEndian.Uint16(payload[strategyAt:])), payload[tokenInAt:])
	default:
		if pool, ok := codec.PoolAddressOf(typ, payload); ok {
			venue, _ := codec.VenueOf(typ, payload)
			k = byAddress(what(kindPool, domain, 0, 0, uint16(venue)), pool[:])
		} else {
			k.what = what(kindRaw, domain, 0, parsed.Header().Source, 0)
		}
	}
	return k, uint16(typ)
}

func (k subjectKey) prefix() string {
	for _, d := range domains {
		if k.domain() == d.number {
			return d.prefix
		}
	}
	return systemPrefix
}

// name is the built-in topic.
func (k subjectKey) name(d codec.Dialect) string {
	var a, b string
	switch k.kind() {
	case kindSystem:
		return systemPrefix + "." + typeToken(k.typ())
	case kindInstrument:
		id := k.instrument()
		a, b = d.VenueToken(id.Venue), instrumentToken(d, id)
	case kindPool:
		a, b = d.VenueToken(codec.VenueID(k.num())), k.address().String()
	case kindGas:
		a, b = "chain-"+strconv.Itoa(int(k.num())), tokenGas
	case kindArbitrage:
		a, b = strconv.Itoa(int(k.num())), k.address().String()
	case kindHeartbeat:
		a, b = sourceToken(d, k.source()), tokenHeartbeat
	default:
		a, b = sourceToken(d, k.source()), tokenRaw
	}
	return k.prefix() + "." + a + "." + b
}

// Subject is what a topic tells of its messages.
type Subject struct {
	Domain     codec.Domain
	Venue      codec.VenueID      // of an instrument or a pool
	Instrument codec.InstrumentID // of market.{venue}.{instrument}
	Pool       codec.Address      // of market.{venue}.0x{40 hex}
	IsPool     bool
}

// Parse turns a topic that the built-in rules gave to an instrument or a pool back
// into what it was made from. The other forms, renamed topics and topics of others
// are refused: what made them is not in them.
func (m *Mapping) Parse(name string) (Subject, bool) {
	tokens := strings.Split(name, ".")
	if len(tokens) != 3 || tokens[0] != domains[0].prefix || isOurs(tokens[2]) {
		return Subject{}, false
	}
	venue, ok := parseVenue(m.dialect, tokens[1])
	if !ok {
		return Subject{}, false
	}
	s := Subject{Domain: codec.DomainMarketData, Venue: venue}
	if pool, ok := codec.ParseAddress(tokens[2]); ok && pool.String() == tokens[2] {
		s.Pool, s.IsPool = pool, true
		return s, true
	}
	s.Instrument, ok = parseInstrument(m.dialect, venue, tokens[2])
	return s, ok
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// renamed applies the [[map]] entries to a built-in topic; "" = the new name is none.
func (m *Mapping) renamed(name string) string {
	_, template, ok := m.rename.Lookup(name)
	if !ok {
		return name
	}
	tokens := strings.Split(name, ".")
	good := true
	name = placeholder.ReplaceAllStringFunc(template, func(s string) string {
		n, _ := strconv.Atoi(s[1 : len(s)-1])
		if n < 1 || n > len(tokens) {
			good = false
			return ""
		}
		return tokens[n-1]
	})
	if !good || topic.Check(name) != nil {
		return ""
	}
	return name
}

// checkTemplate accepts topics with {1} to {16} in them.
func checkTemplate(s string) error {
	bad := ""
	plain := placeholder.ReplaceAllStringFunc(s, func(p string) string {
		if n, err := strconv.Atoi(p[1 : len(p)-1]); err != nil || n < 1 || n > topic.MaxTokens {
			bad = p
		}
		return "x"
	})
	if bad != "" {
		return fmt.Errorf("%q: %s is no token; write {1} to {%d}", s, bad, topic.MaxTokens)
	}
	return topic.Check(plain)
}
