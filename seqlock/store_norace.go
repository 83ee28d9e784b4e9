//go:build !race

package seqlock

// storeWord stores one word of a value that a [Word] guards. Plain: the calls on
// either side (WriteBegin, WriteEnd) order it, and a reader that catches it half
// way is told so by the Word.
func storeWord(p *uint64, v uint64) { *p = v }
