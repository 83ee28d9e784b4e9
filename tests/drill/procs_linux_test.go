package drill

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
)

// relay PATH is the old relay.
var _ = testproc.Register("relay", func(args []string) error {
	// A relay with a domain filter drops what it reads together with a greeting.
	if _, err := legacy.Listen(args[0], legacy.AnyDomain); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
})

var symbols = []string{"BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD"}

// message is number seq of a source.
func message(b []byte, source codec.Source, seq uint64) []byte {
	t := codec.Trade{Instrument: codec.Coin(codec.VenueCoinbase, symbols[seq%4]), Price: int64(seq), Volume: 1}
	t.PutMessage(b, &codec.Header{Domain: codec.DomainMarketData, Version: codec.Version, Source: source,
		Sequence: seq, TimestampNs: uint64(time.Now().UnixNano())}, false)
	return b[:codec.TradeMessageSize]
}

// send calls f for one message after the other, some thousand a second, until
// standard input says stop; move does what that word asks for.
func send(source codec.Source, f func(m []byte) error, move func() error) (sent uint64, err error) {
	words := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			words <- in.Text()
		}
		close(words)
	}()
	var b [codec.TradeMessageSize]byte
	for seq := uint64(0); ; {
		select {
		case w := <-words:
			switch w {
			case "move":
				if err := move(); err != nil {
					return seq, err
				}
				fmt.Println(seq)
			case "sent":
				fmt.Println(seq)
			default:
				return seq, nil
			}
		default:
		}
		for range 4 {
			if err := f(message(b[:], source, seq)); err != nil {
				return seq, err
			}
			seq++
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// producer PATH SOURCE is an old producer. Its last line: messages sent, reconnects.
var _ = testproc.Register("producer", func(args []string) error {
	p, err := legacy.NewProducer(args[0])
	if err != nil {
		return err
	}
	source, _ := strconv.Atoi(args[1])
	fmt.Println("ready")
	n, err := send(codec.Source(source), p.Send, p.Restart)
	fmt.Println(n, p.Reconnects)
	return err
})

// publisher REGISTRY TOPIC SOURCE publishes on the bus without the bridge.
var _ = testproc.Register("publisher", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(ctx, args[1], nil)
	if err != nil {
		return err
	}
	source, _ := strconv.Atoi(args[2])
	fmt.Println("ready")
	n, err := send(codec.Source(source), func(m []byte) error { _, err := p.Publish(uint16(codec.TypeTrade), m); return err }, func() error { return nil })
	fmt.Println(n, 0)
	_ = p.Close()
	return err
})

// serve answers "total", and "of SOURCE FROM" with an account in JSON, until standard
// input ends.
func serve(l *legacy.Ledger, reconnects func() uint64) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		word, rest, _ := strings.Cut(in.Text(), " ")
		switch word {
		case "total":
			fmt.Println(l.Total())
		case "reconnects":
			fmt.Println(reconnects())
		case "of":
			var source byte
			var from uint64
			if _, err := fmt.Sscan(rest, &source, &from); err != nil {
				return err
			}
			b, err := json.Marshal(l.Of(source, from))
			if err != nil {
				return err
			}
			fmt.Println(string(b))
		}
	}
	return in.Err()
}

// consumer PATH is an old consumer.
var _ = testproc.Register("consumer", func(args []string) error {
	c, err := legacy.NewConsumer(args[0])
	if err != nil {
		return err
	}
	l := &legacy.Ledger{}
	go func() { _ = c.Run(true, func(m []byte) { l.Add(0, m) }) }()
	fmt.Println("ready")
	return serve(l, c.Reconnects.Load)
})

// subscriber REGISTRY PATTERN reads the bus.
var _ = testproc.Register("subscriber", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	l := &legacy.Ledger{}
	s, err := c.Subscriber(ctx, args[1], &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	go func() { _ = s.Run(ctx, nil, func(f shm.Frame) { l.Add(uint64(f.Topic), f.Payload) }) }()
	fmt.Println("ready")
	return serve(l, func() uint64 { return 0 })
})
