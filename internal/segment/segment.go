// Package segment creates, locks, checks and maps segment files. It is the
// only home of the file system calls that a segment needs; package layout says
// what is in one.
//
// # Who lives
//
// The proof of life of a segment's owner is an OFD write lock on the file. The
// owner locks through the one descriptor it was given, maps through it and
// closes it: the lock then lives exactly as long as the mapping, through
// SIGSTOP, and the kernel drops it at the owner's death. A mapping is
// MADV_DONTFORK, so a child does not keep it.
package segment

import "errors"

var (
	// ErrNoSpace says that the shared-memory file system, or the quota on it,
	// has no room for a segment.
	ErrNoSpace = errors.New("out of shared memory")
	// ErrLocked says that another owner holds the segment.
	ErrLocked = errors.New("segment has an owner")
	// ErrUnlinked says that the segment's name is gone: it belongs to the past.
	ErrUnlinked = errors.New("segment was removed")
)
