package bench

import (
	"math"
	"slices"
)

// Latency are percentiles of one distribution, in nanoseconds.
type Latency struct {
	P50  float64 `json:"p50_ns"`
	P99  float64 `json:"p99_ns"`
	P999 float64 `json:"p999_ns"`
	Max  float64 `json:"max_ns"`
}

// newSamples is room for n samples that was written to before: a page that is touched for the
// first time while samples are taken costs as much as ten messages, which would be the
// slowest of every 1,024.
func newSamples(n uint64) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		s[i] = math.MaxUint32
	}
	return s
}

// summarize sorts samples and takes their percentiles, each divided by by.
// No samples give zeros.
func summarize(samples []uint32, by float64) Latency {
	if len(samples) == 0 {
		return Latency{}
	}
	slices.Sort(samples)
	at := func(q float64) float64 {
		return float64(samples[max(0, int(math.Ceil(q*float64(len(samples))))-1)]) / by
	}
	return Latency{P50: at(0.50), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

// medianLatency takes the median of each percentile over rounds, and the
// maximum of all.
func medianLatency(rounds []Latency) (l Latency) {
	pick := func(f func(Latency) float64) []float64 {
		v := make([]float64, len(rounds))
		for i, r := range rounds {
			v[i] = f(r)
		}
		return v
	}
	l.P50 = median(pick(func(l Latency) float64 { return l.P50 }))
	l.P99 = median(pick(func(l Latency) float64 { return l.P99 }))
	l.P999 = median(pick(func(l Latency) float64 { return l.P999 }))
	for _, r := range rounds {
		l.Max = max(l.Max, r.Max)
	}
	return l
}

// median of an even number of values is the mean of the middle two; of none, 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// ratio is a/b, 0 where b is 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// sampleNs is a duration as a sample; what does not fit counts as the largest.
func sampleNs(ns int64) uint32 { return uint32(min(max(ns, 0), math.MaxUint32)) }
