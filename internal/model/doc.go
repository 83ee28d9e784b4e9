// Package model is an exhaustive model of the lane protocol on an x86-TSO machine. It runs inside go test and
// is imported by nothing: what it proves, seqlock and shm must do. Its steps carry the names of the protocol
// text, so that a counterexample reads like the pseudo code.
//
// # The machine
//
// Memory is an array of words; each thread has a FIFO store buffer (tso.go). A thread sees its own buffered
// stores, nobody else does; XCHG and CAS drain the own buffer, membarrier drains all of them; each store
// reaches memory in a step of its own. A step is one visible action: one load, one flush, one locked
// instruction, one system call, together with the plain stores that follow it, since those only enter the
// thread's own buffer.
//
// A crash is possible between any two instructions. Stores that were executed drain, as on real hardware;
// because a run of plain stores is one step, the crash step chooses how many of them were executed.
//
// # The world
//
// A unit is 32 bytes. Rings have 6 to 12 units, frames 1 to 3: a header {commit, len, seq} and payload. The
// payload is an adversary: at every unit it looks like the commit of the same ring offset one lap on (or one
// lap back), and where Scenario.Wide is set it also covers the place of len and seq.
//
// Threads are two publishing goroutines (two live lanes, or two incarnations of one source), the control
// goroutine beside the first, and two consumers: lossless, lossy, stopped or hostile. The registry is a
// messenger that is never late: it carries J to a consumer and, when a writer is gone, final_pos.
//
// Every consumer follows these rules:
//
//   - Each attempt of a join has a ticket that the lane never uses again. The eviction notice of a slot is a
//     ticket, stored before the writer raises intent again; the evictee compares it with its own each time
//     it publishes its cursor and whenever it is overrun.
//   - It clears the epoch of its cursor slot before it asks to join. A cursor left from an earlier join would
//     stand below the new J and look hostile.
//   - The cursor it publishes is max(J, position): before J it reads history under the rules of a lossy
//     consumer, from J on it is protected.
//   - Frames may be validated together, by one intent check for the smallest position after all are copied.
//   - A durable consumer that comes back leaves a complete slot as it is, and takes the sequence from the
//     header at its cursor.
//
// # What is asserted
//
// A step that does not change the state is no step, so a poll that finds nothing is no progress. Ghost bits in
// the words, which no protocol step looks at, tell what each word was written for.
//
//   - I3, I4, I6: every word of an accepted frame was written for the frame at that position.
//   - I5: intent never passes an honoured consumer by more than a lap, and a lossless consumer that is
//     overrun finds its eviction notice. (The implementation treats an overrun without a notice as an
//     eviction as well; an honest writer never makes it do so.)
//   - I7: nothing beyond the committed end is accepted, no honest consumer is evicted as hostile, and a
//     hostile one neither stops the writer nor harms the other consumer.
//   - Each consumer gets every sequence once and in order; where a gap is allowed (lapped, evicted, before
//     J), received + missed is exactly what was published.
//   - final_pos of a dead lane is its committed end; a new incarnation is not read before the old one is
//     drained; a durable consumer gets every message whose handler had not returned.
//   - From every reachable state some sequence of steps leads to the end: lanes closed, everything delivered,
//     nobody asleep. This is what deadlock, livelock and a lost wake-up violate. There are no time-outs.
//
// # How it explores
//
// Breadth first over all interleavings, so the first violation has the shortest trace (explore.go). A visited
// state is remembered as a 64-bit keyed hash with a fresh key per exploration. With n states the chance that
// any two collide, which could hide part of the space, is below n*n/2^65: 4e-8 for the largest default
// scenario (1.1 million states), 3e-4 for a hundred million, and independent from run to run.
//
// The default run takes every Scenario (scenarios.go) and every Mutant (mutant.go). A mutant names the promise
// it breaks, so that it cannot be caught by accident. To add N publications to each scenario:
//
//	go test ./internal/model -timeout 0 -run Invariant -v -args -model.large N
//
// Each N makes the space about three times as large; N = 2 visits 9.6e7 states in 7 minutes; with
// N = 3, "park on two lanes" needs more than 24 GiB.
//
// # What it does not show
//
// Weaker memory than TSO: the pairing of acquire and release on arm64 is not exercised. Store buffers longer
// than 12 entries for a writer and 4 for a consumer. Refill's consumer list is one word, like the pointer it
// stands for; the fields of a notice besides the ticket, timestamps, types and the contents of GAP frames are
// left out. A lossy consumer that resynchronises looks at an index entry and intent in one step: a stale pair
// only yields candidates that Poll refuses. Storing the notice after the removal from the list, but before
// the next intent, does no harm here because the intent store is a full fence; it is not relied upon.
package model
