package torqbridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/torq/mycelium/codec"
)

// mirror is the bridge as one more client of the old relay: what the relay sends
// goes to the hub and the bus, what is in the hub from elsewhere goes to the relay.
//
//	              dial                     EOF, error, the relay does not read
//	waiting ---------------> connected ---------------------------------------+
//	   ^                                                                      |
//	   +------------------------- 100 ms, 200 ms, ... 30 s -------------------+
//
// Nothing goes round: what came from the relay is not sent to it, and what comes
// back from it is recognised (echoes). While it is connected the mirror is lossless:
// it holds up the domain rather than skip a message.
type mirror struct {
	d     *domain
	knock chan struct{} // try to connect now

	mu      sync.Mutex
	conn    *net.UnixConn // nil = waiting
	w       *writer
	tap     *tap
	echoes  *echoes
	backoff backoff
	err     error // why it waits
	resume  uint64
	endedAt time.Time
}

const (
	relayReadBytes = 64 << 10        // what a relay reads at once: nothing longer gets through one
	relayStuck     = 5 * time.Second // a relay that reads nothing for so long is given up
)

var errRelayStuck = errors.New("the relay does not read")

func newMirror(d *domain) *mirror {
	return &mirror{d: d, knock: make(chan struct{}, 1), resume: noIndex}
}

// run connects and mirrors until ctx ends.
func (m *mirror) run(ctx context.Context) {
	defer m.d.wg.Done()
	for {
		conn, err := m.d.dialRelay(ctx)
		if err == nil {
			err = m.session(ctx, conn)
			if ctx.Err() == nil {
				m.d.log.Warn("torqbridge: the old relay's connection has ended", "domain", m.d.cfg.Name, "error", err)
			}
		}
		m.mu.Lock()
		m.err = err
		pause := m.backoff.fail()
		m.mu.Unlock()
		if !sleep(ctx, pause, m.knock) {
			return
		}
	}
}

// hurry has a waiting mirror try at once.
func (m *mirror) hurry() {
	select {
	case m.knock <- struct{}{}:
	default:
	}
}

var errOwnSocket = errors.New("there is no relay: the bridge itself answers")

// dialRelay connects to the old relay, wherever its socket is now.
func (d *domain) dialRelay(ctx context.Context) (*net.UnixConn, error) {
	path := d.relayPath()
	var dial net.Dialer
	c, err := dial.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// The name may have become the bridge's between the two.
	d.mu.Lock()
	own := d.names.own(path)
	d.mu.Unlock()
	if own {
		_ = c.Close()
		return nil, errOwnSocket
	}
	return c.(*net.UnixConn), nil
}

// session mirrors over one connection.
func (m *mirror) session(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	w := newWriter(raw, 1)
	m.mu.Lock()
	if time.Since(m.endedAt) > m.d.b.cfg.Replay {
		m.resume = noIndex // whoever waited for that is long gone
	}
	m.conn, m.w, m.err = conn, w, nil
	m.echoes = newEchoes()
	m.tap = m.d.hub.tap(0, m.resume, func(_ uint64, origin uint32) bool { return origin == originRelay })
	m.backoff.success()
	t, e := m.tap, m.echoes
	m.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0))
		t.close()
	})()

	done := make(chan error, 1)
	go func() {
		done <- m.read(conn, e)
		t.close()
	}()
	err = m.write(w, conn, t, e)
	_ = conn.SetDeadline(time.Unix(1, 0))
	if rerr := <-done; err == nil {
		err = rerr
	}

	m.mu.Lock()
	m.conn, m.w, m.tap = nil, nil, nil
	next, _ := t.at()
	_, oldest := e.pending()
	m.resume, m.endedAt = min(next, oldest), time.Now()
	resume := m.resume
	m.mu.Unlock()
	t.close()
	m.d.relayEnded(resume)
	return err
}

// read takes what the relay sends.
func (m *mirror) read(conn *net.UnixConn, e *echoes) error {
	d := m.d
	s := codec.NewSplitter(codec.SplitterOptions{MaxPayload: uint32(d.maxMessage - codec.HeaderSize)})
	var msgs [][]byte
	for {
		n, err := conn.Read(s.Room(readBytes))
		s.Filled(n)
		msgs = d.cut(s, msgs[:0])
		kept := msgs[:0]
		for _, msg := range msgs {
			own, lost := e.own(msg)
			if lost > 0 {
				m.d.stats.relayRefused.Add(lost)
			}
			if !own {
				kept = append(kept, msg)
			}
		}
		if len(kept) > 0 {
			d.stats.fromRelay.Add(d.ingest(originRelay, kept))
		}
		if err != nil {
			return err
		}
	}
}

// write sends what the relay's clients have not had. A relay takes what it reads at
// once for one message and cuts off at 64 KiB: so nothing is sent while it has
// something unread, and never more at a time than it reads.
func (m *mirror) write(w *writer, conn *net.UnixConn, t *tap, e *echoes) error {
	var b batch
	for t.take(&b) {
		if len(b.ends) == 1 && len(b.buf) > relayReadBytes {
			m.d.stats.relayTooLarge.Add(1)
			m.d.log.Warn("torqbridge: a message is too large for the old relay: its clients do not get it", "domain", m.d.cfg.Name, "bytes", len(b.buf))
			continue
		}
		if err := m.allRead(w); err != nil {
			return err
		}
		now := time.Now()
		for i := range b.ends {
			if lost := e.add(b.message(i), b.index[i], now); lost > 0 {
				m.d.stats.relayRefused.Add(lost)
			}
		}
		if err := conn.SetWriteDeadline(now.Add(relayStuck)); err != nil {
			return err
		}
		if _, err := conn.Write(b.buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		m.d.stats.toRelay.Add(uint64(len(b.ends)))
	}
	return nil
}

// allRead waits until the relay has read everything.
func (m *mirror) allRead(w *writer) error {
	if w.unreadBytes() == 0 {
		return nil
	}
	pause := 10 * time.Microsecond
	for end := time.Now().Add(relayStuck); w.unreadBytes() > 0; pause = min(2*pause, time.Millisecond) {
		if time.Now().After(end) {
			return errRelayStuck
		}
		time.Sleep(pause)
	}
	return nil
}

// connected reports whether the relay is there, and since when not.
func (m *mirror) connected() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn != nil
}

// current is the tap of the connection, nil without one.
func (m *mirror) current() *tap {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tap
}

// settled reports whether the relay has got everything before an index and, as far
// as can be known, has passed it on.
func (m *mirror) settled(index uint64) bool {
	m.mu.Lock()
	t, e, w := m.tap, m.echoes, m.w
	m.mu.Unlock()
	if t == nil {
		return true
	}
	if !t.idleAt(index) || w.unreadBytes() > 0 {
		return false
	}
	n, _ := e.pending()
	return n == 0 || !e.echoing()
}
