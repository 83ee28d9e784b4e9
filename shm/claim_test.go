package shm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// expect polls once and compares payloads.
func expect(t *testing.T, s *Subscriber, want ...string) {
	t.Helper()
	var got []string
	readOut(t, s, func(f Frame) { got = append(got, string(f.Payload)) })
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestAClaimEndsExactlyOnce(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, geo, Lossless, Policy{Kind: PolicyFail})
	c, err := p.Claim(1, 3)
	must(t, err)
	copy(c.Bytes(), "one")
	if _, err := p.Claim(1, 3); !errors.Is(err, ErrClaimOpen) {
		t.Fatalf("second claim: %v", err)
	}
	if _, err := p.Publish(1, []byte("intruder")); !errors.Is(err, ErrClaimOpen) {
		t.Fatalf("publish over a claim: %v", err)
	}
	if _, err := p.PublishBatch([]Message{{1, []byte("intruder")}}); !errors.Is(err, ErrClaimOpen) {
		t.Fatalf("batch over a claim: %v", err)
	}
	must(t, p.Protect(func() error {
		if _, err := p.Publish(1, []byte("intruder")); !errors.Is(err, ErrClaimOpen) {
			t.Fatalf("protected publish over a claim: %v", err)
		}
		return nil
	}))
	expect(t, s) // nothing yet
	twin := c
	if seq := c.Commit(); seq != 0 {
		t.Fatalf("sequence %d", seq)
	}
	if c.Commit() != 0 || twin.Commit() != 0 || c.Bytes() != nil || twin.Bytes() != nil {
		t.Fatal("a claim was committed twice")
	}
	c.Abort()
	twin.Abort()
	expect(t, s, "one")

	c, err = p.Claim(1, 100)
	must(t, err)
	copy(c.Bytes(), bytes.Repeat([]byte{0xff}, 100))
	c.Abort()
	c.Abort()
	if c.Commit() != 0 || twin.Commit() != 0 {
		t.Fatal("an aborted claim was committed")
	}
	seq, err := p.Publish(1, []byte("two"))
	if must(t, err); seq != 1 {
		t.Fatalf("sequence %d after an abort", seq)
	}
	expect(t, s, "two")
	var zero Claim
	if zero.Bytes() != nil || zero.Commit() != 0 {
		t.Fatal("the zero claim is open")
	}
	zero.Abort()
	if b := func() []byte { c, _ := p.Claim(1, 8); defer c.Abort(); return c.Bytes() }(); len(b) != 8 || cap(b) != 8 {
		t.Fatalf("claim of 8 bytes: len %d cap %d", len(b), cap(b))
	}
	for _, n := range []int{-1, p.MaxMessageBytes() + 1, 1 << 40} {
		if _, err := p.Claim(1, n); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("claim of %d bytes: %v", n, err)
		}
	}
	if _, err := p.Publish(1, make([]byte, p.MaxMessageBytes()+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if _, err := p.PublishBatch([]Message{{1, nil}, {1, make([]byte, p.MaxMessageBytes()+1)}}); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	expect(t, s)
	c, err = p.Claim(1, 8)
	must(t, err)
	must(t, p.Close())
	if c.Commit() != 0 || c.Bytes() != nil {
		t.Fatal("a claim outlived its publisher")
	}
}

func TestClosedPublisherSaysSo(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, geo, Lossless, Policy{})
	_, err := p.Publish(1, []byte("last"))
	must(t, err)
	must(t, p.Close())
	must(t, p.Close())
	p.Flush()
	_, e1 := p.Publish(1, nil)
	_, e2 := p.Claim(1, 0)
	_, e3 := p.PublishBatch([]Message{{}})
	e4 := p.Protect(func() error { _, err := p.Publish(1, nil); return err })
	for _, err := range []error{e1, e2, e3, e4} {
		if !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
	}
	expect(t, s, "last")
	expect(t, s)
	if len(s.lanes) != 0 {
		t.Fatal("END was not seen")
	}
}

// With a full ring there is no room for END: the lane ends where the directory says.
func TestCloseWithoutRoomForEnd(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	var n uint64
	for ; ; n++ {
		if _, err := p.Publish(1, make([]byte, 100)); err != nil {
			break
		}
	}
	for { // to the last byte
		if _, err := p.Publish(1, nil); err != nil {
			break
		}
		n++
	}
	must(t, p.Close())
	s.post(admission{epoch: r.hdr.Epoch, final: &control.Final{Pos: p.pos, Seq: p.seq}})
	got := uint64(0)
	for len(s.lanes) > 0 || got == 0 {
		_, err := s.Poll(func(f Frame) { got++ }, 0)
		must(t, err)
	}
	if got != n {
		t.Fatalf("%d of %d", got, n)
	}
}

// A final position beyond what the subscriber can read tells what is missing.
func TestEndTellsWhatIsMissing(t *testing.T) {
	watch(t, time.Minute)
	p, s, r := heapPair(t, geo, Lossy, Policy{})
	_, err := p.Publish(1, []byte("only"))
	must(t, err)
	expect(t, s, "only")
	s.post(admission{epoch: r.hdr.Epoch, final: &control.Final{Pos: p.pos, Seq: p.seq + 3}})
	_, err = s.Poll(func(Frame) {}, 0)
	var gap *GapError
	if !errors.As(err, &gap) || gap.From != 1 || gap.Next != 4 {
		t.Fatal(err)
	}
}

func TestBatchIsSeenWholeOrNotAtAll(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Timeout: -1})
	const batches, size = 3000, 16
	sent := make(chan error, 1)
	go func() {
		msgs := make([]Message, size)
		buf := make([]byte, 8<<10)
		for b := range batches {
			for i := range msgs {
				seq := uint64(b*size + i)
				n := mix(seq) % 700
				if i == 7 {
					n = mix(seq) % 4000
				}
				msgs[i] = Message{1, append([]byte(nil), buf[:n]...)}
				stamp(msgs[i].Payload, p.stampID(), seq)
			}
			first, err := p.PublishBatch(msgs)
			if err == nil && first != uint64(b*size) {
				err = errors.New("wrong first sequence")
			}
			if err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	c := newTally()
	for n := 0; n < batches*size; {
		// A batch that has been begun is there to its end.
		got, err := s.Poll(c.frame, 1)
		must(t, err)
		if n += got; got == 1 {
			for n%size != 0 {
				got, err := s.Poll(c.frame, 1)
				if must(t, err); got == 0 {
					if got, err = s.Poll(c.frame, 1); err != nil || got == 0 { // a pad took the first
						t.Fatalf("a batch broke off at frame %d", n)
					}
				}
				n += got
			}
		}
		if c.err != nil {
			t.Fatal(c.err)
		}
	}
	must(t, <-sent)
	if p.counts[layout.MetricBatches] != batches || p.counts[layout.MetricPads] == 0 {
		t.Fatalf("%d batches, %d pads", p.counts[layout.MetricBatches], p.counts[layout.MetricPads])
	}
	// Index entries name frames, with their sequences.
	n := 0
	for i := range uint64(layout.IndexEntries) {
		pos := *word64(p.mem, layout.OffIndex+i*layout.IndexEntryBytes)
		seq := *word64(p.mem, layout.OffIndex+i*layout.IndexEntryBytes+8)
		if pos == 0 || pos+p.hdr.Ring < p.pos {
			continue
		}
		n++
		if *p.ring.word(pos) != layout.Commit(pos, layout.KindData) || *p.ring.word(pos + layout.OffSeq) != seq {
			t.Fatalf("index entry %d: position %d, sequence %d", i, pos, seq)
		}
	}
	if n < 50 {
		t.Fatalf("only %d index entries", n)
	}
}

func TestLargeBatchIsSplit(t *testing.T) {
	watch(t, time.Minute)
	p, s, _ := heapPair(t, layout.Geometry{Ring: small}, Lossless, Policy{Kind: PolicyFail})
	msgs := make([]Message, 100)
	for i := range msgs {
		msgs[i] = Message{uint16(i), make([]byte, 500)}
	}
	first, err := p.PublishBatch(msgs)
	if must(t, err); first != 0 || p.Seq() != 100 || p.counts[layout.MetricBatches] < 3 {
		t.Fatalf("first %d, next %d, %d parts", first, p.Seq(), p.counts[layout.MetricBatches])
	}
	// The ring is nearly full now: the first part fits, the next does not.
	_, err = p.PublishBatch(msgs)
	var be *BatchError
	if !errors.As(err, &be) && !errors.Is(err, ErrBackpressure) {
		t.Fatal(err)
	}
	if be != nil && (be.Published == 0 || p.Seq() != uint64(100+be.Published)) {
		t.Fatalf("%v, next %d", be, p.Seq())
	}
	want := p.Seq()
	n := uint64(0)
	for n < want {
		before := n
		readOut(t, s, func(f Frame) {
			if f.Type != uint16(n%100) {
				t.Fatalf("type %d at %d", f.Type, n)
			}
			n++
		})
		if n == before {
			t.Fatalf("%d of %d", n, want)
		}
	}
	if first, err := p.PublishBatch(nil); err != nil || first != want {
		t.Fatalf("empty batch: %d, %v", first, err)
	}
}

func TestFlushAndNames(t *testing.T) {
	watch(t, time.Minute)
	p, _, r := heapPair(t, geo, Lossy, Policy{})
	for range 10 {
		_, err := p.Publish(1, make([]byte, 10))
		must(t, err)
	}
	if *r.tailHint == p.pos {
		t.Fatal("the tail hint moves with every frame")
	}
	p.Flush()
	if *r.tailHint != p.pos || *word64(p.mem, layout.OffTailSeq) != 10 {
		t.Fatalf("tail hint %d, %d", *r.tailHint, *word64(p.mem, layout.OffTailSeq))
	}
	if topic, source := p.ID(); topic != 7 || source != SourceID(p.hdr.SourceID.Low()) || p.Topic() != "t" || p.Source() != "s" {
		t.Fatal(topic, source, p.Topic(), p.Source())
	}
}

func TestTimestampsNeverGoBack(t *testing.T) {
	watch(t, time.Minute)
	for _, stamps := range []Timestamps{TimestampsOff, TimestampsTSC, TimestampsClock} {
		mem, h := heapLane(t, geo)
		p, err := newPublisher(mem, h, PublisherOptions{Timestamps: stamps}, Policy{})
		must(t, err)
		s, _ := heapSub(t, p, mem, h, Lossless)
		for range 100 {
			_, err := p.Publish(1, nil)
			must(t, err)
		}
		var last int64
		readOut(t, s, func(f Frame) {
			if f.Time < last || (stamps == TimestampsOff) != (f.Time == 0) {
				t.Fatalf("%v: %d after %d", stamps, f.Time, last)
			}
			last = f.Time
		})
	}
}

// Old payload that passes for the next lap's commits, of every kind: whichever way a
// frame is published, no reader may take what lies behind it for the next one.
func TestOldPayloadIsNeverTheNextFrame(t *testing.T) {
	watch(t, time.Minute)
	payload := make([]byte, 64)
	publish := func(p *Publisher) error { _, err := p.Publish(1, payload); return err }
	for name, way := range map[string]func(*Publisher) error{
		"publish":   publish,
		"protected": func(p *Publisher) error { return p.Protect(func() error { return publish(p) }) },
		"claim": func(p *Publisher) error {
			c, err := p.Claim(1, len(payload))
			c.Commit()
			return err
		},
		"protected claim": func(p *Publisher) error {
			return p.Protect(func() error {
				c, err := p.Claim(1, len(payload))
				c.Commit()
				return err
			})
		},
		"batch": func(p *Publisher) error {
			_, err := p.PublishBatch([]Message{{1, payload}, {1, payload[:40]}})
			return err
		},
		"end": func(p *Publisher) error { p.end(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			for kind := layout.KindData; kind <= layout.KindEnd; kind++ {
				p, _, _ := heapPair(t, layout.Geometry{Ring: small}, Lossy, Policy{})
				trap := make([]byte, 4096-layout.FrameHeaderBytes)
				for p.pos < 2*small { // the first lap
					for i := 0; i < len(trap); i += 8 {
						binary.LittleEndian.PutUint64(trap[i:], layout.Commit(p.pos+layout.OffPayload+uint64(i)+small, kind))
					}
					_, err := p.Publish(1, trap)
					must(t, err)
				}
				for range 40 {
					must(t, way(p))
					behind := p.pos
					if name == "end" {
						behind += layout.FrameHeaderBytes
					}
					if layout.Committed(*p.ring.word(behind), behind) {
						t.Fatalf("what lies behind a frame, at %d, passes for a frame of kind %d", behind, kind)
					}
				}
			}
		})
	}
}
