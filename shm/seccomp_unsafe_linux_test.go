package shm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbid kills the process at the next system call of this thread, exit_group and
// what the runtime does to a thread behind its back excepted: the return from a
// signal, and waking another thread (futex with WAKE).
func forbid() error {
	const (
		ld, jeq, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		kill, allow  = 0x80000000, 0x7fff0000
	)
	f := []unix.SockFilter{
		{Code: ld, K: 0},
		{Code: jeq, K: unix.SYS_EXIT_GROUP, Jt: 4},
		{Code: jeq, K: unix.SYS_RT_SIGRETURN, Jt: 3},
		{Code: jeq, K: unix.SYS_RT_SIGPROCMASK, Jt: 2},
		{Code: jeq, K: unix.SYS_TGKILL, Jt: 1},
		{Code: ret, K: kill},
		{Code: ret, K: allow},
	}
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
