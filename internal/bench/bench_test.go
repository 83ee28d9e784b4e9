package bench

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/torq/mycelium/internal/coinbase"
	"github.com/torq/mycelium/shm"
)

func TestPercentilesAreThoseOfTheSamples(t *testing.T) {
	samples := make([]uint32, 1000)
	for i := range samples {
		samples[i] = uint32(1000 - i)
	}
	if got, want := summarize(samples, 2), (Latency{P50: 250, P99: 495, P999: 499.5, Max: 500}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := summarize([]uint32{7}, 1), (Latency{7, 7, 7, 7}); got != want {
		t.Errorf("one sample: %+v", got)
	}
	if got := summarize(nil, 1); got != (Latency{}) {
		t.Errorf("no sample: %+v", got)
	}
}

func TestOneBadRoundDoesNotMoveTheMedian(t *testing.T) {
	got := medianLatency([]Latency{{10, 20, 30, 40}, {900, 900, 900, 900}, {12, 22, 32, 42}})
	if want := (Latency{12, 22, 32, 900}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if median(nil) != 0 || median([]float64{4, 1}) != 2.5 {
		t.Error("median")
	}
	if ratio(1, 0) != 0 || ratio(3, 2) != 1.5 {
		t.Error("ratio")
	}
	if sampleNs(-1) != 0 || sampleNs(math.MaxInt64) != math.MaxUint32 {
		t.Error("samples are clamped")
	}
}

// An odd count of slots, wrapping many times, on heap memory under -race.
func TestSlotRingLosesNothing(t *testing.T) {
	const size, n = 40_000, 1_000
	words := make([]uint64, (slotRingBytes(size, 1<<20)+7)/8)
	mem := bytesOf(words)
	w, r := newSlotRing(mem, size), newSlotRing(mem, size)
	go func() {
		for range n / 100 {
			w.write(make([]byte, size), 100, osYield{})
		}
		w.finish()
	}()
	want := uint64(1)
	r.read(func(seq uint64, payload []byte) {
		if seq != want || len(payload) != size {
			t.Errorf("message %d of %d bytes, want %d", seq, len(payload), want)
		}
		want++
	}, osYield{})
	if want != n+1 {
		t.Errorf("%d messages arrived", want-1)
	}
}

func TestSharesAddUp(t *testing.T) {
	for _, count := range []uint64{0, 3, 10, 11} {
		sum := uint64(0)
		for i := range 3 {
			sum += share(count, i, 3)
		}
		if sum != count {
			t.Errorf("%d in 3 shares add up to %d", count, sum)
		}
	}
}

func TestQuotaEndsExactly(t *testing.T) {
	q := newQuota(&job{Count: askEvery + 1})
	if a, b, c := q.next(0), q.next(askEvery), q.next(askEvery+1); a != askEvery || b != 1 || c != 0 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
	if newQuota(&job{RunNs: -1}).next(0) != 0 || newQuota(&job{RunNs: math.MaxInt64 / 2}).next(0) == 0 {
		t.Error("duration")
	}
}

func TestCounterSeesDuplicatesAndSilentGaps(t *testing.T) {
	for name, hand := range map[string]func(c *counter, fs ...shm.Frame){
		"frames": func(c *counter, fs ...shm.Frame) {
			for _, f := range fs {
				c.handler()(f)
			}
		},
		"batches": func(c *counter, fs ...shm.Frame) { c.batches()(fs) },
	} {
		t.Run(name, func(t *testing.T) { seesDuplicatesAndSilentGaps(t, hand) })
	}
}

func seesDuplicatesAndSilentGaps(t *testing.T, hand func(c *counter, fs ...shm.Frame)) {
	c := newCounter()
	send := func(source shm.SourceID, seqs ...uint64) {
		var fs []shm.Frame
		for _, s := range seqs {
			fs = append(fs, shm.Frame{Source: source, Seq: s, Type: frameType})
		}
		hand(c, fs...)
	}
	send(1, 0, 1, 2)
	send(2, 0)
	send(1, 3)
	if c.res.Wrong != 0 {
		t.Fatalf("in order: %+v", c.res)
	}
	if err := c.gap(&shm.GapError{Source: 1, From: 4, Next: 7}); err != nil {
		t.Fatal(err)
	}
	send(1, 7)
	if c.res.Wrong != 0 || c.res.Missed != 3 || c.res.Gaps != 1 {
		t.Fatalf("after a reported gap: %+v", c.res)
	}
	send(1, 7) // again
	send(2, 5) // 1..4 are missing
	_ = c.gap(&shm.GapError{Source: 2, From: 9, Next: 10})
	if c.res.Wrong != 3 {
		t.Errorf("%d of 3 faults seen", c.res.Wrong)
	}
	if c.gap(shm.ErrClosed) == nil {
		t.Error("another error was taken for a gap")
	}
	if hand(c, shm.Frame{Source: 1, Seq: 8, Type: lastType}); c.ended != 1 || c.res.Wrong != 3 {
		t.Errorf("%d lanes ended, %d faults", c.ended, c.res.Wrong)
	}
	if hand(c, shm.Frame{Source: 1, Seq: 9, Type: 99}); c.ended != 1 || c.res.Wrong != 4 {
		t.Error("a type that nobody sent was not seen")
	}
	c = newCounter()
	for i := range shm.SourceID(maxPublishers) {
		send(1+i, 0, 1)
	}
	send(1, 2)
	if c.res.Wrong != 0 {
		t.Errorf("%d of %d sources", c.res.Wrong, maxPublishers)
	}
	if send(maxPublishers+1, 0); c.res.Wrong == 0 {
		t.Error("a source too many was not seen")
	}
}

func TestSumRefusesWhatDoesNotAddUp(t *testing.T) {
	pubs := []result{{Messages: 6, StartNs: 10}, {Messages: 4, StartNs: 5}}
	r, err := sum([]result{{Messages: 10, EndNs: 1e9 + 5}}, pubs, shm.Lossless)
	if err != nil || r != (run{messages: 10, seconds: 1}) || r.rate() != 10 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := sum([]result{{Messages: 7, Missed: 3}, {Messages: 10}}, pubs, shm.Lossy); err != nil || r.lost != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []result{{Messages: 9}, {Messages: 11}, {Messages: 7, Missed: 3}, {Messages: 10, Wrong: 1}} {
		if _, err := sum([]result{bad}, pubs, shm.Lossless); err == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

type names map[shm.TopicID]string

func (n names) TopicName(id shm.TopicID) string { return n[id] }

// trade is a frame of the demo.
func trade(topic shm.TopicID, product string, seq, number uint64) shm.Frame {
	m := coinbase.Match{Product: product, Price: 1, Size: 1}
	b := make([]byte, coinbase.MessageBytes)
	m.Put(b, number)
	return shm.Frame{Topic: topic, Source: 9, Seq: seq, Type: tradeType, Payload: b}
}

func TestCheckerSeesEveryKindOfFault(t *testing.T) {
	btc := func(seq, number uint64) shm.Frame { return trade(1, "BTC-USD", seq, number) }
	eth := func(seq, number uint64) shm.Frame { return trade(2, "ETH-USD", seq, number) }
	flipped := btc(1, 2)
	flipped.Payload[0] ^= 1
	short := btc(1, 2)
	short.Payload = short.Payload[:50]
	tagged := btc(1, 2)
	tagged.Type = 77
	for name, c := range map[string]struct {
		frames               []shm.Frame
		dup, unordered, harm uint64
	}{
		"two lanes in turn":  {frames: []shm.Frame{btc(0, 1), eth(0, 3), btc(1, 2), eth(1, 4)}},
		"frame twice":        {frames: []shm.Frame{btc(0, 1), btc(0, 1)}, dup: 1},
		"message twice":      {frames: []shm.Frame{btc(0, 1), btc(1, 1)}, dup: 1},
		"twice on two lanes": {frames: []shm.Frame{btc(0, 1), eth(0, 1)}, dup: 1},
		"swapped":            {frames: []shm.Frame{btc(0, 2), btc(1, 1)}, unordered: 1},
		"silent gap":         {frames: []shm.Frame{btc(0, 1), btc(2, 2)}, unordered: 1},
		"flipped bit":        {frames: []shm.Frame{btc(0, 1), flipped}, harm: 1},
		"cut short":          {frames: []shm.Frame{btc(0, 1), short}, harm: 1},
		"other type":         {frames: []shm.Frame{btc(0, 1), tagged}, harm: 1},
		"other product":      {frames: []shm.Frame{trade(1, "ETH-USD", 0, 1)}, harm: 1},
	} {
		k := newChecker(names{1: "market.coinbase.BTC-USD", 2: "market.coinbase.ETH-USD"})
		for _, f := range c.frames {
			k.frame(f)
		}
		r := k.result()
		if r.Messages != uint64(len(c.frames)) || r.Duplicated != c.dup || r.OutOfOrder != c.unordered || r.Corrupt != c.harm {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCheckerFollowsReportedGaps(t *testing.T) {
	k := newChecker(names{1: "market.coinbase.BTC-USD"})
	k.frame(trade(1, "BTC-USD", 0, 1))
	if err := k.gap(&shm.GapError{Topic: 1, Source: 9, From: 1, Next: 5}); err != nil {
		t.Fatal(err)
	}
	k.frame(trade(1, "BTC-USD", 5, 6))
	if r := k.result(); r.OutOfOrder != 0 || r.Missed != 4 || r.Gaps != 1 {
		t.Errorf("%+v", r)
	}
	_ = k.gap(&shm.GapError{Topic: 1, Source: 9, From: 5, Next: 8})
	if r := k.result(); r.OutOfOrder != 1 {
		t.Errorf("a gap that overlaps what came: %+v", r)
	}
	if k.gap(shm.ErrClosed) == nil {
		t.Error("another error was taken for a gap")
	}
}

func TestVerdict(t *testing.T) {
	good := DemoReport{Published: 10, Subscribers: []DemoSubscriber{{Mode: "lossless", Received: 10}, {Mode: "lossy", Received: 4, Missed: 6}}}
	if err := good.Verdict(); err != nil {
		t.Error(err)
	}
	for _, bad := range []DemoSubscriber{
		{Mode: "lossless", Received: 9}, {Mode: "lossless", Received: 11}, {Mode: "lossless", Received: 9, Missed: 1},
		{Mode: "lossless", Received: 10, Duplicated: 1}, {Mode: "lossless", Received: 10, OutOfOrder: 1},
		{Mode: "lossy", Received: 10, Corrupt: 1}, {Mode: "lossy", Received: 4, Missed: 5}, {Mode: "lossy", Received: 4, Missed: 7},
	} {
		r := good
		r.Subscribers = []DemoSubscriber{bad}
		if err := r.Verdict(); !errors.Is(err, ErrDemo) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if (&DemoReport{}).Verdict() == nil {
		t.Error("nothing published is no success")
	}
}

func TestLostIsWhatNoLosslessSubscriberMayMiss(t *testing.T) {
	r := DemoReport{Published: 10}
	r.add(job{}, result{Messages: 8})
	r.add(job{}, result{Messages: 11, Duplicated: 1})
	r.add(job{Lossy: true}, result{Messages: 1, Missed: 9})
	if r.Lost != 2 || r.Duplicated != 1 {
		t.Errorf("%+v", r)
	}
}

func TestSampleIsTheSameAlways(t *testing.T) {
	a, b := sample(), sample()
	if !slices.Equal(a, b) || len(a) == 0 {
		t.Error("two samples differ")
	}
	for _, m := range a {
		if m.Price <= 0 || m.Size <= 0 {
			t.Errorf("impossible match %+v", m)
		}
	}
}
