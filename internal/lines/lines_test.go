package lines_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/torq/mycelium/internal/lines"
)

// ways are the ways to copy that there are here, from so many bytes on. What
// is asked for lies at ahead.
func ways(ahead *byte) map[string]way {
	all := map[string]way{"Copy": {0, lines.Copy}}
	if !lines.Hints {
		return all
	}
	fetch := func(to, from []byte) { lines.CopyFetch(&to[0], from, ahead) }
	own := func(to, from []byte) { lines.CopyOwn(&to[0], from, ahead) }
	all["CopyFetch"], all["CopyOwn"] = way{lines.Bytes, fetch}, way{lines.Bytes, own}
	all["CopyFetch by quarters"] = way{lines.Bytes, func(to, from []byte) { lines.ByQuarters(func() { fetch(to, from) }) }}
	all["CopyOwn by quarters"] = way{lines.Bytes, func(to, from []byte) { lines.ByQuarters(func() { own(to, from) }) }}
	return all
}

type way struct {
	least int
	copy  func(to, from []byte)
}

// TestCopyWritesItsBytesAndNoOthers goes through every length up to some lines, at
// every place in a line that either side can have.
func TestCopyWritesItsBytesAndNoOthers(t *testing.T) {
	const most, margin = 4 * 64, 128
	source := make([]byte, most+64)
	for i := range source {
		source[i] = byte(i*7 + 1)
	}
	got, want := make([]byte, most+2*margin), make([]byte, most+2*margin)
	for name, w := range ways(&source[0]) {
		for n := w.least; n <= most; n++ {
			for at := range 64 {
				from := source[(at*5)%64:][:n]
				for i := range got {
					got[i], want[i] = 0xee, 0xee
				}
				copy(want[margin+at:], from)
				w.copy(got[margin+at:], from)
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes to place %d of a line:\n% x\nwant\n% x", name, n, at, got, want)
				}
			}
		}
	}
}

func TestCopyRefusesWhatDoesNotFit(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("512 bytes went into 511")
		}
	}()
	lines.Copy(make([]byte, 511), make([]byte, 512))
}

func BenchmarkCopy(b *testing.B) {
	for _, n := range []int{272, 512, 1024, 4096, 65536} {
		to, from := make([]byte, n+64)[32:], make([]byte, n)
		b.Run(fmt.Sprintf("lines/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				lines.Copy(to, from)
			}
		})
		b.Run(fmt.Sprintf("copy/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(to, from)
			}
		})
	}
}
