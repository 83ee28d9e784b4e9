package shm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
)

// withoutBelt makes a missed wake-up a sleep without end, which the watchdog sees.
func withoutBelt(t *testing.T) {
	old := parkBelt
	parkBelt = time.Hour
	t.Cleanup(func() { parkBelt = old })
}

// impatient parks after a few polls, so that nearly every frame finds a sleeper.
type impatient struct {
	s     *Subscriber
	polls int
}

func (p *impatient) Idle(n int) {
	if n > 0 {
		p.polls = 0
		return
	}
	if p.polls++; p.polls > 3 {
		p.s.park.wait()
	}
}

func TestNoWakeUpIsMissed(t *testing.T) {
	for name, fallback := range map[string]bool{"membarrier": false, "fences": true} {
		t.Run(name, func(t *testing.T) {
			watch(t, 2*time.Minute)
			withoutBelt(t)
			noMembarrier.Store(fallback)
			defer noMembarrier.Store(false)
			d, a := openBus(t, LocalOptions{RingBytes: small, Policy: Policy{Timeout: -1}})
			b := dial(t, d)
			so := SubscriberOptions{Mode: Lossless, Idle: IdlePark}
			there, back := subscriber(t, b, "there", so), subscriber(t, a, "back", so)
			ping, pong := publisher(t, a, "there", PublisherOptions{}), publisher(t, b, "back", PublisherOptions{})
			if there.fence != fallback || ping.fence != fallback {
				t.Fatal("the fallback is not in use")
			}
			n := frames(50_000)
			var done sync.WaitGroup
			done.Go(func() {
				idle := &impatient{s: there}
				for got := 0; got < n; {
					m, err := there.Poll(func(Frame) {
						if _, err := pong.Publish(1, nil); err != nil {
							t.Error(err)
						}
					}, 1)
					if err != nil {
						t.Error(err)
						return
					}
					got += m
					idle.Idle(m)
				}
			})
			idle := &impatient{s: back}
			for range n {
				_, err := ping.Publish(1, nil)
				must(t, err)
				for {
					m, err := back.Poll(func(Frame) {}, 1)
					if must(t, err); m == 1 {
						break
					}
					idle.Idle(0)
				}
				idle.Idle(1)
			}
			done.Wait()
			if parks := there.counts[layout.SubParks] + back.counts[layout.SubParks]; parks == 0 {
				t.Fatalf("no park in %d round trips", n)
			} else {
				t.Logf("%d parks in %d round trips", parks, n)
			}
		})
	}
}

// A parked subscriber hears every lane, also more of them than one futex_waitv takes.
func TestParkedOnManyLanes(t *testing.T) {
	for _, lanes := range []int{100, 127, 128, 300} {
		t.Run(fmt.Sprint(lanes), func(t *testing.T) {
			watch(t, 2*time.Minute)
			withoutBelt(t)
			d, pc := openBus(t, LocalOptions{RingBytes: small})
			s := subscriber(t, dial(t, d), "many.*", SubscriberOptions{Idle: IdlePark})
			var pubs []*Publisher
			for i := range lanes {
				pubs = append(pubs, publisher(t, pc, fmt.Sprintf("many.%d", i), PublisherOptions{}))
			}
			idle := &impatient{s: s}
			heard := make(chan SourceID)
			ctx, cancel := context.WithCancel(context.Background())
			var done sync.WaitGroup
			done.Go(func() { _ = s.Run(ctx, idle, func(f Frame) { heard <- SourceID(f.Topic) }) })
			for round := range 3 {
				for i := range pubs {
					p := pubs[(i*37+round)%lanes]
					if round == 0 {
						time.Sleep(100 * time.Microsecond) // it sleeps by now
					}
					_, err := p.Publish(1, nil)
					must(t, err)
					if id, _ := p.ID(); SourceID(id) != <-heard {
						t.Fatal("another lane was heard")
					}
				}
			}
			cancel()
			done.Wait()
			if s.counts[layout.SubParks] == 0 {
				t.Fatal("never parked")
			}
		})
	}
}

// Whatever else a parked subscriber has to notice ends its sleep.
func TestParkedSubscriberIsKicked(t *testing.T) {
	park := func(t *testing.T) (*LocalDirectory, *Client, *Subscriber) {
		watch(t, time.Minute)
		withoutBelt(t)
		d, c := openBus(t, LocalOptions{RingBytes: small})
		return d, c, subscriber(t, dial(t, d), "a.*", SubscriberOptions{Mode: Lossless, Idle: IdlePark, OnError: func(error) {}})
	}
	run := func(s *Subscriber, ctx context.Context, h func(Frame)) chan error {
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx, &impatient{s: s}, h) }()
		return ended
	}
	t.Run("context", func(t *testing.T) {
		_, _, s := park(t)
		for i := range 300 { // also in the moment between the poll and the sleep
			ctx, cancel := context.WithCancel(context.Background())
			ended := run(s, ctx, func(Frame) {})
			time.Sleep(time.Duration(i) * time.Microsecond)
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	})
	t.Run("close", func(t *testing.T) {
		_, _, s := park(t)
		ended := run(s, context.Background(), func(Frame) {})
		time.Sleep(5 * time.Millisecond)
		must(t, s.Close())
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	})
	t.Run("new lanes and restarts", func(t *testing.T) {
		_, c, s := park(t)
		heard := make(chan Frame)
		ctx, cancel := context.WithCancel(context.Background())
		ended := run(s, ctx, func(f Frame) { heard <- f })
		for i := range 50 { // as many lanes before as after, but others
			p := publisher(t, c, "a.x", PublisherOptions{Source: "same"})
			time.Sleep(200 * time.Microsecond)
			_, err := p.Publish(uint16(i), nil)
			must(t, err)
			if f := <-heard; f.Type != uint16(i) {
				t.Fatalf("%d where %d is due", f.Type, i)
			}
			must(t, p.Close())
		}
		cancel()
		<-ended
	})
	t.Run("before futex_waitv", func(t *testing.T) {
		_, c, s := park(t)
		noWaitv.Store(true)
		defer noWaitv.Store(false)
		heard := make(chan Frame)
		ctx, cancel := context.WithCancel(context.Background())
		ended := run(s, ctx, func(f Frame) { heard <- f })
		p := publisher(t, c, "a.x", PublisherOptions{})
		for range 50 {
			time.Sleep(time.Millisecond)
			_, err := p.Publish(1, nil)
			must(t, err)
			<-heard
		}
		cancel()
		<-ended
	})
}

// An idle parked subscriber wakes for the belt alone.
func TestIdleParkSleeps(t *testing.T) {
	watch(t, time.Minute)
	withoutBelt(t)
	d, c := openBus(t, LocalOptions{RingBytes: small})
	s := subscriber(t, dial(t, d), "a", SubscriberOptions{Idle: IdlePark})
	_ = publisher(t, c, "a", PublisherOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = s.Run(ctx, nil, func(Frame) {}) })
	time.Sleep(300 * time.Millisecond)
	cancel()
	done.Wait()
	if parks := s.counts[layout.SubParks]; parks == 0 || parks > 10 {
		t.Fatalf("parked %d times", parks)
	}
}

// Fear: a subscriber of a slow feed keeps a core busy before each sleep, or one of a fast
// feed goes to sleep between two frames because it once was slow.
func TestSpinningThatDoesNotPayIsGivenUp(t *testing.T) {
	p := &parkIdler{}
	wait := func(found bool) int64 {
		spun := p.spin()
		if p.since = 1; found {
			p.Idle(1)
		} else {
			p.misses++
		}
		return spun
	}
	for range parkMisses {
		if wait(false) != spinBeforePark {
			t.Fatal("given up too early")
		}
	}
	long := 0
	for range 10 * parkProbe {
		if wait(false) == spinBeforePark {
			long++
		}
	}
	if long != 10 {
		t.Errorf("tried %d times in %d waits, want 10", long, 10*parkProbe)
	}
	for p.spin() != spinBeforePark {
		if wait(true); p.misses == 0 {
			t.Fatal("a short wait says nothing of a long one")
		}
		p.misses++
	}
	if wait(true); p.misses != 0 || wait(false) != spinBeforePark {
		t.Error("spinning paid, and is not done")
	}
}
