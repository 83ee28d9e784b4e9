package codec

// The layouts of payloads, as fields by name, offset and kind.

var tradeLayout = Layout{TradeSize, []Field{
	{Name: "asset_id", Offset: 0, Kind: KindUint64},
	{Name: "price_e8", Offset: 8, Kind: KindInt64},
	{Name: "volume_e8", Offset: 16, Kind: KindInt64},
	{Name: "execution_timestamp_ns", Offset: 24, Kind: KindUint64},
	{Name: "venue_id", Offset: 32, Kind: KindUint16},
	{Name: "asset_type", Offset: 34, Kind: KindUint8},
	{Name: "reserved", Offset: 35, Kind: KindUint8},
	{Name: "side", Offset: 36, Kind: KindUint8},
}}

var quoteLayout = Layout{QuoteSize, []Field{
	{Name: "asset_id", Offset: 0, Kind: KindUint64},
	{Name: "bid_price_e8", Offset: 8, Kind: KindInt64},
	{Name: "bid_size_e8", Offset: 16, Kind: KindInt64},
	{Name: "ask_price_e8", Offset: 24, Kind: KindInt64},
	{Name: "ask_size_e8", Offset: 32, Kind: KindInt64},
	{Name: "quote_timestamp_ns", Offset: 40, Kind: KindUint64},
	{Name: "venue_id", Offset: 48, Kind: KindUint16},
	{Name: "asset_type", Offset: 50, Kind: KindUint8},
	{Name: "reserved", Offset: 51, Kind: KindUint8},
}}

var orderLevelLayout = Layout{OrderLevelSize, []Field{
	{Name: "price", Offset: 0, Kind: KindInt64},
	{Name: "size", Offset: 8, Kind: KindInt64},
	{Name: "order_count", Offset: 16, Kind: KindUint32},
	{Name: "reserved", Offset: 20, Kind: KindUint32},
}}

var orderBookLayout = Layout{OrderBookSize, []Field{
	{Name: "snapshot_timestamp_ns", Offset: 0, Kind: KindUint64},
	{Name: "sequence", Offset: 8, Kind: KindUint64},
	{Name: "precision_factor", Offset: 16, Kind: KindInt64},
	{Name: "asset_id", Offset: 24, Kind: KindUint64},
	{Name: "venue_id", Offset: 32, Kind: KindUint16},
	{Name: "asset_type", Offset: 34, Kind: KindUint8},
	{Name: "reserved", Offset: 35, Kind: KindUint8},
	{Name: "bids", Offset: offBids, Kind: KindList, List: &List{Slots: offBids + listHead, Max: MaxOrderLevels, Element: orderLevelLayout}},
	{Name: "asks", Offset: offAsks, Kind: KindList, List: &List{Slots: offAsks + listHead, Max: MaxOrderLevels, Element: orderLevelLayout}},
}}

var poolSwapLayout = Layout{PoolSwapSize, []Field{
	{Name: "amount_in", Offset: 0, Kind: KindUint128},
	{Name: "amount_out", Offset: 16, Kind: KindUint128},
	{Name: "liquidity_after", Offset: 32, Kind: KindUint128},
	{Name: "timestamp_ns", Offset: 48, Kind: KindUint64},
	{Name: "block_number", Offset: 56, Kind: KindUint64},
	{Name: "tick_after", Offset: 64, Kind: KindInt32},
	{Name: "venue", Offset: 68, Kind: KindUint16},
	{Name: "amount_in_decimals", Offset: 70, Kind: KindUint8},
	{Name: "amount_out_decimals", Offset: 71, Kind: KindUint8},
	{Name: "pool_address", Offset: 80, Kind: KindAddress},
	{Name: "token_in", Offset: 112, Kind: KindAddress},
	{Name: "token_out", Offset: 144, Kind: KindAddress},
	{Name: "sqrt_price_x96_after", Offset: 176, Kind: KindUint256},
}}

var poolMintLayout = Layout{PoolMintSize, []Field{
	{Name: "liquidity_delta", Offset: 0, Kind: KindUint128},
	{Name: "amount0", Offset: 16, Kind: KindUint128},
	{Name: "amount1", Offset: 32, Kind: KindUint128},
	{Name: "timestamp_ns", Offset: 48, Kind: KindUint64},
	{Name: "tick_lower", Offset: 56, Kind: KindInt32},
	{Name: "tick_upper", Offset: 60, Kind: KindInt32},
	{Name: "venue", Offset: 64, Kind: KindUint16},
	{Name: "token0_decimals", Offset: 66, Kind: KindUint8},
	{Name: "token1_decimals", Offset: 67, Kind: KindUint8},
	{Name: "pool_address", Offset: 80, Kind: KindAddress},
	{Name: "provider", Offset: 112, Kind: KindAddress},
	{Name: "token0", Offset: 144, Kind: KindAddress},
	{Name: "token1", Offset: 176, Kind: KindAddress},
}}

var poolSyncLayout = Layout{PoolSyncSize, []Field{
	{Name: "reserve0", Offset: 0, Kind: KindUint128},
	{Name: "reserve1", Offset: 16, Kind: KindUint128},
	{Name: "timestamp_ns", Offset: 32, Kind: KindUint64},
	{Name: "block_number", Offset: 40, Kind: KindUint64},
	{Name: "venue", Offset: 48, Kind: KindUint16},
	{Name: "token0_decimals", Offset: 50, Kind: KindUint8},
	{Name: "token1_decimals", Offset: 51, Kind: KindUint8},
	{Name: "pool_address", Offset: 64, Kind: KindAddress},
	{Name: "token0", Offset: 96, Kind: KindAddress},
	{Name: "token1", Offset: 128, Kind: KindAddress},
}}

var poolTickLayout = Layout{PoolTickSize, []Field{
	{Name: "liquidity_net", Offset: 0, Kind: KindInt64},
	{Name: "price_sqrt", Offset: 8, Kind: KindUint64},
	{Name: "timestamp_ns", Offset: 16, Kind: KindUint64},
	{Name: "tick", Offset: 24, Kind: KindInt32},
	{Name: "venue", Offset: 28, Kind: KindUint16},
	{Name: "pool_address", Offset: 32, Kind: KindAddress},
}}

var poolStateLayout = Layout{PoolStateSize, []Field{
	{Name: "reserve0", Offset: 0, Kind: KindUint128},
	{Name: "reserve1", Offset: 16, Kind: KindUint128},
	{Name: "sqrt_price_x96", Offset: 32, Kind: KindUint128},
	{Name: "liquidity", Offset: 48, Kind: KindUint128},
	{Name: "block_number", Offset: 64, Kind: KindUint64},
	{Name: "timestamp_ns", Offset: 72, Kind: KindUint64},
	{Name: "tick", Offset: 80, Kind: KindInt32},
	{Name: "fee_rate", Offset: 84, Kind: KindUint32},
	{Name: "venue", Offset: 88, Kind: KindUint16},
	{Name: "pool_type", Offset: 90, Kind: KindUint8},
	{Name: "token0_decimals", Offset: 91, Kind: KindUint8},
	{Name: "token1_decimals", Offset: 92, Kind: KindUint8},
	{Name: "pool_address", Offset: 96, Kind: KindAddress},
	{Name: "token0", Offset: 128, Kind: KindAddress},
	{Name: "token1", Offset: 160, Kind: KindAddress},
}}

var poolLiquidityLayout = Layout{PoolLiquiditySize, []Field{
	{Name: "timestamp_ns", Offset: 0, Kind: KindUint64},
	{Name: "count", Offset: offReserveCount, Kind: KindUint16},
	{Name: "reserves", Offset: offReserveCount, Kind: KindList, List: &List{Counted: true, Slots: offReserves, Max: MaxPoolTokens,
		Element: Layout{16, []Field{{Kind: KindUint128}}}}},
	{Name: "pool_address", Offset: 160, Kind: KindAddress},
	{Name: "venue", Offset: 192, Kind: KindUint16},
}}

var gasPriceLayout = Layout{GasPriceSize, []Field{
	{Name: "block_number", Offset: 0, Kind: KindUint64},
	{Name: "timestamp_ns", Offset: 8, Kind: KindUint64},
	{Name: "gas_price_gwei", Offset: 16, Kind: KindUint32},
	{Name: "base_fee_gwei", Offset: 20, Kind: KindUint32},
	{Name: "priority_fee_gwei", Offset: 24, Kind: KindUint32},
	{Name: "venue", Offset: 28, Kind: KindUint16},
	{Name: "reserved", Offset: 30, Kind: KindUint16},
}}

var arbitrageSignalLayout = Layout{ArbitrageSignalSize, []Field{
	{Name: "strategy_id", Offset: 0, Kind: KindUint16},
	{Name: "signal_id", Offset: 2, Kind: KindUint64},
	{Name: "chain_id", Offset: 10, Kind: KindUint32},
	{Name: "source_pool", Offset: 14, Kind: KindAddress},
	{Name: "target_pool", Offset: 34, Kind: KindAddress},
	{Name: "source_venue", Offset: 54, Kind: KindUint16},
	{Name: "target_venue", Offset: 56, Kind: KindUint16},
	{Name: "token_in", Offset: 58, Kind: KindAddress},
	{Name: "token_out", Offset: 78, Kind: KindAddress},
	{Name: "expected_profit_usd_q8", Offset: 98, Kind: KindInt64},
	{Name: "required_capital_usd_q8", Offset: 106, Kind: KindInt64},
	{Name: "spread_bps", Offset: 114, Kind: KindUint16},
	{Name: "dex_fees_usd_q8", Offset: 116, Kind: KindInt64},
	{Name: "gas_cost_usd_q8", Offset: 124, Kind: KindInt64},
	{Name: "slippage_usd_q8", Offset: 132, Kind: KindInt64},
	{Name: "net_profit_usd_q8", Offset: 140, Kind: KindInt64},
	{Name: "slippage_tolerance_bps", Offset: 148, Kind: KindUint16},
	{Name: "max_gas_price_gwei", Offset: 150, Kind: KindUint32},
	{Name: "valid_until", Offset: 154, Kind: KindUint32},
	{Name: "priority", Offset: 158, Kind: KindUint16},
	{Name: "timestamp_ns", Offset: 162, Kind: KindUint64},
}}

var instrumentLayout = Layout{InstrumentIDSize, []Field{
	{Name: "asset_id", Offset: 0, Kind: KindUint64},
	{Name: "venue", Offset: 8, Kind: KindUint16},
	{Name: "asset_type", Offset: 10, Kind: KindUint8},
	{Name: "reserved", Offset: 11, Kind: KindUint8},
}}

var stateInvalidationLayout = Layout{StateInvalidationSize, []Field{
	{Name: "sequence", Offset: 0, Kind: KindUint64},
	{Name: "timestamp_ns", Offset: 8, Kind: KindUint64},
	{Name: "count", Offset: offInstrumentCount, Kind: KindUint16},
	{Name: "instruments", Offset: offInstrumentCount, Kind: KindList, List: &List{Counted: true, Slots: offInstrumentCount + listHead, Max: MaxInstruments, Element: instrumentLayout}},
	{Name: "venue", Offset: 216, Kind: KindUint16},
	{Name: "reason", Offset: 218, Kind: KindUint8},
}}

var invalidationReasonLayout = Layout{1, []Field{
	{Name: "reason", Offset: 0, Kind: KindUint8},
}}

var systemHealthLayout = Layout{SystemHealthSize, []Field{
	{Name: "timestamp_ns", Offset: 0, Kind: KindUint64},
	{Name: "connection_count", Offset: 8, Kind: KindUint32},
	{Name: "message_rate_per_sec", Offset: 12, Kind: KindUint32},
	{Name: "last_error_code", Offset: 16, Kind: KindUint32},
	{Name: "error_rate_per_thousand", Offset: 20, Kind: KindUint16},
	{Name: "latency_p95_us", Offset: 22, Kind: KindUint16},
	{Name: "service_type", Offset: 24, Kind: KindUint8},
	{Name: "health_status", Offset: 25, Kind: KindUint8},
	{Name: "cpu_usage_pct", Offset: 26, Kind: KindUint8},
	{Name: "memory_usage_pct", Offset: 27, Kind: KindUint8},
}}

var traceContextLayout = Layout{TraceContextSize, []Field{
	{Name: "start_timestamp_ns", Offset: 0, Kind: KindUint64},
	{Name: "current_timestamp_ns", Offset: 8, Kind: KindUint64},
	{Name: "source_service", Offset: 16, Kind: KindUint8},
	{Name: "span_depth", Offset: 17, Kind: KindUint8},
	{Name: "stage_flags", Offset: 18, Kind: KindUint8},
	{Name: "trace_id", Offset: 24, Kind: KindBytes8},
}}

var recoveryRequestLayout = Layout{RecoveryRequestSize, []Field{
	{Name: "last_sequence", Offset: 0, Kind: KindUint64},
	{Name: "current_sequence", Offset: 8, Kind: KindUint64},
	{Name: "consumer_id", Offset: 16, Kind: KindUint32},
	{Name: "request_type", Offset: 20, Kind: KindUint32},
}}
