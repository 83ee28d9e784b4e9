package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// TestMain is also the main function of the processes that the tests start.
func TestMain(m *testing.M) {
	switch os.Getenv("BENCH_TEST_ROLE") {
	case "worker":
		exit(Worker(context.Background(), os.Getenv("BENCH_TEST_SOCKET"), os.Getenv("BENCH_TEST_SEGMENT") != "", os.Stdin, os.Stdout))
	case "registry":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		exit(registry.Serve(ctx, registry.Options{Load: func() (*config.Config, error) {
			return config.Load(config.LoadOptions{File: os.Getenv("BENCH_TEST_CONFIG"), Environ: []string{"HOME=/"}})
		}}))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var testEnv = Env{
	Worker: func(socket string, segmented bool) *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "BENCH_TEST_ROLE=worker", "BENCH_TEST_SOCKET="+socket)
		if segmented {
			c.Env = append(c.Env, "BENCH_TEST_SEGMENT=1")
		}
		return c
	},
	Registry: func(config string) *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "BENCH_TEST_ROLE=registry", "BENCH_TEST_CONFIG="+config)
		return c
	},
	Stderr: os.Stderr,
}

func watchdog(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestLatencyRoundsAgreeOnCounts(t *testing.T) {
	var done float64
	r, err := MeasureLatency(watchdog(t), testEnv, LatencyOptions{Size: 64, Count: 2001, Runs: 2, Progress: func(d float64) { done = d }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Count != 2000 || r.Runs != 2 || r.Size != 64 || done != 1 {
		t.Errorf("%+v, done %v", r, done)
	}
	if !(0 < r.P50 && r.P50 <= r.P99 && r.P99 <= r.P999 && r.P999 <= r.Max) || !(0 < r.FloorP50 && r.FloorP50 <= r.FloorP999 && r.FloorP999 <= r.FloorMax) {
		t.Errorf("percentiles out of order: %+v", r)
	}
	if r.RatioP50 != r.P50/r.FloorP50 {
		t.Errorf("ratio %v", r.RatioP50)
	}
}

// Fear: whoever interrupts a long measurement has waited for nothing.
func TestInterruptedMeasurementReportsWhatWasComplete(t *testing.T) {
	why := errors.New("interrupted")
	measured := func(after int, measure func(context.Context, func(float64))) {
		ctx, interrupt := context.WithCancelCause(watchdog(t))
		defer interrupt(nil)
		if after == 0 {
			time.AfterFunc(100*time.Millisecond, func() { interrupt(why) })
		}
		told := 0
		measure(ctx, func(float64) {
			if told++; told == after {
				interrupt(why)
			}
		})
	}
	for _, runs := range []int{1, 2} {
		measured(runs, func(ctx context.Context, progress func(float64)) {
			r, err := MeasureLatency(ctx, testEnv, LatencyOptions{Size: 64, Count: 1_000_000, Runs: 1000, Progress: progress})
			if !errors.Is(err, why) || r == nil || !r.Interrupted || r.Runs != runs || r.Count != uint64(1000*runs) || r.P50 <= 0 || r.FloorP50 <= 0 {
				t.Errorf("latency: %+v, %v after %d runs", r, err, runs)
			}
		})
		measured(runs, func(ctx context.Context, progress func(float64)) {
			r, err := MeasureWake(ctx, testEnv, LatencyOptions{Size: 8, Count: 20_000, Runs: 1000, Progress: progress})
			if !errors.Is(err, why) || r == nil || !r.Interrupted || r.Runs != runs || r.Count != uint64(20*runs) || r.WakeP50 <= 0 {
				t.Errorf("wake: %+v, %v after %d runs", r, err, runs)
			}
		})
		measured(runs, func(ctx context.Context, progress func(float64)) {
			r, err := MeasureThroughput(ctx, testEnv, ThroughputOptions{Size: 64, Count: 1000, Runs: 1000, Progress: progress})
			if !errors.Is(err, why) || r == nil || !r.Interrupted || r.Runs != runs || r.Messages != 1000 || r.Baseline <= 0 {
				t.Errorf("throughput: %+v, %v after %d runs", r, err, runs)
			}
		})
	}
	measured(0, func(ctx context.Context, progress func(float64)) {
		if r, err := MeasureLatency(ctx, testEnv, LatencyOptions{Size: 64, Count: 1 << 32, Runs: 2, Progress: progress}); r != nil || !errors.Is(err, why) {
			t.Errorf("latency: %+v, %v", r, err)
		}
	})
	measured(0, func(ctx context.Context, progress func(float64)) {
		if r, err := MeasureThroughput(ctx, testEnv, ThroughputOptions{Size: 64, Duration: time.Hour, Progress: progress}); r != nil || !errors.Is(err, why) {
			t.Errorf("throughput: %+v, %v", r, err)
		}
	})
}

func TestWakeUpsAreAllSeen(t *testing.T) {
	for ctx := watchdog(t); ; {
		r, err := MeasureWake(ctx, testEnv, LatencyOptions{Size: 8, Count: 60, Runs: 2})
		if err != nil {
			t.Fatal(err)
		}
		if r.Count != 60 || r.WakeP50 <= 0 || r.FutexP50 <= 0 || r.RatioWake != r.WakeP50/r.FutexP50 {
			t.Errorf("%+v", r)
		}
		if r.Parks > 0 {
			return
		}
		// It never slept: a busy machine kept it from the processor while all 20 ms of it
		// were published. Once more, until the watchdog says that it never does.
	}
}

func TestThroughputCountsEveryMessage(t *testing.T) {
	for _, o := range []ThroughputOptions{
		{Size: 64, Count: 100_001, Runs: 2},
		{Size: 1024, Count: 20_000, Runs: 1, Publishers: 2, Subscribers: 2, Mode: shm.Lossless},
		{Size: 0, Duration: 20 * time.Millisecond, Runs: 1, Mode: shm.Lossless},
		{Size: 256, Count: 100_000, Runs: 1, Subscribers: 2},
		{Size: 64, Count: 100_000, Runs: 1, Publishers: 2, Read: ReadPoll},
		{Size: 100_000, Count: 100, Runs: 1, Mode: shm.Lossless},
		{Size: 8 << 10, Count: 10_000, Runs: 1, RingBytes: 64 << 10},
	} {
		r, err := MeasureThroughput(watchdog(t), testEnv, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if o.Count != 0 && r.Messages != o.Count || r.Messages == 0 || r.Seconds <= 0 || r.Mode != o.Mode.String() || (r.Read == ReadPoll) != (o.Read == ReadPoll) {
			t.Errorf("%+v: %+v", o, r)
		}
		if o.RingBytes != 0 && r.Ring != o.RingBytes || r.Ring < 8*uint64(o.Size) {
			t.Errorf("%+v: rings of %d bytes", o, r.Ring)
		}
		if o.Mode == shm.Lossless && r.Lost != 0 {
			t.Errorf("%+v: %d lost", o, r.Lost)
		}
		if r.Baseline <= 0 || r.Ratio != r.Rate/r.Baseline || r.RateMin > r.Rate || r.Rate > r.RateMax {
			t.Errorf("%+v: %+v", o, r)
		}
	}
}

func TestDemoOfTheSample(t *testing.T) {
	r, err := Demo(watchdog(t), testEnv, DemoOptions{Duration: time.Second, Rate: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verdict(); err != nil {
		t.Error(err)
	}
	if r.Published == 0 || r.Published%uint64(len(sample())) != 0 || r.Topics != 3 || r.Publishers != 2 || len(r.Subscribers) != 3 || r.Data != nil {
		t.Errorf("%+v", r)
	}
	if r.Registry.RSS == 0 || r.P50 <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestDemoLapsTheSlowSubscriberAndCountsWholeLoops(t *testing.T) {
	file := filepath.Join(t.TempDir(), "matches.json")
	if err := os.WriteFile(file, []byte(`[
		{"type":"match","product_id":"BTC-USD","side":"buy","size":"0.00004147","price":"116827.85","time":"2025-08-22T20:11:30.012637Z"},
		{"type":"match","product_id":"BTC-USD","side":"sell","size":"0.5","price":"116827.86","time":"2025-08-22T20:11:30.2Z"},
		{"type":"match","product_id":"BTC-USD","side":"sell","size":"1","price":"116827.8","time":"2025-08-22T20:11:31Z"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Demo(watchdog(t), testEnv, DemoOptions{Data: file, Duration: time.Second, Publishers: 1, Rate: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verdict(); err != nil {
		t.Error(err)
	}
	if r.Data == nil || r.Data.PerLoop != 3 || r.Data.Loops*3 != r.Published {
		t.Errorf("%+v: %+v", r, r.Data)
	}
	// 256 messages between sleeps of 100 ms, a ring of 8192 frames: as long as
	// the publisher reaches a tenth of its rate the slow subscriber is lapped.
	if slow := r.Subscribers[2]; r.Published > 20_000 && (slow.Missed == 0 || slow.Gaps == 0) {
		t.Errorf("%d published and no gap seen: %+v", r.Published, slow)
	}
}

func TestInterruptedDemoReportsAndLeavesNothing(t *testing.T) {
	env, dir := testEnv, ""
	env.Registry = func(config string) *exec.Cmd {
		dir = filepath.Dir(config)
		return testEnv.Registry(config)
	}
	reason := errors.New("Ctrl-C")
	ctx, stop := context.WithCancelCause(watchdog(t))
	time.AfterFunc(time.Second, func() { stop(reason) })
	r, err := Demo(ctx, env, DemoOptions{Duration: time.Hour, Rate: 20_000})
	if !errors.Is(err, reason) {
		t.Fatalf("error %v", err)
	}
	if r != nil { // nil if the machine took the second to start everything
		if v := r.Verdict(); v != nil {
			t.Error(v)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was left behind: %v", dir, err)
	}
}

func TestDeadWorkerEndsTheMeasurement(t *testing.T) {
	env := testEnv
	env.Stderr = nil
	started := 0
	env.Worker = func(socket string, segmented bool) *exec.Cmd {
		if started++; started == 2 {
			return exec.Command("/bin/false")
		}
		return testEnv.Worker(socket, segmented)
	}
	_, err := MeasureLatency(watchdog(t), env, LatencyOptions{Size: 64, Count: 10, Runs: 1})
	if err == nil || !strings.Contains(err.Error(), "second worker") {
		t.Errorf("error %v", err)
	}
}

func TestDeadRegistryIsReported(t *testing.T) {
	env := testEnv
	env.Registry = func(string) *exec.Cmd { return exec.Command("/bin/false") }
	_, err := Demo(watchdog(t), env, DemoOptions{})
	if err == nil || !strings.Contains(err.Error(), "registry ended") {
		t.Errorf("error %v", err)
	}
}

func TestCancelledMeasurementEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(watchdog(t))
	time.AfterFunc(300*time.Millisecond, cancel)
	_, err := MeasureThroughput(ctx, testEnv, ThroughputOptions{Size: 64, Duration: time.Hour})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	for _, err := range []error{
		(&LatencyOptions{Size: -1}).Validate(),
		(&LatencyOptions{Size: 4, Park: true}).Validate(),
		(&LatencyOptions{Size: MaxSize + 1}).Validate(),
		(&LatencyOptions{Count: 3, Runs: 4}).Validate(),
		(&LatencyOptions{Runs: -1}).Validate(),
		(&LatencyOptions{Duration: -1}).Validate(),
		(&LatencyOptions{CPUs: []int{4095}}).Validate(),
		(&ThroughputOptions{Size: -1}).Validate(),
		(&ThroughputOptions{RingBytes: 3 << 20}).Validate(),
		(&ThroughputOptions{Read: "frames"}).Validate(),
		(&ThroughputOptions{Size: 9000, RingBytes: 64 << 10}).Validate(),
		(&ThroughputOptions{Publishers: 65}).Validate(),
		(&ThroughputOptions{Subscribers: -1}).Validate(),
		(&ThroughputOptions{Publishers: 2, Count: 1}).Validate(),
		(&ThroughputOptions{Duration: -1}).Validate(),
		(&DemoOptions{Duration: -1}).Validate(),
		(&DemoOptions{Publishers: 17}).Validate(),
	} {
		if err == nil {
			t.Error("accepted")
		}
	}
}
