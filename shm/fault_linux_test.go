package shm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/testproc"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// files are the segments of one kind, "l" or "c", of a bus.
func files(t *testing.T, d *LocalDirectory, kind string) []string {
	t.Helper()
	f, err := filepath.Glob(filepath.Join(d.Path(), kind, "*"))
	must(t, err)
	if len(f) == 0 {
		t.Fatalf("no files in %s/%s", d.Path(), kind)
	}
	return f
}

func laneFile(t *testing.T, d *LocalDirectory, p *Publisher) string {
	t.Helper()
	for _, f := range files(t, d, "l") {
		if strings.Contains(f, p.hdr.Epoch.String()[:8]) {
			return f
		}
	}
	for _, f := range files(t, d, "l") {
		b := make([]byte, 0x50)
		if r, err := os.Open(f); err == nil {
			_, _ = r.ReadAt(b, 0)
			r.Close()
			if layout.ID16(b[0x40:0x50]) == p.hdr.Epoch {
				return f
			}
		}
	}
	t.Fatal("no file of the lane")
	return ""
}

// The reader of a truncated lane detaches it, whatever it was doing; the other
// lane and the process live on.
func TestTruncatedLaneUnderItsReader(t *testing.T) {
	for _, size := range []int64{0, 0x1000, layout.LaneHeaderBytes, layout.LaneHeaderBytes + 8192} {
		for _, mode := range []Mode{Lossy, Lossless} {
			for _, park := range []bool{false, true} {
				t.Run(fmt.Sprint(size, mode, park), func(t *testing.T) {
					watch(t, time.Minute)
					d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Kind: PolicyFail}})
					s := subscriber(t, dial(t, d), "*", SubscriberOptions{Mode: mode, Idle: IdlePark})
					p, other := publisher(t, c, "broken", PublisherOptions{}), publisher(t, c, "whole", PublisherOptions{})
					for range 50 {
						_, err := p.Publish(1, make([]byte, 200))
						must(t, err)
					}
					idle := &impatient{s: s}
					for n := 0; n < 50; {
						got, err := s.Poll(func(Frame) {}, 0)
						must(t, err)
						n += got
					}
					must(t, os.Truncate(laneFile(t, d, p), size))
					if park { // a fault in here is the next poll's to report
						for range 6 {
							idle.Idle(0)
						}
					}
					var le *LaneError
					for i := 0; le == nil; i++ {
						_, err := s.Poll(func(Frame) {}, 0)
						if err != nil && !errors.As(err, &le) {
							t.Fatal(err)
						}
						if le == nil && size > layout.LaneHeaderBytes { // it has not come to the hole yet
							_, _ = p.Publish(1, make([]byte, 200))
						}
					}
					if !errors.Is(le, ErrFault) || !strings.Contains(le.Error(), "truncated") {
						t.Fatal(le)
					}
					_, err := other.Publish(1, []byte("alive"))
					must(t, err)
					n := 0
					pollUntil(t, s, func(f Frame) {
						if string(f.Payload) == "alive" {
							n++
						}
					}, func() bool { return n == 1 })
					if s.Stats().Faults != 1 {
						t.Fatal(s.Stats())
					}
				})
			}
		}
	}
}

// Every call of a publisher on a truncated lane returns, the process lives, and
// Close gives the lane back.
func TestTruncatedLaneUnderItsPublisher(t *testing.T) {
	payload := make([]byte, 100)
	for name, call := range map[string]func(p *Publisher) error{
		"publish": func(p *Publisher) error { _, err := p.Publish(1, payload); return err },
		"protect": func(p *Publisher) error {
			return p.Protect(func() error { _, err := p.Publish(1, payload); return err })
		},
		"batch": func(p *Publisher) error { _, err := p.PublishBatch([]Message{{1, payload}}); return err },
		"claim": func(p *Publisher) error {
			p.limit = 0 // as at the end of a credit step
			p.intentL = p.pos
			_, err := p.Claim(1, 100)
			return err
		},
		"claim and commit": func(p *Publisher) error {
			c, err := p.Claim(1, 0)
			if err != nil {
				return err
			}
			if c.Commit() != 0 {
				return errors.New("committed into nothing")
			}
			_, err = p.Claim(1, 0)
			return err
		},
		"protected claim": func(p *Publisher) error {
			return p.Protect(func() error {
				c, err := p.Claim(1, 100)
				if err == nil {
					copy(c.Bytes(), payload)
					c.Commit()
				}
				return err
			})
		},
		"flush": func(p *Publisher) error { p.Flush(); _, err := p.Publish(1, nil); return err },
		"join": func(p *Publisher) error {
			_, err := p.join(&peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64))}, true, false)
			return err
		},
		"beat":  func(p *Publisher) error { p.storeBeat(); return ErrFault },
		"close": func(p *Publisher) error { return ErrFault },
	} {
		t.Run(name, func(t *testing.T) {
			watch(t, time.Minute)
			d, c := openBus(t, LocalOptions{RingBytes: small})
			p := publisher(t, c, "a", PublisherOptions{})
			_, err := p.Publish(1, payload)
			must(t, err)
			must(t, os.Truncate(laneFile(t, d, p), 0))
			if err := call(p); !errors.Is(err, ErrFault) {
				t.Fatal(err)
			}
			must(t, p.Close())
			if _, err := p.Publish(1, nil); !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
			again := publisher(t, c, "a", PublisherOptions{}) // the source is free
			_, err = again.Publish(1, payload)
			must(t, err)
		})
	}
}

// What is missing begins in the middle of a payload, so that its copy is what faults.
func TestTruncatedWithinAPayload(t *testing.T) {
	watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a", PublisherOptions{})
	must(t, os.Truncate(laneFile(t, d, p), layout.LaneHeaderBytes+4096))
	batch := []Message{{1, make([]byte, 1000)}}
	var err error
	for range 5 {
		if _, err = p.PublishBatch(batch); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrFault) || p.Seq() != 3 {
		t.Fatalf("%v, and the next sequence is %d", err, p.Seq())
	}
	must(t, p.Close())
}

// A lane that has lost only its ring tells so in its header.
func TestFaultShowsInTheHeader(t *testing.T) {
	watch(t, time.Minute)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	p := publisher(t, c, "a", PublisherOptions{})
	must(t, os.Truncate(laneFile(t, d, p), layout.LaneHeaderBytes))
	if _, err := p.Publish(1, nil); !errors.Is(err, ErrFault) {
		t.Fatal(err)
	}
	if state := layout.LaneState(*word32(p.mem, layout.OffState)); state != layout.LaneFault {
		t.Fatal(state)
	}
	must(t, p.Close())
}

// A truncated cursor file costs its owner the lane and nobody else anything.
func TestTruncatedCursorFile(t *testing.T) {
	for _, mode := range []Mode{Lossless, Lossy} {
		t.Run(mode.String(), func(t *testing.T) {
			watch(t, time.Minute)
			d, c := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
			victim := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: mode, Idle: IdlePark})
			file := files(t, d, "c")[0]
			other := subscriber(t, dial(t, d), "a", SubscriberOptions{Mode: Lossless})
			p := publisher(t, c, "a", PublisherOptions{})
			var done sync.WaitGroup
			n := 3000
			done.Go(func() {
				for i := range n {
					if i == n/2 {
						if err := os.Truncate(file, 0); err != nil {
							t.Error(err)
						}
					}
					if _, err := p.Publish(1, make([]byte, 200)); err != nil {
						t.Error(err)
						return
					}
				}
			})
			got, failed := 0, error(nil)
			for got < n || failed == nil {
				m, err := other.Poll(func(Frame) {}, 0)
				must(t, err)
				got += m
				if failed == nil {
					_, err := victim.Poll(func(Frame) {}, 0)
					if errors.Is(err, ErrFault) {
						failed = err
					} else if err != nil && !errors.Is(err, ErrGap) && !errors.Is(err, ErrEvicted) {
						t.Fatal(err)
					}
				}
			}
			done.Wait()
			if !strings.Contains(failed.Error(), "cursor file") {
				t.Fatal(failed)
			}
			if _, err := victim.Poll(func(Frame) {}, 0); !errors.Is(err, ErrFault) {
				t.Fatalf("and then: %v", err)
			}
			victim.storeBeat()
			victim.park.kick()
			victim.park.wait()
			_ = victim.Stats()
			must(t, victim.Close())
		})
	}
}

var _ = testproc.Register("reader that dies", func(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return err
	}
	fmt.Println("locked")
	select {}
})

// No directory helps here: the kernel's word on the file lock releases the
// publisher, and a stopped process is not a dead one.
func TestDeadSubscriberReleasesThePublisher(t *testing.T) {
	for _, policy := range []Policy{{Timeout: -1}, {Kind: PolicyFail}} {
		t.Run(policy.String(), func(t *testing.T) {
			watch(t, time.Minute)
			p, live, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, policy)
			path := filepath.Join(t.TempDir(), "cursors")
			must(t, os.WriteFile(path, make([]byte, layout.CursorFileBytes(64)), 0o600))
			child := testproc.Start(t, "reader that dies", []string{path}, nil)
			if line := child.Line(); line != "locked" {
				t.Fatal(line)
			}
			f, err := os.Open(path)
			must(t, err)
			pr := &peer{epoch: newID(), mem: make([]byte, layout.CursorFileBytes(64)), file: f}
			_, err = p.join(pr, true, false)
			must(t, err)
			n, deadReleases := 0, func() uint64 { return p.counts[layout.MetricDeadReleases] }
			read := func() {
				_, err := live.Poll(func(Frame) { n++ }, 1000)
				must(t, err)
			}
			full := func() {
				t.Helper()
				p.policy = Policy{Kind: PolicyFail}
				for {
					if _, err := p.Publish(1, make([]byte, 200)); errors.Is(err, ErrBackpressure) {
						return
					} else {
						must(t, err)
					}
					read()
				}
			}
			full()
			child.Stop()
			for range 5 {
				time.Sleep(2 * time.Millisecond)
				full()
			}
			if deadReleases() != 0 {
				t.Fatal("a stopped process was taken for dead")
			}
			go func() { // while the publisher waits
				time.Sleep(5 * time.Millisecond)
				child.Kill()
			}()
			p.policy = policy
			for deadReleases() == 0 {
				_, err := p.Publish(1, make([]byte, 200))
				if policy.Kind == PolicyFail && errors.Is(err, ErrBackpressure) {
					continue
				}
				must(t, err)
				read()
			}
			if len(p.set.Load().lossless) != 1 {
				t.Fatal("the dead one is still a member")
			}
			before := p.Seq()
			for p.Seq() < before+2000 {
				_, err := p.Publish(1, make([]byte, 200))
				must(t, err)
				read()
			}
		})
	}
}
