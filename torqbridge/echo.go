package torqbridge

import (
	"hash/maphash"
	"sync"
	"time"
)

// echoes tells which of the messages that come from the old relay are the bridge's
// own. A relay sends every message back to its sender, in the order in which it took
// them: so what comes back is looked for among what was sent, and whatever was sent
// before it and has not come back never will.
//
//	sent   [ m7 m8 m9 m10 ]      m9 comes back: m7 and m8 were refused by the relay
//	                  ^          or dropped for this connection; m10 is under way
//
// Messages are told apart by a 64-bit hash with a secret seed. Two that are the same
// byte for byte count as such.
type echoes struct {
	mu    sync.Mutex
	seed  maphash.Seed
	sent  []sentMessage // a ring
	first uint64        // oldest under way
	next  uint64
	count map[uint64]int // of messages under way, by hash
	seen  bool           // the relay echoes at all
}

type sentMessage struct {
	hash  uint64
	index uint64 // in the hub
	at    time.Time
}

const (
	maxEchoes   = 1 << 16
	echoTimeout = 5 * time.Second
)

func newEchoes() *echoes {
	return &echoes{seed: maphash.MakeSeed(), sent: make([]sentMessage, maxEchoes), count: map[uint64]int{}}
}

// add notes a message before it is sent; lost is how many are given up.
func (e *echoes) add(m []byte, index uint64, now time.Time) (lost uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.first < e.next && (e.next-e.first == maxEchoes || now.Sub(e.sent[e.first%maxEchoes].at) > echoTimeout) {
		e.drop()
		lost++
	}
	h := maphash.Bytes(e.seed, m)
	e.sent[e.next%maxEchoes] = sentMessage{h, index, now}
	e.next++
	e.count[h]++
	return e.given(lost)
}

// given is how many of the messages given up the relay has refused: a relay that
// never echoes says nothing.
func (e *echoes) given(lost uint64) uint64 {
	if !e.seen {
		return 0
	}
	return lost
}

func (e *echoes) drop() {
	h := e.sent[e.first%maxEchoes].hash
	if e.count[h]--; e.count[h] <= 0 {
		delete(e.count, h)
	}
	e.first++
}

// own reports whether a message from the relay is one that was sent to it; lost is
// how many before it never came back.
func (e *echoes) own(m []byte) (own bool, lost uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first == e.next {
		return false, 0
	}
	h := maphash.Bytes(e.seed, m)
	if e.count[h] == 0 {
		return false, 0
	}
	for e.sent[e.first%maxEchoes].hash != h {
		e.drop()
		lost++
	}
	e.drop()
	e.seen = true
	return true, lost
}

// pending is how many messages are under way, and the hub's index of the oldest.
func (e *echoes) pending() (n int, oldest uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first == e.next {
		return 0, noIndex
	}
	return int(e.next - e.first), e.sent[e.first%maxEchoes].index
}

// echoing reports whether the relay has ever sent something back.
func (e *echoes) echoing() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}
