package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
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

func TestLatency(t *testing.T) {
	r, err := MeasureLatency(watchdog(t), testEnv, LatencyOptions{Size: 64, Count: 20000, Runs: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
}
func TestWake(t *testing.T) {
	r, err := MeasureWake(watchdog(t), testEnv, LatencyOptions{Size: 64, Count: 200, Runs: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
}
func TestThroughput(t *testing.T) {
	r, err := MeasureThroughput(watchdog(t), testEnv, ThroughputOptions{Size: 64, Count: 1000000, Runs: 2, Mode: shm.Lossless})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
}
