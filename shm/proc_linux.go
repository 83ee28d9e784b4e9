package shm

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// startTicks is field 22 of /proc/self/stat: with the pid it names this process
// to a human. 0 if it cannot be read.
func startTicks() uint64 {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, b, ok := bytes.Cut(b, []byte(") ")) // the name before it may hold anything
	f := bytes.Fields(b)
	if !ok || len(f) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(string(f[19]), 10, 64)
	return n
}

// yield lets other goroutines and other processes have this processor. Gosched
// alone knows of this process only.
func yield() {
	runtime.Gosched()
	yieldCore()
}

// yieldCore lets another process have this processor, if one waits for it. It costs a
// fifth of a microsecond where none does; Gosched wakes a thread of this process, which
// finds nothing to do, and takes ten times that.
func yieldCore() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// nap sleeps in the kernel: a timer of the runtime fires a millisecond late where nothing
// else runs.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil)
}
