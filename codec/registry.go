package codec

import "fmt"

// TLVType is the number of a TLV type. Torq's registry names some of 1 to
// 112 and of the vendors' 200 to 254; the rest is unallocated but legal.
type TLVType uint8

// The types whose payload has a known layout, and the marker.
const (
	TypeTrade                   TLVType = 1
	TypeQuote                   TLVType = 2
	TypeOrderBook               TLVType = 3
	TypePoolLiquidity           TLVType = 10
	TypePoolSwap                TLVType = 11
	TypePoolMint                TLVType = 12
	TypePoolBurn                TLVType = 13
	TypePoolTick                TLVType = 14
	TypePoolState               TLVType = 15
	TypePoolSync                TLVType = 16
	TypeQuoteUpdate             TLVType = 17 // same payload as Quote
	TypeGasPrice                TLVType = 18
	TypeStateInvalidationReason TLVType = 19
	TypeArbitrageSignal         TLVType = 32
	TypeStateInvalidation       TLVType = 106
	TypeSystemHealth            TLVType = 107
	TypeTraceContext            TLVType = 108
	TypeRecoveryRequest         TLVType = 110
	TypeExtended                TLVType = 255 // marks the extended form, never a type of its own
)

// TypeInfo is what is known of a TLV type.
type TypeInfo struct {
	Type   TLVType
	Name   string // "" = the registry has none
	Group  string // of its number: "market data"
	Domain Domain // of its number; DomainNone = whatever the message came in on
	Size   Size
	Layout *Layout // nil = the payload is opaque
}

// Size is the registry's rule for the payload bytes of a type. Its parser
// enforces fixed sizes, as ModeStrict does; the bounds of others are broken by
// Torq's own messages (a PoolSwap has 208 bytes) and enforced nowhere.
type Size struct {
	Min, Max int // bytes
}

// Fixed reports whether the rule allows one size only.
func (s Size) Fixed() bool { return s.Min == s.Max }

// String returns "40", "20-300" or "any".
func (s Size) String() string {
	switch {
	case s.Fixed():
		return fmt.Sprint(s.Min)
	case s == anySize:
		return "any"
	}
	return fmt.Sprintf("%d-%d", s.Min, s.Max)
}

var anySize = Size{0, MaxPayload}

func fixed(n int) Size { return Size{n, n} }

// Range is a run of type numbers that belong together.
type Range struct {
	First, Last TLVType
	Group       string
	Domain      Domain
}

// ranges cover 0 to 255. Torq's own functions disagree on 60 to 79 and from
// 100 up; this is what its relays' parser does, without the fallback to market
// data that it has for numbers nobody allocated.
var ranges = [...]Range{
	{0, 0, "unallocated", DomainNone},
	{1, 19, "market data", DomainMarketData},
	{20, 39, "signals", DomainSignal},
	{40, 59, "execution", DomainExecution},
	{60, 79, "portfolio and risk", DomainSignal},
	{80, 99, "compliance", DomainSystem},
	{100, 119, "system", DomainSystem},
	{120, 199, "unallocated", DomainNone},
	{200, 254, "vendor", DomainNone},
	{255, 255, "marker", DomainNone},
}

// Ranges returns the runs of type numbers, from 0 to 255 without a hole.
func Ranges() []Range { return append([]Range(nil), ranges[:]...) }

// Types returns the types that have a name, by number.
func Types() []TypeInfo {
	var all []TypeInfo
	for _, info := range registry {
		if info.Name != "" {
			all = append(all, info)
		}
	}
	return all
}

// Info returns what is known of t; its Layout must not be changed.
func (t TLVType) Info() TypeInfo { return registry[t] }

// Domain returns the domain that t belongs to by its number, DomainNone if the
// number decides nothing. The header of a message may name another one.
func (t TLVType) Domain() Domain { return registry[t].Domain }

// String returns the registry's name, "Unknown" if it has none.
func (t TLVType) String() string {
	if name := registry[t].Name; name != "" {
		return name
	}
	return "Unknown"
}

// FixedSize returns the payload bytes that the registry prescribes for t, 0 if
// it prescribes none. Only ModeStrict enforces it.
func (t TLVType) FixedSize() int { return int(fixedSizes[t]) }

// takes reports whether a standard TLV of type t may have a payload of n bytes:
// any, or the type's fixed size, or that of its layout.
func (t TLVType) takes(n int) bool {
	info := &registry[t]
	return !info.Size.Fixed() || info.Size.Min == n || info.Layout != nil && info.Layout.Size == n
}

// fixedSizes is a column of the registry that the cursor can look up at once.
var fixedSizes = func() (sizes [256]uint8) {
	for i, info := range registry {
		if info.Size.Fixed() {
			sizes[i] = uint8(info.Size.Min)
		}
	}
	return sizes
}()

// registry is everything known of each type: table with the ranges laid under it.
var registry = func() (all [256]TypeInfo) {
	for _, r := range ranges {
		for i := int(r.First); i <= int(r.Last); i++ {
			all[i] = TypeInfo{TLVType(i), table[i].name, r.Group, r.Domain, table[i].size, table[i].layout}
			if all[i].Size == (Size{}) {
				all[i].Size = anySize
			}
		}
	}
	return all
}()

// table is Torq's registry of TLV types. No size means any; no layout means opaque.
var table = [256]struct {
	name   string
	size   Size
	layout *Layout
}{
	1:  {"Trade", fixed(40), &tradeLayout},
	2:  {"Quote", fixed(52), &quoteLayout}, // and 56 on the wire
	3:  {"OrderBook", anySize, &orderBookLayout},
	4:  {"InstrumentMeta", anySize, nil},
	5:  {"L2Snapshot", anySize, nil},
	6:  {"L2Delta", anySize, nil},
	7:  {"L2Reset", anySize, nil},
	8:  {"PriceUpdate", anySize, nil},
	9:  {"VolumeUpdate", anySize, nil},
	10: {"PoolLiquidity", Size{20, 300}, &poolLiquidityLayout},
	11: {"PoolSwap", Size{60, 200}, &poolSwapLayout},
	12: {"PoolMint", Size{50, 180}, &poolMintLayout},
	13: {"PoolBurn", Size{50, 180}, &poolMintLayout},
	14: {"PoolTick", Size{30, 120}, &poolTickLayout},
	15: {"PoolState", Size{60, 200}, &poolStateLayout},
	16: {"PoolSync", Size{40, 150}, &poolSyncLayout},
	17: {"QuoteUpdate", fixed(52), &quoteLayout},
	18: {"GasPrice", fixed(32), &gasPriceLayout},
	19: {"StateInvalidationReason", fixed(1), &invalidationReasonLayout},

	20: {"SignalIdentity", fixed(16), nil},
	21: {"AssetCorrelation", fixed(24), nil},
	22: {"Economics", fixed(32), nil},
	23: {"ExecutionAddresses", fixed(84), nil},
	24: {"VenueMetadata", fixed(12), nil},
	25: {"StateReference", fixed(24), nil},
	26: {"ExecutionControl", fixed(16), nil},
	27: {"PoolAddresses", fixed(44), nil},
	28: {"MEVBundle", fixed(40), nil},
	29: {"TertiaryVenue", fixed(24), nil},
	30: {"RiskParameters", Size{24, 512}, nil},
	31: {"PerformanceMetrics", Size{32, 1024}, nil},
	32: {"ArbitrageSignal", fixed(170), &arbitrageSignalLayout},

	40: {"OrderRequest", fixed(32), nil},
	41: {"OrderStatus", fixed(24), nil},
	42: {"Fill", fixed(32), nil},
	43: {"OrderCancel", fixed(16), nil},
	44: {"OrderModify", fixed(24), nil},
	45: {"ExecutionReport", fixed(48), nil},
	46: {"Portfolio", Size{32, 2048}, nil},
	47: {"Position", Size{24, 512}, nil},
	48: {"Balance", Size{16, 256}, nil},
	49: {"TradeConfirmation", Size{32, 256}, nil},

	60: {"RiskDecision", fixed(32), nil},
	61: {"PositionUpdate", Size{40, 512}, nil},
	62: {"RiskAlert", Size{24, 256}, nil},
	63: {"CollateralUpdate", fixed(48), nil},
	64: {"ExposureReport", Size{32, 1024}, nil},
	65: {"PortfolioEvent", Size{32, 512}, nil},
	66: {"RiskThreshold", fixed(40), nil},
	67: {"FlashLoanResult", Size{48, 256}, nil},
	68: {"PostTradeAnalytics", Size{64, 512}, nil},
	69: {"PositionQuery", fixed(32), nil},
	70: {"RiskMetrics", Size{48, 1024}, nil},
	71: {"CircuitBreaker", fixed(24), nil},
	72: {"StrategyRegistration", Size{32, 256}, nil},

	80: {"ComplianceCheck", Size{32, 512}, nil},
	81: {"AuditTrail", Size{48, 2048}, nil},
	82: {"RegulatoryReport", Size{64, 4096}, nil},
	83: {"TradeBreakdown", Size{48, 1024}, nil},
	84: {"SettlementInstruction", Size{40, 512}, nil},
	85: {"ClearingReport", Size{32, 512}, nil},
	86: {"MarginCall", fixed(48), nil},
	87: {"CustodyEvent", Size{40, 256}, nil},
	88: {"VenueConnectivity", fixed(32), nil},
	89: {"CrossVenueSpread", fixed(40), nil},
	90: {"ArbitrageExecution", Size{48, 256}, nil},

	100: {"Heartbeat", fixed(16), nil},
	101: {"Snapshot", Size{32, 1024}, nil},
	102: {"Error", Size{16, 512}, nil},
	103: {"ConfigUpdate", Size{20, 2048}, nil},
	104: {"ServiceDiscovery", Size{24, 512}, nil},
	105: {"ResourceUsage", fixed(64), nil},
	106: {"StateInvalidation", Size{16, 512}, &stateInvalidationLayout},
	107: {"SystemHealth", fixed(48), &systemHealthLayout},
	108: {"TraceContext", Size{32, 256}, &traceContextLayout},
	110: {"RecoveryRequest", fixed(24), &recoveryRequestLayout},
	111: {"RecoveryResponse", Size{20, 1024}, nil},
	112: {"SequenceSync", Size{16, 256}, nil},

	200: {"PoolInfo", anySize, nil},
	201: {"PoolCacheHeader", anySize, nil},
	202: {"ProprietaryData", anySize, nil},
	203: {"CustomMetrics", anySize, nil},
	204: {"ExperimentalSignal", anySize, nil},

	255: {"ExtendedTLV", anySize, nil},
}
