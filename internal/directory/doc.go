// Package directory is the brain of the control plane: it owns a bus
// directory, creates and unlinks the segments in it, hands out descriptors to
// clients that package control speaks for, and knows who publishes and who
// subscribes to what. The registry daemon serves it on a Unix socket; package
// shm runs it inside one process. It is never on the data path: lanes carry
// frames while it is down.
//
// # Concepts
//
// A session is one connection of a client. A lane and a subscriber belong to
// the session that opened them, and outlive it as long as the kernel says that
// their owner's lock on the segment is held. A join is what the directory
// knows of one subscriber on one lane.
//
// # A lane
//
//	(none)
//	  | open-pub
//	  v         discard; or 2 s passed, lock free
//	granted -----------------------------------------> unlinked
//	  | ready-pub                                        ^
//	  v         close-pub; or lock free                  | all readers drained,
//	live ------------------------------------> ended ----+ grace passed
//	  |  ^                                       ^
//	  |  | resume-pub                            |
//	  v  |                                       |
//	orphan --------- lock free ------------------+
//
// A live lane becomes an orphan when its connection is lost while its lock is
// held. The phases:
//
//   - granted: the file exists, its publisher fills it.
//   - live: header and lock were checked, the publisher's connection is up.
//   - orphan: the owner lives without a connection; the lock is probed with a
//     growing pause until it is free or the owner resumes.
//   - ended: the final position is known and told; kept for readers and grace.
//   - unreadable: found at start, without a valid header; removed when its
//     lock is free and it is old enough not to be in the making.
//
// A subscriber has the same phases without ended: the cursor file of a dead
// one is unlinked at once.
//
// # A join
//
//	wanted --join sent--> asked --joined--> joined
//	   ^                    |
//	   +--publisher's connection lost
//
// A lossless or parked subscriber is told of a live lane only when its join is
// answered; a lossy one, and everybody on an ended lane, at once. One that was
// evicted asks again; that it did is kept until it was sent the answer, so that
// neither side's lost connection leaves it outside. What a subscriber says of a
// lane may come before its resume-sub on the same connection: it is kept until
// then, and counts for more than the list.
//
// # Restart
//
// Open reads everything back from the segments: a held lock makes an orphan, a
// free one the path of the dead. Owners resume and list what they have; the
// directory sends what they lack. Whether a subscriber ever had a lane that it
// does not list is written in its cursor file: the slot holds the lane's epoch,
// so it has left the lane, and its publisher is told. Until a subscriber
// resumes, the groups of its process are not known, and its pattern alone
// decides which lanes are held for it.
//
// # Locking
//
// One mutex, Server.mu, above the state machine (core and what it points to).
// Under it the core touches the bus directory, which no client can block, and
// appends to outboxes, which are bounded; it never touches a socket. Below it
// lies outbox.mu, which is held for a few instructions only.
package directory
