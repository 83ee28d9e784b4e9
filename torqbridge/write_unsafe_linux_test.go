package torqbridge

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// plainWrite is write(2) and nothing else: the runtime takes its thread for a busy one.
func plainWrite(fd int, b []byte) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); errno != 0 && errno != syscall.EINTR {
		return errno
	}
	return nil
}

// mapWords maps so many words of a file.
func mapWords(fd, n int) ([]uint64, error) {
	b, err := unix.Mmap(fd, 0, 8*n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(&b[0])), n), nil
}
