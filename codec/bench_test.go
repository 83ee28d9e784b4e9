package codec

import (
	"fmt"
	"testing"
)

// variants runs a benchmark without and with checksum and reports messages per second.
func variants(b *testing.B, run func(b *testing.B, checksum bool)) {
	for _, checksum := range []bool{false, true} {
		name := "NoChecksum"
		if checksum {
			name = "Checksum"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, checksum)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
		})
	}
}

func BenchmarkBuildTrade(b *testing.B) {
	variants(b, func(b *testing.B, checksum bool) {
		dst := make([]byte, TradeMessageSize)
		h, trade := krakenHeader, btcTrade
		var build Builder
		for b.Loop() {
			h.Sequence++
			trade.Price++
			build.Start(dst, &h)
			build.AppendTrade(&trade)
			if n, err := build.Finish(checksum); n != TradeMessageSize || err != nil {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkParseTrade(b *testing.B) {
	variants(b, func(b *testing.B, checksum bool) {
		msg := unhex(b, krakenTrade)
		policy := ChecksumIgnore
		if checksum {
			policy = ChecksumRequire
		}
		var trade Trade
		var sum int64
		for b.Loop() {
			m, err := Parse(msg, policy)
			if err != nil {
				b.Fatal(err)
			}
			c := m.Cursor(ModeBridge)
			for c.Next() {
				if err := trade.Parse(c.TLV.Payload); err != nil {
					b.Fatal(err)
				}
				sum += trade.Price + trade.Volume + int64(trade.Instrument.AssetID)
			}
			if c.Err() != nil {
				b.Fatal(c.Err())
			}
		}
		if sum == 0 {
			b.Fatal("nothing was read")
		}
	})
}

func BenchmarkReadTrade(b *testing.B) {
	variants(b, func(b *testing.B, checksum bool) {
		msg := unhex(b, krakenTrade)
		policy := ChecksumIgnore
		if checksum {
			policy = ChecksumRequire
		}
		var trade Trade
		var sum int64
		for b.Loop() {
			m, err := Parse(msg, policy)
			if err != nil || !m.ReadTrade(&trade) {
				b.Fatal(err)
			}
			sum += trade.Price + trade.Volume + int64(trade.Instrument.AssetID)
		}
		if sum == 0 {
			b.Fatal("nothing was read")
		}
	})
}

func BenchmarkParseTradeRange(b *testing.B) {
	msg := unhex(b, krakenTrade)
	var trade Trade
	b.ReportAllocs()
	for b.Loop() {
		m, err := Parse(msg, ChecksumIgnore)
		if err != nil {
			b.Fatal(err)
		}
		for tlv, err := range m.TLVs() {
			if err != nil {
				b.Fatal(err)
			}
			if err := trade.Parse(tlv.Payload); err != nil || trade.Price == 0 {
				b.Fatal(trade, err)
			}
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
}

func BenchmarkSplit(b *testing.B) {
	b.ReportAllocs()
	trade := unhex(b, krakenTrade)
	s := NewSplitter(SplitterOptions{})
	n := 0
	for b.Loop() {
		s.Write(trade)
		if n++; n%100 == 0 { // as many as a read of 7400 bytes brings
			for p, ok := s.Next(); ok; p, ok = s.Next() {
				n += len(p.Message) - TradeMessageSize
			}
		}
	}
	if st := s.Stats(); st.Messages == 0 && n >= 100 || st.SkippedBytes > 0 {
		b.Fatalf("%+v", st)
	}
}

func BenchmarkValidate(b *testing.B) {
	b.ReportAllocs()
	v, err := NewValidator(Limits{})
	if err != nil {
		b.Fatal(err)
	}
	msg := unhex(b, krakenTrade)
	m := mustParse(b, msg, ChecksumIgnore)
	seq := uint64(0)
	for b.Loop() {
		seq++
		le.PutUint64(msg[offSequence:], seq)
		if err := v.Validate(m, DomainMarketData, krakenHeader.TimestampNs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	m := mustParse(b, unhex(b, krakenTrade), ChecksumRequire)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		dst = m.AppendJSON(dst[:0], DialectTypes)
	}
}

func BenchmarkParseFixed8(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseFixed8("116827.85"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	for _, n := range []int{TradeMessageSize, MessageSize(PoolSwapSize), MessageSize(OrderBookSize)} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			msg := make([]byte, n)
			for b.Loop() {
				Checksum(msg)
			}
		})
	}
}
