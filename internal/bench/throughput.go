package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/shm"
)

// ThroughputOptions of MeasureThroughput.
type ThroughputOptions struct {
	Size        int           // payload bytes
	Count       uint64        // messages of a run, of all publishers together; 0 = for Duration
	Duration    time.Duration // of a run; 0 = 1 s
	Runs        int           // 0 = 5
	Publishers  int           // 0 = 1
	Subscribers int           // 0 = 1
	Mode        shm.Mode
	Read        string // how subscribers read: "" = ReadBatch, or ReadPoll
	RingBytes   uint64 // of each publisher; 0 = 1 MiB, or the least that holds 16 messages
	CPUs        []int  // none = all
	// Progress is told what was done, from 0 to 1; nil = nobody.
	Progress func(done float64)
}

// ThroughputReport is how fast messages went from publishers to subscribers that
// copy them out: from the start of the first publisher to the last message at
// the last subscriber. Messages, Seconds and the rates are of the median run;
// Lost is of all runs.
type ThroughputReport struct {
	Size        int     `json:"size_bytes"`
	Publishers  int     `json:"publishers"`
	Subscribers int     `json:"subscribers"`
	Mode        string  `json:"mode"`
	Read        string  `json:"read"`
	Ring        uint64  `json:"ring_bytes"`
	CPUs        []int   `json:"cpus"`
	Runs        int     `json:"runs"`
	Messages    uint64  `json:"messages"` // published
	Seconds     float64 `json:"seconds"`
	Rate        float64 `json:"msgs_per_second"`
	RateMin     float64 `json:"msgs_per_second_min"`
	RateMax     float64 `json:"msgs_per_second_max"`
	Bytes       float64 `json:"bytes_per_second"`
	Lost        uint64  `json:"lost"`                     // sequences missed, summed over subscribers
	Baseline    float64 `json:"baseline_msgs_per_second"` // one bare ring of as many bytes, one writer, one reader
	BaselineMin float64 `json:"baseline_msgs_per_second_min"`
	BaselineMax float64 `json:"baseline_msgs_per_second_max"`
	Ratio       float64 `json:"ratio"` // bus to baseline
	// Interrupted says that Runs are those that were complete, not all that were wanted.
	Interrupted bool `json:"interrupted"`
}

// How the subscribers of a run read: by [shm.Subscriber.PollBatch] or frame by frame,
// by [shm.Subscriber.Poll].
const (
	ReadBatch = "batch"
	ReadPoll  = "poll"
)

const (
	throughputRuns = 5
	maxPublishers  = 64
)

// Validate fills the zero fields and reports the first impossible value.
func (o *ThroughputOptions) Validate() (err error) {
	if o.Runs == 0 {
		o.Runs = throughputRuns
	}
	if o.Publishers == 0 {
		o.Publishers = 1
	}
	if o.Subscribers == 0 {
		o.Subscribers = 1
	}
	if o.Duration == 0 {
		o.Duration = time.Second
	}
	if o.Read == "" {
		o.Read = ReadBatch
	}
	if o.Progress == nil {
		o.Progress = func(float64) {}
	}
	switch {
	case o.Size < 0 || o.Size > MaxSize:
		return fmt.Errorf("message size %d bytes: want 0 to %d", o.Size, MaxSize)
	case o.Read != ReadBatch && o.Read != ReadPoll:
		return fmt.Errorf("read %q: want %s or %s", o.Read, ReadBatch, ReadPoll)
	case o.Runs < 1 || o.Duration < 0:
		return fmt.Errorf("%d runs of %v: want at least one, of a positive duration", o.Runs, o.Duration)
	case o.Publishers < 1 || o.Publishers > maxPublishers || o.Subscribers < 1 || o.Subscribers > 128:
		return fmt.Errorf("%d publishers and %d subscribers: want 1 to %d and 1 to 128", o.Publishers, o.Subscribers, maxPublishers)
	case o.Count != 0 && o.Count < uint64(o.Publishers):
		return fmt.Errorf("%d messages for %d publishers: want at least one each", o.Count, o.Publishers)
	}
	g := geometryFor(o.Size, o.RingBytes)
	if err := g.Validate(); err != nil {
		return fmt.Errorf("messages of %d bytes in rings of %s: %w", o.Size, config.FormatSize(g.RingBytes), err)
	}
	o.RingBytes = g.RingBytes
	o.CPUs, err = checkCPUs(o.CPUs)
	return err
}

// run is one round's outcome.
type run struct {
	messages uint64
	seconds  float64
	lost     uint64
}

func (r run) rate() float64 { return ratio(float64(r.messages), r.seconds) }

// MeasureThroughput alternates rounds of the baseline and of the bus. If ctx ends, the
// error is its cause and the report tells of the rounds that were complete; nil if none was.
func MeasureThroughput(ctx context.Context, env Env, o ThroughputOptions) (*ThroughputReport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	// Rings of this round and of the one before, and something for all else.
	most := 2*uint64(o.Publishers)*o.RingBytes + 1<<30
	b, err := openBus(ctx, env, fmt.Sprintf("max_shm_bytes = %q\n", config.FormatSize(most)))
	if err != nil {
		return nil, err
	}
	defer b.close()
	var names []string
	for i := range o.Publishers {
		names = append(names, fmt.Sprintf("publisher %d", i))
	}
	for i := range o.Subscribers {
		names = append(names, fmt.Sprintf("subscriber %d", i))
	}
	t, err := newTeam(env, b.socket, slotRingBytes(o.Size, o.RingBytes), pinned(o.CPUs, names...))
	if err != nil {
		return nil, err
	}
	defer t.close()

	var bases, runs []run
	for i := range o.Runs {
		var base, r run
		if base, err = o.baseline(ctx, t); err == nil {
			r, err = o.bus(ctx, t, i)
		}
		if err != nil && (ctx.Err() == nil || i == 0) {
			return nil, err
		}
		if err != nil {
			break
		}
		bases, runs = append(bases, base), append(runs, r)
		o.Progress(float64(i+1) / float64(o.Runs))
	}
	rep := o.report(bases, runs)
	rep.Interrupted = err != nil
	return rep, err
}

func (o *ThroughputOptions) baseline(ctx context.Context, t *team) (run, error) {
	j := job{Size: o.Size, Count: o.Count, RunNs: int64(o.Duration)}
	writer, reader := t.procs[0], t.procs[1] // whoever they are: on two processors, if there are
	j.Yield = o.CPUs[0] == o.CPUs[1%len(o.CPUs)]
	read, write := j, j
	read.Op, write.Op = "slots-read", "slots-write"
	r, err := t.do(ctx, assignment{reader, read}, assignment{writer, write})
	if err != nil {
		return run{}, err
	}
	if r[0].Wrong > 0 || r[0].Messages != r[1].Messages {
		return run{}, fmt.Errorf("baseline: %d of %d messages arrived, %d wrong", r[0].Messages, r[1].Messages, r[0].Wrong)
	}
	return run{messages: r[1].Messages, seconds: float64(r[0].EndNs-r[1].StartNs) / 1e9}, nil
}

func (o *ThroughputOptions) bus(ctx context.Context, t *team, i int) (run, error) {
	base := job{
		// A topic of its own for each round: nothing is left of the one before.
		Topic: fmt.Sprintf("bench.throughput.%d", i),
		Size:  o.Size, Ring: o.RingBytes, RunNs: int64(o.Duration), Sources: o.Publishers, Lossy: o.Mode == shm.Lossy, Read: o.Read,
		Yield: oversubscribed(o.Publishers+o.Subscribers, o.CPUs),
	}
	var as []assignment
	for _, p := range t.procs[o.Publishers:] {
		j := base
		j.Op = "bus-subscribe"
		as = append(as, assignment{p, j})
	}
	for n, p := range t.procs[:o.Publishers] {
		j := base
		j.Op, j.Source = "bus-publish", fmt.Sprintf("publisher-%d", n)
		j.Count = share(o.Count, n, o.Publishers)
		as = append(as, assignment{p, j})
	}
	r, err := t.do(ctx, as...)
	if err != nil {
		return run{}, err
	}
	return sum(r[:o.Subscribers], r[o.Subscribers:], o.Mode)
}

// share is the n-th of parts of count.
func share(count uint64, n, parts int) uint64 {
	s := count / uint64(parts)
	if uint64(n) < count%uint64(parts) {
		s++
	}
	return s
}

// sum checks a round: every subscriber accounts for every message.
func sum(subs, pubs []result, mode shm.Mode) (r run, err error) {
	start, end := pubs[0].StartNs, int64(0)
	for _, p := range pubs {
		r.messages += p.Messages
		start = min(start, p.StartNs)
	}
	for i, s := range subs {
		end = max(end, s.EndNs)
		r.lost += s.Missed
		if s.Wrong > 0 || s.Messages+s.Missed != r.messages || mode == shm.Lossless && s.Missed > 0 {
			return r, fmt.Errorf("subscriber %d received %d and missed %d of %d messages, %d of them out of order",
				i, s.Messages, s.Missed, r.messages, s.Wrong)
		}
	}
	r.seconds = float64(end-start) / 1e9
	return r, nil
}

func (o *ThroughputOptions) report(bases, runs []run) *ThroughputReport {
	byRate := func(a, b run) int {
		switch {
		case a.rate() < b.rate():
			return -1
		case a.rate() > b.rate():
			return 1
		}
		return 0
	}
	rep := &ThroughputReport{Size: o.Size, Publishers: o.Publishers, Subscribers: o.Subscribers, Mode: o.Mode.String(), Read: o.Read, Ring: o.RingBytes, CPUs: o.CPUs, Runs: len(runs)}
	for _, r := range runs {
		rep.Lost += r.lost
	}
	slices.SortFunc(bases, byRate)
	slices.SortFunc(runs, byRate)
	mid := runs[len(runs)/2]
	rep.Messages, rep.Seconds, rep.Rate = mid.messages, mid.seconds, mid.rate()
	rep.RateMin, rep.RateMax = runs[0].rate(), runs[len(runs)-1].rate()
	rep.Bytes = rep.Rate * float64(o.Size)
	rep.Baseline = bases[len(bases)/2].rate()
	rep.BaselineMin, rep.BaselineMax = bases[0].rate(), bases[len(bases)-1].rate()
	rep.Ratio = ratio(rep.Rate, rep.Baseline)
	return rep
}
