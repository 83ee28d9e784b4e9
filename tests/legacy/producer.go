package legacy

import (
	"fmt"
	"net"
	"time"
)

// Greeting is what a producer says first on every connection.
var Greeting = []byte{0xEF, 0xBE, 0xAD, 0xDE, 1, 1, 2, 0, 31: 0}

const (
	attempts   = 10
	firstDelay = 100 * time.Millisecond
	maxDelay   = 30 * time.Second
)

// Producer is the sending end of an old service: it greets, writes each message
// with one call, never reads, and after a failed write connects again and sends
// that message once more.
type Producer struct {
	Reconnects int // after the first

	path  string
	conn  net.Conn
	tried int // failed attempts in a row; only success resets it
}

// NewProducer connects a producer.
func NewProducer(path string) (*Producer, error) {
	p := &Producer{path: path}
	return p, p.connect()
}

func (p *Producer) connect() error {
	for {
		c, err := net.Dial("unix", p.path)
		if err == nil {
			if _, err = c.Write(Greeting); err == nil {
				p.conn, p.tried = c, 0
				return nil
			}
			_ = c.Close()
		}
		if p.tried++; p.tried >= attempts {
			return fmt.Errorf("gave up after %d attempts: %w", p.tried, err)
		}
		time.Sleep(min(firstDelay<<(p.tried-1), maxDelay))
	}
}

// Send sends bytes, as a rule one message.
func (p *Producer) Send(m []byte) error {
	if _, err := p.conn.Write(m); err == nil {
		return nil
	}
	return p.resend(m)
}

func (p *Producer) resend(m []byte) error {
	p.Reconnects++
	_ = p.conn.Close()
	if err := p.connect(); err != nil {
		return err
	}
	_, err := p.conn.Write(m)
	return err
}

// Restart is a service restarted: the connection is closed in order and made anew.
func (p *Producer) Restart() error {
	_ = p.conn.Close()
	return p.connect()
}

// Conn is the connection of the moment.
func (p *Producer) Conn() *net.UnixConn { return p.conn.(*net.UnixConn) }

// Close ends the connection.
func (p *Producer) Close() error { return p.conn.Close() }
