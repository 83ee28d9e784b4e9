// Package bench measures the bus against the bare machine, and demonstrates it,
// with publishers and subscribers in processes of their own.
//
// # Concepts
//
// A worker is a process that this program started of itself, pinned to one
// processor. The parent hands it jobs over its standard input, one JSON line
// each, and reads one line back per step:
//
//	parent                       worker
//	  job{op,...}  ->
//	                             prepare: attach, map, calibrate
//	               <-  ready
//	  go           ->
//	                             run: the hot phase, nothing but the job
//	               <-  result
//
// Jobs of a round are prepared one after the other in the order given, so that
// subscribers are there before publishers, and run at the same time. A worker
// whose standard input ends exits at once, so nothing outlives the parent.
//
// A round measures one thing once. Rounds of the bus and of the bare machine
// alternate in the same processes, on the same processors, and each figure is
// the median of its rounds: drift of the machine hits both alike.
//
//   - floor: two processes bounce two cache lines each way, without a bus.
//   - baseline: a ring of fixed slots with one writer and one reader.
//   - bare futex: one process sleeps in FUTEX_WAIT, the other wakes it.
//
// The memory of all three is one anonymous shared file, descriptor 3 of every
// worker.
//
// Linux only.
package bench
