package legacy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const maxPayload = 1 << 20 // of a message that a consumer believes

// Consumer is the receiving end of an old service: it splits what it reads by
// payload_size, looks for the next header where there is none, and connects again
// when the relay has gone.
type Consumer struct {
	Reconnects atomic.Uint64 // after the first
	Skipped    atomic.Uint64 // bytes that belonged to no message
	Delay      time.Duration // before it connects again

	path string
	conn atomic.Pointer[net.UnixConn]
	done atomic.Bool
}

// NewConsumer connects a consumer.
func NewConsumer(path string) (*Consumer, error) {
	c := &Consumer{path: path, Delay: 100 * time.Millisecond}
	return c, c.connect()
}

func (c *Consumer) connect() error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: c.path, Net: "unix"})
	if err == nil {
		c.conn.Store(conn)
	}
	return err
}

// Run hands every message to h until Close, or until the connection ends if again
// is false. The bytes are h's until it returns.
func (c *Consumer) Run(again bool, h func(m []byte)) error {
	for {
		err := c.read(h)
		if !again || c.done.Load() {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for {
			time.Sleep(c.Delay)
			if c.done.Load() {
				return nil
			}
			if c.connect() == nil {
				break
			}
		}
		c.Reconnects.Add(1)
	}
}

func (c *Consumer) read(h func(m []byte)) error {
	conn := c.conn.Load()
	defer conn.Close()
	buf, used := make([]byte, 2<<20), 0
	for {
		n, err := conn.Read(buf[used:])
		if err != nil {
			return err
		}
		used += n
		rest := c.split(buf[:used], h)
		used = copy(buf, rest)
	}
}

func (c *Consumer) split(b []byte, h func(m []byte)) (rest []byte) {
	for len(b) >= header {
		if size := binary.LittleEndian.Uint32(b[24:]); binary.LittleEndian.Uint32(b) == magic && size <= maxPayload {
			end := header + int(size)
			if len(b) < end {
				return b
			}
			h(b[:end])
			b = b[end:]
			continue
		}
		i := bytes.Index(b[1:], []byte{0xEF, 0xBE, 0xAD, 0xDE}) + 1
		if i == 0 {
			i = len(b) - 3 // the magic may have begun
		}
		c.Skipped.Add(uint64(i))
		b = b[i:]
	}
	return b
}

// Conn is the connection of the moment.
func (c *Consumer) Conn() *net.UnixConn { return c.conn.Load() }

// Close ends Run.
func (c *Consumer) Close() error {
	c.done.Store(true)
	return c.conn.Load().Close()
}
