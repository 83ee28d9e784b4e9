//go:build amd64 || arm64

package clock

// counter reads the counter. It is not ordered with the memory accesses around it.
//
//go:noescape
func counter() uint64
