package directory

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"golang.org/x/sys/unix"
)

const (
	lockName  = "bus.lock"
	stateName = "bus.state"
)

// store is the bus directory. Everything in it is reached relative to
// descriptors that were checked once.
type store struct {
	path string
	root *os.File
	dirs [2]*os.File // by kind
	lock *os.File
}

// openStore makes the directory if need be, checks that it is ours alone, and
// takes its lock.
func openStore(path string) (*store, error) {
	path = filepath.Clean(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	s := &store{path: path}
	var err error
	if s.root, err = ownDir(unix.AT_FDCWD, path, path); err != nil {
		return nil, err
	}
	for i, sub := range []string{laneFile: "l", cursorFile: "c"} {
		if s.dirs[i], err = ownDir(int(s.root.Fd()), sub, filepath.Join(path, sub)); err != nil {
			s.close()
			return nil, err
		}
	}
	if err := s.takeLock(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *store) close() {
	for _, f := range []*os.File{s.lock, s.dirs[0], s.dirs[1], s.root} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// free is how many bytes the file system has left; 0 if it does not say.
func (s *store) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.root.Fd()), &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}

// inMemory reports whether the file system is one that no disk is behind, or does not say.
func (s *store) inMemory() bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.root.Fd()), &st); err != nil {
		return true
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC || st.Type == unix.HUGETLBFS_MAGIC
}

// ownDir opens a directory that must be no link, ours, and closed to others.
func ownDir(at int, name, path string) (*os.File, error) {
	if err := unix.Mkdirat(at, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s: %w: it is a link or a file: remove it, or choose another bus directory", path, ErrUnsafe)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		if uid := os.Geteuid(); int(st.Uid) != uid {
			err = fmt.Errorf("%s: %w: it belongs to uid %d, this process is uid %d: choose another bus directory", path, ErrUnsafe, st.Uid, uid)
		} else if mode := st.Mode & 0o7777; mode != 0o700 {
			err = fmt.Errorf("%s: %w: its mode is %04o: chmod 0700 it once you know why", path, ErrUnsafe, mode)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// takeLock makes this process the one directory of the bus until close.
func (s *store) takeLock() error {
	for {
		fd, err := unix.Openat(int(s.root.Fd()), lockName, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return &os.PathError{Op: "open", Path: filepath.Join(s.path, lockName), Err: err}
		}
		f := os.NewFile(uintptr(fd), filepath.Join(s.path, lockName))
		if err := segment.Lock(f); err != nil {
			if errors.Is(err, segment.ErrLocked) {
				err = &BusyError{Dir: s.path, PID: holder(f)}
			}
			_ = f.Close()
			return err
		}
		if s.isLockFile(fd) {
			s.lock = f
			_ = f.Truncate(0)
			_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
			return err
		}
		_ = f.Close() // somebody removed it in between: the lock means nothing
	}
}

func (s *store) isLockFile(fd int) bool {
	var mine, there unix.Stat_t
	return unix.Fstat(fd, &mine) == nil &&
		unix.Fstatat(int(s.root.Fd()), lockName, &there, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		mine.Ino == there.Ino && mine.Dev == there.Dev
}

// holder is the pid in a lock file, for humans.
func holder(f *os.File) int {
	var b [16]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// load reads the bus state: CRC32C in hex, a space, JSON. It is zero on a new
// bus; a damaged one is an error.
func (s *store) load() (busState, error) {
	var st busState
	b, err := os.ReadFile(filepath.Join(s.path, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	sum, body, _ := strings.Cut(string(b), " ")
	if want := checksum(body); sum != want {
		return st, fmt.Errorf("%s: checksum %.8q, want %s", stateName, sum, want)
	}
	err = json.Unmarshal([]byte(body), &st)
	return st, err
}

func checksum(body string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(body), castagnoli))
}

// save replaces the bus state.
func (s *store) save(st busState) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	body := string(b) + "\n"
	tmp := filepath.Join(s.path, stateName+".tmp")
	if err := os.WriteFile(tmp, []byte(checksum(body)+" "+body), 0o600); err != nil {
		_ = os.Remove(tmp)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w (%w)", segment.ErrNoSpace, err)
		}
		return err
	}
	return os.Rename(tmp, filepath.Join(s.path, stateName))
}

// scan lists every file that may be a segment.
func (s *store) scan() ([]found, error) {
	var all []found
	for k, dir := range s.dirs {
		entries, err := os.ReadDir(dir.Name())
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			f := found{ref: ref{kind(k), e.Name()}}
			if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
				f.age, f.bytes = time.Since(info.ModTime()), uint64(info.Size())
			}
			all = append(all, f)
		}
	}
	return all, nil
}

// open is a fresh description of a segment.
func (s *store) open(r ref, write bool) (*os.File, error) {
	return segment.OpenAt(s.dirs[r.kind], r.name, write)
}

func (s *store) create(r ref) error {
	f, err := segment.CreateAt(s.dirs[r.kind], r.name)
	if err != nil {
		return err
	}
	return f.Close()
}

func (s *store) remove(r ref) error {
	err := unix.Unlinkat(int(s.dirs[r.kind].Fd()), r.name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (s *store) held(r ref) bool {
	f, err := s.open(r, false)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	held, err := segment.Held(f)
	return held || err != nil
}

func (s *store) lane(r ref) (layout.LaneHeader, error) {
	f, err := s.open(r, false)
	if err != nil {
		return layout.LaneHeader{}, err
	}
	defer f.Close()
	return segment.ReadLane(f)
}

func (s *store) cursor(r ref) (layout.CursorHeader, error) {
	f, err := s.open(r, false)
	if err != nil {
		return layout.CursorHeader{}, err
	}
	defer f.Close()
	return segment.ReadCursor(f)
}

// word is one of a segment's words, 0 if it cannot be read.
func (s *store) word(r ref, off uint64) uint64 {
	f, err := s.open(r, false)
	if err != nil {
		return 0
	}
	defer f.Close()
	w, _ := readWord(f, int64(off))
	return w
}

func (s *store) state(r ref) layout.LaneState {
	return layout.LaneState(uint32(s.word(r, layout.OffState))) // state and pid share a word
}

func (s *store) end(r ref, h *layout.LaneHeader) (pos, seq uint64) {
	f, err := s.open(r, false)
	if err != nil {
		return h.FirstPos, h.FirstSeq
	}
	defer f.Close()
	return walk(f, h, h.Ring, nil)
}

func (s *store) slotEpoch(r ref, lane uint32) uint64 {
	return s.word(r, layout.SlotOff(lane)+layout.SlotEpoch)
}

func (s *store) slotLane(r ref, lane uint32) uint64 {
	return s.word(r, layout.SlotOff(lane)+layout.SlotLane)
}

// bootID is the kernel's.
func bootID() (id layout.ID16, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, err
	}
	_, err = hex.Decode(id[:], []byte(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")))
	return id, err
}
