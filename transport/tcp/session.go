package tcp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
)

// session is one connection of a link.
type session struct {
	l    *link
	c    net.Conn
	peer *hello
	in   *inbound
	err  atomic.Pointer[error]
	done chan struct{} // the reader has ended
	gone chan struct{} // the pump has put it away

	// The reader's.
	flushed int64 // when it flushed ACKs
	flushAt int64 // when it does although nothing came, 0 = it does not
	pause   int64 // from one look for room to the next

	writing sync.Mutex // who writes to c
	direct  outbox     // of writeControl

	mu    sync.Mutex // guards what follows
	said  []frame    // for the sender: only the pump touches lanes
	spare []frame
	pulse pulse
	ctl   [][]byte
}

func newSession(l *link, c net.Conn, h *hello) *session {
	s := &session{l: l, c: c, peer: h, done: make(chan struct{}), gone: make(chan struct{}), pulse: newPulse(clock.Mono(), l.f.opt.Beat, l.f.opt.Dead)}
	r := newReceiver(l.f.node, l.opt.Peer+"/"+l.opt.name(), nil, s.push)
	s.in = &inbound{receiver: r, kick: l.kick, rules: l.opt.imports, shared: l.f.shared}
	r.host = s.in
	u := &unpacker{most: int(l.f.opt.MaxBody)}
	r.inflate = u.inflate
	return s
}

// push queues a control frame.
func (s *session) push(frame []byte) {
	s.mu.Lock()
	s.ctl = append(s.ctl, frame)
	s.mu.Unlock()
}

// drain moves what was pushed into an outbox. The caller holds mu.
func (s *session) drain(out *outbox) {
	for _, f := range s.ctl {
		out.control(f)
	}
	clear(s.ctl)
	s.ctl = s.ctl[:0]
}

// control moves what was pushed, and the beat, into the outbox; it looks for silence.
func (s *session) control(now int64, out *outbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain(out)
	if b := s.pulse.beatDue(now); b != nil {
		out.control(b)
	}
	if err := s.pulse.over(now); err != nil {
		s.fail(err)
	}
	s.l.counters.rtt.Store(s.pulse.rtt)
}

func (s *session) due() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ctl)+len(s.said) > 0 {
		return 1
	}
	return s.pulse.nextBeat
}

// fail ends the connection; the first reason counts.
func (s *session) fail(err error) {
	if s.err.CompareAndSwap(nil, &err) {
		_ = s.c.Close()
		s.l.kick()
	}
}

// guard turns a panic into the end of the connection.
func (s *session) guard() {
	if v := recover(); v != nil {
		s.l.f.counters.panics.Add(1)
		s.l.f.log.Error("panic: the connection is closed", "link", s.l.opt.name(), "panic", v, "stack", string(debug.Stack()))
		s.fail(fmt.Errorf("panic: %v", v))
	}
}

// readFrames is how many of the longest frames the reader's buffer holds.
const readFrames = 4

// ackDelay is how long an ACK that is not urgent may wait for company.
const ackDelay = time.Millisecond

// read is the reader goroutine. It never waits for anything but bytes.
func (s *session) read() {
	defer close(s.done)
	defer s.guard()
	debug.SetPanicOnFault(true)
	// Of some frames, so that little has to be moved to the front.
	buf := make([]byte, readFrames*(headerBytes+int(s.l.f.opt.MaxBody)))
	start, end := 0, 0
	dead, heard := int64(s.l.f.opt.Dead), clock.Mono()
	for {
		_ = s.c.SetReadDeadline(time.Now().Add(time.Duration(earlier(heard+dead, s.flushAt) - clock.Mono())))
		n, err := s.c.Read(buf[end:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			now := clock.Mono()
			if now-heard >= dead {
				s.fail(fmt.Errorf("%w: no byte for %v", errSilent, s.l.f.opt.Dead))
				return
			}
			s.acknowledge(now)
			continue
		}
		if err != nil {
			s.fail(fmt.Errorf("connection lost: %w", err))
			return
		}
		end += n
		s.l.counters.wireIn.Add(uint64(n))
		s.l.counters.reads.Add(1)
		first := start
		for {
			f, size, err := decode(buf[start:end], s.l.f.opt.MaxBody)
			if err == nil && size > 0 {
				err = s.take(&f)
			}
			if err != nil {
				_ = s.c.SetWriteDeadline(time.Now())
				s.fail(err)
				return
			}
			if size == 0 {
				break
			}
			start += size
		}
		now := clock.Mono()
		heard = now
		s.mu.Lock()
		if start > first {
			s.pulse.fresh(now)
		}
		s.pulse.heard(now, end-start)
		s.mu.Unlock()
		switch {
		case start == end:
			start, end = 0, 0
		case len(buf)-start < headerBytes+int(s.l.f.opt.MaxBody):
			end = copy(buf, buf[start:end])
			start = 0
		}
		s.acknowledge(now)
	}
}

// acknowledge sends the ACKs that are due, and looks for room in windows that are closed,
// or says when that is due. An ACK that is the first for a while goes at once.
func (s *session) acknowledge(now int64) {
	s.in.mu.Lock()
	switch owes := s.in.owing(); {
	case s.in.hurry, owes && now-s.flushed >= int64(ackDelay), s.flushAt != 0 && now >= s.flushAt:
		s.flushed, s.flushAt = now, 0
		if s.in.flush() {
			s.pause = min(max(2*s.pause, int64(roomMin)), int64(roomMax))
			s.flushAt = now + s.pause
		} else {
			s.pause = 0
		}
	case owes && s.flushAt == 0:
		s.flushAt = s.flushed + int64(ackDelay)
	}
	s.in.mu.Unlock()
	s.mu.Lock()
	said := len(s.ctl) > 0
	s.mu.Unlock()
	if said && !s.writeControl() {
		s.l.kick()
	}
}

// maxSaid bounds what waits for the pump, which may be held up by a write.
const maxSaid = 4 * maxRefs

// put keeps a receiver's frame for the pump.
func (s *session) put(f *frame) error {
	if len(f.body) > earlyBody {
		return protocolError("%v of %d bytes", f.kind, len(f.body))
	}
	c := *f
	c.body = append([]byte(nil), f.body...)
	s.mu.Lock()
	n := len(s.said)
	s.said = append(s.said, c)
	s.mu.Unlock()
	if n >= maxSaid {
		return protocolError("%d answers in a row", n)
	}
	s.l.kick()
	return nil
}

// writeControl sends what was pushed, without waking the pump.
// Only a link that exports nothing does: its writes are small and far between, and wait
// for nobody who waits for us.
func (s *session) writeControl() bool {
	if len(s.l.relays) > 0 || !s.writing.TryLock() {
		return false
	}
	defer s.writing.Unlock()
	s.direct.reset()
	s.mu.Lock()
	s.drain(&s.direct)
	s.mu.Unlock()
	if !s.direct.empty() {
		if err := s.direct.write(s.c, writeDeads*s.l.f.opt.Dead); err != nil {
			s.fail(err)
		}
		s.l.counters.writes.Add(1)
		s.l.counters.wireOut.Add(uint64(s.direct.bytes))
	}
	return true
}

// take acts on a frame.
func (s *session) take(f *frame) error {
	switch f.kind {
	case kindOpen, kindData, kindGap, kindEnd:
		s.in.mu.Lock()
		defer s.in.mu.Unlock()
		return s.in.receiver.take(f)
	case kindResume, kindRefuse, kindAck, kindEnded:
		return s.put(f)
	case kindBeat:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pulse.beaten(clock.Mono(), f)
		return nil
	case kindClose:
		c, text, err := decodeReason(f.body)
		if err == nil {
			err = &RefusedError{Code: c.String(), Why: text}
		}
		return err
	}
	return protocolError("%v after HELLO", f.kind)
}
