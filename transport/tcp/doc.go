// Package tcp is the forwarder: it extends topics to other hosts over TCP, each frame
// once, in order per source, with the sequences of its origin. docs/link.md describes
// the protocol byte by byte, with the pictures of the state machines; this package
// calls the states by the same names.
//
//	sender, receiver, pulse, backoff   decide, and do no I/O
//	link, session, Forwarder           sockets and goroutines
//	mirrors                            mirror lanes, over the life of connections
//	outbox                             what one write sends, right from the rings
//
// # Why nothing is lost or doubled
//
//   - L1: a lane's cursor moves when the receiver has acknowledged, never before: what
//     is not in a mirror lane is in the origin's ring, also while a forwarder is dead.
//   - L2: a receiver appends a frame only if its sequence is the one after the last that
//     is committed in the mirror lane, and says which one it wants from what is
//     committed there: there is nothing else to keep in step.
//   - L3: frames go from the ring into the checksum and then, without a copy, into the
//     kernel. A look at the intent after the checksum says that it was made of what the
//     publisher wrote; whatever overwrites the ring later does not match it.
//   - L4: a lane is opened after the lane before it of the same source has ENDED: order
//     per source.
package tcp
