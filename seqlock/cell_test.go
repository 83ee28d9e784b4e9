package seqlock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"
)

// endsWithin fails the test if f hangs.
func endsWithin(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(watchdog):
		t.Fatalf("still running after %v", watchdog)
	}
}

// newBytes returns n zeroed bytes that start on a multiple of 8. Whether make
// gives that for small odd sizes is the allocator's business, so it is checked.
func newBytes(t testing.TB, n int) []byte {
	b := make([]byte, n+8)
	for i := range 8 {
		if _, misaligned := wordsOf(b[i:]); misaligned == 0 {
			return b[i : i+n : i+n]
		}
	}
	t.Fatal("no aligned byte among 8 in a row")
	return nil
}

func newCell(t testing.TB, words int) Cell {
	c, err := NewCell(newBytes(t, 8+8*words))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCellRefusesMemoryThatDoesNotFit(t *testing.T) {
	b := newBytes(t, 64)
	for name, bad := range map[string][]byte{
		"nil": nil, "empty": b[:0], "one word": b[:8], "odd length": b[:23], "length 20": b[:20],
		"off by 1": b[1:33], "off by 4": b[4:36],
	} {
		c, err := NewCell(bad)
		if !errors.Is(err, ErrCellMemory) {
			t.Errorf("%s: error %v, want ErrCellMemory", name, err)
		}
		if c.Words() != 0 {
			t.Errorf("%s: the refused cell has %d words", name, c.Words())
		}
	}
	if !bytes.Equal(b, make([]byte, 64)) {
		t.Error("a refused cell changed its bytes")
	}
}

func TestCellKeepsToItsBytes(t *testing.T) {
	whole := newBytes(t, 64)
	for i := range whole {
		whole[i] = 0xee
	}
	b := whole[8:40]
	clear(b)
	c, err := NewCell(b)
	if err != nil {
		t.Fatal(err)
	}
	if c.Words() != 3 {
		t.Fatalf("32 bytes hold %d words, want 3", c.Words())
	}
	c.Store([]uint64{1, 2, 3, 4, 5}) // two too many
	c.Store([]uint64{7})             // two too few
	got := []uint64{9, 9, 9, 9, 9}
	if !c.Load(got) {
		t.Fatal("no load from a cell at rest")
	}
	if want := []uint64{7, 2, 3, 9, 9}; !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
	short := make([]uint64, 2)
	if !c.Load(short) || !slices.Equal(short, []uint64{7, 2}) {
		t.Errorf("loaded %v, want the first two words", short)
	}
	if seq := binary.NativeEndian.Uint64(b); seq != 4 {
		t.Errorf("two stores left the word at %d, want 4", seq)
	}
	for i, v := range whole {
		if (i < 8 || i >= 40) && v != 0xee {
			t.Errorf("byte %d beside the cell changed to %#x", i, v)
		}
	}
}

func TestDeadWriterDoesNotHangReaders(t *testing.T) {
	b := newBytes(t, 24)
	c, err := NewCell(b)
	if err != nil {
		t.Fatal(err)
	}
	c.Store([]uint64{1, 2})
	c.seq.WriteBegin() // and dies
	got := make([]uint64, 2)
	endsWithin(t, func() {
		if c.Load(got) {
			t.Error("a half written cell was loaded")
		}
	})
	c.Store([]uint64{3, 4}) // its successor
	if !c.Load(got) || !slices.Equal(got, []uint64{3, 4}) {
		t.Errorf("after the successor's store: %v, want [3 4]", got)
	}
}

func FuzzCell(f *testing.F) {
	f.Add(uint8(2), uint64(0), []byte("12345678abcdefgh"))
	f.Add(uint8(1), uint64(1), []byte{})
	f.Add(uint8(200), ^uint64(1), bytes.Repeat([]byte{0xff}, 64))
	f.Add(uint8(3), ^uint64(0), bytes.Repeat([]byte{1}, 96))
	f.Fuzz(func(t *testing.T, words uint8, seq uint64, value []byte) {
		b := newBytes(t, 8+8*int(words))
		binary.NativeEndian.PutUint64(b, seq) // whatever was in the memory
		c, err := NewCell(b)
		if words == 0 {
			if !errors.Is(err, ErrCellMemory) {
				t.Fatalf("a cell of no words: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Load(nil); got != (seq&1 == 0) {
			t.Fatalf("word %#x: Load = %v", seq, got)
		}
		src := make([]uint64, len(value)/8)
		for i := range src {
			src[i] = binary.NativeEndian.Uint64(value[8*i:])
		}
		c.Store(src)
		want := make([]uint64, words)
		copy(want, src)
		got := make([]uint64, words)
		if !c.Load(got) || !slices.Equal(got, want) {
			t.Fatalf("stored %v, loaded %v", want, got)
		}
	})
}

func BenchmarkCell(b *testing.B) {
	for _, size := range []struct {
		name  string
		words int
	}{{"1", 1}, {"4", 4}, {"32", 32}} {
		c := newCell(b, size.words)
		v := make([]uint64, size.words)
		b.Run("Store/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Store(v)
			}
		})
		b.Run("Load/"+size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !c.Load(v) {
					b.Fatal("a cell at rest was not loaded")
				}
			}
		})
	}
}
