package tcp

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/torq/mycelium/seqlock"
	"github.com/torq/mycelium/shm"
)

const (
	outboxBytes = 256 << 10 // written at once
	outboxRuns  = 64
	compressMin = 512 // bytes that compression is tried on
)

// outbox gathers what one write sends: control frames, and runs of frames right from
// the rings. It allocates nothing once it is warm.
type outbox struct {
	bufs   net.Buffers
	heads  [outboxRuns * headerBytes]byte
	runs   []sentRun
	copies [][]byte // of lossy runs, and compressed ones
	copied int
	bytes  int
	flat   []byte // for TLS, which wants one piece
	pack   packer
}

type sentRun struct {
	l   lane
	run shm.Run
}

func (o *outbox) reset() {
	clear(o.bufs[:cap(o.bufs)][:len(o.bufs)])
	o.bufs, o.runs, o.bytes, o.copied = o.bufs[:0], o.runs[:0], 0, 0
}

func (o *outbox) full() bool { return o.bytes >= outboxBytes || len(o.runs)+o.copied >= outboxRuns }

func (o *outbox) empty() bool { return o.bytes == 0 }

func (o *outbox) control(frame []byte) {
	o.bufs = append(o.bufs, frame)
	o.bytes += len(frame)
}

// private is the next private buffer, with room for n bytes.
func (o *outbox) private(n int) []byte {
	if o.copied == len(o.copies) {
		o.copies = append(o.copies, nil)
	}
	if cap(o.copies[o.copied]) < n {
		o.copies[o.copied] = make([]byte, n)
	}
	b := o.copies[o.copied][:n]
	o.copied++
	return b
}

// run takes frames of a lane, in place where the lane holds them for us. They are
// checked after the checksum was made of them: what is overwritten later does not match
// it, and is refused by the receiver.
func (o *outbox) run(st *stream, r shm.Run) bool {
	head := o.heads[(len(o.runs)+o.copied)*headerBytes:][:headerBytes]
	body, flags := r.Bytes, uint8(0)
	if o.pack.method != 0 && len(body) >= compressMin {
		if b := o.pack.compress(body, o.private(headerBytes+o.pack.bound(len(body)))); b != nil {
			body, flags = b, o.pack.method
		} else {
			o.copied--
		}
	}
	inPlace := flags == 0 && !st.lossy
	if flags == 0 && st.lossy {
		body = o.private(len(r.Bytes))
		copy(body, r.Bytes)
	}
	putHeader(head, kindData, flags, st.round, st.ref, r.First, body, nil)
	if !st.lane.Whole(r) {
		if !inPlace {
			o.copied--
		}
		return false
	}
	if inPlace {
		o.runs = append(o.runs, sentRun{st.lane, r})
	}
	o.bufs = append(o.bufs, head, body)
	o.bytes += headerBytes + len(body)
	return true
}

// write sends everything.
func (o *outbox) write(c net.Conn, deadline time.Duration) error {
	if err := c.SetWriteDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	var err error
	if w, plain := c.(*socket); plain {
		err = w.writeAll(o.bufs)
	} else {
		o.flat = o.flat[:0]
		for _, b := range o.bufs {
			o.flat = append(o.flat, b...)
		}
		_, err = c.Write(o.flat)
	}
	return err
}

// torn reports whether a run was overwritten while it was written: the receiver will see
// its checksum fail. What it has acknowledged already was whole when the kernel took it.
func (o *outbox) torn() error {
	for i := range o.runs {
		r := &o.runs[i]
		if end := r.run.First + uint64(r.run.Count); !r.l.Whole(r.run) && seqlock.Before(r.l.Acked(), end) {
			return fmt.Errorf("%w: frames were overwritten while they were sent", shm.ErrEvicted)
		}
	}
	return nil
}

// packer compresses bodies, where that pays.
type packer struct {
	method uint8 // 0 = none
	enc    *zstd.Encoder
	skip   int // bodies that are not tried, after some that did not pay
	bad    int
}

func newPacker(name string, decodes uint32) (p packer) {
	switch {
	case name == "zstd" && decodes&1 != 0:
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
		if err == nil {
			p.method, p.enc = flagZstd, enc
		}
	case name == "s2" && decodes&2 != 0:
		p.method = flagS2
	}
	return p
}

// bound is the most that n bytes become.
func (p *packer) bound(n int) int {
	if p.method == flagS2 {
		return 16 + s2.MaxEncodedLen(n)
	}
	return 16 + n + n/128 + 64
}

const (
	paysAbove  = 10 // per cent that must be saved
	skipBodies = 32
)

// compress puts the length and the compressed body into dst, nil if it does not pay.
func (p *packer) compress(body, dst []byte) []byte {
	if p.skip > 0 {
		p.skip--
		return nil
	}
	b := dst[:8]
	if p.method == flagS2 {
		n := len(s2.Encode(dst[8:cap(dst)], body))
		b = dst[:8+n]
	} else {
		b = p.enc.EncodeAll(body, b)
	}
	if len(b) > len(body)*(100-paysAbove)/100 {
		if p.bad++; p.bad >= 4 {
			p.bad, p.skip = 0, skipBodies
		}
		return nil
	}
	p.bad = 0
	binary.LittleEndian.PutUint32(b, uint32(len(body)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// unpacker is the other side.
type unpacker struct {
	most int
	buf  []byte
	dec  *zstd.Decoder
}

func (u *unpacker) inflate(flags uint8, body []byte) ([]byte, error) {
	if len(body) < 8 {
		return nil, fmt.Errorf("%d compressed bytes", len(body))
	}
	n, packed := uint64(binary.LittleEndian.Uint32(body)), uint64(binary.LittleEndian.Uint32(body[4:]))
	if body = body[8:]; n > uint64(u.most) || packed > uint64(len(body)) {
		return nil, fmt.Errorf("%d bytes in %d, the most is %d", n, packed, u.most)
	}
	body = body[:packed]
	if uint64(cap(u.buf)) < n {
		u.buf = make([]byte, n)
	}
	var out []byte
	var err error
	switch flags {
	case flagS2:
		if size, serr := s2.DecodedLen(body); serr != nil || uint64(size) != n {
			return nil, fmt.Errorf("S2 of %d bytes, told were %d (%v)", size, n, serr)
		}
		out, err = s2.Decode(u.buf[:n], body)
	case flagZstd:
		if u.dec == nil {
			u.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(u.most)), zstd.IgnoreChecksum(true))
			if err != nil {
				return nil, err
			}
		}
		out, err = u.dec.DecodeAll(body, u.buf[:0:n])
	default:
		return nil, fmt.Errorf("compressed by method %d", flags)
	}
	if err == nil && uint64(len(out)) != n {
		err = fmt.Errorf("%d bytes, told were %d", len(out), n)
	}
	return out, err
}
