package segment

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/torq/mycelium/internal/layout"
	"golang.org/x/sys/unix"
)

// shmDir is a directory on the file system that segments live on.
func shmDir(t *testing.T) (*os.File, string) {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "segment-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	d, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, path
}

func create(t *testing.T, dir *os.File, name string) *os.File {
	t.Helper()
	f, err := CreateAt(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func writeLane(t *testing.T, f *os.File) layout.LaneHeader {
	t.Helper()
	g := layout.Geometry{Ring: layout.MinRing}.WithDefaults()
	h := layout.LaneHeader{Geometry: g, Epoch: layout.ID16{1}, FirstPos: g.Ring, Topic: "t", Source: "s"}
	if err := Allocate(f, h.FileBytes()); err != nil {
		t.Fatal(err)
	}
	m, err := Map(f, true)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	h.Encode(m.Bytes())
	binary.LittleEndian.PutUint64(m.Bytes()[layout.OffReady:], layout.Ready(layout.LaneMagic, h.Epoch))
	return h
}

func TestFilesAreMadeOnceAndNeverFollowLinks(t *testing.T) {
	dir, path := shmDir(t)
	f := create(t, dir, "a")
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	if _, err := CreateAt(dir, "a"); !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	for _, write := range []bool{false, true} {
		if f, err := OpenAt(dir, "link", write); !errors.Is(err, unix.ELOOP) {
			t.Fatal(f, err)
		}
		if _, err := OpenAt(dir, "none", write); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		g, err := OpenAt(dir, "a", write)
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
	}
}

// The lock outlives the descriptor and ends with the mapping.
func TestLockLivesAsLongAsTheMapping(t *testing.T) {
	dir, _ := shmDir(t)
	f := create(t, dir, "a")
	probe, err := OpenAt(dir, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	held := func(want bool) {
		t.Helper()
		if got, err := Held(probe); err != nil || got != want {
			t.Fatalf("held: %v, %v; want %v", got, err, want)
		}
	}
	held(false)
	if err := Lock(f); err != nil {
		t.Fatal(err)
	}
	second, err := OpenAt(dir, "a", true)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := Lock(second); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := Allocate(f, 8192); err != nil {
		t.Fatal(err)
	}
	m, err := Map(f, true)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	held(true)
	m.Bytes()[8191] = 1
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	held(false)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Lock(second); err != nil {
		t.Fatal(err)
	}
	probe.Close()
	if held, err := Held(probe); !held || err == nil {
		t.Fatal("a probe that fails must not say free")
	}
}

func TestNoRoomIsAnErrorNotAFault(t *testing.T) {
	dir, _ := shmDir(t)
	f := create(t, dir, "a")
	if err := Allocate(f, 1<<60); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	ro, err := OpenAt(dir, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if err := Allocate(ro, 4096); err == nil || errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	if noSpace(unix.EDQUOT); !errors.Is(noSpace(unix.EDQUOT), ErrNoSpace) || errors.Is(noSpace(unix.EIO), ErrNoSpace) {
		t.Fatal("a quota is a kind of full")
	}
}

func TestOnlyWholeSegmentsAreRead(t *testing.T) {
	dir, path := shmDir(t)
	f := create(t, dir, "lane")
	if _, err := ReadLane(f); !errors.Is(err, layout.ErrTruncated) {
		t.Fatalf("empty: %v", err)
	}
	h := writeLane(t, f)
	if got, err := ReadLane(f); err != nil || got.Epoch != h.Epoch {
		t.Fatal(got, err)
	}
	if _, err := ReadCursor(f); !errors.Is(err, layout.ErrMagic) {
		t.Fatalf("a lane as cursor file: %v", err)
	}
	c := create(t, dir, "cursors")
	ch := layout.CursorHeader{Epoch: layout.ID16{2}, Mode: layout.Lossy, Slots: 1000}
	b := make([]byte, layout.CursorFileBytes(1000))
	ch.Encode(b)
	binary.LittleEndian.PutUint64(b[layout.OffReady:], layout.Ready(layout.CursorMagic, ch.Epoch))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadCursor(c); err != nil || got.Epoch != ch.Epoch {
		t.Fatal(got, err)
	}
	if _, err := ReadLane(c); !errors.Is(err, layout.ErrMagic) {
		t.Fatalf("a cursor file as lane: %v", err)
	}
	if err := os.Truncate(filepath.Join(path, "lane"), int64(h.FileBytes())-4096); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLane(f); !errors.Is(err, layout.ErrTruncated) {
		t.Fatalf("truncated: %v", err)
	}
	if err := os.Link(filepath.Join(path, "lane"), filepath.Join(path, "twin")); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(f); !errors.Is(err, layout.ErrMagic) {
		t.Fatalf("two names: %v", err)
	}
	for _, name := range []string{"lane", "twin", "cursors"} {
		if err := os.Remove(filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadCursor(c); !errors.Is(err, ErrUnlinked) {
		t.Fatalf("unlinked: %v", err)
	}
	if _, err := ReadLane(dir); !errors.Is(err, layout.ErrMagic) {
		t.Fatalf("a directory: %v", err)
	}
	c.Close()
	if _, err := Check(c); err == nil {
		t.Fatal("a closed file was checked")
	}
}

func TestMapRefusesWhatItCannotMap(t *testing.T) {
	dir, _ := shmDir(t)
	f := create(t, dir, "a")
	if m, err := Map(f, true); err == nil {
		t.Fatalf("an empty file was mapped: %d bytes", len(m.Bytes()))
	}
	if err := Allocate(f, 4096); err != nil {
		t.Fatal(err)
	}
	ro, err := OpenAt(dir, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if _, err := Map(ro, true); err == nil {
		t.Fatal("a read-only descriptor was mapped for writing")
	}
	m, err := Map(ro, false)
	if err != nil || len(m.Bytes()) != 4096 {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}
