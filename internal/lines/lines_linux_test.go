package lines_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/internal/lines"
)

// TestHintsTouchNothing points them at memory that can be neither read nor written.
func TestHintsTouchNothing(t *testing.T) {
	mem, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	for _, n := range []int{0, 1, 63, 64, 65, 512, 1023, 1024, 1025, 1056, len(mem)} {
		lines.Fetch(mem[:n])
		lines.Fetch(mem[len(mem)-n:])
		lines.Own(mem[:n])
		lines.Own(mem[len(mem)-n:])
	}
}
