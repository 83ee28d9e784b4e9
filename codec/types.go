package codec

// TLVType is the number of a TLV type. Torq's registry names some of 1 to
// 112; 200 to 254 are for vendors; the rest is unallocated but legal.
type TLVType uint8

const (
	TypeTrade       TLVType = 1
	TypeQuote       TLVType = 2
	TypeQuoteUpdate TLVType = 17  // same payload as Quote
	TypeExtended    TLVType = 255 // marks the extended form, never a type of its own
)

// String returns the registry's name, "Unknown" if it has none.
func (t TLVType) String() string {
	if name := registry[t].name; name != "" {
		return name
	}
	return "Unknown"
}

// FixedSize returns the payload bytes that the registry prescribes for t, 0 if
// it prescribes none. Only ModeStrict enforces it.
func (t TLVType) FixedSize() int { return int(registry[t].fixed) }

// registry is Torq's table of TLV types, as its parser has it: Quote is 52
// bytes here and 56 on the wire.
var registry = [256]struct {
	name  string
	fixed uint8 // payload bytes, 0 = not fixed
}{
	// Market data.
	1:  {"Trade", 40},
	2:  {"Quote", 52},
	3:  {"OrderBook", 0},
	4:  {"InstrumentMeta", 0},
	5:  {"L2Snapshot", 0},
	6:  {"L2Delta", 0},
	7:  {"L2Reset", 0},
	8:  {"PriceUpdate", 0},
	9:  {"VolumeUpdate", 0},
	10: {"PoolLiquidity", 0},
	11: {"PoolSwap", 0},
	12: {"PoolMint", 0},
	13: {"PoolBurn", 0},
	14: {"PoolTick", 0},
	15: {"PoolState", 0},
	16: {"PoolSync", 0},
	17: {"QuoteUpdate", 52},
	18: {"GasPrice", 32},
	19: {"StateInvalidationReason", 1},

	// Signals.
	20: {"SignalIdentity", 16},
	21: {"AssetCorrelation", 24},
	22: {"Economics", 32},
	23: {"ExecutionAddresses", 84},
	24: {"VenueMetadata", 12},
	25: {"StateReference", 24},
	26: {"ExecutionControl", 16},
	27: {"PoolAddresses", 44},
	28: {"MEVBundle", 40},
	29: {"TertiaryVenue", 24},
	30: {"RiskParameters", 0},
	31: {"PerformanceMetrics", 0},
	32: {"ArbitrageSignal", 170},

	// Execution.
	40: {"OrderRequest", 32},
	41: {"OrderStatus", 24},
	42: {"Fill", 32},
	43: {"OrderCancel", 16},
	44: {"OrderModify", 24},
	45: {"ExecutionReport", 48},
	46: {"Portfolio", 0},
	47: {"Position", 0},
	48: {"Balance", 0},
	49: {"TradeConfirmation", 0},

	// Portfolio and risk.
	60: {"RiskDecision", 32},
	61: {"PositionUpdate", 0},
	62: {"RiskAlert", 0},
	63: {"CollateralUpdate", 48},
	64: {"ExposureReport", 0},
	65: {"PortfolioEvent", 0},
	66: {"RiskThreshold", 40},
	67: {"FlashLoanResult", 0},
	68: {"PostTradeAnalytics", 0},
	69: {"PositionQuery", 32},
	70: {"RiskMetrics", 0},
	71: {"CircuitBreaker", 24},
	72: {"StrategyRegistration", 0},

	// Compliance and settlement.
	80: {"ComplianceCheck", 0},
	81: {"AuditTrail", 0},
	82: {"RegulatoryReport", 0},
	83: {"TradeBreakdown", 0},
	84: {"SettlementInstruction", 0},
	85: {"ClearingReport", 0},
	86: {"MarginCall", 48},
	87: {"CustodyEvent", 0},
	88: {"VenueConnectivity", 32},
	89: {"CrossVenueSpread", 40},
	90: {"ArbitrageExecution", 0},

	// System.
	100: {"Heartbeat", 16},
	101: {"Snapshot", 0},
	102: {"Error", 0},
	103: {"ConfigUpdate", 0},
	104: {"ServiceDiscovery", 0},
	105: {"ResourceUsage", 64},
	106: {"StateInvalidation", 0},
	107: {"SystemHealth", 48},
	108: {"TraceContext", 0},
	110: {"RecoveryRequest", 24},
	111: {"RecoveryResponse", 0},
	112: {"SequenceSync", 0},

	255: {"ExtendedTLV", 0},
}
