package shm

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sysFutexWaitv = 449 // the same on every architecture
	futex2Size32  = 2
	futexWaitOp   = 0
	futexWakeOp   = 1
	maxWaiters    = 128 // FUTEX_WAITV_MAX
)

// waiter is the kernel's struct futex_waitv.
type waiter struct {
	val   uint64
	uaddr uint64
	flags uint32
	_     uint32
}

// makeWaiters lists the kick word and as many lanes' wake words as the kernel
// takes. The words live in mappings, which do not move.
func makeWaiters(kick *uint32, lanes []*reader) []waiter {
	w := make([]waiter, 1, min(1+len(lanes), maxWaiters))
	w[0] = waiter{uaddr: uint64(uintptr(unsafe.Pointer(kick))), flags: futex2Size32}
	for _, r := range lanes {
		if len(w) == cap(w) {
			break
		}
		w = append(w, waiter{uaddr: uint64(uintptr(unsafe.Pointer(r.wakeSeq))), flags: futex2Size32})
	}
	return w
}

// readWaiters notes the words' values, before the sleeper raises its flag.
func readWaiters(ws []waiter) {
	for i := range ws {
		ws[i].val = uint64(atomic.LoadUint32(wordAt(ws[i].uaddr)))
	}
}

// wordAt is a word of a live mapping outside the Go heap.
func wordAt(addr uint64) *uint32 { return *(**uint32)(unsafe.Pointer(&addr)) }

var noWaitv atomic.Bool // before Linux 5.16

// futexWait sleeps until a word changes from what was read, a wake, or the
// deadline on CLOCK_MONOTONIC. On kernels without futex_waitv it waits on the
// kick word alone, for at most a millisecond.
func futexWait(ws []waiter, deadline int64) {
	if !noWaitv.Load() {
		ts := unix.NsecToTimespec(deadline)
		_, _, e := unix.Syscall6(sysFutexWaitv, uintptr(unsafe.Pointer(&ws[0])), uintptr(len(ws)), 0,
			uintptr(unsafe.Pointer(&ts)), unix.CLOCK_MONOTONIC, 0)
		if e != unix.ENOSYS {
			return
		}
		noWaitv.Store(true)
	}
	ts := unix.NsecToTimespec(int64(parkPartial))
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(ws[0].uaddr), futexWaitOp, uintptr(uint32(ws[0].val)),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// futexWake wakes everybody who waits on the word, in any process.
func futexWake(w *uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), futexWakeOp, uintptr(^uint32(0)>>1), 0, 0, 0)
}

const (
	membarrierQuery            = 0
	membarrierGlobalExpedited  = 1 << 1
	membarrierRegisterGlobalEx = 1 << 2
)

var registerBarrier = sync.OnceValue(func() bool {
	have, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierQuery, 0, 0)
	if e != 0 || have&membarrierGlobalExpedited == 0 {
		return false
	}
	_, _, e = unix.Syscall(unix.SYS_MEMBARRIER, membarrierRegisterGlobalEx, 0, 0)
	return e == 0
})

// membarrierRegistered makes this process one whose threads a sleeper's
// membarrier reaches; false means that the kernel has none and a publisher must
// fence by itself.
func membarrierRegistered() bool { return !noMembarrier.Load() && registerBarrier() }

// noMembarrier lets tests stand on a kernel without it.
var noMembarrier atomic.Bool

// membarrier is a full fence on every running thread of every registered
// process, this one included. Without the system call it is nothing: publishers
// then fence.
func membarrier() {
	if membarrierRegistered() {
		_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobalExpedited, 0, 0)
	}
}
