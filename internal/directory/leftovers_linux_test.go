package directory

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/segment"
)

func TestLeftoversOfTheKilledFillTheMemoryAndThoseOfTheLivingAreTaken(t *testing.T) {
	root := shmDir(t)
	old := time.Now().Add(-2 * leftoverAge)
	make := func(name, file string) *os.File {
		dir := filepath.Join(root, name)
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
		return f
	}
	make("bus-left", "l/x.ring")
	make("bus-bench", "bus/bus.lock")
	make("other-left", "l/x.ring")
	for _, f := range []*os.File{make("bus-lives", "bus.lock"), make("bus-publisher-lives", "l/x.ring")} {
		if err := segment.Lock(f); err != nil {
			t.Fatal(err)
		}
	}
	make("bus-young", "l/x.ring")
	if err := os.Chtimes(filepath.Join(root, "bus-young"), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other-left", filepath.Join(root, "bus-link")); err != nil {
		t.Fatal(err)
	}
	RemoveLeftovers(root, "bus-")
	for name, stays := range map[string]bool{"bus-left": false, "bus-bench": false, "other-left": true, "bus-lives": true,
		"bus-publisher-lives": true, "bus-young": true, "bus-link": true} {
		if _, err := os.Lstat(filepath.Join(root, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}
