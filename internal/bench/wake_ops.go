package bench

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

// The bare futex's memory:
//
//	0    u32 number of the last message: the futex word
//	64   u64 when it was sent, Mono
//	128  u32 number of the last message that was received
const (
	wakeStampOff = 64
	wakeSeenOff  = 128
)

// pace sends n messages, each pause after the one before: long enough that the
// other side sleeps. The sender stays on its processor.
func pace(n uint64, pause int64, send func(i uint64) error) error {
	for i := range n {
		for until := clock.Mono() + pause; clock.Mono() < until; {
			seqlock.Pause(1)
		}
		if err := send(i + 1); err != nil {
			return err
		}
	}
	return nil
}

func prepareFutexWake(w *worker, j *job, t *task) error {
	bell, seen, stamp := word32(w.mem, 0), word32(w.mem, wakeSeenOff), word(w.mem, wakeStampOff)
	t.run = func() (result, error) {
		return result{Messages: j.Count}, pace(j.Warmup+j.Count, j.PauseNs, func(i uint64) error {
			for atomic.LoadUint32(seen) != uint32(i-1) { // SYNC seen
				seqlock.Pause(1)
			}
			atomic.StoreUint64(stamp, uint64(clock.Mono()))
			atomic.StoreUint32(bell, uint32(i)) // SYNC bell
			futexWake(bell)
			return nil
		})
	}
	return nil
}

func prepareFutexWait(w *worker, j *job, t *task) error {
	bell, ack, stamp := word32(w.mem, 0), word32(w.mem, wakeSeenOff), word(w.mem, wakeStampOff)
	t.run = func() (result, error) {
		s := newStamps(j)
		for seen := uint32(0); uint64(seen) < j.Warmup+j.Count; {
			futexWait(bell, seen)
			if n := atomic.LoadUint32(bell); n != seen { // SYNC bell
				s.add(clock.Mono() - int64(atomic.LoadUint64(stamp)))
				seen = n
				atomic.StoreUint32(ack, n) // SYNC seen
			}
		}
		return s.result(), nil
	}
	return nil
}

// stamps collects one-way latencies.
type stamps struct {
	skip    uint64
	samples []uint32
}

func newStamps(j *job) *stamps {
	return &stamps{skip: j.Warmup, samples: newSamples(j.Count)[:0]}
}

func (s *stamps) add(ns int64) {
	if s.skip > 0 {
		s.skip--
		return
	}
	s.samples = append(s.samples, sampleNs(ns))
}

func (s *stamps) result() result {
	return result{Messages: uint64(len(s.samples)), Latency: summarize(s.samples, 1)}
}

func prepareBusWake(w *worker, j *job, t *task) error {
	p, err := w.publisher(t, j.Topic, j.publishing("bench"))
	if err != nil {
		return err
	}
	payload := make([]byte, j.Size)
	t.run = func() (result, error) {
		err := pace(j.Warmup+j.Count, j.PauseNs, func(i uint64) error {
			binary.LittleEndian.PutUint64(payload, uint64(clock.Mono()))
			_, err := p.Publish(frameType, payload)
			return publish(p, frameType, payload, err)
		})
		return result{Messages: j.Count}, err
	}
	return nil
}

func prepareBusPark(w *worker, j *job, t *task) error {
	sub, err := w.subscriber(t, j.Topic, shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdlePark})
	if err != nil {
		return err
	}
	t.run = func() (result, error) {
		s, got, wrong := newStamps(j), uint64(0), uint64(0)
		idle := sub.Idler()
		handle := func(f shm.Frame) {
			s.add(clock.Mono() - int64(binary.LittleEndian.Uint64(f.Payload)))
			if got++; f.Seq != got-1+firstSeq {
				wrong++
			}
		}
		for got < j.Warmup+j.Count {
			n, err := sub.Poll(handle, 0)
			if err != nil {
				return result{}, err
			}
			idle.Idle(n)
		}
		r := s.result()
		r.Wrong, r.Parks = wrong, sub.Stats().Parks
		return r, nil
	}
	return nil
}
