package shm

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/testproc"
	"golang.org/x/sys/unix"
)

func TestHotPathsDoNotAllocate(t *testing.T) {
	if raceEnabled { // its own bookkeeping allocates
		return
	}
	watch(t, time.Minute)
	payload := make([]byte, 100)
	batch := []Message{{1, payload}, {1, payload}, {1, payload}}
	h, hs := func(Frame) {}, func([]Frame) {}
	view := func(Frame) error { return nil }
	for _, mode := range []Mode{Lossless, Lossy} {
		p, s, r := heapPair(t, layout.Geometry{Ring: small}, mode, Policy{Kind: PolicyFail})
		r.neverEvicts = true
		m := newMember(&peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64))}, 3, false, true)
		p.swapSet(func(set *memberSet) *memberSet { return set.with(m) }) // one that may sleep
		publish := func() {
			if _, err := p.Publish(1, payload); err != nil {
				t.Fatal(err)
			}
		}
		poll := func() {
			if _, err := s.Poll(h, 0); err != nil {
				t.Fatal(err)
			}
		}
		next, stop := iter.Pull2(s.Frames(bg()))
		defer stop()
		for what, f := range map[string]func(){
			"publish": func() { publish(); poll() },
			"frames": func() { // alone, and of a stretch
				for range 4 {
					publish()
				}
				for range 4 {
					if _, err, _ := next(); err != nil {
						t.Fatal(err)
					}
				}
			},
			"claim and commit": func() {
				c, err := p.Claim(1, 100)
				if err != nil {
					t.Fatal(err)
				}
				c.Commit()
				poll()
			},
			"claim and abort": func() {
				c, err := p.Claim(1, 100)
				if err != nil {
					t.Fatal(err)
				}
				c.Abort()
			},
			"batch": func() {
				if _, err := p.PublishBatch(batch); err != nil {
					t.Fatal(err)
				}
				poll()
			},
			"poll batches": func() { // of one, and of more
				for range 4 {
					publish()
				}
				for range 2 {
					if _, err := s.PollBatch(hs, 0); err != nil {
						t.Fatal(err)
					}
				}
			},
			"poll empty": poll,
			"view": func() {
				publish()
				if mode == Lossless {
					if _, err := s.View(view, 0); err != nil {
						t.Fatal(err)
					}
				}
				poll()
			},
		} {
			for range 100 { // whatever is set up once
				f()
			}
			if n := testing.AllocsPerRun(20000, f); n != 0 {
				t.Errorf("%s, %v: %v allocations", what, mode, n)
			}
		}
		if mode == Lossless { // a claim that finds no room
			for _, err := p.Publish(1, payload); err == nil; _, err = p.Publish(1, payload) {
			}
			if n := testing.AllocsPerRun(100, func() {
				if _, err := p.Claim(1, 100); !errors.Is(err, ErrBackpressure) {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("claim without room: %v allocations", n)
			}
		}
	}
}

// The child forbids its thread every system call and goes on publishing and
// polling.
var _ = testproc.Register("no system calls", func(args []string) error {
	d, err := OpenLocal("", &LocalOptions{RingBytes: small})
	if err != nil {
		return err
	}
	defer d.Close()
	c, err := d.Client(bg())
	if err != nil {
		return err
	}
	s, err := c.Subscriber(bg(), "a", &SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	if err != nil {
		return err
	}
	p, err := c.Publisher(bg(), "a", &PublisherOptions{Timestamps: TimestampsTSC})
	if err != nil {
		return err
	}
	fmt.Println(d.Path())
	payload, n := make([]byte, 64), 0
	h, hs := func(Frame) { n++ }, func(fs []Frame) { n += len(fs) }
	batch := []Message{{1, payload}, {1, payload}}
	round := func() error {
		for range 100 {
			if _, err := p.Publish(1, payload); err != nil {
				return err
			}
			c, err := p.Claim(1, 64)
			if err != nil {
				return err
			}
			c.Commit()
		}
		if _, err := p.PublishBatch(batch); err != nil {
			return err
		}
		if _, err := s.Poll(h, 2); err != nil {
			return err
		}
		for range 2 {
			if _, err := s.PollBatch(hs, 0); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := p.Publish(1, payload); err != nil {
		return err
	}
	for n == 0 { // until the subscriber has heard of the lane
		if _, err := s.Poll(h, 0); err != nil {
			return err
		}
		runtime.Gosched()
	}
	for range 10 {
		if err := round(); err != nil {
			return err
		}
	}
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	if err := forbid(); err != nil {
		return err
	}
	if len(args) > 0 { // to show that the filter bites
		unix.Getppid()
	}
	for range 500 {
		if err := round(); err != nil {
			unix.Exit(3)
		}
	}
	unix.Exit(42) // the one call that is allowed
	return nil
})

func TestHotPathsMakeNoSystemCall(t *testing.T) {
	if raceEnabled { // the detector makes its own
		return
	}
	watch(t, time.Minute)
	run := func(args ...string) (*testproc.Proc, error) {
		p := testproc.Start(t, "no system calls", args, nil)
		dir := p.Line()
		err := p.Wait()
		_ = os.RemoveAll(dir)
		return p, err
	}
	if p, _ := run("provoke"); p.KilledBy() != unix.SIGSYS {
		t.Fatalf("a system call went through: %v", p.Cmd.ProcessState)
	}
	// On a machine that is short of processors the runtime may make a thread from the
	// forbidden one, which then meets the filter in whatever it is for. A call on the
	// path would end every attempt.
	for left := 5; ; left-- {
		p, err := run()
		if p.Cmd.ProcessState.ExitCode() == 42 {
			return
		}
		if left == 0 || p.KilledBy() != unix.SIGSYS {
			t.Fatalf("%v, %v", err, p.Cmd.ProcessState)
		}
	}
}
