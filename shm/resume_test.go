package shm

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/internal/layout"
)

// roughBus is a directory that can be restarted and whose connections can be cut.
type roughBus struct {
	t       *testing.T
	options directory.Options
	serving sync.WaitGroup

	mu     sync.Mutex
	server *directory.Server
}

func newRoughBus(t *testing.T, policy control.Policy) *roughBus {
	b := &roughBus{t: t}
	b.options = directory.Options{Dir: filepath.Join(t.TempDir(), "bus"), TopicFor: func(string) (directory.TopicConfig, error) {
		return directory.TopicConfig{Geometry: layout.Geometry{Ring: small}.WithDefaults(), Policy: policy}, nil
	}}
	var err error
	b.server, err = directory.Open(b.options)
	must(t, err)
	t.Cleanup(func() {
		must(t, b.server.Close())
		b.serving.Wait()
	})
	return b
}

// restart ends every connection, starts a directory that knows only the files, and
// returns when the clients are connected to it.
func (b *roughBus) restart(clients ...*wire) {
	old := make([]*link, len(clients))
	for i, w := range clients {
		old[i] = w.current()
	}
	b.mu.Lock()
	must(b.t, b.server.Close())
	var err error
	b.server, err = directory.Open(b.options)
	b.mu.Unlock()
	must(b.t, err)
	for i, w := range clients {
		for l := old[i]; l == nil || l == old[i]; l = w.current() {
			time.Sleep(time.Millisecond)
		}
	}
}

// wire is one client's way to the directory.
type wire struct {
	*Client
	b    *roughBus
	mu   sync.Mutex
	gone bool
	last *control.Conn
	next func(theirs *control.Conn) // serves the next connection instead
}

func (b *roughBus) client() *wire {
	w := &wire{b: b}
	c, err := Connect(bg(), func(context.Context) (*control.Conn, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.gone {
			return nil, errors.New("cut")
		}
		mine, theirs, err := control.Pair()
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		serve := b.server.ServeConn
		b.mu.Unlock()
		if w.next != nil {
			serve, w.next = w.next, nil
		}
		w.last = theirs
		b.serving.Go(func() { serve(theirs) })
		return mine, nil
	}, nil)
	must(b.t, err)
	w.Client = c
	b.t.Cleanup(func() { must(b.t, c.Close()) })
	return w
}

// cut ends the connection; mend lets a new one be made.
func (w *wire) cut() {
	w.mu.Lock()
	w.gone = true
	_ = w.last.Close()
	w.mu.Unlock()
	for w.current() != nil {
		time.Sleep(time.Millisecond)
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	w.gone = false
	w.mu.Unlock()
}

// refuse makes the next connection answer resume requests with an error.
func (w *wire) refuse(code control.Code) (seen chan control.Op) {
	seen = make(chan control.Op, 1000)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = func(theirs *control.Conn) {
		for {
			m, _, err := theirs.Recv()
			if err != nil {
				return
			}
			r := &control.Message{Op: control.OpError, ID: m.ID, Error: control.Errorf(code, "not now")}
			if m.Op == control.OpHello {
				r = &control.Message{Op: control.OpWelcome, ID: m.ID, Welcome: &control.Welcome{Version: control.Version}}
			}
			_ = theirs.Send(r, nil)
			seen <- m.Op
		}
	}
	return seen
}

// A lane that was read to its end comes no second time, whoever forgot about it: the
// connection that lost the word of it, or a directory that starts again.
func TestLaneIsReadOnce(t *testing.T) {
	for _, mode := range []Mode{Lossy, Lossless} {
		for name, restart := range map[string]bool{"connection lost": false, "directory restarted": true} {
			t.Run(mode.String()+" "+name, func(t *testing.T) {
				watch(t, time.Minute)
				b := newRoughBus(t, control.Policy{Kind: "block"})
				pubs, subs := b.client(), b.client()
				s := subscriber(t, subs.Client, "*", SubscriberOptions{Mode: mode})
				p := publisher(t, pubs.Client, "old", PublisherOptions{})
				seen := map[TopicID]map[uint64]int{}
				handle := func(f Frame) {
					if seen[f.Topic] == nil {
						seen[f.Topic] = map[uint64]int{}
					}
					if seen[f.Topic][f.Seq]++; seen[f.Topic][f.Seq] > 1 {
						t.Fatalf("frame %d of %s again", f.Seq, s.TopicName(f.Topic))
					}
				}
				for range 100 {
					_, err := p.Publish(1, []byte("once"))
					must(t, err)
				}
				// Nobody waits for a lossy subscriber to hear of a lane.
				pollUntil(t, s, handle, func() bool { return s.reads(p.hdr.Epoch) })
				if !restart {
					subs.cut()
				}
				must(t, p.Close())
				pollUntil(t, s, handle, func() bool {
					return len(seen[TopicID(p.hdr.TopicID)]) == 100 && !s.reads(p.hdr.Epoch)
				})
				if restart {
					old := pubs.current()
					b.restart(pubs, subs)
					for l := old; l == old || l == nil; l = pubs.current() { // a request on the old one is lost with it
						time.Sleep(time.Millisecond)
					}
				} else {
					subs.mend()
				}
				// Lanes come in order: with the new one, the old one would have come.
				q := publisher(t, pubs.Client, "young", PublisherOptions{})
				_, err := q.Publish(1, []byte("once"))
				must(t, err)
				pollUntil(t, s, handle, func() bool { return len(seen[TopicID(q.hdr.TopicID)]) == 1 })
				for range 100 {
					_, err := s.Poll(handle, 0)
					must(t, err)
				}
				must(t, q.Close())
			})
		}
	}
}

// A directory that cannot take a handle back just now is asked again, on another
// connection; the handles go on.
func TestResumeIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []control.Code{control.CodeInternal, control.CodeTimeout, control.CodeUnavailable} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			watch(t, time.Minute)
			b := newRoughBus(t, control.Policy{Kind: "block"})
			w, other := b.client(), b.client()
			p := publisher(t, w.Client, "a", PublisherOptions{})
			s := subscriber(t, w.Client, "*", SubscriberOptions{Mode: Lossless})
			w.cut()
			seen := w.refuse(code)
			w.mend()
			for op := range seen {
				if op == control.OpResPub {
					break
				}
			}
			// Both are back when a lane of one arrives at the other.
			n := 0
			late := subscriber(t, other.Client, "a", SubscriberOptions{Mode: Lossless})
			q := publisher(t, other.Client, "b", PublisherOptions{})
			_, err := q.Publish(1, []byte("b"))
			must(t, err)
			pollUntil(t, s, func(Frame) { n++ }, func() bool { return n == 1 })
			for range 2000 {
				_, err := p.Publish(1, make([]byte, 200))
				must(t, err)
				_, err = s.Poll(func(Frame) { n++ }, 0)
				must(t, err)
				_, err = late.Poll(func(Frame) {}, 0)
				must(t, err)
			}
			must(t, p.Close())
			must(t, q.Close())
		})
	}
}

// A handle that the directory does not know any more ends, and whoever uses it
// hears of it.
func TestForgottenHandlesEnd(t *testing.T) {
	ctx := watch(t, time.Minute)
	b := newRoughBus(t, control.Policy{Kind: "block"})
	w := b.client()
	p := publisher(t, w.Client, "a", PublisherOptions{})
	s := subscriber(t, w.Client, "b", SubscriberOptions{Mode: Lossless, OnError: func(error) {}})
	w.cut()
	w.refuse(control.CodeNotFound)
	w.mend()
	if err := s.Run(ctx, &Yield{}, func(Frame) {}); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	var err error
	for err == nil { // it finds out at the next credit step
		_, err = p.Publish(1, make([]byte, 200))
	}
	if !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	must(t, p.Close())
	must(t, s.Close())
}

// Who is evicted while nobody can ask the publisher is taken back later.
func TestRejoinOutlivesLostConnections(t *testing.T) {
	for _, whose := range []string{"publisher", "subscriber"} {
		t.Run(whose, func(t *testing.T) {
			watch(t, time.Minute)
			b := newRoughBus(t, control.Policy{Kind: "evict", Ns: int64(time.Millisecond)})
			pubs, subs := b.client(), b.client()
			away := map[string]*wire{"publisher": pubs, "subscriber": subs}[whose]
			s := subscriber(t, subs.Client, "a", SubscriberOptions{Mode: Lossless})
			p := publisher(t, pubs.Client, "a", PublisherOptions{})
			pollUntil(t, s, func(Frame) {}, func() bool { return len(s.lanes) == 1 })
			away.cut()
			for len(p.set.Load().lossless) != 0 {
				_, err := p.Publish(1, make([]byte, 500))
				must(t, err)
			}
			for {
				if _, err := s.Poll(func(Frame) {}, 0); errors.Is(err, ErrEvicted) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			away.mend()
			r := s.lanes[0]
			for r.state != laneReading {
				if _, err := s.Poll(func(Frame) {}, 0); err != nil && !errors.Is(err, ErrGap) {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			last := uint64(0)
			seq, err := p.Publish(1, []byte("back"))
			must(t, err)
			for last != seq {
				if _, err := s.Poll(func(f Frame) { last = f.Seq }, 0); err != nil && !errors.Is(err, ErrGap) {
					t.Fatal(err)
				}
			}
			must(t, p.Close())
		})
	}
}

// Honest readers that attach to a busy publisher are never taken for hostile.
func TestAttachToABusyPublisher(t *testing.T) {
	watch(t, time.Minute)
	b := newRoughBus(t, control.Policy{Kind: "block"})
	pubs, subs := b.client(), b.client()
	p := publisher(t, pubs.Client, "a", PublisherOptions{})
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- p.Close()
				return
			default:
				_, err = p.Publish(1, make([]byte, 500))
			}
		}
		done <- err
	}()
	for range 100 {
		s := subscriber(t, subs.Client, "a", SubscriberOptions{Mode: Lossless})
		for range 30 {
			_, err := s.Poll(func(Frame) {}, 0)
			must(t, err)
		}
		must(t, s.Close())
	}
	close(stop)
	must(t, <-done)
}

// Fear: the directory is started again between a grant and the word that it is used,
// and a publisher or a subscriber is told that there is no such thing.
func TestDirectoryRestartsWhileSomebodyAttaches(t *testing.T) {
	watch(t, time.Minute)
	b := newRoughBus(t, control.Policy{Kind: "block", Ns: int64(20 * time.Second)})
	c := b.client()
	for round := range 100 {
		done := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(round*37%2000) * time.Microsecond)
			b.restart(c)
			close(done)
		}()
		var p *Publisher
		var s *Subscriber
		err := ErrRegistryDown // this much may be said
		for errors.Is(err, ErrRegistryDown) {
			p, err = c.Publisher(bg(), "a.b", &PublisherOptions{Source: "s"})
		}
		must(t, err)
		for err = ErrRegistryDown; errors.Is(err, ErrRegistryDown); {
			s, err = c.Subscriber(bg(), "a.b", &SubscriberOptions{Mode: Lossless})
		}
		must(t, err)
		<-done
		must(t, s.Close())
		must(t, p.Close())
	}
}
