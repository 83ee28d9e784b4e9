package torqbridge

import (
	"syscall"
	"unsafe"
)

// plainWrite is write(2) and nothing else: the runtime takes its thread for a busy one.
func plainWrite(fd int, b []byte) error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))); errno != 0 && errno != syscall.EINTR {
		return errno
	}
	return nil
}
