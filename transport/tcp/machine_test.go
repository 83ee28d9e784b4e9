package tcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/shm"
)

// testLane is a lane of a simulated world that nothing goes wrong in.
func testLane(w *simWorld, frames uint64) *simLane {
	l := &simLane{tail: frames, sizes: func(uint64) int { return 64 }, lost: map[uint64]bool{}}
	l.info = shm.LaneInfo{Topic: "t.x", Source: "s", OriginNode: layout.ID16{1}, OriginEpoch: layout.ID16{7}, MaxMessageBytes: 4096}
	w.byEpoch[l.info.OriginEpoch] = l
	return l
}

func calmWorld() *simWorld {
	w := &simWorld{rnd: rand.New(rand.NewPCG(1, 1)), byEpoch: map[layout.ID16]*simLane{}}
	for i := range w.sides {
		w.sides[i] = &simSide{w: w, id: layout.ID16{byte(i + 1)}, mirrors: map[layout.ID16]*simMirror{}}
	}
	return w
}

func framesIn(t *testing.T, b []byte) (all []frame) {
	t.Helper()
	for len(b) > 0 {
		f, n, err := decode(b, maxBody)
		must(t, err)
		if n == 0 {
			t.Fatalf("%d bytes of half a frame", len(b))
		}
		all = append(all, f)
		b = b[n:]
	}
	return all
}

// one is a sender with one stream that was opened.
func oneStream(t *testing.T, frames uint64) (*simWorld, *sender, *simLane, *simSink) {
	t.Helper()
	w := calmWorld()
	l := testLane(w, frames)
	s := newSender(layout.ID16{1})
	s.attach(l, false)
	out := &simSink{w: w}
	s.connected(layout.ID16{2}, defaultBody)
	s.step(0, out)
	if f := framesIn(t, out.b); len(f) != 1 || f[0].kind != kindOpen {
		t.Fatalf("first: %+v", f)
	}
	out.b = nil
	return w, s, l, out
}

func resume(s *sender, ref uint32, round uint16, seq, window uint64) error {
	return s.take(0, &frame{kind: kindResume, ref: ref, round: round, seq: seq, body: words(window, 0)})
}

// Fear: a sender sends more than the window, or forgets what lies beyond it.
func TestSenderKeepsToTheWindow(t *testing.T) {
	_, s, l, out := oneStream(t, 1000)
	must(t, resume(s, 1, 1, 0, 10*96))
	s.step(0, out)
	if l.want != 10 {
		t.Errorf("%d frames sent in a window of 10", l.want)
	}
	must(t, s.take(0, &frame{kind: kindAck, ref: 1, seq: 10, body: words(0)}))
	s.step(0, out)
	if l.want != 10 || l.acked != 10 {
		t.Errorf("sent up to %d, acked %d, with a closed window", l.want, l.acked)
	}
	must(t, s.take(0, &frame{kind: kindAck, ref: 1, seq: 10, body: words(5 * 96)}))
	s.step(0, out)
	if l.want != 15 {
		t.Errorf("sent up to %d, want 15", l.want)
	}
}

// Fear: a run that was overwritten in the making takes the acknowledgement of those
// before it along (found by the simulator).
func TestTornRunAcknowledgesNothing(t *testing.T) {
	w, s, l, _ := oneStream(t, 1000)
	must(t, resume(s, 1, 1, 0, 1<<20))
	out := &tornSink{simSink{w: w}, 2}
	s.step(0, out)
	out.b = nil
	s.step(0, out)
	if l.acked != 0 {
		t.Errorf("acked %d, nothing was acknowledged", l.acked)
	}
	if s.total.torn != 1 {
		t.Errorf("torn %d", s.total.torn)
	}
}

// tornSink refuses the n-th run.
type tornSink struct {
	simSink
	n int
}

func (o *tornSink) run(st *stream, r shm.Run) bool {
	if o.n--; o.n == 0 {
		return false
	}
	return o.simSink.run(st, r)
}

func TestSenderRefusesWhatNoReceiverSays(t *testing.T) {
	_, s, _, out := oneStream(t, 10)
	must(t, resume(s, 1, 1, 0, 1<<20))
	s.step(0, out)
	for name, f := range map[string]frame{
		"an unknown stream":        {kind: kindAck, ref: 9, body: words(1)},
		"an ACK of what was not":   {kind: kindAck, ref: 1, seq: 11, body: words(1)},
		"an ENDED of what goes on": {kind: kindEnded, ref: 1, seq: 10},
		"a REFUSE without a code":  {kind: kindRefuse, ref: 1},
	} {
		if err := s.take(0, &f); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each code has its consequence: held and asked for again soon, or skimmed.
func TestRefusalsHoldOrSkim(t *testing.T) {
	for c := codeLoop; c <= codeLarge; c++ {
		_, s, l, out := oneStream(t, 10)
		f := framesIn(t, encodeReason(kindRefuse, 1, c, "because"))[0]
		must(t, s.take(0, &f))
		s.step(1, out)
		if held := l.acked == 0; held != c.holds() {
			t.Errorf("%v: held %v", c, held)
		}
		out.b = nil
		if due := s.due(); due == 0 {
			t.Errorf("%v: never asked for again", c)
		} else if s.step(due, out); len(framesIn(t, out.b)) == 0 {
			t.Errorf("%v: not asked for again at %v", c, time.Duration(due))
		}
		if s.streams[0].status().Why == "" || c.String() == "" {
			t.Errorf("%v: no reason in the status", c)
		}
		s.paused = true
		if s.step(1<<60, out); s.streams[0].state == streamSending {
			t.Error("a paused sender opened a stream")
		}
	}
	if code(77).String() != "77" || kind(77).String() != "77" || kindAck.String() != "ACK" {
		t.Error("names of numbers that have none")
	}
}

func TestSenderKeepsAwayFromLoopsByItself(t *testing.T) {
	for name, change := range map[string]func(*shm.LaneInfo){
		"the origin":        func(i *shm.LaneInfo) { i.OriginNode, i.Mirror = layout.ID16{2}, true },
		"on the way":        func(i *shm.LaneInfo) { i.Via, i.Hops, i.Mirror = []layout.ID16{{2}}, 1, true },
		"too many links":    func(i *shm.LaneInfo) { i.Hops = layout.MaxHops },
		"too long messages": func(i *shm.LaneInfo) { i.MaxMessageBytes = defaultBody },
	} {
		w := calmWorld()
		l := testLane(w, 10)
		change(&l.info)
		s := newSender(layout.ID16{1})
		s.attach(l, false)
		s.connected(layout.ID16{2}, defaultBody)
		out := &simSink{w: w}
		s.step(0, out)
		if s.step(0, out); len(out.b) != 0 || l.acked != 10 {
			t.Errorf("%s: sent %d bytes, acked %d", name, len(out.b), l.acked)
		}
		l.ended = true
		if s.step(0, out); !l.done || len(s.streams) != 0 {
			t.Errorf("%s: a skimmed lane that ended is still there", name)
		}
	}
}

// taker is a receiver with one stream that is open.
func taker(t *testing.T) (*simWorld, *receiver, *simLane, *[]byte) {
	t.Helper()
	w := calmWorld()
	l := testLane(w, 1000)
	side := w.sides[1]
	var pushed []byte
	r := newReceiver(layout.ID16{2}, "l", side, func(f []byte) { pushed = append(pushed, f...) })
	side.rcv = r
	o := open{originEpoch: l.info.OriginEpoch, originNode: l.info.OriginNode, maxMsg: 4096, hops: 1, topic: "t.x", source: "s"}
	f := framesIn(t, o.encode(1, 0))[0]
	must(t, r.take(&f))
	for _, c := range side.later {
		c.do()
	}
	if f := framesIn(t, pushed); len(f) != 1 || f[0].kind != kindResume || f[0].round != 1 {
		t.Fatalf("answer to OPEN: %+v", f)
	}
	pushed = nil
	return w, r, l, &pushed
}

func data(l *simLane, round uint16, from, to uint64) *frame {
	var b []byte
	for seq := from; seq < to; seq++ {
		b = append(b, l.frame(seq)...)
	}
	return &frame{kind: kindData, ref: 1, round: round, seq: from, body: b}
}

// Fear: a gap that was had already is never acknowledged, and the sender waits for ever
// (found by the simulator).
func TestEverythingIsAcknowledgedAlsoWhatWasHad(t *testing.T) {
	_, r, l, pushed := taker(t)
	must(t, r.take(data(l, 1, 0, 10)))
	must(t, r.take(&frame{kind: kindGap, ref: 1, round: 1, seq: 10, body: words(20, 1)}))
	r.flush()
	*pushed = nil
	for _, f := range []*frame{data(l, 1, 3, 8), {kind: kindGap, ref: 1, round: 1, seq: 5, body: words(15, 1)}} {
		must(t, r.take(f))
		if r.flush(); len(framesIn(t, *pushed)) != 1 {
			t.Errorf("%v of what was had: %d answers", f.kind, len(framesIn(t, *pushed)))
		}
		*pushed = nil
	}
	if st := r.intakes[1].status(); st.Duplicates != 5 || st.Gaps != 1 || st.Missed != 10 || st.NextSeq != 20 {
		t.Errorf("%+v", st)
	}
	// What overlaps is taken from where it is new; a hole makes deaf, and RESUME follows.
	must(t, r.take(data(l, 1, 15, 25)))
	must(t, r.take(data(l, 1, 30, 31)))
	if in := r.intakes[1]; in.state != intakeDeaf || in.m.Due() != 25 {
		t.Errorf("%v, due %d", in.state, in.m.Due())
	}
	r.flush()
	must(t, r.take(data(l, 1, 25, 26))) // of an old round
	must(t, r.take(data(l, 2, 25, 27)))
	if due := r.intakes[1].m.Due(); due != 27 {
		t.Errorf("due %d, want 27", due)
	}
	must(t, r.take(&frame{kind: kindEnd, ref: 1, round: 2, seq: 40})) // something is missing
	if r.intakes[1].state != intakeDeaf {
		t.Error("an END before its time was taken")
	}
}

func TestReceiverRefusesWhatNoSenderSays(t *testing.T) {
	_, r, l, _ := taker(t)
	broken := data(l, 1, 0, 2)
	broken.body[layout.OffSeq]++
	for name, f := range map[string]*frame{
		"an unknown stream": {kind: kindData, ref: 9},
		"broken frames":     broken,
		"an empty gap":      {kind: kindGap, ref: 1, round: 1, seq: 5, body: words(5, 0)},
		"odd compression":   {kind: kindData, ref: 1, round: 1, flags: 9, body: make([]byte, 16)},
		"half an OPEN":      {kind: kindOpen, ref: 2, body: make([]byte, 8)},
	} {
		r.inflate = (&unpacker{most: defaultBody}).inflate
		if err := r.take(f); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReceiverRefusesLoops(t *testing.T) {
	for want, change := range map[code]func(*open){
		codeLoop: func(o *open) { o.originNode = layout.ID16{2} },
		codeHops: func(o *open) { o.hops, o.via = 5, []layout.ID16{{3}, {4}, {5}, {6}} },
	} {
		w := calmWorld()
		var pushed []byte
		r := newReceiver(layout.ID16{2}, "l", w.sides[1], func(f []byte) { pushed = append(pushed, f...) })
		o := open{originEpoch: layout.ID16{7}, originNode: layout.ID16{1}, maxMsg: 64, hops: 1, topic: "t.x", source: "s"}
		change(&o)
		f := framesIn(t, o.encode(1, 0))[0]
		must(t, r.take(&f))
		got := framesIn(t, pushed)
		c, text, err := decodeReason(got[0].body)
		if err != nil || got[0].kind != kindRefuse || c != want || text == "" {
			t.Errorf("%v: %v %v %q %v", want, got[0].kind, c, text, err)
		}
		if r.total.loops != 1 || len(r.intakes) != 0 {
			t.Errorf("%v: %d loops counted, %d streams left", want, r.total.loops, len(r.intakes))
		}
	}
	via := open{originEpoch: layout.ID16{7}, originNode: layout.ID16{1}, maxMsg: 64, hops: 2, via: []layout.ID16{{2}}, topic: "t.x", source: "s"}
	o, err := decodeOpen(framesIn(t, via.encode(1, 0))[0].body)
	if err != nil || len(o.via) != 1 || o.via[0] != (layout.ID16{2}) || o.topic != "t.x" || o.source != "s" {
		t.Errorf("%+v, %v", o, err)
	}
}

// lostMirror is a mirror lane that goes away.
type lostMirror struct {
	simMirror
	gone bool
}

func (m *lostMirror) Lost() bool { return m.gone }
func (m *lostMirror) Append([]byte) error {
	return shm.ErrClosed
}

type lostHost struct {
	*simSide
	lostLanes int
}

func (h *lostHost) lost(*receiver, layout.ID16) { h.lostLanes++ }

func TestMirrorLaneThatGoesAwayIsAskedForAgain(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		w, r, l, pushed := taker(t)
		h := &lostHost{simSide: w.sides[1]}
		r.host = h
		m := &lostMirror{simMirror{w: w, of: l, gaps: map[uint64]bool{}}, true}
		r.intakes[1].m = m
		if deaf {
			r.intakes[1].state = intakeDeaf
			r.flush()
		} else {
			must(t, r.take(data(l, 1, 0, 1)))
		}
		f := framesIn(t, *pushed)
		if len(f) != 1 || f[0].kind != kindRefuse || h.lostLanes != 1 || len(r.intakes) != 0 {
			t.Errorf("deaf %v: %+v, %d lost", deaf, f, h.lostLanes)
		}
	}
}

// The pulse on virtual time.
func TestPulseFindsSilenceAndSlowness(t *testing.T) {
	sec := int64(time.Second)
	p := newPulse(100*sec, 250*time.Millisecond, time.Second)
	if p.beatDue(100*sec) == nil || p.beatDue(100*sec) != nil || p.beatDue(101*sec) == nil {
		t.Error("beats at the wrong time")
	}
	if p.over(100*sec+sec-1) != nil || !errors.Is(p.over(101*sec), errSilent) {
		t.Error("silence is not told at its time")
	}
	// Something comes each half second, of one frame, slowly.
	now, have := 200*sec, 10
	p.heard(now, have)
	for p.over(now) == nil && now < 300*sec {
		now += sec / 2
		have += 100
		p.heard(now, have)
	}
	if now >= 210*sec {
		t.Errorf("a slow frame lasted for %v", time.Duration(now-200*sec))
	}
	// The same slow bytes as whole frames are fine.
	for i := range int64(20) {
		p.fresh(300*sec + i*sec/2)
		p.heard(300*sec+i*sec/2, 10)
		if err := p.over(300*sec + i*sec/2 + 1); err != nil {
			t.Fatal(err)
		}
	}
	// A beat that was answered after 5 s tells a round trip of what is left.
	p.beaten(400*sec, &frame{seq: 7, body: words(uint64(394*sec), uint64(5*sec))})
	if p.rtt != sec || p.theirs != 7 {
		t.Errorf("rtt %v", time.Duration(p.rtt))
	}
	p.beaten(400*sec, &frame{body: words(uint64(500*sec), 0)}) // a clock that lies
	if p.rtt != sec {
		t.Errorf("rtt %v from a beat of the future", time.Duration(p.rtt))
	}
	var b backoff
	most := time.Duration(0)
	for range 20 {
		most = b.next(0.999999)
	}
	if most > backoffMax || most < backoffMax*9/10 {
		t.Errorf("pause %v", most)
	}
	b.worked(time.Second)
	if b.next(1) < backoffMax {
		t.Error("a short connection counted as one that worked")
	}
	if b.worked(goodFor); b.next(1) != backoffMin {
		t.Error("a good connection did not count")
	}
	if earlier(0, 5) != 5 || earlier(5, 0) != 5 || earlier(3, 5) != 3 {
		t.Error("earlier")
	}
}

func TestCompressionComesBackAsItWas(t *testing.T) {
	body := bytes.Repeat([]byte("price 117250.5 size 0.02 "), 400)
	noise := make([]byte, 10_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, name := range []string{"zstd", "s2"} {
		p := newPacker(name, 3)
		u := &unpacker{most: 1 << 20}
		for n := 4096; n < 4200; n++ {
			dst := make([]byte, headerBytes+p.bound(n))
			b := p.compress(body[:n], dst)
			if b == nil || len(b)%8 != 0 {
				t.Fatalf("%s: %d bytes became %d", name, n, len(b))
			}
			got, err := u.inflate(p.method, b)
			if err != nil || !bytes.Equal(got, body[:n]) {
				t.Fatalf("%s: %d bytes: %v", name, n, err)
			}
			if _, err := (&unpacker{most: 100}).inflate(p.method, b); err == nil {
				t.Fatalf("%s: more than was allowed", name)
			}
			b[20]++
			if got, err := u.inflate(p.method, b); err == nil && bytes.Equal(got, body[:n]) {
				t.Fatalf("%s: damage was not seen", name)
			}
		}
		for range 4 {
			if p.compress(noise, make([]byte, headerBytes+p.bound(len(noise)))) != nil {
				t.Errorf("%s: noise was compressed", name)
			}
		}
		if p.skip == 0 {
			t.Errorf("%s: it goes on trying", name)
		}
		if p.compress(body, make([]byte, headerBytes+p.bound(len(body)))) != nil {
			t.Errorf("%s: skipped nothing", name)
		}
		for _, bad := range [][]byte{nil, make([]byte, 4), words(1 << 20), words(8 | 1<<40)} {
			if _, err := u.inflate(p.method, bad); err == nil {
				t.Errorf("%s: %d bytes of nonsense", name, len(bad))
			}
		}
	}
	if p := newPacker("zstd", 2); p.method != 0 {
		t.Error("zstd to a peer that has none")
	}
}

func TestConfigurationBecomesOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.toml")
	must(t, os.WriteFile(file, []byte(`[forward]
node = "a"
cert = "/c"
key = "/k"
ca = "/ca"
listen = ["[::1]:1"]
[[link]]
peer = "b"
export = ["m.>"]
export_lossy = ["m.x"]
import = ["o"]
start = "oldest"
transit = true
`), 0o600))
	c, err := config.LoadForward(file)
	must(t, err)
	o := FromConfig(c)
	must(t, o.Validate())
	l := o.Links[0]
	if o.TLS == nil || !l.Oldest || !l.Transit || l.name() != "main" || len(l.Exports) != 2 || !l.Exports[1].Lossy {
		t.Errorf("%+v", o)
	}
	if e := l.carriedBy("m.x"); e == nil || !e.Lossy {
		t.Error("the more specific export does not apply")
	}
	if l.carriedBy("q") != nil || l.imports("m.x") || !l.imports("o") {
		t.Error("rules")
	}
}

func TestSurveyFindsWhatDoesNotFit(t *testing.T) {
	load := func(node, rest string) *config.Forward {
		file := filepath.Join(t.TempDir(), node+".toml")
		must(t, os.WriteFile(file, []byte("[forward]\nnode = \""+node+"\"\nlisten = [\"127.0.0.1:0\"]\n"+rest), 0o600))
		c, err := config.LoadForward(file)
		must(t, err)
		return c
	}
	link := func(peer, rest string) string {
		return "[[link]]\npeer = \"" + peer + "\"\naddress = \"127.0.0.1:9\"\n" + rest + "\n"
	}
	both := `export = ["m.>"]` + "\n" + `import = ["m.>"]`
	through := both + "\ntransit = true"
	for name, c := range map[string]struct {
		files []*config.Forward
		want  string
		fatal bool
	}{
		"fits":            {[]*config.Forward{load("a", link("b", `export = ["m.x"]`)), load("b", link("a", `import = ["m.>"]`))}, "", false},
		"no other end":    {[]*config.Forward{load("a", link("b", both)), load("b", link("c", both))}, "unmatched", true},
		"not imported":    {[]*config.Forward{load("a", link("b", `export = ["m.x"]`)), load("b", link("a", `import = ["o"]`))}, "unmatched", false},
		"one name":        {[]*config.Forward{load("a", link("b", both)), load("a", link("c", both))}, "unmatched", true},
		"overlap":         {[]*config.Forward{load("a", link("b", `export = ["m.>", "m.*"]`))}, "overlap", false},
		"nobody dials":    {[]*config.Forward{load("a", "[[link]]\npeer = \"b\"\n"+both), load("b", "[[link]]\npeer = \"a\"\n"+both)}, "unmatched", true},
		"insecure":        {[]*config.Forward{load("a", link("b", both+"\ninsecure = true")), load("b", link("a", both))}, "unmatched", true},
		"two links":       {[]*config.Forward{load("a", link("b", both)+link("b", "name = \"two\"\n"+both)), load("b", link("a", both)+link("a", "name = \"two\"\n"+both))}, "double", true},
		"triangle":        {[]*config.Forward{load("a", link("b", through)+link("c", through)), load("b", link("a", through)+link("c", through)), load("c", link("a", through)+link("b", through))}, "loop", false},
		"triangle double": {[]*config.Forward{load("a", link("b", through)+link("c", through)), load("b", link("a", through)+link("c", through)), load("c", link("a", through)+link("b", through))}, "double", false},
		"mesh":            {[]*config.Forward{load("a", link("b", both)+link("c", both)), load("b", link("a", both)+link("c", both)), load("c", link("a", both)+link("b", both))}, "", false},
	} {
		s := Survey(c.files)
		kinds := ""
		for _, f := range s.Findings {
			kinds += f.Kind + " "
			if f.Text == "" || f.At == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if c.want == "" && kinds != "" || !strings.Contains(kinds, c.want) || c.fatal != (s.Fatal() > 0) {
			t.Errorf("%s: findings %v", name, s.Findings)
		}
	}
	for _, c := range []struct {
		p, q string
		want bool
	}{{"a.b", "a.b", true}, {"a.b", "a.c", false}, {"a.*", "*.b", true}, {"a.>", "a", false}, {"a.>", "*.b.c", true}, {"a.b", "a.b.c", false}, {">", "x", true}} {
		if overlaps(c.p, c.q) != c.want || overlaps(c.q, c.p) != c.want {
			t.Errorf("%s and %s", c.p, c.q)
		}
	}
}

func TestErrorsOfTheBusHaveTheirCodes(t *testing.T) {
	for err, want := range map[error]code{shm.ErrSourceBusy: codeBusy, shm.ErrRegistryDown: codeDown, context.DeadlineExceeded: codeDown,
		shm.ErrNoSpace: codeSpace, shm.ErrQuota: codeSpace, shm.ErrPermission: codeDenied, shm.ErrInvalid: codeInvalid} {
		if got := codeOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	e := &RefusedError{Code: "self", Why: "x", Mine: true}
	if !strings.Contains(e.Error(), "this side") || !strings.Contains((&RefusedError{}).Error(), "the peer") {
		t.Error(e)
	}
}

// Fear: sending costs an allocation per message.
func TestSendingAllocatesNothing(t *testing.T) {
	watch(t, time.Minute)
	b := newBus(t, &shm.LocalOptions{RingBytes: 64 << 10})
	r, err := b.Relay(context.Background(), "m.x", &shm.RelayOptions{SubscriberOptions: shm.SubscriberOptions{Mode: shm.Lossless}})
	must(t, err)
	p := publisher(t, b.Client, "m.x", "s")
	s := newSender(layout.ID16{1})
	var l *shm.RelayLane
	until(t, "the lane", func() bool {
		lanes, err := r.Lanes()
		must(t, err)
		if len(lanes) == 1 {
			l = lanes[0]
		}
		return l != nil
	})
	s.attach(l, false)
	s.connected(layout.ID16{2}, defaultBody)
	var out outbox
	s.step(0, &out)
	must(t, resume(s, 1, 1, 0, 1<<20))
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	msg := make([]byte, 64)
	ack := &frame{kind: kindAck, ref: 1, body: words(1 << 20)}
	round := func() {
		for range 100 {
			if _, err := p.Publish(1, msg); err != nil {
				t.Fatal(err)
			}
		}
		out.reset()
		s.step(0, &out)
		if out.torn() != nil {
			t.Fatal("torn")
		}
		ack.seq = l.Due()
		must(t, s.take(0, ack))
	}
	round()
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("%v allocations for 100 messages", n)
	}
	must(t, p.Close())
	must(t, r.Close())
}

func FuzzDecode(f *testing.F) {
	h := hello{version: 1, oldest: 1, maxBody: defaultBody, node: layout.ID16{1}, name: "a", link: "main"}
	o := open{originEpoch: layout.ID16{1}, originNode: layout.ID16{2}, maxMsg: 64, hops: 2, via: []layout.ID16{{3}}, topic: "m.x", source: "s"}
	for _, b := range [][]byte{h.encode(), o.encode(1, 2), encode(kindAck, 1, 2, words(3)), encodeReason(kindClose, 0, codeSelf, "x"), make([]byte, 24)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerBytes { // past the checksum
			size := binary.LittleEndian.Uint32(b)
			if size <= uint32(len(b)-headerBytes) {
				binary.LittleEndian.PutUint32(b[offCRC:], checksum(b, b[headerBytes:headerBytes+size], nil))
			}
		}
		fr, n, err := decode(b, 1<<16)
		if err != nil || n == 0 {
			return
		}
		if n > len(b) || len(fr.body) != n-headerBytes {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		_, _ = decodeHello(fr.body)
		if o, err := decodeOpen(fr.body); err == nil && (o.topic == "" || len(o.via) != int(o.hops)-1) {
			t.Fatalf("%+v", o)
		}
		_, _, _ = decodeReason(fr.body)
		_, _ = (&unpacker{most: 1 << 16}).inflate(fr.flags, fr.body)
		if c, err := shm.CountFrames(fr.body, fr.seq, 1<<16); err == nil && c > len(fr.body)/layout.FrameHeaderBytes {
			t.Fatalf("%d frames in %d bytes", c, len(fr.body))
		}
		w := calmWorld()
		r := newReceiver(layout.ID16{2}, "l", w.sides[1], func([]byte) {})
		r.inflate = (&unpacker{most: 1 << 16}).inflate
		l := testLane(w, 100)
		r.intakes[fr.ref] = &intake{ref: fr.ref, state: intakeTaking, round: fr.round, m: &looseMirror{simMirror{w: w, of: l, gaps: map[uint64]bool{}}}}
		if fr.kind == kindData || fr.kind == kindOpen && fr.ref == 0 {
			_ = r.take(&fr)
		}
	})
}

// looseMirror takes anything.
type looseMirror struct{ simMirror }

func (m *looseMirror) Append([]byte) error { return nil }
