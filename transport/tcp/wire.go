package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// Version of the link's protocol: docs/link.md is its description.
const Version = 1

const linkMagic uint64 = 0x014b_4e49_4c43_594d // "MYCLINK\x01"

// kind of a link frame.
type kind uint8

const (
	kindHello kind = 1 + iota
	kindOpen
	kindResume
	kindRefuse
	kindData
	kindAck
	kindGap
	kindEnd
	kindBeat
	kindClose
	kindEnded
	kinds // one beyond the last
)

func (k kind) String() string {
	names := [...]string{"0", "HELLO", "OPEN", "RESUME", "REFUSE", "DATA", "ACK", "GAP", "END", "BEAT", "CLOSE", "ENDED"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprint(uint8(k))
}

const (
	headerBytes = 24
	offKind     = 4
	offFlags    = 5
	offRound    = 6
	offRef      = 8
	offCRC      = 12
	offSeq      = 16

	flagZstd = 1
	flagS2   = 2

	earlyBody   = 4096 // before both HELLOs are there
	minBody     = 4096
	maxBody     = 64 << 20
	defaultBody = 128 << 10

	maxRefs = 4096
)

// ErrProtocol says that the peer broke the protocol: the connection is over, and
// nothing of the frame in question counts.
var ErrProtocol = errors.New("the peer broke the link protocol")

func protocolError(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, a...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a link frame that came. The body is the reader's: it is good until the
// next one.
type frame struct {
	kind  kind
	flags uint8
	round uint16
	ref   uint32
	seq   uint64
	body  []byte
}

// putHeader writes the header of a frame whose body is in two parts.
func putHeader(b []byte, k kind, flags uint8, round uint16, ref uint32, seq uint64, body, rest []byte) {
	le := binary.LittleEndian
	b = b[:headerBytes]
	clear(b)
	le.PutUint32(b, uint32(len(body)+len(rest)))
	b[offKind], b[offFlags] = byte(k), flags
	le.PutUint16(b[offRound:], round)
	le.PutUint32(b[offRef:], ref)
	le.PutUint64(b[offSeq:], seq)
	le.PutUint32(b[offCRC:], checksum(b, body, rest))
}

// checksum of a header without its crc, and of a body.
func checksum(h, body, rest []byte) uint32 {
	c := crc32.Update(0, castagnoli, h[:offCRC])
	c = crc32.Update(c, castagnoli, h[offSeq:headerBytes])
	c = crc32.Update(c, castagnoli, body)
	return crc32.Update(c, castagnoli, rest)
}

// encode makes a whole frame; the body is padded.
func encode(k kind, ref uint32, seq uint64, body []byte) []byte {
	return encodeRound(k, 0, ref, seq, body)
}

func encodeRound(k kind, round uint16, ref uint32, seq uint64, body []byte) []byte {
	b := make([]byte, headerBytes+pad8(len(body)))
	copy(b[headerBytes:], body)
	putHeader(b, k, 0, round, ref, seq, b[headerBytes:], nil)
	return b
}

func pad8(n int) int { return (n + 7) &^ 7 }

// decode takes the first frame from b: n is how many bytes it is, 0 if there is not
// all of it yet. No body may be longer than most.
func decode(b []byte, most uint32) (f frame, n int, err error) {
	if len(b) < headerBytes {
		return f, 0, nil
	}
	le := binary.LittleEndian
	size := le.Uint32(b)
	f = frame{kind: kind(b[offKind]), flags: b[offFlags], round: le.Uint16(b[offRound:]), ref: le.Uint32(b[offRef:]), seq: le.Uint64(b[offSeq:])}
	switch {
	case f.kind == 0 || f.kind >= kinds:
		return f, 0, protocolError("a frame of kind %d", f.kind)
	case size > most || size%8 != 0:
		return f, 0, protocolError("%v of %d bytes, the most is %d", f.kind, size, most)
	}
	n = headerBytes + int(size)
	if len(b) < n {
		return f, 0, nil
	}
	f.body = b[headerBytes:n]
	if sum := checksum(b, f.body, nil); sum != le.Uint32(b[offCRC:]) {
		return f, 0, protocolError("%v with crc %08x, want %08x", f.kind, le.Uint32(b[offCRC:]), sum)
	}
	return f, n, nil
}

// hello is the body of HELLO.
type hello struct {
	version, oldest uint16
	maxBody         uint32
	node            layout.ID16
	incarnation     layout.ID16
	decodes         uint32
	name, link      string
}

const (
	helloBytes = 56
	maxName    = 255
)

func (h *hello) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, helloBytes, helloBytes+len(h.name)+len(h.link))
	le.PutUint64(b, linkMagic)
	le.PutUint16(b[8:], h.version)
	le.PutUint16(b[10:], h.oldest)
	le.PutUint32(b[12:], h.maxBody)
	copy(b[16:], h.node[:])
	copy(b[32:], h.incarnation[:])
	le.PutUint32(b[48:], h.decodes)
	le.PutUint16(b[52:], uint16(len(h.name)))
	le.PutUint16(b[54:], uint16(len(h.link)))
	return encode(kindHello, 0, 0, append(append(b, h.name...), h.link...))
}

func decodeHello(b []byte) (h hello, err error) {
	le := binary.LittleEndian
	if len(b) < helloBytes || le.Uint64(b) != linkMagic {
		return h, protocolError("not the HELLO of a Mycelium link")
	}
	h = hello{version: le.Uint16(b[8:]), oldest: le.Uint16(b[10:]), maxBody: le.Uint32(b[12:]),
		node: layout.ID16(b[16:32]), incarnation: layout.ID16(b[32:48]), decodes: le.Uint32(b[48:])}
	name, link := int(le.Uint16(b[52:])), int(le.Uint16(b[54:]))
	switch {
	case name == 0 || name > maxName || link == 0 || link > maxName || helloBytes+name+link > len(b):
		return h, protocolError("HELLO with names of %d and %d bytes", name, link)
	case h.maxBody < minBody || h.maxBody > maxBody:
		return h, protocolError("HELLO with bodies of up to %d bytes", h.maxBody)
	case h.oldest > h.version || h.node.IsZero():
		return h, protocolError("HELLO with versions %d to %d and node %s", h.oldest, h.version, h.node)
	}
	h.name, h.link = string(b[helloBytes:helloBytes+name]), string(b[helloBytes+name:helloBytes+name+link])
	return h, nil
}

// open is the body of OPEN.
type open struct {
	originEpoch, originNode layout.ID16
	wall, mono              int64
	maxMsg                  uint32
	hops, timestamp         uint8
	lossy                   bool
	via                     []layout.ID16
	topic, source           string
}

const openBytes = 64

func (o *open) encode(ref uint32, first uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, openBytes, openBytes+16*len(o.via)+len(o.topic)+len(o.source))
	copy(b, o.originEpoch[:])
	copy(b[16:], o.originNode[:])
	le.PutUint64(b[32:], uint64(o.wall))
	le.PutUint64(b[40:], uint64(o.mono))
	le.PutUint32(b[48:], o.maxMsg)
	b[52], b[53] = o.hops, o.timestamp
	if o.lossy {
		b[54] = 1
	}
	le.PutUint16(b[56:], uint16(len(o.topic)))
	le.PutUint16(b[58:], uint16(len(o.source)))
	for i := range o.via {
		b = append(b, o.via[i][:]...)
	}
	return encode(kindOpen, ref, first, append(append(b, o.topic...), o.source...))
}

func decodeOpen(b []byte) (o open, err error) {
	le := binary.LittleEndian
	if len(b) < openBytes {
		return o, protocolError("OPEN of %d bytes", len(b))
	}
	o = open{originEpoch: layout.ID16(b[:16]), originNode: layout.ID16(b[16:32]), wall: int64(le.Uint64(b[32:])), mono: int64(le.Uint64(b[40:])),
		maxMsg: le.Uint32(b[48:]), hops: b[52], timestamp: b[53], lossy: b[54]&1 != 0}
	name, source := int(le.Uint16(b[56:])), int(le.Uint16(b[58:]))
	if o.hops < 1 || o.hops > layout.MaxHops+1 { // one too many is refused by name
		return o, protocolError("OPEN over %d links", o.hops)
	}
	vias := 16 * (int(o.hops) - 1)
	if name > layout.MaxTopic || source < 1 || source > layout.MaxSource || openBytes+vias+name+source > len(b) {
		return o, protocolError("OPEN with names of %d and %d bytes", name, source)
	}
	for b = b[openBytes:]; vias > 0; vias -= 16 {
		o.via = append(o.via, layout.ID16(b[:16]))
		b = b[16:]
	}
	o.topic, o.source = string(b[:name]), string(b[name:name+source])
	switch {
	case topic.Check(o.topic) != nil:
		return o, protocolError("OPEN of topic %q", o.topic)
	case o.originEpoch.IsZero() || o.originNode.IsZero() || o.timestamp > uint8(layout.TimestampClock) || o.maxMsg == 0 || o.maxMsg > layout.MaxRing/8:
		return o, protocolError("OPEN of an impossible lane of %s", o.topic)
	}
	for i := range len(o.source) {
		if o.source[i] < ' ' || o.source[i] == 0x7f {
			return o, protocolError("OPEN of source %q", o.source)
		}
	}
	return o, nil
}

// code says why a stream is refused or a connection closed.
type code uint32

const (
	codeLoop code = 1 + iota
	codeHave
	codeDenied
	codeHops
	codeBusy
	codeDown
	codeSpace
	codeInvalid
	codeLarge

	codeVersion code = 7 + iota
	codeUnknown
	codeSelf
	codeProtocol
	codeSilent
	codeReplaced
	codeStopping
)

var codeNames = map[code]string{codeLoop: "loop", codeHave: "have", codeDenied: "denied", codeHops: "hops", codeBusy: "busy", codeDown: "down",
	codeSpace: "space", codeInvalid: "invalid", codeLarge: "large", codeVersion: "version", codeUnknown: "unknown", codeSelf: "self",
	codeProtocol: "protocol", codeSilent: "silent", codeReplaced: "replaced", codeStopping: "stopping"}

func (c code) String() string {
	if n := codeNames[c]; n != "" {
		return n
	}
	return fmt.Sprint(uint32(c))
}

// holds reports whether the sender goes on holding the lane for the receiver.
func (c code) holds() bool { return c == codeBusy || c == codeDown || c == codeSpace }

const maxReason = 512

func encodeReason(k kind, ref uint32, c code, text string) []byte {
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	b := make([]byte, 8, 8+len(text))
	binary.LittleEndian.PutUint32(b, uint32(c))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(text)))
	return encode(k, ref, 0, append(b, text...))
}

func decodeReason(b []byte) (c code, text string, err error) {
	if len(b) < 8 {
		return 0, "", protocolError("a reason of %d bytes", len(b))
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxReason || int(n) > len(b)-8 {
		return 0, "", protocolError("a reason of %d bytes", n)
	}
	return code(binary.LittleEndian.Uint32(b)), string(b[8 : 8+n]), nil
}

// words makes a body of words.
func words(w ...uint64) []byte {
	b := make([]byte, 0, 8*len(w))
	for _, v := range w {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// word is the i-th word of a body; 0 if there is none.
func word(b []byte, i int) uint64 {
	if len(b) < 8*i+8 {
		return 0
	}
	return binary.LittleEndian.Uint64(b[8*i:])
}
