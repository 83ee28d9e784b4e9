package bench

import (
	"encoding/binary"

	"github.com/torq/mycelium/shm"
)

// bouncer is one end of a ping-pong over two lanes.
type bouncer struct {
	pub     *shm.Publisher
	sub     *shm.Subscriber
	payload []byte
	idle    shm.Idler
	want    uint64 // number in the next payload
	wrong   uint64
	handle  func(shm.Frame)
}

// counterBytes is how much of a payload holds its number, where it has room.
const counterBytes = 8

func (w *worker) bouncer(j *job, t *task, send, receive string) (*bouncer, error) {
	b := &bouncer{payload: make([]byte, j.Size), want: 1}
	if j.Yield {
		b.idle = osYield{}
	}
	var err error
	if b.sub, err = w.subscriber(t, receive, shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdleSpin}); err != nil {
		return nil, err
	}
	if b.pub, err = w.publisher(t, send, j.publishing("bench")); err != nil {
		return nil, err
	}
	b.number(1)
	b.handle = func(f shm.Frame) {
		if f.Seq != b.want-1+firstSeq || len(f.Payload) != len(b.payload) ||
			len(f.Payload) >= counterBytes && binary.LittleEndian.Uint64(f.Payload) != b.want {
			b.wrong++
		}
	}
	return b, nil
}

// send publishes the payload and numbers the next one while the answer is under
// way, as a store right before the copy would hold the copy up.
func (b *bouncer) send(n uint64) error {
	_, err := b.pub.Publish(frameType, b.payload)
	b.number(n + 1)
	return err
}

func (b *bouncer) number(n uint64) {
	if len(b.payload) >= counterBytes {
		binary.LittleEndian.PutUint64(b.payload, n)
	}
}

// protect runs a loop that sends and receives.
func (b *bouncer) protect(loop func() error) error {
	return b.sub.Protect(func() error { return b.pub.Protect(loop) })
}

// receive waits for the next message.
func (b *bouncer) receive() error {
	for {
		n, err := b.sub.Poll(b.handle, 0)
		if err != nil {
			return err
		}
		if n > 0 {
			b.want++
			return nil
		}
		if b.idle != nil {
			b.idle.Idle(0)
		}
	}
}

func prepareBusPing(w *worker, j *job, t *task) error {
	now, err := now()
	if err != nil {
		return err
	}
	samples := newSamples(j.Count)
	b, err := w.bouncer(j, t, j.Topic, j.Reply)
	if err != nil {
		return err
	}
	t.run = func() (result, error) {
		err := b.protect(func() error {
			start := now()
			for i := range j.Warmup + j.Count {
				if err := b.send(i + 1); err != nil {
					return err
				}
				if err := b.receive(); err != nil {
					return err
				}
				end := now()
				if i >= j.Warmup {
					samples[i-j.Warmup] = sampleNs(end - start)
				}
				start = end
			}
			return nil
		})
		return result{Latency: summarize(samples, 2), Messages: j.Count, Wrong: b.wrong}, err
	}
	return nil
}

func prepareBusPong(w *worker, j *job, t *task) error {
	b, err := w.bouncer(j, t, j.Reply, j.Topic)
	if err != nil {
		return err
	}
	t.run = func() (result, error) {
		err := b.protect(func() error {
			for i := range j.Warmup + j.Count {
				if err := b.receive(); err != nil {
					return err
				}
				if err := b.send(i + 1); err != nil {
					return err
				}
			}
			return nil
		})
		return result{Messages: j.Count, Wrong: b.wrong}, err
	}
	return nil
}

const (
	firstSeq  = 0 // of a fresh lane
	frameType = 1
	lastType  = 2 // nothing follows
)
