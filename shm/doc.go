// Package shm moves frames between processes through shared memory: publish and
// poll take no lock, no system call and no allocation, and no publisher ever waits
// for another.
//
//	topic "market.kraken.BTC-USD"
//	  lane 7: source A ==> ring in one file, written by A alone ==> any number of subscribers
//	  lane 9: source B ==> ring in one file, written by B alone ==> the same subscribers
//
// # Concepts
//
// A topic is a set of lanes. A lane is the ring of one publisher's one life, in one
// segment file; its epoch names it for ever. A frame is a 32-byte header and a
// payload. Its sequence counts the data frames of the lane, its position is the byte
// where it starts; positions only grow, and position modulo ring size is the place
// in the ring.
//
// A lossless subscriber publishes its cursor in a file of its own, and a publisher
// never writes over what such a cursor has not passed; the topic's [Policy] says what
// happens when it stays. A lossy subscriber holds nobody back; it may be lapped, and
// a [GapError] then says exactly which sequences it has missed. received + missed =
// sent, for both.
//
// Order holds per source, also over restarts: the next lane of a source is read only
// when the previous one has been read to its end. Between sources there is none.
//
// Every shared word has one writing process. A lane is written by its publisher, a
// cursor file by its subscriber; everybody else maps them read-only. So a process
// that is killed leaves nothing to repair: its lane just stops, and the kernel's word
// on the lock of its file is the proof of its death.
//
// The directory (the registry, or a [LocalDirectory]) creates the files and
// introduces subscribers to lanes. It is not needed to publish, to poll, to hold a
// publisher back, to evict, or to release a publisher from a dead subscriber.
//
// # Invariants
//
//   - I1: a shared word has one writing process for the life of its file.
//   - I2: positions only grow; the frame after the one at p starts at p + its size, and
//     padding fills the ring's end, so that no frame crosses it.
//   - I3: the word at p is p|kind<<1|1 only if the frame at p is complete. Zero is
//     never a commit word, and no two laps share one.
//   - I4: when the commit of a frame is visible, the word behind the frame is the next
//     frame's commit or none at all: it is zeroed first, whatever old payload lay there.
//   - I5: the publisher stores below the intent only, and the intent is visible before.
//     intent <= the least cursor of every subscriber it honours + ring size.
//   - I6: a frame counts only if after its last byte was read intent <= p + ring size.
//   - I7: a cursor never passes the tail and never moves back; one that does is hostile,
//     and its owner is evicted.
//
// # A frame's way
//
//	Publish(m):
//	    if len(m) > max message           -> ErrTooLarge
//	    if the publisher ended            -> ErrClosed, ErrFault
//	    if a claim is open                -> ErrClaimOpen
//	    if p + size > limit:              // once per lap or credit step
//	        refill: intent = min(cursors) + ring, at most p + step   // I5, a full fence
//	            nobody may be overrun yet -> wait as the policy says:
//	                block: ErrBackpressure at the deadline
//	                evict: whoever made no progress for that long is let go
//	                fail:  ErrBackpressure now
//	                a free file lock: the subscriber is dead and let go
//	        padding, if the frame would cross the ring's end
//	    [p+size] = 0                      // I4
//	    copy m behind the header; length, type, sequence, time
//	    [p] = p|1, release                // SYNC commit/poll: visible from here on
//	    wake whoever is parked
//	    little credit left: refill, if nobody has to be waited for   // ADR 0077
//
//	Poll(h):
//	    [p] is no commit for p, acquire   // SYNC commit/poll
//	        intent > p + ring             -> lapped: *GapError, or *EvictedError if lossless
//	        the lane is known to end here -> next lane of that source
//	        else                          -> nothing: on to the next lane
//	    length > max, or across the end   -> the same question, else ErrCorrupt: lane detached
//	    copy header and payload
//	    intent > p + ring                 -> lapped: the copy is thrown away   // I6
//	    sequence is not the one due       -> *GapError after a lap, else ErrCorrupt
//	    h(frame)                          // on the copy; a panic of h: the frame comes again
//	    p = p + size; cursor = p, release, now and then   // SYNC cursor/refill
//	PollBatch(h): the same, with h(frames) for what was copied at once
//
// A segment that somebody truncates is a memory fault in either loop: ErrFault, the
// lane is given up, the process lives.
//
// # A lane in a subscriber's life
//
//	         previous lane of the source has ended
//	WAITING ------------------------------------> READING --- END, or final position ---> ENDED
//	                                               |   ^  \
//	                       eviction notice, or lap |   |   \--- corrupt, truncated -----> detached
//	                                               v   |
//	                                             EVICTED  (joins again by itself)
//
// # A publisher's life
//
//	attach --> ACTIVE --- Close: END frame, tail, word to the directory ---> CLOSED
//	              |
//	              +--- truncated segment ---> FAULT --- Close ---> CLOSED
//	              +--- killed: the lock is free; the directory finds where it stopped
//
// # Waiting for room, and for data
//
// Progress of a lossless subscriber shows after a quarter of a credit step of data or
// at its next Poll, whichever comes first. What it reads on other lanes counts as well,
// for ten times the policy's timeout. A freeze of publisher and subscriber together
// does not count as a stall. [Publisher.Claim] never waits; a publisher that only
// claims evicts too, as long as it keeps asking: at most 5 ms count per call.
//
// A poll loop composes waiting outside: idle.Idle(n) after each Poll. [IdleSpin] has
// the lowest latency, [IdlePark] sleeps in the kernel until a frame comes and costs
// publishers one load per frame and parked subscriber, and one futex call per wake.
//
// # Who may call what
//
//	Client, LocalDirectory   any goroutine
//	Publisher, Claim, Mirror one goroutine at a time, Close included
//	Subscriber               Poll, PollBatch, View, Run, Frames, Protect and its Idler: one goroutine at a
//	                         time; Close, Stats, TopicName, SourceName: any. From a handler
//	                         only the last three
//	Relay, RelayLane         one goroutine at a time; Relay.Close, Forget and Kick: any
//	Frame.Payload            until the handler, or the loop's body, ends
//
// Lock order: Subscriber.control, then Client.mu. No lock is taken on a hot path.
//
// # Trust
//
// Whatever a peer's memory says is bounded before it is used: a hostile publisher can
// spoil its own lane only, a hostile subscriber can only have itself evicted or, under
// a policy that blocks, do what it may do anyway: not read.
package shm
