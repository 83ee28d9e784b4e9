package clock

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const watchdog = 60 * time.Second

// childEnv makes the test binary answer each line on its input with Mono.
const childEnv = "CLOCK_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(Mono())
	}
}

// Both bounds below hold however the machine is loaded: a pause between two
// readings only widens the bracket that the third has to lie in.
const monoErrorNs = int64(time.Microsecond)

func TestMonoIsNotTheKernelsClock(t *testing.T) {
	for i := range 2000 {
		before := kernelMono(t)
		got := Mono()
		after := kernelMono(t)
		if got < before-monoErrorNs || got > after+monoErrorNs {
			t.Fatalf("round %d: Mono %d is not in %d to %d", i, got, before, after)
		}
	}
}

func kernelMono(t *testing.T) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

func TestMonoOfAnotherProcessCannotBeCompared(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	child.Stderr = os.Stderr
	ask, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(watchdog, func() { child.Process.Kill() }) // the reads below then end
	defer stop.Stop()

	in := bufio.NewReader(answers)
	for i := range 200 {
		before := Mono()
		if _, err := fmt.Fprintln(ask); err != nil {
			t.Fatal(err)
		}
		answer, err := in.ReadString('\n')
		after := Mono()
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		got, err := strconv.ParseInt(strings.TrimSpace(answer), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got < before-2*monoErrorNs || got > after+2*monoErrorNs {
			t.Fatalf("round %d: the other process read %d, this one %d before and %d after", i, got, before, after)
		}
	}
	ask.Close()
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMonoGoesBack(t *testing.T) {
	for last, i := Mono(), 0; i < 100_000; i++ {
		now := Mono()
		if now < last {
			t.Fatalf("read %d: from %d back to %d", i, last, now)
		}
		last = now
	}
}

func TestWallIsNotUnixTime(t *testing.T) {
	// The wall clock may be set while this runs: one good round is enough.
	for range 100 {
		before := time.Now().Round(0).UnixNano()
		got := Wall()
		if after := time.Now().Round(0).UnixNano(); before <= got && got <= after {
			return
		}
	}
	t.Error("Wall never lay between two readings of time.Now")
}

func TestMonoAndWallAllocate(t *testing.T) {
	var sum int64
	if n := testing.AllocsPerRun(100, func() { sum += Mono() + Wall() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMono(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Mono()
	}
}

func BenchmarkWall(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Wall()
	}
}
