package lines_test

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// island is memory of some pages between two that cannot be touched; the one behind is in
// its capacity.
func island(t *testing.T, pages int) []byte {
	t.Helper()
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, (pages+2)*page, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	in := mem[page : (pages+1)*page : (pages+2)*page]
	if err := unix.Mprotect(in, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	return in
}

// Fear: a load or a store of a whole line reaches beyond the ends of what is copied, into a
// page that is not there. Both ends of both sides lie against such a page, at every length, and
// what is asked for meanwhile is in one.
func TestCopyStaysWithinItsPages(t *testing.T) {
	from, to := island(t, 2), island(t, 2)
	for i := range from {
		from[i] = byte(i*7 + i>>8)
	}
	gone := from[len(from) : len(from)+1]
	for name, w := range ways(&gone[0]) {
		for n := w.least; n <= 5*64; n++ {
			for _, c := range []struct{ at, of int }{{0, 0}, {len(to) - n, len(from) - n}, {0, len(from) - n}, {len(to) - n, 0}} {
				clear(to)
				w.copy(to[c.at:], from[c.of:c.of+n])
				if !bytes.Equal(to[c.at:c.at+n], from[c.of:c.of+n]) || bytes.Count(to, []byte{0}) < len(to)-n {
					t.Fatalf("%s: %d bytes from %d to %d: others arrived", name, n, c.of, c.at)
				}
			}
		}
	}
}
