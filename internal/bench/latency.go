package bench

import (
	"context"
	"fmt"
	"time"
)

// LatencyOptions of MeasureLatency.
type LatencyOptions struct {
	Size  int    // payload bytes; 8 at least for Park
	Count uint64 // measured messages of each kind in all; 0 = a default
	Runs  int    // rounds of each kind; 0 = a default
	// Duration is for how long rounds of Count / Runs messages go on, however many; 0 = Runs of them.
	Duration time.Duration
	CPUs     []int // none = all
	Park     bool  // measure the wake-up of a sleeping subscriber instead
	// Progress is told what was done, from 0 to 1; nil = nobody.
	Progress func(done float64)
}

// LatencyReport is what a ping-pong took one way, half a round trip, on the bus
// and on two bare cache lines. Percentiles are medians over the rounds, maxima
// are over all.
type LatencyReport struct {
	Size  int    `json:"size_bytes"`
	Count uint64 `json:"count"`
	Runs  int    `json:"runs"`
	CPUs  []int  `json:"cpus"`
	Latency
	FloorP50  float64 `json:"floor_p50_ns"`
	FloorP99  float64 `json:"floor_p99_ns"`
	FloorP999 float64 `json:"floor_p999_ns"`
	FloorMax  float64 `json:"floor_max_ns"`
	RatioP50  float64 `json:"ratio_p50"`  // bus to floor
	RatioP999 float64 `json:"ratio_p999"` // of the bus: its p99.9 to its p50
	// Interrupted says that Runs are those that were complete, not all that were wanted.
	Interrupted bool `json:"interrupted"`
}

// WakeReport is what it took from just before the publish to the handler of a
// parked subscriber, and from a bare FUTEX_WAKE to a process in FUTEX_WAIT.
type WakeReport struct {
	Size      int     `json:"size_bytes"`
	Count     uint64  `json:"count"`
	Runs      int     `json:"runs"`
	CPUs      []int   `json:"cpus"`
	Parks     uint64  `json:"parks"` // how often the subscriber went to sleep, warm-up included
	WakeP50   float64 `json:"wake_p50_ns"`
	WakeP99   float64 `json:"wake_p99_ns"`
	WakeP999  float64 `json:"wake_p999_ns"`
	WakeMax   float64 `json:"wake_max_ns"`
	FutexP50  float64 `json:"futex_p50_ns"`
	FutexP99  float64 `json:"futex_p99_ns"`
	FutexP999 float64 `json:"futex_p999_ns"`
	FutexMax  float64 `json:"futex_max_ns"`
	RatioWake float64 `json:"ratio_wake"` // of the medians
	// Interrupted as in LatencyReport.
	Interrupted bool `json:"interrupted"`
}

const (
	latencyCount = 1_000_000
	latencyRuns  = 10
	wakeCount    = 4_000
	wakePauseNs  = 300_000
)

// Validate fills the zero fields and reports the first impossible value.
func (o *LatencyOptions) Validate() (err error) {
	if o.Runs == 0 {
		o.Runs = latencyRuns
	}
	if o.Count == 0 {
		o.Count = latencyCount
		if o.Park {
			o.Count = wakeCount
		}
	}
	least := 0
	if o.Park {
		least = counterBytes
	}
	switch {
	case o.Size < least || o.Size > MaxSize:
		return fmt.Errorf("message size %d bytes: want %d to %d", o.Size, least, MaxSize)
	case o.Duration < 0:
		return fmt.Errorf("duration %v: want a positive one", o.Duration)
	case o.Runs < 1 || o.Count < uint64(o.Runs) || o.Count > 1<<32:
		return fmt.Errorf("%d messages in %d runs: want at least one message a run, and at most %d in all", o.Count, o.Runs, uint64(1)<<32)
	}
	o.CPUs, err = checkCPUs(o.CPUs)
	if o.Progress == nil {
		o.Progress = func(float64) {}
	}
	return err
}

// MeasureLatency alternates rounds of the floor and of the bus. If ctx ends, the error is
// its cause and the report tells of the rounds that were complete; nil if none was.
func MeasureLatency(ctx context.Context, env Env, o LatencyOptions) (*LatencyReport, error) {
	o.Park = false
	m, err := o.measure(ctx, env,
		[2]job{{Op: "floor-pong"}, {Op: "floor-ping"}},
		[2]job{{Op: "bus-pong"}, {Op: "bus-ping"}})
	if m == nil {
		return nil, err
	}
	return &LatencyReport{
		Size: m.Size, Count: m.Count, Runs: m.Runs, CPUs: m.CPUs, Latency: m.bus,
		FloorP50: m.bare.P50, FloorP99: m.bare.P99, FloorP999: m.bare.P999, FloorMax: m.bare.Max,
		RatioP50: ratio(m.bus.P50, m.bare.P50), RatioP999: ratio(m.bus.P999, m.bus.P50), Interrupted: err != nil,
	}, err
}

// MeasureWake alternates rounds of the bare futex and of the bus; as MeasureLatency, it
// reports on what was complete when ctx ended.
func MeasureWake(ctx context.Context, env Env, o LatencyOptions) (*WakeReport, error) {
	o.Park = true
	m, err := o.measure(ctx, env,
		[2]job{{Op: "futex-wake"}, {Op: "futex-wait"}},
		[2]job{{Op: "bus-wake"}, {Op: "bus-park"}})
	if m == nil {
		return nil, err
	}
	return &WakeReport{
		Size: m.Size, Count: m.Count, Runs: m.Runs, CPUs: m.CPUs, Parks: m.parks,
		WakeP50: m.bus.P50, WakeP99: m.bus.P99, WakeP999: m.bus.P999, WakeMax: m.bus.Max,
		FutexP50: m.bare.P50, FutexP99: m.bare.P99, FutexP999: m.bare.P999, FutexMax: m.bare.Max,
		RatioWake: ratio(m.bus.P50, m.bare.P50), Interrupted: err != nil,
	}, err
}

// measured is what the rounds of both kinds gave.
type measured struct {
	LatencyOptions
	bare, bus Latency
	parks     uint64
}

// warmShare is the part of a round that goes before what is measured: workers that were
// idle are interrupted several times as often in their first 15 ms.
const warmShare = 5

// measure runs pairs of jobs, of which the second measures and is prepared
// first. With an error it returns nil, unless ctx has ended after a round.
func (o LatencyOptions) measure(ctx context.Context, env Env, bare, onBus [2]job) (*measured, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b, err := openBus(ctx, env, "")
	if err != nil {
		return nil, err
	}
	defer b.close()
	t, err := newTeam(env, b.socket, floorBytes, pinned(o.CPUs, "first worker", "second worker"))
	if err != nil {
		return nil, err
	}
	defer t.close()
	per := o.Count / uint64(o.Runs)
	m, parks := &measured{LatencyOptions: o}, uint64(0)
	m.Runs = 0
	round := func(jobs [2]job, run int) (Latency, error) {
		for i := range jobs {
			j := &jobs[i]
			// A topic of its own for each round: nothing is left of the one before.
			j.Topic, j.Reply = fmt.Sprintf("bench.ping.%d", run), fmt.Sprintf("bench.pong.%d", run)
			j.Round, j.Size, j.Count, j.Warmup, j.PauseNs = run, o.Size, per, per/warmShare+1, wakePauseNs
			j.Yield = oversubscribed(2, o.CPUs)
		}
		r, err := t.do(ctx, assignment{t.procs[1], jobs[1]}, assignment{t.procs[0], jobs[0]})
		if err != nil {
			return Latency{}, err
		}
		if wrong := r[0].Wrong + r[1].Wrong; wrong > 0 || r[0].Messages != per {
			return Latency{}, fmt.Errorf("%s: %d messages of %d, %d wrong", jobs[0].Op, r[0].Messages, per, wrong)
		}
		parks += r[0].Parks
		return r[0].Latency, nil
	}
	var bares, buses []Latency
	begin := time.Now()
	for done := 0.0; done < 1; {
		var pair [2]Latency
		if pair[0], err = round(bare, m.Runs); err == nil {
			pair[1], err = round(onBus, m.Runs)
		}
		if err != nil && (ctx.Err() == nil || m.Runs == 0) {
			return nil, err
		}
		if err != nil {
			break
		}
		bares, buses = append(bares, pair[0]), append(buses, pair[1])
		m.parks = parks
		m.Runs++
		if done = float64(m.Runs) / float64(o.Runs); o.Duration > 0 {
			done = float64(time.Since(begin)) / float64(o.Duration)
		}
		o.Progress(min(done, 1))
	}
	m.Count = per * uint64(m.Runs)
	m.bare, m.bus = medianLatency(bares), medianLatency(buses)
	return m, err
}
