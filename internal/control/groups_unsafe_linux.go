package control

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerGroups asks the kernel (4.13 or later) for the supplementary groups of
// the process at the other end of a socket; nil if it does not tell.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4) // socklen_t: in bytes, raised by the kernel to what it needs
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4]
		case errors.Is(errno, unix.ERANGE) && int(size) > 4*len(groups) && size <= 4*maxGroups:
			groups = make([]uint32, size/4)
		default:
			return nil
		}
	}
}

const maxGroups = 65536 // NGROUPS_MAX
