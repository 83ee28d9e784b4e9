package clock

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newTSC returns nil on a machine without a counter to test; that NewTSC says so
// is then what was tested.
func newTSC(t testing.TB) *TSC {
	tsc, err := NewTSC()
	if errors.Is(err, ErrUnsupported) && !invariant() {
		t.Log(err)
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return tsc
}

// errorNs returns how far Now is outside two readings of Mono around it.
func errorNs(tsc *TSC) int64 {
	before := Mono()
	now := tsc.Now()
	after := Mono()
	return max(before-now, now-after, 0)
}

func medianErrorNs(tsc *TSC) int64 {
	errs := make([]int64, 501)
	for i := range errs {
		errs[i] = errorNs(tsc)
	}
	slices.Sort(errs)
	return errs[len(errs)/2]
}

// The virtual machines this runs on are noisy; what goes wrong in a clock of this
// kind goes wrong by far more.
const toleranceNs = int64(50 * time.Microsecond)

func TestTSCWandersOffMono(t *testing.T) {
	tsc := newTSC(t)
	if tsc == nil {
		return
	}
	t.Logf("after NewTSC: median %d ns", medianErrorNs(tsc))
	for range 5 {
		time.Sleep(150 * time.Millisecond)
		before := medianErrorNs(tsc)
		tsc.Recalibrate()
		time.Sleep(time.Duration(slewNs))
		after := medianErrorNs(tsc)
		t.Logf("before Recalibrate %d ns, after the slew %d ns", before, after)
		if before > toleranceNs || after > toleranceNs {
			t.Fatalf("median error %d ns, after Recalibrate %d ns; want at most %d", before, after, toleranceNs)
		}
	}
}

func TestReaderSeesTimeGoBackWhileRecalibrating(t *testing.T) {
	tsc := newTSC(t)
	if tsc == nil {
		return
	}
	var (
		done    atomic.Bool
		readers sync.WaitGroup
	)
	for range 2 {
		readers.Go(func() {
			last := tsc.Now()
			for !done.Load() {
				now := tsc.Now()
				if now < last-toleranceNs { // a move between cores may cost a little
					t.Errorf("from %d back to %d", last, now)
					return
				}
				last = now
			}
		})
	}
	var controls sync.WaitGroup
	for range 2 {
		controls.Go(func() {
			for range 50 {
				tsc.Recalibrate()
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	controls.Wait()
	done.Store(true)
	readers.Wait()
	if e := medianErrorNs(tsc); e > toleranceNs {
		t.Errorf("median error %d ns after 100 recalibrations", e)
	}
}

func TestSuspendedHostLeavesTSCBehind(t *testing.T) {
	tsc := newTSC(t)
	if tsc == nil {
		return
	}
	for _, off := range []int64{int64(time.Hour), -int64(time.Hour), 2 * maxSlewNs} {
		broken := *tsc.cur.Load()
		broken.slew.from.ns += off
		broken.steady.from.ns += off
		tsc.cur.Store(&broken)
		tsc.Recalibrate()
		if e := medianErrorNs(tsc); e > toleranceNs {
			t.Errorf("off by %d ns: still %d ns off after Recalibrate", off, e)
		}
	}
}

func TestTSCAllocates(t *testing.T) {
	tsc := newTSC(t)
	if tsc == nil {
		return
	}
	if n := testing.AllocsPerRun(100, func() { tsc.Now() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// world is a simulated host: a counter of hz whose rate is off by ppm from what
// the lines were calibrated to.
type world struct {
	start sample
	hz    float64
}

func (w world) at(ns int64) sample {
	return sample{ticks: w.start.ticks + uint64(float64(ns)/1e9*w.hz), ns: w.start.ns + ns}
}

// calibrated returns a TSC that took its rate from w, wrong by ppm.
func (w world) calibrated(ppm float64) *TSC {
	wrong := world{start: w.start, hz: w.hz * (1 + ppm/1e6)}
	rate, ok := rateBetween(wrong.at(0), wrong.at(int64(time.Second)))
	if !ok {
		panic("no rate")
	}
	l := line{from: w.start, rate: rate}
	tsc := &TSC{last: w.start}
	tsc.cur.Store(&lines{slew: l, steady: l})
	return tsc
}

var worlds = map[string]world{
	"3 GHz":                    {start: sample{ticks: 12345, ns: 777}, hz: 3e9},
	"24 MHz":                   {start: sample{ticks: 1, ns: 1}, hz: 24e6},
	"1 GHz, counter wraps":     {start: sample{ticks: math.MaxUint64 - 2e9, ns: 5}, hz: 1e9},
	"3 GHz, counter near 2^63": {start: sample{ticks: 1<<63 - 1e9, ns: 5}, hz: 3e9},
}

func TestIrregularRecalibrationDiverges(t *testing.T) {
	for name, w := range worlds {
		for _, ppm := range []float64{-80, 0, 80} {
			tsc := w.calibrated(ppm)
			now, last := int64(0), tsc.cur.Load().at(w.start.ticks)
			// Milliseconds between calls: on time, in a burst, during a slew, very late.
			for i, ms := range []int64{1000, 1000, 1, 1, 1, 60, 10_000, 1000, 10_000, 30, 60_000, 1000, 150} {
				for range 200 { // in between, time rises
					now += ms * 1e6 / 200
					read := tsc.cur.Load().at(w.at(now).ticks)
					if read < last {
						t.Fatalf("%s, %v ppm, call %d: back from %d to %d", name, ppm, i, last, read)
					}
					last = read
				}
				// The rate is right after the first call, the offset after its slew.
				if e := last - w.at(now).ns; i >= 2 && (e > 200 || e < -200) {
					t.Errorf("%s, %v ppm: %d ns off before call %d", name, ppm, e, i)
				}
				tsc.follow(w.at(now))
			}
		}
	}
}

func TestSlewJumpsOrOvershoots(t *testing.T) {
	for name, w := range worlds {
		for _, off := range []int64{-maxSlewNs, -1000, 0, 1000, maxSlewNs} {
			old := w.calibrated(0).cur.Load()
			now := w.at(int64(time.Second))
			now.ns += off // the truth is somewhere else
			next := old.turn(now, old.steady.rate)
			tick := int64(1e9/w.hz) + 1
			if got, want := next.at(now.ticks), old.at(now.ticks); got != want {
				t.Errorf("%s, %d: jumped by %d ns", name, off, got-want)
			}
			for _, ms := range []int64{100, 200, 1100} {
				at := w.at(int64(time.Second) + ms*1e6)
				if got := next.at(at.ticks) - (at.ns + off); got > 2*tick || got < -2*tick {
					t.Errorf("%s, %d: %d ns off after %d ms", name, off, got, ms)
				}
			}
			join := next.steady.from
			if before := next.at(join.ticks - 1); before > join.ns || before < join.ns-2*tick {
				t.Errorf("%s, %d: %d ns just before the join, %d at it", name, off, before, join.ns)
			}
			if early := next.at(now.ticks - 50); early != next.slew.from.ns {
				t.Errorf("%s, %d: a counter read early gives %d, want the start %d", name, off, early, next.slew.from.ns)
			}
		}
	}
}

func TestStoppedCounterGivesARate(t *testing.T) {
	a := sample{ticks: 1000, ns: 1000}
	for name, b := range map[string]sample{
		"counter stands":     {ticks: 1000, ns: 2000},
		"counter goes back":  {ticks: 999, ns: 2000},
		"time stands":        {ticks: 2000, ns: 1000},
		"time goes back":     {ticks: 2000, ns: 999},
		"counter too slow":   {ticks: 1001, ns: 1000 + 20_000},
		"counter too fast":   {ticks: 1000 + 200_000, ns: 1001},
		"nothing happens":    a,
		"counter a lap back": {ticks: 1001 + 1<<63, ns: 2000},
	} {
		if rate, ok := rateBetween(a, b); ok {
			t.Errorf("%s: rate %d", name, rate)
		}
	}
	if rate, ok := rateBetween(a, sample{ticks: 3000, ns: 2000}); !ok || rate != 1<<(rateShift-1) {
		t.Errorf("2 GHz: rate %#x, %v; want half a nanosecond a tick", rate, ok)
	}
}

func BenchmarkTSCNow(b *testing.B) {
	tsc := newTSC(b)
	if tsc == nil {
		return
	}
	b.ReportAllocs()
	for b.Loop() {
		tsc.Now()
	}
}

func BenchmarkRecalibrate(b *testing.B) {
	tsc := newTSC(b)
	if tsc == nil {
		return
	}
	for b.Loop() {
		tsc.Recalibrate()
	}
}
