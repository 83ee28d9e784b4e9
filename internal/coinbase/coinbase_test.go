package coinbase

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/torq/mycelium/codec"
)

func record(change ...string) string {
	r := `{"type":"match","product_id":"BTC-USD","side":"sell","price":"116827.86","size":"0.00002298","time":"2025-08-22T20:11:30.137128Z","sequence":1}`
	return strings.NewReplacer(change...).Replace(r)
}

func TestAMatchBecomesItsTrade(t *testing.T) {
	for name, text := range map[string]string{
		"array": "[\n" + record() + "\n]\n", "ndjson": record() + "\n", "bom": "\xef\xbb\xbf \n[" + record() + "]", "no newline": record(),
	} {
		got, err := Read(iotest.OneByteReader(strings.NewReader(text)), nil)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %d matches, %v", name, len(got), err)
		}
		var b [MessageBytes]byte
		got[0].Put(b[:], 7)
		m, err := codec.Parse(b[:], codec.ChecksumVerifyIfNonzero)
		if err != nil {
			t.Fatal(err)
		}
		if h := m.Header(); h.Sequence != 7 || h.TimestampNs != 1755893490137128000 || h.Source != codec.SourceCoinbase || h.Domain != codec.DomainMarketData {
			t.Fatalf("%s: header %+v", name, h)
		}
		c := m.Cursor(codec.ModeStrict)
		var trade codec.Trade
		if !c.Next() || c.TLV.Type != codec.TypeTrade || trade.Parse(c.TLV.Payload) != nil || c.Next() || c.Err() != nil {
			t.Fatalf("%s: not one trade: %v", name, c.Err())
		}
		want := codec.Trade{Instrument: codec.CoinbaseInstrument("BTC-USD"), Price: 11682786000000, Volume: 2298, ExecutionTimestampNs: 1755893490137128000, Side: codec.SideSell}
		if trade != want {
			t.Fatalf("%s: %+v, want %+v", name, trade, want)
		}
		if got := Topic(DefaultPrefix, got[0].Product); got != "market.coinbase.BTC-USD" {
			t.Fatal(got)
		}
	}
}

func TestABadRecordIsNamedByIndexLineAndReason(t *testing.T) {
	for _, c := range []struct{ record, reason string }{
		{record(`"match"`, `"heartbeat"`), `type "heartbeat": want "match"`},
		{record(`"type":"match",`, ``), `type is missing`},
		{record(`"side":"sell",`, ``), `side is missing`},
		{record(`"sell"`, `"SELL"`), `side "SELL": want "buy" or "sell"`},
		{record(`"116827.86"`, `116827.86`), `price is a JSON number: want a string`},
		{record(`"116827.86"`, `"0"`), `price "0": must be above 0`},
		{record(`"116827.86"`, `"-3"`), `price "-3": must be above 0`},
		{record(`0.00002298`, `0.000000001`), `size "0.000000001": `},
		{record(`0.00002298`, ``), `size "": `},
		{record(`BTC-USD`, `BTC.USD`), `product_id "BTC.USD": a dot`},
		{record(`BTC-USD`, `BTC USD`), `product_id: `},
		{record(`BTC-USD`, `>`), `product_id: `},
		{record(`BTC-USD`, ``), `product_id: `},
		{record(`2025-08-22T20`, `yesterday`), `time "yesterday:11:30.137128Z": want RFC 3339`},
		{record(`2025-`, `1969-`), `outside 1970 to 2261`},
		{record(`2025-`, `2262-`), `outside 1970 to 2261`},
		{`17`, `a JSON number: want an object`},
		{`null`, `type is missing`},
	} {
		for name, text := range map[string]string{
			"array":  "[\n" + record() + ",\n\n" + c.record + ",\n" + record() + "]",
			"ndjson": "\n" + record() + "\n\n" + c.record + "\n" + record() + "\n",
		} {
			_, err := Read(strings.NewReader(text), nil)
			var bad *RecordError
			if !errors.As(err, &bad) || bad.Index != 1 || bad.Line != 4 || !strings.Contains(bad.Reason, c.reason) {
				t.Errorf("%s of %s: %v, want record 1, line 4: %s", name, c.record, err, c.reason)
			}
			skipped := 0
			got, err := Read(strings.NewReader(text), func(*RecordError) error { skipped++; return nil })
			if err != nil || len(got) != 2 || skipped != 1 {
				t.Errorf("%s of %s: %d matches, %d skipped, %v", name, c.record, len(got), skipped, err)
			}
		}
	}
}

func TestBrokenTextIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "no records",
		" \n\t":                         "no records",
		"[]":                            "no records",
		"[\n" + record():                "line 2: the text ends inside",
		"[\n" + record() + ",\n":        "line 3: the text ends inside",
		"{\n\"type\"":                   "line 2: the text ends inside",
		record() + "\n]":                "line 2: ",
		"[" + record() + "]\n[]":        "text after the end",
		record() + "\n\nnonsense":       "line 3: ",
		"[" + record() + "\n" + "{}]":   "line 2: ",
		"\n\nnonsense":                  "line 3: ",
		"[\n" + record() + ",\n\x00\n]": "line 3: ",
	} {
		if _, err := Read(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	boom := errors.New("boom")
	if _, err := Read(iotest.ErrReader(boom), nil); !errors.Is(err, boom) {
		t.Errorf("a failing reader: %v", err)
	}
}

// The recording that the project is handed, where it is at hand.
func TestTheRealRecordingReadsWhole(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		f, err := os.Open(filepath.Join(dir, "shared", "data", "coinbase-matches-2025-08-22.json"))
		if err == nil {
			defer f.Close()
			got, err := Read(f, nil)
			if err != nil || len(got) != 447 {
				t.Fatalf("%d matches, %v", len(got), err)
			}
			return
		}
		if dir == filepath.Dir(dir) {
			t.Log("the recording is not at hand")
			return
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("[" + record() + "]"))
	f.Add([]byte(record() + "\n" + record() + "\n]"))
	f.Add([]byte("[1,\n{}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seen := 0
		got, err := Read(strings.NewReader(string(b)), func(e *RecordError) error {
			seen++
			if e.Line < 1 || e.Reason == "" {
				t.Fatalf("%+v", e)
			}
			return nil
		})
		if err == nil && len(got)+seen == 0 {
			t.Fatal("neither a record nor an error")
		}
		for i := range got {
			var m [MessageBytes]byte
			got[i].Put(m[:], uint64(i))
			if _, err := codec.Parse(m[:], codec.ChecksumIgnore); err != nil || got[i].Price <= 0 || got[i].Size <= 0 {
				t.Fatalf("%+v: %v", got[i], err)
			}
		}
	})
}
