package shm

import "testing"

func BenchmarkPublishOnly(b *testing.B) {
	p, _, _ := heapPair(b, geo, Lossy, Policy{})
	pl := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Publish(1, pl); err != nil {
			b.Fatal(err)
		}
	}
}
func BenchmarkPollEmpty(b *testing.B) {
	_, s, _ := heapPair(b, geo, Lossy, Policy{})
	h := func(Frame) {}
	for b.Loop() {
		s.Poll(h, 0)
	}
}
