package torqbridge

import (
	"encoding/binary"
	"fmt"
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

// subjectKey is what decides on a message's topic.
type subjectKey struct {
	kind   subjectKind
	domain uint8 // 1 + number; 0 in the zero key only
	typ    codec.TLVType
	source codec.Source
	num    uint16 // venue, chain or strategy
	id     [codec.AddressSize]byte
}

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

// Where the payloads have what codec has no function for.
var (
	gasChainAt = codec.TypeGasPrice.Info().Layout.Field("venue").Offset
	strategyAt = codec.TypeArbitrageSignal.Info().Layout.Field("strategy_id").Offset
	tokenInAt  = codec.TypeArbitrageSignal.Info().Layout.Field("token_in").Offset
)

// key finds what decides on the topic, and the type tag of the frame: the number of
// the first TLV, 0 without one. The zero key: no topic.
func (m *Mapping) key(on *domainInfo, msg []byte) (k subjectKey, tag uint16) {
	parsed, err := codec.Parse(msg, codec.ChecksumIgnore)
	if err != nil {
		return k, 0
	}
	source := parsed.Header().Source
	cursor := parsed.Cursor(codec.ModeRelay)
	if !cursor.Next() {
		if cursor.Err() != nil {
			return k, 0
		}
		return subjectKey{kind: kindHeartbeat, domain: uint8(on.number) + 1, source: source}, 0
	}
	typ, payload := cursor.TLV.Type, cursor.TLV.Payload
	domain := typ.Domain()
	if domain == codec.DomainNone {
		domain = on.number
	}
	if domain == codec.DomainSystem {
		return subjectKey{kind: kindSystem, domain: uint8(domain) + 1, typ: typ}, uint16(typ)
	}
	k = subjectKey{kind: kindRaw, domain: uint8(domain) + 1, source: source}
	if layout := typ.Info().Layout; layout != nil && len(payload) <= layout.Size {
		k.read(typ, payload, layout.Size)
	}
	return k, uint16(typ)
}

// read takes what a payload with a known layout is about; k stays as it is if that
// is nothing that makes a topic.
func (k *subjectKey) read(typ codec.TLVType, payload []byte, size int) {
	switch {
	case typ == codec.TypeGasPrice && len(payload) == size:
		k.kind, k.num = kindGas, binary.LittleEndian.Uint16(payload[gasChainAt:])
	case typ == codec.TypeArbitrageSignal && len(payload) == size:
		k.kind, k.num = kindArbitrage, binary.LittleEndian.Uint16(payload[strategyAt:])
		copy(k.id[:], payload[tokenInAt:])
	default:
		if id, ok := codec.InstrumentOf(typ, payload); ok {
			k.kind, k.num = kindInstrument, uint16(id.Venue)
			binary.LittleEndian.PutUint64(k.id[:], id.AssetID)
			k.id[8], k.id[9] = uint8(id.Type), id.Reserved
		} else if pool, ok := codec.PoolAddressOf(typ, payload); ok {
			venue, _ := codec.VenueOf(typ, payload)
			k.kind, k.num, k.id = kindPool, uint16(venue), pool
		} else {
			return
		}
	}
	k.source = 0
}

func (k *subjectKey) prefix() string {
	for _, d := range domains {
		if k.domain == uint8(d.number)+1 {
			return d.prefix
		}
	}
	return systemPrefix
}

// name is the built-in topic.
func (k *subjectKey) name(d codec.Dialect) string {
	var a, b string
	switch k.kind {
	case kindSystem:
		return systemPrefix + "." + typeToken(k.typ)
	case kindInstrument:
		venue := codec.VenueID(k.num)
		a = d.VenueToken(venue)
		b = instrumentToken(d, codec.InstrumentID{AssetID: binary.LittleEndian.Uint64(k.id[:]), Venue: venue,
			Type: codec.AssetType(k.id[8]), Reserved: k.id[9]})
	case kindPool:
		a, b = d.VenueToken(codec.VenueID(k.num)), codec.Address(k.id).String()
	case kindGas:
		a, b = "chain-"+strconv.Itoa(int(k.num)), tokenGas
	case kindArbitrage:
		a, b = strconv.Itoa(int(k.num)), codec.Address(k.id).String()
	case kindHeartbeat:
		a, b = sourceToken(d, k.source), tokenHeartbeat
	default:
		a, b = sourceToken(d, k.source), tokenRaw
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
