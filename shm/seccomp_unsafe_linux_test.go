package shm

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbid kills the process at the next system call of this thread. What the Go
// scheduler does by itself when it preempts the thread is let through: its futexes
// are private, ours never are; a yield or a short sleep; the answer to a signal; the
// look for network events. exit_group ends the test.
func forbid() error {
	const (
		ld, ret     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_RET | unix.BPF_K
		jeq, jset   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		kill, allow = 0x80000000, 0x7fff0000
		nr, futexOp = 0, 16 + 8 // offsets in struct seccomp_data
		private     = 128
	)
	schedulers := []uint32{unix.SYS_EXIT_GROUP, unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGPROCMASK, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL,
		unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_EPOLL_PWAIT, unix.SYS_CLONE}
	f := []unix.SockFilter{
		{Code: ld, K: nr},
		{Code: jeq, K: unix.SYS_FUTEX, Jf: 4},
		{Code: ld, K: futexOp},
		{Code: jset, K: private, Jf: 1},
		{Code: ret, K: allow},
		{Code: ret, K: kill},
	}
	for _, n := range schedulers {
		f = append(f, unix.SockFilter{Code: jeq, K: n, Jf: 1}, unix.SockFilter{Code: ret, K: allow})
	}
	f = append(f, unix.SockFilter{Code: ret, K: kill})
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
