package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsio "github.com/nats-io/nats.go"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// roles are what a child process may be.
var roles = map[string]func([]string) error{
	"pub": pub, "sub": sub, "publat": publat, "sublat": sublat, "natsd": natsd, "natspub": natspub, "natssub": natssub,
	"tcpsend": tcpsend, "tcprecv": tcprecv, "ping": ping, "pong": pong,
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func secs(s string) time.Duration {
	v, err := strconv.ParseFloat(s, 64)
	check(err)
	return time.Duration(v * float64(time.Second))
}

func number(s string) int {
	v, err := strconv.Atoi(s)
	check(err)
	return v
}

func pub(args []string) error {
	c, err := registry.Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(context.Background(), args[1], &shm.PublisherOptions{Source: "pub"})
	if err != nil {
		return err
	}
	b := make([]byte, number(args[2]))
	end := time.Now().Add(secs(args[3]))
	return p.Protect(func() error {
		for time.Now().Before(end) {
			for range 1000 {
				if _, err := p.Publish(1, b); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// sub counts for a while, after half a second from the first message on.
func sub(args []string) error {
	c, err := registry.Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(context.Background(), args[1], &shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdlePark})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var n uint64
	idle := s.Idler()
	m := meter{for_: secs(args[2])}
	return s.Protect(func() error {
		for {
			got, err := s.View(func(shm.Frame) error { n++; return nil }, 0)
			if err != nil {
				return err
			}
			if got > 0 && m.done(n) {
				return nil
			}
			idle.Idle(got)
		}
	})
}

// meter prints a rate: half a second after the first message it begins to count.
type meter struct {
	for_         time.Duration
	first, begin time.Time
	from         uint64
}

func (m *meter) done(n uint64) bool {
	now := time.Now()
	switch {
	case m.first.IsZero():
		m.first = now
	case m.begin.IsZero():
		if now.Sub(m.first) > 500*time.Millisecond {
			m.begin, m.from = now, n
		}
	case now.Sub(m.begin) >= m.for_:
		fmt.Println(float64(n-m.from) / now.Sub(m.begin).Seconds())
		return true
	}
	return false
}

func publat(args []string) error {
	c, err := registry.Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(context.Background(), args[1], &shm.PublisherOptions{Source: "pub", Timestamps: shm.TimestampsClock})
	if err != nil {
		return err
	}
	b := make([]byte, 64)
	for end := time.Now().Add(secs(args[2])); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := p.Publish(1, b); err != nil {
			return err
		}
	}
	return nil
}

func sublat(args []string) error {
	c, err := registry.Dial(context.Background(), args[0], nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(context.Background(), args[1], &shm.SubscriberOptions{Mode: shm.Lossless, Idle: shm.IdleYield})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var all []int64
	idle := s.Idler()
	var first time.Time
	for first.IsZero() || time.Since(first) < secs(args[1+1]) {
		got, err := s.Poll(func(f shm.Frame) { all = append(all, clock.Mono()-f.Time) }, 0)
		if err != nil {
			return err
		}
		if got > 0 && first.IsZero() {
			first = time.Now()
		}
		idle.Idle(got)
	}
	slices.Sort(all)
	fmt.Println(all[len(all)/2])
	return nil
}

func natsd(args []string) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: number(args[0]), NoLog: true})
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(5 * time.Second) {
		return fmt.Errorf("the server does not answer")
	}
	fmt.Println("ready")
	s.WaitForShutdown()
	return nil
}

func natsConn(port string) (*natsio.Conn, error) {
	return natsio.Connect("nats://127.0.0.1:"+port, natsio.ReconnectBufSize(64<<20))
}

func natspub(args []string) error {
	c, err := natsConn(args[0])
	if err != nil {
		return err
	}
	b := make([]byte, number(args[1]))
	for end := time.Now().Add(secs(args[2])); time.Now().Before(end); {
		for range 1000 {
			if err := c.Publish("m.x", b); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}

func natssub(args []string) error {
	c, err := natsConn(args[0])
	if err != nil {
		return err
	}
	m := meter{for_: secs(args[1])}
	var n uint64
	done := make(chan struct{})
	over := false
	s, err := c.Subscribe("m.x", func(*natsio.Msg) {
		if n++; n%256 == 0 && !over && m.done(n) {
			over = true
			close(done)
		}
	})
	if err != nil {
		return err
	}
	if err := s.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	fmt.Println("ready")
	<-done
	return nil
}

// tcpsend writes messages of a size, each with a length, through a buffer.
func tcpsend(args []string) error {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	size := number(args[1])
	b := make([]byte, 4+size)
	binary.LittleEndian.PutUint32(b, uint32(size))
	w := bufio.NewWriterSize(c, 64<<10)
	for end := time.Now().Add(secs(args[2])); time.Now().Before(end); {
		for range 1000 {
			if _, err := w.Write(b); err != nil {
				return nil // the receiver has measured enough
			}
		}
	}
	return w.Flush()
}

func tcprecv(args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	r := bufio.NewReaderSize(c, 64<<10)
	b := make([]byte, number(args[0]))
	m := meter{for_: secs(args[1])}
	var head [4]byte
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, b[:binary.LittleEndian.Uint32(head[:])]); err != nil {
			return err
		}
		if n%256 == 0 && m.done(n) {
			return nil
		}
	}
}

func pong([]string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		return err
	}
	_, err = io.Copy(c, struct{ io.Reader }{c})
	return err
}

// ping prints half the median round trip, at 1,000 a second.
func ping(args []string) error {
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	b := make([]byte, 64)
	var all []int64
	for end := time.Now().Add(secs(args[1])); time.Now().Before(end); time.Sleep(time.Millisecond) {
		at := clock.Mono()
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		all = append(all, (clock.Mono()-at)/2)
	}
	slices.Sort(all)
	fmt.Println(all[len(all)/2])
	return nil
}
