package codec

import (
	"encoding/hex"
	"testing"
)

func mustAddress(t *testing.T, text string) Address {
	t.Helper()
	a, ok := ParseAddress(text)
	if !ok {
		t.Fatalf("%q is no address", text)
	}
	return a
}

func TestInstrumentIsAnotherOne(t *testing.T) {
	usdc := mustAddress(t, "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48")
	weth := mustAddress(t, "c02aaa39b223fe8d0a0e5c4f27ead9083c756cc2")
	third := mustAddress(t, "0000000000000003ffffffffffffffffffffffff")
	usdcID, wethID, thirdID := EthereumToken(usdc), EthereumToken(weth), EthereumToken(third)
	for _, test := range []struct {
		name string
		id   InstrumentID
		wire string
	}{
		{"ethereum token", usdcID, "368b21c69169b8a0 c800 32 00"},
		{"polygon token", PolygonToken(usdc), "368b21c69169b8a0 ca00 32 00"},
		{"bsc token", BSCToken(usdc), "368b21c69169b8a0 cb00 32 00"},
		{"arbitrum token", ArbitrumToken(usdc), "368b21c69169b8a0 ce00 32 00"},
		{"pool", Pool(VenueUniswapV3, usdcID, wethID), "17da33b0e0727f36 2d01 64 00"},
		{"pool, the other order", Pool(VenueUniswapV3, wethID, usdcID), "17da33b0e0727f36 2d01 64 00"},
		{"lp token", LPToken(VenueUniswapV3, Pool(VenueUniswapV3, usdcID, wethID)), "17da33b0e0727f36 2d01 65 00"},
		{"option", Option(VenueDeribit, "BTC", 50000, 20241225, true), "0098b44d50c30000 bc02 96 00"},
	} {
		var wire [InstrumentIDSize]byte
		test.id.Put(wire[:])
		if want := unhex(t, test.wire); hex.EncodeToString(wire[:]) != hex.EncodeToString(want) {
			t.Errorf("%s: % x, want % x", test.name, wire, want)
		}
	}
	// 3*31 + 17*usdc + weth, in any order.
	want := InstrumentID{AssetID: 93 + 17*usdcID.AssetID + wethID.AssetID, Venue: VenueQuickSwap, Type: AssetPool, Reserved: 1}
	for _, got := range []InstrumentID{
		TriangularPool(VenueQuickSwap, usdcID, wethID, thirdID), TriangularPool(VenueQuickSwap, thirdID, usdcID, wethID),
		TriangularPool(VenueQuickSwap, wethID, thirdID, usdcID),
	} {
		if got != want {
			t.Errorf("triangular pool %+v, want %+v", got, want)
		}
	}
	if same := TriangularPool(VenueQuickSwap, usdcID, usdcID, wethID); same.AssetID != 31*usdcID.AssetID+17*usdcID.AssetID+wethID.AssetID {
		t.Errorf("a pool with one token twice: %+v", same)
	}

	if prefix, ok := usdcID.AddressPrefix(); !ok || prefix != [8]byte(usdc[:8]) {
		t.Errorf("prefix % x, %v", prefix, ok)
	}
	if _, ok := Coin(VenueKraken, "BTC").AddressPrefix(); ok {
		t.Error("a coin has an address")
	}
	pool := Pool(VenueUniswapV3, usdcID, wethID)
	if back, ok := LPToken(VenueUniswapV3, pool).PoolOf(); !ok || back != pool {
		t.Errorf("the token's pool is %+v, %v", back, ok)
	}
	if _, ok := pool.PoolOf(); ok {
		t.Error("a pool stands for a share of a pool")
	}
	for _, test := range []struct {
		id   InstrumentID
		want OptionTerms
	}{
		{Option(VenueDeribit, "BTC", 50000, 20241225, true), OptionTerms{50000, 20241225 & 0xFFFFF, true, 0}},
		{Option(VenueDeribit, "LONGSYM", 1<<33+7, 12345, false), OptionTerms{7, 12345, false, 'M' << 8 & 0x7FF}},
		{Option(VenueDeribit, "LONGSYMB", 7, 0, false), OptionTerms{7, 0, false, ('M'<<8 | 'B') & 0x7FF}},
	} {
		if terms, ok := test.id.OptionTerms(); !ok || terms != test.want {
			t.Errorf("%+v, %v, want %+v", terms, ok, test.want)
		}
	}
	if _, ok := pool.OptionTerms(); ok {
		t.Error("a pool has terms")
	}
}

func TestKeyBelongsToTwoInstruments(t *testing.T) {
	id := InstrumentID{AssetID: 0xa0b86991c6218b36, Venue: 0xFFFE, Type: 250, Reserved: 7}
	if back, ok := InstrumentOfCacheKey(id.CacheKey()); !ok || back != id {
		t.Errorf("%+v, %v", back, ok)
	}
	if _, ok := InstrumentOfCacheKey(Uint128{0, 1 << 32}); ok {
		t.Error("97 bits are an instrument")
	}
	short := InstrumentOfUint64(id.Uint64())
	if short != (InstrumentID{AssetID: 0x91c6218b36, Venue: 0xFFFE, Type: 250}) || short.Uint64() != id.Uint64() {
		t.Errorf("%+v", short)
	}
}

func TestDialectsAreMixedUp(t *testing.T) {
	for _, test := range []struct {
		wire  Domain
		types string
		codec string
	}{
		{0, "MarketData", ""}, {1, "Signal", "MarketData"}, {2, "Execution", "Signal"}, {3, "System", "Execution"}, {4, "", "System"},
	} {
		if a, b := DialectTypes.DomainName(test.wire), DialectCodec.DomainName(test.wire); a != test.types || b != test.codec {
			t.Errorf("domain %d is %q and %q, want %q and %q", test.wire, a, b, test.types, test.codec)
		}
	}
	for _, test := range []struct {
		wire         Source
		types, codec string
	}{
		{2, "CoinbaseCollector", "KrakenCollector"}, {3, "KrakenCollector", "CoinbaseCollector"}, {4, "PolygonCollector", "PolygonCollector"},
		{20, "ExecutionEngine", "ArbitrageStrategy"}, {61, "", "MetricsCollector"}, {99, "TestClient", ""}, {0, "Unknown", ""}, {23, "", "KrakenSignalStrategy"},
	} {
		if a, b := DialectTypes.SourceName(test.wire), DialectCodec.SourceName(test.wire); a != test.types || b != test.codec {
			t.Errorf("source %d is %q and %q, want %q and %q", test.wire, a, b, test.types, test.codec)
		}
	}
	for _, test := range []struct {
		wire         VenueID
		types, codec string
	}{
		{101, "kraken", "kraken"}, {201, "bitcoin", "polygon"}, {202, "polygon", "binancesmartchain"}, {203, "binancesmartchain", "arbitrum"}, {206, "arbitrum", "206"}, {64000, "64000", "64000"},
	} {
		if a, b := DialectTypes.VenueToken(test.wire), DialectCodec.VenueToken(test.wire); a != test.types || b != test.codec || test.wire.String() != test.types {
			t.Errorf("venue %d is %q and %q, want %q and %q", uint16(test.wire), a, b, test.types, test.codec)
		}
	}
	if n := DialectTypes.AssetTypeName(52); n != "NFT" || DialectCodec.AssetTypeName(52) != "StableCoin" || DialectCodec.AssetTypeName(54) != "NFT" {
		t.Error("asset type 52 is", n)
	}
	if n := DialectTypes.PoolTypeName(3); n != "QuickswapV3" || DialectCodec.PoolTypeName(3) != "QuickswapV2" || PoolType(9).String() != "9" {
		t.Error("pool type 3 is", n)
	}
	if VenueID(102).String() != "coinbase" || DialectTypes.VenueName(102) != "Coinbase" {
		t.Error(VenueID(102))
	}
	if DomainNone.String() != "none" || DomainExecution.String() != "Execution" || Domain(9).String() != "9" || AssetCoin.String() != "Coin" || SourceKraken.String() != "KrakenCollector" {
		t.Error(DomainNone, DomainExecution, Domain(9), AssetCoin, SourceKraken)
	}
	if r := InvalidRecovery; r.String() != "Recovery" || InvalidationReason(6).String() != "6" {
		t.Error(r)
	}

	// Every number that a dialect has leads to a constant and back.
	for _, d := range []Dialect{DialectTypes, DialectCodec} {
		for _, n := range d.Domains() {
			v, ok := d.Domain(Domain(n.Number))
			if back, there := d.WireDomain(v); !ok || !there || int(back) != n.Number || d == DialectTypes && int(v) != n.Number {
				t.Errorf("%v: domain %+v is constant %d, and that %d", d, n, v, back)
			}
		}
		for _, n := range d.Sources() {
			v, ok := d.Source(Source(n.Number))
			if back, there := d.WireSource(v); !ok || !there || int(back) != n.Number || d == DialectTypes && int(v) != n.Number {
				t.Errorf("%v: source %+v is constant %d, and that %d", d, n, v, back)
			}
		}
		for _, n := range d.Venues() {
			v, ok := d.Venue(VenueID(n.Number))
			if back, there := d.WireVenue(v); !ok || !there || int(back) != n.Number || d == DialectTypes && int(v) != n.Number {
				t.Errorf("%v: venue %+v is constant %d, and that %d", d, n, v, back)
			}
		}
		for _, n := range d.AssetTypes() {
			v, ok := d.AssetType(AssetType(n.Number))
			if back, there := d.WireAssetType(v); !ok || !there || int(back) != n.Number || d == DialectTypes && int(v) != n.Number {
				t.Errorf("%v: asset type %+v is constant %d, and that %d", d, n, v, back)
			}
		}
		if len(d.PoolTypes()) == 0 {
			t.Errorf("%v has no pool types", d)
		}
	}
	if s, ok := DialectCodec.Source(2); s != SourceKraken || !ok {
		t.Error("codec's source 2 is", s)
	}
	if s, ok := DialectTypes.Source(61); s != 61 || ok {
		t.Error("types has a source 61:", s, ok)
	}
	if w, ok := DialectTypes.WireSource(SourceMetricsCollector); w != 61 || ok {
		t.Error("types has a number for MetricsCollector:", w, ok)
	}
	if w, ok := DialectCodec.WireSource(SourceTestClient); w != 99 || ok {
		t.Error("codec has a number for TestClient:", w, ok)
	}
	if w, ok := DialectCodec.WireSource(62); w != 62 || ok {
		t.Error("62 is a constant:", w, ok)
	}
	if len(DialectTypes.Venues()) != 58 || len(DialectCodec.Venues()) != 10 || len(DialectTypes.Sources()) != 11 || len(DialectCodec.Sources()) != 18 {
		t.Error(len(DialectTypes.Venues()), len(DialectCodec.Venues()), len(DialectTypes.Sources()), len(DialectCodec.Sources()))
	}
}

func TestRangesLeaveAHole(t *testing.T) {
	next := 0
	for _, r := range Ranges() {
		if int(r.First) != next || r.Last < r.First || r.Group == "" {
			t.Errorf("%+v does not begin at %d", r, next)
		}
		next = int(r.Last) + 1
	}
	if next != 256 {
		t.Errorf("the ranges end before %d", next)
	}
	for typ, want := range map[TLVType]Domain{
		0: DomainNone, 1: DomainMarketData, 19: DomainMarketData, 20: DomainSignal, 39: DomainSignal, 40: DomainExecution, 59: DomainExecution,
		60: DomainSignal, 79: DomainSignal, 80: DomainSystem, 100: DomainSystem, 119: DomainSystem, 120: DomainNone, 199: DomainNone, 200: DomainNone, 255: DomainNone,
	} {
		if typ.Domain() != want {
			t.Errorf("type %d belongs to %v, want %v", uint8(typ), typ.Domain(), want)
		}
	}
	types := Types()
	if len(types) != 84 || types[0].Type != TypeTrade || types[0].Size.String() != "40" || types[9].Size.String() != "20-300" || types[2].Size.String() != "any" {
		t.Errorf("%d types, the first %+v", len(types), types[0])
	}
	for _, k := range []Kind{KindUint8, KindList, KindUint256} {
		if k.String() == "" || k.Size() == 0 {
			t.Errorf("kind %d is %q of %d bytes", k, k, k.Size())
		}
	}
	if (&tradeLayout).Field("no such") != nil {
		t.Error("a field that does not exist")
	}
}
