package shm

import (
	"bytes"
	"os"
	"strconv"
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
