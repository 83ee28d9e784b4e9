//go:build failpoint

package crash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"

	"context"
)

// A message carries everything that is needed to check it:
//
//	incarnation u64 | index u64 | crc32 of the rest u32 | filler
const (
	offIncarnation = 0
	offIndex       = 8
	offSum         = 16
	minMessage     = 20
)

// sizeOf varies sizes so that frames of all lengths, paddings and wraps occur.
func sizeOf(index uint64) int { return minMessage + int(index*2654435761>>7%1500) }

func fill(b []byte, incarnation, index uint64) {
	binary.LittleEndian.PutUint64(b[offIncarnation:], incarnation)
	binary.LittleEndian.PutUint64(b[offIndex:], index)
	x := incarnation<<32 ^ index
	for i := minMessage; i < len(b); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	binary.LittleEndian.PutUint32(b[offSum:], sum(b))
}

func sum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:offSum]), crc32.IEEETable, b[minMessage:])
}

// checker follows what one source publishes over its incarnations.
type checker struct {
	incarnation uint64
	next        uint64 // index due in this incarnation
	frames      uint64
	corrupt     uint64
	lost        uint64 // indexes skipped
	dup         uint64 // indexes seen again, or an older incarnation after a newer one
}

func (c *checker) see(p []byte) {
	if len(p) < minMessage || binary.LittleEndian.Uint32(p[offSum:]) != sum(p) {
		c.corrupt++
		return
	}
	inc, index := binary.LittleEndian.Uint64(p[offIncarnation:]), binary.LittleEndian.Uint64(p[offIndex:])
	if len(p) != sizeOf(index) {
		c.corrupt++
	}
	c.frames++
	switch {
	case inc < c.incarnation:
		c.dup++
		return
	case inc > c.incarnation:
		c.incarnation, c.next = inc, 0
	}
	switch {
	case index < c.next:
		c.dup++
	case index > c.next:
		c.lost += index - c.next
		c.next = index + 1
	default:
		c.next++
	}
}

func (c *checker) err() error {
	if c.corrupt+c.lost+c.dup != 0 {
		return fmt.Errorf("corrupt %d, lost %d, duplicated %d", c.corrupt, c.lost, c.dup)
	}
	return nil
}

// ledger is a file into which a publisher writes, after every Publish that
// returned nil, how many did: it outlives the publisher.
type ledger struct{ f *os.File }

func (l ledger) store(accepted uint64) error {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], accepted)
	_, err := l.f.WriteAt(b[:], 0)
	return err
}

func (l ledger) load() (uint64, error) {
	var b [8]byte
	_, err := l.f.ReadAt(b[:], 0)
	return binary.LittleEndian.Uint64(b[:]), err
}

// publisher SOCKET TOPIC SOURCE INCARNATION LEDGER PAUSE MODE publishes until
// it is killed. MODE: one, claim, batch.
var _ = testproc.Register("publisher", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(ctx, args[1], &shm.PublisherOptions{Source: args[2]})
	if err != nil {
		return err
	}
	incarnation, err := strconv.ParseUint(args[3], 10, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(args[4], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(args[5])
	if err != nil {
		return err
	}
	l := ledger{f}
	if err := l.store(0); err != nil {
		return err
	}
	fmt.Println("ready")
	bufs := make([][]byte, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 4096)
	}
	for index := uint64(0); ; {
		n := uint64(1)
		switch args[6] {
		case "claim":
			cl, err := p.Claim(1, sizeOf(index))
			if errors.Is(err, shm.ErrBackpressure) {
				time.Sleep(50 * time.Microsecond)
				continue
			}
			if err != nil {
				return err
			}
			fill(cl.Bytes(), incarnation, index)
			cl.Commit()
		case "batch":
			n = uint64(len(bufs))
			msgs := make([]shm.Message, n)
			for i := range msgs {
				b := bufs[i][:sizeOf(index+uint64(i))]
				fill(b, incarnation, index+uint64(i))
				msgs[i] = shm.Message{Type: 1, Payload: b}
			}
			if _, err := p.PublishBatch(msgs); err != nil {
				return err
			}
		default:
			b := bufs[0][:sizeOf(index)]
			fill(b, incarnation, index)
			if _, err := p.Publish(1, b); err != nil {
				return err
			}
		}
		index += n
		if err := l.store(index); err != nil {
			return err
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
})

// reader SOCKET PATTERN COUNT subscribes losslessly, reads COUNT frames, says
// so and never reads again.
var _ = testproc.Register("reader", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(ctx, args[1], &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	fmt.Println("attached")
	idle := s.Idler()
	for n := 0; n < count; {
		m, err := s.Poll(func(shm.Frame) {}, count-n)
		if err != nil {
			return err
		}
		n += m
		idle.Idle(m)
	}
	fmt.Println("read")
	select {}
})
