package segment

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/edsrzf/mmap-go"
	"github.com/torq/mycelium/internal/layout"
	"golang.org/x/sys/unix"
)

// CreateAt makes a new empty segment file of mode 0600 in dir, opened for
// writing. It fails if the name exists.
func CreateAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)
}

// OpenAt opens a fresh description of a segment file in dir: locks do not
// carry over from any other.
func OpenAt(dir *os.File, name string, write bool) (*os.File, error) {
	if write {
		return openAt(dir, name, unix.O_RDWR)
	}
	return openAt(dir, name, unix.O_RDONLY)
}

func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: name, Err: noSpace(err)}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Lock takes the owner's lock on f, ErrLocked if somebody has it.
func Lock(f *os.File) error {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	return err
}

// Held reports whether an owner lives. It works through a read-only
// descriptor and takes no lock itself.
func Held(f *os.File) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return true, err
	}
	return lk.Type != unix.F_UNLCK, nil
}

// Allocate gives f its size with every page backed, so that a full file system
// is an ErrNoSpace here and never a SIGBUS later.
func Allocate(f *os.File, bytes uint64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, int64(bytes))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("allocate %d bytes for %s: %w", bytes, f.Name(), noSpace(err))
		}
		return nil
	}
}

func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("%w (%w)", ErrNoSpace, err)
	}
	return err
}

// Check is what every opener asks of a descriptor before it trusts it: a
// regular file that still has its one name, and of which size.
func Check(f *os.File) (bytes int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("fstat %s: %w", f.Name(), err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, fmt.Errorf("%s: %w: not a regular file", f.Name(), layout.ErrMagic)
	case st.Nlink == 0:
		return 0, fmt.Errorf("%s: %w", f.Name(), ErrUnlinked)
	case st.Nlink > 1:
		return 0, fmt.Errorf("%s: %w: the file has %d names", f.Name(), layout.ErrMagic, st.Nlink)
	}
	return st.Size, nil
}

// ReadLane checks f and returns the header of the lane in it.
func ReadLane(f *os.File) (layout.LaneHeader, error) {
	b, size, err := prefix(f)
	if err != nil {
		return layout.LaneHeader{}, err
	}
	h, err := layout.DecodeLane(b, size)
	if err != nil {
		return h, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return h, nil
}

// ReadCursor checks f and returns the header of the cursor file in it.
func ReadCursor(f *os.File) (layout.CursorHeader, error) {
	b, size, err := prefix(f)
	if err != nil {
		return layout.CursorHeader{}, err
	}
	h, err := layout.DecodeCursor(b, size)
	if err != nil {
		return h, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return h, nil
}

// prefix copies the immutable part with pread: a truncated file is a short
// read here, never a fault.
func prefix(f *os.File) ([]byte, int64, error) {
	size, err := Check(f)
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, layout.PrefixBytes)
	n, err := f.ReadAt(b, 0) // SYNC ready/attach: the checksum catches a page in the making
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	if n < len(b) {
		return nil, 0, fmt.Errorf("%s: %w: %d bytes", f.Name(), layout.ErrTruncated, n)
	}
	return b, size, nil
}

// Mapping is a shared mapping of a whole segment. The bytes stay valid until
// Close; whoever closes knows that nobody reads them.
type Mapping struct{ m mmap.MMap }

// Map maps f, with every page present, and keeps it from children.
func Map(f *os.File, write bool) (*Mapping, error) {
	prot, advice := mmap.RDONLY, unix.MADV_POPULATE_READ
	if write {
		prot, advice = mmap.RDWR, unix.MADV_POPULATE_WRITE
	}
	m, err := mmap.Map(f, prot, 0)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	if err := unix.Madvise(m, unix.MADV_DONTFORK); err != nil {
		_ = m.Unmap()
		return nil, fmt.Errorf("madvise %s: %w", f.Name(), err)
	}
	// Older kernels (< 5.14) answer EINVAL: the pages then come at first touch.
	if err := unix.Madvise(m, advice); err != nil && !errors.Is(err, unix.EINVAL) {
		_ = m.Unmap()
		return nil, fmt.Errorf("prefault %s: %w", f.Name(), noSpace(err))
	}
	return &Mapping{m}, nil
}

// Bytes is the mapped segment.
func (m *Mapping) Bytes() []byte { return m.m }

// Close unmaps; the owner's lock on the file goes with the last mapping. A
// second Close does nothing.
func (m *Mapping) Close() error {
	if m.m == nil {
		return nil
	}
	return m.m.Unmap()
}
