package shm

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/lines"
)

// heapLane is a lane in ordinary memory, so that the race detector sees it.
func heapLane(t testing.TB, g layout.Geometry) ([]byte, layout.LaneHeader) {
	t.Helper()
	g = g.WithDefaults()
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	mem := make([]byte, g.FileBytes())
	h := layout.LaneHeader{Geometry: g, TopicID: 7, Lane: 3, Epoch: newID(), SourceID: newID(), FirstPos: g.Ring, Topic: "t", Source: "s"}
	h.Encode(mem)
	return mem, h
}

// heapPair is a publisher and a subscriber on one heap lane.
func heapPair(t testing.TB, g layout.Geometry, mode Mode, policy Policy) (*Publisher, *Subscriber, *reader) {
	t.Helper()
	mem, h := heapLane(t, g)
	p, err := newPublisher(mem, h, PublisherOptions{}, policy)
	if err != nil {
		t.Fatal(err)
	}
	s, r := heapSub(t, p, mem, h, mode)
	return p, s, r
}

func heapSub(t testing.TB, p *Publisher, mem []byte, h layout.LaneHeader, mode Mode) (*Subscriber, *reader) {
	t.Helper()
	cur := make([]byte, layout.CursorFileBytes(64))
	s, err := newSubscriber(cur, layout.CursorHeader{Epoch: newID(), Slots: 64}, SubscriberOptions{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader(mem, h)
	if err != nil {
		t.Fatal(err)
	}
	r.bindSlot(cur)
	if mode == Lossless {
		m, err := p.join(&peer{epoch: s.hdr.Epoch, mem: cur}, true, false)
		if err != nil {
			t.Fatal(err)
		}
		r.hold(&control.Joined{Pos: m.join, Ticket: m.ticket, Notice: m.notice})
		r.startLatest()
	}
	r.openSlot()
	s.post(admission{lane: r})
	return s, r
}

// TestSpreadHandsEveryFieldOver guards what spread takes for granted of the calling convention.
func TestSpreadHandsEveryFieldOver(t *testing.T) {
	var got []Frame
	h := func(f Frame) { got = append(got, f) }
	payload := make([]byte, 3, 5)
	want := Frame{Topic: 1 << 63, Source: 2, Seq: 3, Time: -4, Type: 0xfff5, Flags: 0xf6, Payload: payload}
	spread(h)(want.Topic, want.Source, want.Seq, want.Time, want.Type, want.Flags, want.Payload)
	h(want)
	for _, f := range got {
		if !reflect.DeepEqual(f, want) || &f.Payload[0] != &payload[0] || cap(f.Payload) != cap(payload) {
			t.Errorf("a handler got %+v, want %+v", f, want)
		}
	}
	if n := reflect.TypeFor[Frame]().NumField(); n != 7 || len(got) != 2 {
		t.Errorf("a Frame has %d fields, spread 7; %d calls", n, len(got))
	}
}

// Fear: a copy in a few large stores misses the ends of a payload, or writes beyond them,
// at some length or at some place in a line. Every length up to several lines goes through
// Publish with and without Protect, at every place that a frame can have in a line; the
// words behind a frame must be those that were there, but for the next header's commit.
func TestPayloadsOfEveryLengthArriveWhole(t *testing.T) {
	watch(t, time.Minute)
	const most = 5 * lines.Bytes
	p, s, r := heapPair(t, layout.Geometry{Ring: 64 << 10, MaxMsg: 1 << 10, Step: 8 << 10}, Lossless, Policy{Timeout: -1})
	payload := make([]byte, most)
	for i := range payload {
		payload[i] = byte(i*7 + 1)
	}
	publishAll := func() error {
		for n := range most + 1 {
			next := p.pos + layout.FrameBytes(uint64(n))
			fast := next+lines.Bytes < p.limit
			if fast {
				copy(r.ring.bytes(next, lines.Bytes), bytes.Repeat([]byte{0xee}, lines.Bytes))
			}
			if _, err := p.Publish(1, payload[:n]); err != nil {
				return err
			}
			if rest := r.ring.bytes(next, lines.Bytes); fast && !bytes.Equal(rest, append(make([]byte, 8), bytes.Repeat([]byte{0xee}, lines.Bytes-8)...)) {
				t.Fatalf("%d bytes: behind the frame lies % x", n, rest)
			}
			got := -1
			for got < 0 {
				if _, err := s.Poll(func(f Frame) {
					if got = len(f.Payload); got != n || !bytes.Equal(f.Payload, payload[:n]) {
						t.Errorf("%d bytes: % x arrived", n, f.Payload)
					}
				}, 0); err != nil {
					return err
				}
			}
		}
		return nil
	}
	must(t, publishAll())
	for range 4 { // each round begins at another place
		must(t, p.Protect(publishAll))
	}
}
