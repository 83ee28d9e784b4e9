package tcp

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

// mirror is what a receiver needs of a mirror lane: an *shm.Mirror, or a model.
type mirror interface {
	Due() uint64
	Append(frames []byte) error
	Gap(next uint64) error
	Room(least uint64) uint64
	RingBytes() uint64
	MaxMessageBytes() uint32
	Found() bool
	Lost() bool
	Flush()
}

// host is what a receiver needs of its surroundings. Its calls return at once; the
// answers come through opened and closed, later and never from within the call.
type host interface {
	allows(topic string) bool
	claim(r *receiver, o *open, first uint64, ref uint32)
	end(r *receiver, epoch layout.ID16, ref uint32)
	lost(r *receiver, epoch layout.ID16)
}

type intakeState uint8

const (
	intakeOpening intakeState = iota
	intakeTaking
	intakeDeaf
	intakeClosing
)

func (s intakeState) String() string {
	return [...]string{"opening", "taking", "deaf", "closing"}[s]
}

// intake is one stream that the peer sends.
type intake struct {
	ref    uint32
	state  intakeState
	round  uint16 // RESUMEs so far
	open   open
	m      mirror
	window uint64 // as last told
	used   uint64 // bytes taken since
	least  uint64 // a smaller window is none
	owes   bool   // an ACK
	idle   bool   // nothing came since the last flush
	stats  intakeStats
}

type intakeStats struct {
	frames, bytes, duplicates, gaps, missed uint64
}

// receiver is the receiving half of one connection, without its I/O.
type receiver struct {
	self    layout.ID16
	link    string // of which link; mirrors that another feeds are refused
	host    host
	push    func(frame []byte) // to the peer
	intakes map[uint32]*intake
	inflate func(flags uint8, body []byte) ([]byte, error)
	total   receiverStats
	hurry   bool // an ACK is due at once
}

type receiverStats struct {
	frames, bytes, duplicates, gaps, missed, resumes, refusals, loops uint64
}

func (s *receiverStats) add(o *receiverStats) {
	s.frames += o.frames
	s.bytes += o.bytes
	s.duplicates += o.duplicates
	s.gaps += o.gaps
	s.missed += o.missed
	s.resumes += o.resumes
	s.refusals += o.refusals
	s.loops += o.loops
}

func newReceiver(self layout.ID16, link string, h host, push func([]byte)) *receiver {
	return &receiver{self: self, link: link, host: h, push: push, intakes: map[uint32]*intake{}}
}

// take acts on a sender's frame.
func (r *receiver) take(f *frame) error {
	if f.kind == kindOpen {
		return r.takeOpen(f)
	}
	in := r.intakes[f.ref]
	if in == nil || in.state == intakeOpening || in.state == intakeClosing {
		return protocolError("%v of stream %d, which is not open", f.kind, f.ref)
	}
	if f.round != in.round {
		return nil // under way when the last RESUME was sent
	}
	switch f.kind {
	case kindData:
		return r.takeData(in, f)
	case kindGap:
		next := word(f.body, 0)
		if !seqlock.After(next, f.seq) {
			return protocolError("GAP from %d to %d in stream %d", f.seq, next, f.ref)
		}
		r.takeGap(in, f.seq, next)
	case kindEnd:
		if in.state == intakeTaking && !r.behind(in, f.seq) {
			in.state = intakeClosing
			r.host.end(r, in.open.originEpoch, in.ref)
		}
	}
	return nil
}

// takeOpen decides on a stream.
func (r *receiver) takeOpen(f *frame) error {
	o, err := decodeOpen(f.body)
	if err != nil {
		return err
	}
	if r.intakes[f.ref] != nil || f.ref == 0 || len(r.intakes) >= maxRefs {
		return protocolError("OPEN of stream %d, with %d open", f.ref, len(r.intakes))
	}
	switch {
	case o.originNode == r.self || slices.Contains(o.via, r.self):
		r.refuse(f.ref, codeLoop, "the lane has been here")
	case o.hops > layout.MaxHops:
		r.refuse(f.ref, codeHops, "it came over too many links")
	case !r.host.allows(o.topic):
		r.refuse(f.ref, codeDenied, "topic "+o.topic+" is not imported")
	default:
		r.intakes[f.ref] = &intake{ref: f.ref, open: o}
		r.host.claim(r, &o, f.seq, f.ref)
	}
	return nil
}

func (r *receiver) refuse(ref uint32, c code, text string) {
	delete(r.intakes, ref)
	r.total.refusals++
	if c == codeLoop || c == codeHave || c == codeHops {
		r.total.loops++
	}
	r.push(encodeReason(kindRefuse, ref, c, text))
}

// opened answers a claim: the mirror lane, or why there is none.
func (r *receiver) opened(ref uint32, m mirror, why code, text string) {
	in := r.intakes[ref]
	switch {
	case in == nil || in.state != intakeOpening:
	case why != 0:
		r.refuse(ref, why, text)
	default:
		in.m = m
		in.least = max(m.RingBytes()/8, layout.FrameBytes(uint64(m.MaxMessageBytes())))
		in.state = intakeDeaf
		r.resume(in)
	}
}

// resume lets the sender go on, if there is room.
func (r *receiver) resume(in *intake) {
	if in.window = r.room(in); in.window == 0 {
		return
	}
	in.state, in.used, in.owes = intakeTaking, 0, false
	r.total.resumes++
	flags := uint64(0)
	if in.m.Found() {
		flags = 1
	}
	in.round++
	r.push(encodeRound(kindResume, in.round, in.ref, in.m.Due(), words(in.window, flags)))
}

// room is the window that may be told.
func (r *receiver) room(in *intake) uint64 {
	if w := in.m.Room(in.least); w >= in.least {
		return w
	}
	return 0
}

// behind makes the receiver deaf if something before seq is missing.
func (r *receiver) behind(in *intake, seq uint64) bool {
	if !seqlock.After(seq, in.m.Due()) {
		return false
	}
	in.state = intakeDeaf
	return true
}

func (r *receiver) takeData(in *intake, f *frame) error {
	b := f.body
	if f.flags != 0 {
		var err error
		if b, err = r.inflate(f.flags, f.body); err != nil {
			return protocolError("DATA of stream %d: %v", f.ref, err)
		}
	}
	count, err := shm.CountFrames(b, f.seq, in.m.MaxMessageBytes())
	if err != nil {
		return protocolError("DATA of stream %d: %v", f.ref, err)
	}
	in.idle = false
	if in.state == intakeDeaf || r.behind(in, f.seq) {
		return nil
	}
	before := in.m.Due()
	if dup := before - f.seq; dup > 0 {
		dup = min(dup, uint64(count))
		in.stats.duplicates += dup
		r.total.duplicates += dup
		for range dup {
			n := layout.FrameBytes(uint64(binary.LittleEndian.Uint32(b[layout.OffLen:])))
			in.used += n
			b = b[n:]
		}
	}
	if len(b) > 0 {
		err = in.m.Append(b)
	}
	n := in.m.Due() - before
	in.stats.frames += n
	in.stats.bytes += uint64(len(b))
	r.total.frames += n
	r.total.bytes += uint64(len(b))
	in.used += uint64(len(b))
	r.wrote(in, err)
	return nil
}

// wrote deals with the answer of a mirror lane, and remembers the ACK.
func (r *receiver) wrote(in *intake, err error) {
	switch {
	case err == nil:
		in.owes = true
		if in.used >= in.window/4 {
			r.hurry = true
		}
	case errors.Is(err, shm.ErrBackpressure):
		in.state = intakeDeaf
	default: // the lane was taken away: the sender asks for another
		r.host.lost(r, in.open.originEpoch)
		r.refuse(in.ref, codeBusy, err.Error())
	}
}

func (r *receiver) takeGap(in *intake, from, next uint64) {
	due := in.m.Due()
	if in.state == intakeDeaf || r.behind(in, from) {
		return
	}
	if !seqlock.After(next, due) { // it was had, and the sender does not know yet
		in.owes = true
		return
	}
	in.stats.gaps++
	in.stats.missed += next - due
	r.total.gaps++
	r.total.missed += next - due
	r.wrote(in, in.m.Gap(next))
}

// closed answers end: the mirror lane has its END.
func (r *receiver) closed(ref uint32, seq uint64) {
	if in := r.intakes[ref]; in != nil && in.state == intakeClosing {
		delete(r.intakes, ref)
		r.push(encode(kindEnded, ref, seq, nil))
	}
}

// flush sends the ACKs that are owed, and opens windows that were closed. It reports
// whether it has to be called again soon, although nothing comes: somebody waits for
// room.
func (r *receiver) flush() (again bool) {
	r.hurry = false
	for _, in := range r.intakes {
		switch {
		case in.state == intakeDeaf:
			if in.m.Lost() {
				r.host.lost(r, in.open.originEpoch)
				r.refuse(in.ref, codeBusy, "the mirror lane was taken away")
				continue
			}
			r.resume(in)
			again = again || in.state == intakeDeaf
		case in.state != intakeTaking:
		case in.owes || in.window == 0:
			w := r.room(in)
			if in.owes || w != 0 {
				in.window, in.used, in.owes = w, 0, false
				r.push(encode(kindAck, in.ref, in.m.Due(), words(w)))
			}
			again = again || w == 0
		}
	}
	return again
}

// owing reports whether a flush would do something.
func (r *receiver) owing() bool {
	for _, in := range r.intakes {
		if in.owes || in.state == intakeDeaf || in.state == intakeTaking && in.window == 0 {
			return true
		}
	}
	return false
}

// settle stores what late readers and tools look at, in lanes where nothing comes.
func (r *receiver) settle() {
	for _, in := range r.intakes {
		if in.state == intakeTaking && !in.idle {
			in.idle = true
			in.m.Flush()
		}
	}
}

// A window that is closed is looked at after roomMin, and then ever less often: who reads
// the mirror lane does not tell when there is room again.
const (
	roomMin = 50 * time.Microsecond
	roomMax = time.Millisecond
)
