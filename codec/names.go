package codec

import "strings"

// Domain says which of Torq's relays a message is for.
type Domain uint8

const (
	DomainMarketData Domain = 0
	DomainSignal     Domain = 1
	DomainExecution  Domain = 2
	DomainSystem     Domain = 3   // has no relay
	DomainNone       Domain = 255 // no domain; never on the wire
)

// String returns the name in DialectTypes, or the number.
func (v Domain) String() string {
	if v == DomainNone {
		return "none"
	}
	return nameOr(DialectTypes.DomainName(v), int(v))
}

var domains = newNumbers([]number{
	{"MarketData", 0, 1},
	{"Signal", 1, 2},
	{"Execution", 2, 3},
	{"System", 3, 4},
})

// Source says which Torq service made a message.
type Source uint8

const (
	SourceUnknown              Source = 0
	SourceBinance              Source = 1
	SourceCoinbase             Source = 2
	SourceKraken               Source = 3
	SourcePolygon              Source = 4
	SourceGemini               Source = 5
	SourceArbitrageStrategy    Source = 10
	SourceStateManager         Source = 15
	SourceExecutionEngine      Source = 20
	SourceMarketMaker          Source = 21 // from here to KrakenSignalStrategy in DialectCodec only
	SourceTrendFollower        Source = 22
	SourceKrakenSignalStrategy Source = 23
	SourceDashboard            Source = 30
	SourcePortfolioManager     Source = 40 // from here to ExecutionRelay in DialectCodec only
	SourceRiskManager          Source = 41
	SourceMetricsCollector     Source = 61
	SourceMarketDataRelay      Source = 80
	SourceSignalRelay          Source = 81
	SourceExecutionRelay       Source = 82
	SourceTestClient           Source = 99
)

// String returns the name in DialectTypes, or the number.
func (v Source) String() string { return nameOr(DialectTypes.SourceName(v), int(v)) }

var sources = newNumbers([]number{
	{"Unknown", 0, none},
	{"BinanceCollector", 1, 1},
	{"CoinbaseCollector", 2, 3},
	{"KrakenCollector", 3, 2},
	{"PolygonCollector", 4, 4},
	{"GeminiCollector", 5, 5},
	{"ArbitrageStrategy", 10, 20},
	{"StateManager", 15, 62},
	{"ExecutionEngine", 20, 42},
	{"MarketMaker", none, 21},
	{"TrendFollower", none, 22},
	{"KrakenSignalStrategy", none, 23},
	{"Dashboard", 30, 60},
	{"PortfolioManager", none, 40},
	{"RiskManager", none, 41},
	{"MetricsCollector", none, 61},
	{"MarketDataRelay", none, 80},
	{"SignalRelay", none, 81},
	{"ExecutionRelay", none, 82},
	{"TestClient", 99, none},
})

// VenueID is a trading venue, a chain or a protocol on one.
type VenueID uint16

// Venues that Torq's services trade on, and its four chains; Dialect.Venues has them all.
const (
	VenueGeneric  VenueID = 0
	VenueNYSE     VenueID = 1
	VenueNASDAQ   VenueID = 2
	VenueBinance  VenueID = 100
	VenueKraken   VenueID = 101
	VenueCoinbase VenueID = 102
	VenueGemini   VenueID = 108

	VenueEthereum VenueID = 200
	VenuePolygon  VenueID = 202
	VenueBSC      VenueID = 203
	VenueArbitrum VenueID = 206

	VenueUniswapV2 VenueID = 300
	VenueUniswapV3 VenueID = 301
	VenueSushiSwap VenueID = 302
	VenueQuickSwap VenueID = 400
	VenueDeribit   VenueID = 700
)

// String returns the venue as a topic token in DialectTypes: its name in lower
// case, or its number if there is none.
func (v VenueID) String() string { return DialectTypes.VenueToken(v) }

var venues = newNumbers([]number{
	{"Generic", 0, none},
	{"NYSE", 1, 1}, {"NASDAQ", 2, 2}, {"LSE", 3, 3}, {"TSE", 4, none}, {"HKEX", 5, none},
	{"Binance", 100, 100}, {"Kraken", 101, 101}, {"Coinbase", 102, 102}, {"Huobi", 103, none}, {"OKEx", 104, none},
	{"FTX", 105, none}, {"Bybit", 106, none}, {"KuCoin", 107, none}, {"Gemini", 108, none},
	{"Ethereum", 200, 200}, {"Bitcoin", 201, none}, {"Polygon", 202, 201}, {"BinanceSmartChain", 203, 202},
	{"Avalanche", 204, none}, {"Fantom", 205, none}, {"Arbitrum", 206, 203}, {"Optimism", 207, none},
	{"Solana", 208, none}, {"Cardano", 209, none}, {"Polkadot", 210, none}, {"Cosmos", 211, none},
	{"UniswapV2", 300, none}, {"UniswapV3", 301, none}, {"SushiSwap", 302, none}, {"Curve", 303, none},
	{"Balancer", 304, none}, {"Aave", 305, none}, {"Compound", 306, none}, {"MakerDAO", 307, none},
	{"Yearn", 308, none}, {"Synthetix", 309, none}, {"DYdX", 310, none},
	{"QuickSwap", 400, none}, {"SushiSwapPolygon", 401, none}, {"CurvePolygon", 402, none},
	{"AavePolygon", 403, none}, {"BalancerPolygon", 404, none},
	{"PancakeSwap", 500, none}, {"VenusProtocol", 501, none},
	{"UniswapV3Arbitrum", 600, none}, {"SushiSwapArbitrum", 601, none}, {"CurveArbitrum", 602, none},
	{"Deribit", 700, none}, {"BybitDerivatives", 701, none}, {"OpynProtocol", 702, none}, {"Hegic", 703, none},
	{"COMEX", 800, none}, {"CME", 801, none}, {"ICE", 802, none}, {"ForexCom", 803, none},
	{"TestVenue", 65000, none}, {"MockExchange", 65001, none},
})

var venueTokens = func() (tokens [2]map[VenueID]string) {
	for d := range tokens {
		tokens[d] = make(map[VenueID]string)
		for _, v := range Dialect(d).Venues() {
			tokens[d][VenueID(v.Number)] = strings.ToLower(v.Name)
		}
	}
	return tokens
}()

// AssetType is the kind of an instrument.
type AssetType uint8

const (
	AssetStock           AssetType = 1
	AssetBond            AssetType = 2
	AssetETF             AssetType = 3
	AssetCommodity       AssetType = 4
	AssetCurrency        AssetType = 5
	AssetIndex           AssetType = 6
	AssetToken           AssetType = 50
	AssetCoin            AssetType = 51
	AssetNFT             AssetType = 52
	AssetStableCoin      AssetType = 53
	AssetWrappedToken    AssetType = 54
	AssetPool            AssetType = 100
	AssetLPToken         AssetType = 101
	AssetYieldToken      AssetType = 102
	AssetSynthetic       AssetType = 103
	AssetDerivativeToken AssetType = 104
	AssetGovernanceToken AssetType = 105
	AssetOption          AssetType = 150
	AssetFuture          AssetType = 151
	AssetSwap            AssetType = 152
	AssetForward         AssetType = 153
	AssetCDS             AssetType = 154
	AssetStructuredNote  AssetType = 200
	AssetConvertibleBond AssetType = 201
	AssetTest            AssetType = 250
	AssetMock            AssetType = 251
)

// String returns the name in DialectTypes, or the number.
func (v AssetType) String() string { return nameOr(DialectTypes.AssetTypeName(v), int(v)) }

var assetTypes = newNumbers([]number{
	{"Stock", 1, 1}, {"Bond", 2, 2}, {"ETF", 3, 3}, {"Commodity", 4, 5}, {"Currency", 5, 4}, {"Index", 6, none},
	{"Token", 50, 50}, {"Coin", 51, 51}, {"NFT", 52, 54}, {"StableCoin", 53, 52}, {"WrappedToken", 54, 53},
	{"Pool", 100, 100}, {"LPToken", 101, 101}, {"YieldToken", 102, 102}, {"SyntheticAsset", 103, none},
	{"DerivativeToken", 104, none}, {"GovernanceToken", 105, 103},
	{"Option", 150, 150}, {"Future", 151, 151}, {"Swap", 152, 152}, {"Forward", 153, none}, {"CDS", 154, none},
	{"StructuredNote", 200, none}, {"ConvertibleBond", 201, none},
	{"TestAsset", 250, none}, {"MockAsset", 251, none},
})

// PoolType is the protocol of a pool, in PoolState. Torq's pool cache files
// have a third numbering, which never travels in messages. The constants are
// those of DialectTypes; DialectCodec has 3 for QuickswapV2 and shifts the rest.
type PoolType uint8

const (
	PoolUniswapV2   PoolType = 0
	PoolUniswapV3   PoolType = 1
	PoolSushiswapV2 PoolType = 2
	PoolQuickswapV3 PoolType = 3
	PoolCurve       PoolType = 4
	PoolBalancer    PoolType = 5
)

// String returns the name in DialectTypes, or the number.
func (v PoolType) String() string { return nameOr(DialectTypes.PoolTypeName(v), int(v)) }

var poolTypes = newNumbers([]number{
	{"UniswapV2", 0, 0}, {"UniswapV3", 1, 1}, {"SushiswapV2", 2, 2}, {"QuickswapV3", 3, 4}, {"Curve", 4, 5}, {"Balancer", 5, 6},
	{"QuickswapV2", none, 3}, {"PancakeSwapV2", none, 7},
})
