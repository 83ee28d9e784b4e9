package seqlock

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// loadAttempts and loadPause bound [Cell.Load]: 10 to 50 us of waiting in all.
const (
	loadAttempts = 128
	loadPause    = 8
)

// ErrCellMemory reports bytes that cannot hold a [Cell].
var ErrCellMemory = errors.New("seqlock: memory does not fit a cell")

// Cell is a value of a fixed number of uint64 words that one goroutine of one
// process stores and any number of goroutines of any processes load, each getting
// the words of one and the same Store. Its memory is the caller's:
//
//	byte 0    8        16                    8+8*Words()
//	     +----+--------+--------+-- ... --+--------+
//	     |Word| word 0 | word 1 |         |word n-1|    host byte order
//	     +----+--------+--------+-- ... --+--------+
//
// Zeroed memory is a Cell that holds zeros. The zero Cell has no memory and must
// not be used. Copies of a Cell are the same Cell.
type Cell struct {
	seq   *Word
	words []uint64
}

// NewCell returns a view of b as a Cell; it neither clears nor changes b. b is
// 8-aligned, 16 bytes or more, and a multiple of 8 long, else the error is an
// [ErrCellMemory]. b may be a read-only mapping if only Load is called.
func NewCell(b []byte) (Cell, error) {
	if len(b) < 16 || len(b)%8 != 0 {
		return Cell{}, fmt.Errorf("%w: %d bytes; give it a multiple of 8, at least 16", ErrCellMemory, len(b))
	}
	words, misaligned := wordsOf(b)
	if misaligned != 0 {
		return Cell{}, fmt.Errorf("%w: it starts %d bytes past a multiple of 8; align it", ErrCellMemory, misaligned)
	}
	return Cell{seq: (*Word)(&words[0]), words: words[1:]}, nil
}

// Words returns how many words the Cell holds.
func (c Cell) Words() int { return len(c.words) }

// Store replaces the first len(src) words; as with copy, what does not fit is
// left out. It never waits. Writer only.
func (c Cell) Store(src []uint64) {
	n := min(len(src), len(c.words))
	c.seq.WriteBegin()
	for i, v := range src[:n] {
		storeWord(&c.words[i], v)
	}
	c.seq.WriteEnd()
}

// Load fills dst with the first len(dst) words, all of one Store; as with copy,
// what lies beyond Words() is left alone. It returns false, and dst is to be
// thrown away, when no undisturbed moment came within a bounded number of
// attempts (10 to 50 us): the writer was stopped or died in the middle, or stores
// without pause. Safe for concurrent use.
func (c Cell) Load(dst []uint64) bool {
	n := min(len(dst), len(c.words))
	for range loadAttempts {
		if seq, ok := c.seq.ReadBegin(); ok {
			for i := range dst[:n] {
				dst[i] = atomic.LoadUint64(&c.words[i])
			}
			if !c.seq.ReadRetry(seq) {
				return true
			}
		}
		Pause(loadPause)
	}
	return false
}
