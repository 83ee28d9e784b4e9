package control

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setThreadGroups sets the groups of this thread only, if that is allowed, and
// returns those it has then.
func setThreadGroups(groups []uint32) ([]uint32, error) {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0)
	if errno == 0 {
		return groups, nil
	}
	if errno != unix.EPERM {
		return nil, os.NewSyscallError("setgroups", errno)
	}
	have, err := os.Getgroups()
	groups = groups[:0]
	for _, g := range have {
		groups = append(groups, uint32(g))
	}
	return groups, err
}
