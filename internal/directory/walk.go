package directory

import (
	"encoding/binary"
	"io"

	"github.com/torq/mycelium/internal/layout"
)

// A lane's words as the directory reads them: with pread, into private memory,
// every number checked before it is used. It never maps a ring.

func readWord(r io.ReaderAt, off int64) (uint64, bool) {
	var b [8]byte
	if _, err := r.ReadAt(b[:], off); err != nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b[:]), true
}

// walkBytes is how much of the ring is read at once.
const walkBytes = 16 << 10

// walk follows the frames of a lane from its tail cell to the first position
// without a committed frame, and returns it with the sequence that would have
// come there. It reads at most limit bytes of the ring, and never past intent.
// A tail that no publisher can have stored counts as the first position. seen, if
// there is one, is called for each data frame on the way, with its sequence and
// payload bytes.
func walk(r io.ReaderAt, h *layout.LaneHeader, limit uint64, seen func(seq uint64, bytes uint32)) (pos, seq uint64) {
	intent, ok := readWord(r, layout.OffIntent)
	if !ok || intent > layout.MaxPos {
		return h.FirstPos, h.FirstSeq
	}
	within := func(pos uint64) bool {
		return pos%layout.Align == 0 && pos >= h.FirstPos && pos <= intent && intent-pos <= h.Ring
	}
	if tail, ok := cell(r, layout.OffTail, layout.TailWords); ok {
		pos, seq = tail[0], tail[1]
	} else {
		pos, seq = lastIndexed(r, h, within) // the publisher died while it stored the pair
	}
	if !within(pos) {
		if pos, seq = h.FirstPos, h.FirstSeq; !within(pos) {
			return pos, seq
		}
	}
	mask := h.Ring - 1
	var buf [walkBytes]byte
	var at, have uint64 // buf holds ring[at:at+have]
	for end := min(intent, pos+limit); pos < end; {
		off := pos & mask
		if off < at || off+layout.FrameHeaderBytes > at+have {
			n, err := r.ReadAt(buf[:min(walkBytes, h.Ring-off)], int64(layout.OffRing+off))
			if n < layout.FrameHeaderBytes {
				return pos, seq // truncated
			}
			if at, have = off, uint64(n); err != nil {
				have &^= layout.Align - 1
			}
		}
		b := buf[off-at:]
		commit := binary.LittleEndian.Uint64(b[layout.OffCommit:])
		if !layout.Committed(commit, pos) {
			return pos, seq
		}
		n, _, _, _ := layout.SplitMeta(binary.LittleEndian.Uint64(b[layout.OffLen:]))
		size := layout.FrameBytes(uint64(n))
		switch kind := layout.KindOf(commit); {
		case kind == layout.KindPad:
			size = h.Ring - off
		case n > h.MaxMsg || off+size > h.Ring:
			return pos, seq // hostile
		case kind == layout.KindData:
			seq = binary.LittleEndian.Uint64(b[layout.OffSeq:]) + 1
			if seen != nil {
				seen(seq-1, n)
			}
		case kind == layout.KindGap:
			upTo, ok := readWord(r, int64(layout.OffRing+off+layout.OffPayload))
			if !ok || n < 8 || int64(upTo-seq) < 0 {
				return pos, seq // hostile
			}
			seq = upTo + 1
		case kind == layout.KindEnd:
			return pos + size, seq
		}
		pos += size
	}
	return pos, seq
}

// lastIndexed is the latest entry of the block index that can be true, zero if
// there is none.
func lastIndexed(r io.ReaderAt, h *layout.LaneHeader, within func(uint64) bool) (pos, seq uint64) {
	b := make([]byte, layout.IndexEntries*layout.IndexEntryBytes)
	if _, err := r.ReadAt(b, layout.OffIndex); err != nil {
		return 0, 0
	}
	for i := range uint64(layout.IndexEntries) {
		e := b[i*layout.IndexEntryBytes:]
		p := binary.LittleEndian.Uint64(e)
		if p > pos && within(p) && p>>h.BlockShift()%layout.IndexEntries == i {
			pos, seq = p, binary.LittleEndian.Uint64(e[8:])
		}
	}
	return pos, seq
}

// cell reads n words that a publisher or subscriber stores under a sequence
// word; false if no undisturbed moment came.
func cell(r io.ReaderAt, off int64, n int) ([]uint64, bool) {
	b := make([]byte, 8*(1+n))
	for range 8 {
		if _, err := r.ReadAt(b, off); err != nil {
			return nil, false
		}
		before := binary.LittleEndian.Uint64(b)
		after, ok := readWord(r, off)
		if !ok {
			return nil, false
		}
		if before&1 == 0 && before == after {
			words := make([]uint64, n)
			for i := range words {
				words[i] = binary.LittleEndian.Uint64(b[8+8*i:])
			}
			return words, true
		}
	}
	return nil, false
}
