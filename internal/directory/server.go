package directory

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// Server is one bus directory being served. Safe for concurrent use.
type Server struct {
	store *store
	start time.Time

	mu     sync.Mutex // above core and every session
	core   *core
	conns  map[*control.Conn]struct{}
	timer  *time.Timer
	closed bool

	serving sync.WaitGroup
}

// Open takes the bus directory, which no other Server may have (ErrBusy), and
// adopts what lives in it.
func Open(o Options) (*Server, error) {
	o = o.withDefaults()
	if o.Dir == "" {
		return nil, errors.New("directory: Options.Dir is empty")
	}
	st, err := openStore(o.Dir)
	if err != nil {
		return nil, err
	}
	s, err := open(o, st)
	if err != nil {
		st.close()
		return nil, err
	}
	return s, nil
}

func open(o Options, st *store) (*Server, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	bus, err := st.load()
	if err != nil {
		// Greater than any incarnation before it, whatever that was.
		o.Log.Error("the bus state is damaged: topics made by hand are forgotten", "error", err)
		bus = busState{Incarnation: uint64(o.Now().UnixNano())}
	}
	bus.Incarnation++
	bus.Layout = layout.Major
	if bus.Node.IsZero() {
		bus.Node = newEpoch()
	}
	if err := st.save(bus); err != nil {
		return nil, err
	}
	all, err := st.scan()
	if err != nil {
		return nil, err
	}
	s := &Server{store: st, start: o.Now(), conns: make(map[*control.Conn]struct{})}
	s.core = newCore(o, st, bus, boot, uint32(os.Geteuid()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.restoreTopics()
	s.core.adopt(all)
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.arm()
	o.Log.Info("bus directory open", "dir", o.Dir, "bus", o.Bus, "incarnation", bus.Incarnation,
		"adopted", s.core.counters["adoptions"], "foreign", len(s.core.foreign))
	if !st.inMemory() {
		o.Log.Warn("the bus directory is on a disk, whose writing back delays publishers: use one on a tmpfs, as /dev/shm is", "dir", o.Dir)
	}
	return s, nil
}

// arm sets the one timer to the next deadline. The caller holds mu.
func (s *Server) arm() {
	if wait, any := s.core.next(); any && !s.closed {
		s.timer.Reset(wait)
	}
}

func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.core.tick()
		s.arm()
	}
}

// Reconfigure takes over topics, allow-lists, quotas and grace for what is
// asked from now on; nothing attached is taken away. The bus directory and the
// number of slots stay.
func (s *Server) Reconfigure(o Options) {
	o = o.withDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Dir, o.Bus, o.Now = s.core.opt.Dir, s.core.opt.Bus, s.core.opt.Now
	s.core.opt = o
}

// Close stops serving and frees the bus. Segments stay, so that clients go on
// and the next Server adopts them; with Options.CleanUp those without an owner
// go. A second Close does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.timer.Stop()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.opt.CleanUp {
		s.core.cleanUp()
	}
	s.store.close()
	return nil
}

// cleanUp removes every segment without an owner.
func (c *core) cleanUp() {
	for _, u := range c.subs {
		if !c.files.held(u.file) {
			c.drop(u)
		}
	}
	for _, l := range c.lanes {
		if l.phase == ended || !c.files.held(l.file) {
			c.unlink(l)
		}
	}
}

// overQuota is how many connections of a uid beyond its quota are heard out,
// so that they learn why they are refused.
const overQuota = 16

// limits of one connection, taken when it starts.
type limits struct {
	handshake, write time.Duration
	rate             int
	queue            int // messages that may wait for the client
	log              *slog.Logger
}

// ServeConn serves one connection until it ends, and closes it. Safe to call
// from many goroutines.
func (s *Server) ServeConn(conn *control.Conn) {
	defer conn.Close()
	peer, err := conn.Peer()
	if err != nil {
		return
	}
	s.mu.Lock()
	q := s.core.opt.Quotas
	if s.closed || s.core.used(peer.UID).connections >= q.MaxConnectionsPerUID+overQuota {
		s.mu.Unlock()
		return
	}
	// A subscriber to everything may be told of every lane at once, while
	// others come and go.
	lim := limits{q.HandshakeTimeout, q.WriteTimeout, q.RequestsPerSecond, 2*int(s.core.slots) + 1024, s.core.opt.Log}
	ss := newSession(peer, lim.queue)
	s.core.attach(ss)
	s.conns[conn] = struct{}{}
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()

	written := make(chan struct{})
	go func() {
		defer close(written)
		s.contain(ss, lim, func() {
			if err := s.write(conn, ss, lim); err != nil {
				s.Count("slow_clients")
				lim.log.Warn("disconnected", "uid", peer.UID, "pid", peer.PID, "error", err)
			}
		})
		ss.out.breakOff()
		_ = conn.Close() // ends read
	}()
	s.contain(ss, lim, func() {
		if s.hello(conn, ss, lim) {
			s.read(conn, ss, lim)
		}
	})
	ss.out.end()
	<-written
	s.contain(ss, lim, func() { s.leave(conn, ss) })
}

func (s *Server) leave(conn *control.Conn, ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	if s.closed {
		return // the state ends here: the next Server reads it from the segments
	}
	s.core.detach(ss)
	s.arm()
}

// contain keeps a panic to the connection that met it.
func (s *Server) contain(ss *session, lim limits, f func()) {
	defer func() {
		if r := recover(); r != nil {
			s.Count("panics")
			lim.log.Error("panic: the connection is closed", "uid", ss.peer.UID, "pid", ss.peer.PID, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// Count adds one to a counter that Stats tells.
func (s *Server) Count(counter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.counters[counter]++
}

// hello hears the first message.
func (s *Server) hello(conn *control.Conn, ss *session, lim limits) bool {
	_ = conn.SetReadDeadline(time.Now().Add(lim.handshake))
	m, err := s.receive(conn)
	if err != nil && control.Gone(err) {
		return false
	}
	if err != nil {
		m = &control.Message{Op: "malformed"}
	}
	_ = conn.SetReadDeadline(time.Time{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.core.welcome(ss, m); err != nil {
		s.core.refuse(ss, m.ID, err)
		return false
	}
	return true
}

// receive reads one message and closes the descriptor that no client should
// have sent.
func (s *Server) receive(conn *control.Conn) (*control.Message, error) {
	m, f, err := conn.Recv()
	if f != nil {
		_ = f.Close()
		s.Count("descriptors_refused")
	}
	return m, err
}

// read handles messages until the connection ends. A client that asks faster
// than it may, or than it reads the answers, waits.
func (s *Server) read(conn *control.Conn, ss *session, lim limits) {
	b := newBucket(lim.rate)
	for ss.out.waitBelow(lim.queue / 4) {
		m, err := s.receive(conn)
		unasked := true
		switch {
		case control.Gone(err):
			return
		case err != nil:
			s.mu.Lock()
			s.core.refuse(ss, 0, refusal(control.CodeInvalid, "send one message of the conversation per packet", "%v", err))
			s.mu.Unlock()
		case m.Op == control.OpList || m.Op == control.OpInspect || m.Op == control.OpStats:
			s.tell(ss, m)
		default:
			unasked = s.handle(ss, m)
		}
		if unasked {
			b.take()
		}
	}
}

func (s *Server) handle(ss *session, m *control.Message) (unasked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unasked = s.core.handle(ss, m)
	s.arm()
	return unasked
}

// write sends what is queued until the queue ends, nil, or the client fails.
func (s *Server) write(conn *control.Conn, ss *session, lim limits) error {
	var skipped struct {
		lane  layout.ID16
		joins int
	}
	for {
		it, more := ss.out.pop()
		if !more {
			if ss.out.overflowed() {
				return fmt.Errorf("%d messages wait for the client", lim.queue)
			}
			return nil
		}
		var f *os.File
		if it.file.name != "" {
			var err error
			f, err = s.store.open(it.file, it.write)
			if errors.Is(err, fs.ErrNotExist) {
				// Its owner died since: there is nothing to tell any more. The
				// grant that follows counts the joins that came.
				if it.m.Op == control.OpJoin {
					if skipped.lane != it.m.Lane {
						skipped.lane, skipped.joins = it.m.Lane, 0
					}
					skipped.joins++
				}
				continue
			}
			if err != nil {
				return err // the client comes back and is sent what it lacks
			}
		}
		if g := it.m.LaneGrant; g != nil && skipped.lane == it.m.Lane {
			g.Joins -= skipped.joins
		}
		_ = conn.SetWriteDeadline(time.Now().Add(lim.write))
		err := conn.Send(it.m, f)
		if f != nil {
			_ = f.Close()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the client takes nothing: %w", err)
		case errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN):
			return nil // it has left
		default:
			return err
		}
	}
}

// bucket paces requests: rate per second, with a burst of as many.
type bucket struct {
	rate   float64
	tokens float64
	last   time.Time
}

func newBucket(rate int) *bucket {
	return &bucket{rate: float64(rate), tokens: float64(rate), last: time.Now()}
}

// take waits for a token.
func (b *bucket) take() {
	if b.rate < 0 {
		return
	}
	now := time.Now()
	b.tokens = min(b.rate, b.tokens+b.rate*now.Sub(b.last).Seconds()) - 1
	b.last = now
	if b.tokens < 0 {
		time.Sleep(time.Duration(-b.tokens / b.rate * float64(time.Second)))
	}
}
