package shm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
	"golang.org/x/sys/unix"
)

func pin(cpu int) {
	runtime.LockOSThread()
	var s unix.CPUSet
	s.Set(cpu)
	_ = unix.SchedSetaffinity(0, &s)
}

func BenchmarkOneToOne(b *testing.B) {
	for _, size := range []int{64, 256, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p, s, _ := heapPair(b, geo, Lossless, Policy{Timeout: -1})
			payload := make([]byte, size)
			n := b.N
			done := make(chan time.Duration)
			go func() {
				pin(1)
				got := 0
				idle := &Spin{}
				var sum uint64
				h := func(f Frame) { sum += f.Seq }
				start := time.Now()
				for got < n {
					m, err := s.Poll(h, 0)
					if err != nil {
						panic(err)
					}
					got += m
					idle.Idle(m)
				}
				done <- time.Since(start)
			}()
			pin(0)
			b.ReportAllocs()
			b.ResetTimer()
			if err := p.Protect(func() error {
				for range n {
					if _, err := p.Publish(1, payload); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			d := <-done
			b.ReportMetric(float64(n)/d.Seconds()/1e6, "M/s")
		})
	}
}

var geo layout.Geometry

// alone runs f with both ends of one lane on one goroutine: what the instructions of
// a path cost, without a line that travels.
func alone(b *testing.B, mode Mode, f func(p *Publisher, s *Subscriber) error) {
	p, s, _ := heapPair(b, geo, mode, Policy{Timeout: -1})
	b.ReportAllocs()
	if err := s.Protect(func() error { return p.Protect(func() error { return f(p, s) }) }); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPublishAlone(b *testing.B) {
	payload := make([]byte, 64)
	alone(b, Lossy, func(p *Publisher, _ *Subscriber) error {
		for b.Loop() {
			if _, err := p.Publish(1, payload); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkFramesAlone takes frames that lie ready, of 64 bytes.
func BenchmarkFramesAlone(b *testing.B) {
	for _, protect := range []bool{false, true} {
		b.Run(fmt.Sprintf("Protect=%v", protect), func(b *testing.B) {
			p, s, _ := heapPair(b, geo, Lossless, Policy{Timeout: -1})
			left, took := 0, time.Duration(0)
			for n := b.N; n > 0; n -= left {
				left = min(n, 5000)
				for range left {
					_, err := p.Publish(1, make([]byte, 64))
					must(b, err)
				}
				start, i := time.Now(), 0
				loop := func() error {
					for _, err := range s.Frames(bg()) {
						if i++; err != nil || i == left {
							return err
						}
					}
					return nil
				}
				if protect {
					must(b, s.Protect(loop))
				} else {
					must(b, loop())
				}
				took += time.Since(start)
				_, err := s.Poll(func(Frame) {}, 0) // which moves the cursor
				must(b, err)
			}
			b.ReportMetric(0, "ns/op") // with what published them
			b.ReportMetric(float64(took)/float64(b.N), "ns/frame")
		})
	}
}

// BenchmarkReady polls frames that lie ready, of 64 bytes, 5,000 at a time.
func BenchmarkReady(b *testing.B) {
	var sum uint64
	one := func(f Frame) { sum += f.Seq }
	many := func(fs []Frame) {
		for i := range fs {
			sum += fs[i].Seq
		}
	}
	for _, read := range []struct {
		name string
		poll func(s *Subscriber) (int, error)
	}{
		{"Poll", func(s *Subscriber) (int, error) { return s.Poll(one, 0) }},
		{"PollBatch", func(s *Subscriber) (int, error) { return s.PollBatch(many, 0) }},
	} {
		b.Run(read.name, func(b *testing.B) {
			took, payload := time.Duration(0), make([]byte, 64)
			alone(b, Lossless, func(p *Publisher, s *Subscriber) error {
				for left := b.N; left > 0; {
					n := min(left, 5000)
					for range n {
						if _, err := p.Publish(1, payload); err != nil {
							return err
						}
					}
					start := time.Now()
					for got := 0; got < n; {
						m, err := read.poll(s)
						if err != nil {
							return err
						}
						got += m
					}
					took, left = took+time.Since(start), left-n
					if _, err := read.poll(s); err != nil { // which moves the cursor
						return err
					}
				}
				return nil
			})
			b.ReportMetric(0, "ns/op") // with what published them
			b.ReportMetric(float64(took)/float64(b.N), "ns/frame")
		})
	}
}

func BenchmarkEmptyRun(b *testing.B) {
	_, s, _ := heapPair(b, geo, Lossless, Policy{Timeout: -1})
	ctx, cancel := context.WithCancel(bg())
	defer cancel()
	n := 0
	b.ResetTimer()
	_ = s.Run(ctx, idler(func() {
		if n++; n >= b.N {
			cancel()
		}
	}), func(Frame) {})
}

func BenchmarkEmptyPoll(b *testing.B) {
	h := func(Frame) {}
	alone(b, Lossless, func(_ *Publisher, s *Subscriber) error {
		for b.Loop() {
			if _, err := s.Poll(h, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkPingPong bounces 64 bytes over two lanes; BenchmarkFloor two bare
// cache lines. Run both in one go and compare: their ratio means something, the
// figures change with where the machine's processors are.
func BenchmarkPingPong(b *testing.B) {
	b.Run("Poll", func(b *testing.B) { pingPong(b, (*Subscriber).Poll, func(Frame) {}) })
	b.Run("View", func(b *testing.B) { pingPong(b, (*Subscriber).View, func(Frame) error { return nil }) })
}

func pingPong[H any](b *testing.B, receive func(*Subscriber, H, int) (int, error), h H) {
	p1, s1, r1 := heapPair(b, geo, Lossless, Policy{Timeout: -1})
	p2, s2, r2 := heapPair(b, geo, Lossless, Policy{Timeout: -1})
	r1.neverEvicts, r2.neverEvicts = true, true // View asks for that
	n := b.N
	bounce := func(p *Publisher, s *Subscriber, first bool) error {
		payload := make([]byte, 64)
		receive := func() (err error) {
			for k := 0; k == 0 && err == nil; {
				k, err = receive(s, h, 0)
			}
			return err
		}
		return s.Protect(func() error {
			return p.Protect(func() error {
				for range n {
					if !first {
						if err := receive(); err != nil {
							return err
						}
					}
					if _, err := p.Publish(1, payload); err != nil {
						return err
					}
					if first {
						if err := receive(); err != nil {
							return err
						}
					}
				}
				return nil
			})
		})
	}
	done := make(chan error)
	go func() {
		pin(1)
		done <- bounce(p2, s1, false)
	}()
	pin(0)
	b.ReportAllocs()
	b.ResetTimer()
	err := bounce(p1, s2, true)
	b.StopTimer()
	if err = errors.Join(err, <-done); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/2, "ns/oneway")
}

func BenchmarkFloor(b *testing.B) {
	mem := make([]uint64, 128)
	pf, pd, qf, qd := &mem[16], &mem[24], &mem[48], &mem[56]
	n := uint64(b.N)
	go func() {
		pin(1)
		for i := uint64(1); i <= n; i++ {
			for atomic.LoadUint64(pf) != i {
			}
			if *pd != i {
				panic(1)
			}
			*qd = i
			seqlock.StoreRelease(qf, i)
		}
	}()
	pin(0)
	b.ResetTimer()
	for i := uint64(1); i <= n; i++ {
		*pd = i
		seqlock.StoreRelease(pf, i)
		for atomic.LoadUint64(qf) != i {
		}
		if *qd != i {
			panic(1)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/oneway")
}
