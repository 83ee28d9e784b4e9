package bench

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// osYield lets other processes have the processor after an empty poll.
type osYield struct{}

func (osYield) Idle(work int) {
	if work == 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// CPUs are the processors that this process may run on.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, err
	}
	var cpus []int
	for i := range 64 * len(set) {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// startOn starts cmd on these processors; every thread of the child inherits the
// affinity of the thread that starts it.
func startOn(cmd *exec.Cmd, cpus []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	return cmd.Start()
}

// dieWithParent is ownGroup for a child that does not listen to its parent. The
// signal comes when the thread that started it ends, which Go's threads do with
// the process.
var dieWithParent = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}

// ownGroup keeps the terminal's Ctrl-C for the parent, which ends its workers
// itself.
var ownGroup = &syscall.SysProcAttr{Setpgid: true}
