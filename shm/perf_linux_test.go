package shm

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
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

var (
	geo layout.Geometry
)
