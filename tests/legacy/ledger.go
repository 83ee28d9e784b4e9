package legacy

import (
	"encoding/binary"
	"sync"
)

// Ledger checks what one reader gets: each message of a source, by the sequence in
// its header, once and in order. Safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	total   int
	sources map[byte]*account
}

type account struct {
	seen map[uint64]int
	next map[uint64]uint64 // sequence that is due, by stream
	late int
}

// Account is what a reader got of one source.
type Account struct {
	First, Next uint64 // sequences: the least, and the one after the greatest
	Missing     int    // between First and Next
	Doubled     int
	Late        int // came after a later one of the same stream
}

// Add notes a message. Order is expected within a stream: 0 for a socket, the topic
// on the bus. Greetings do not count.
func (l *Ledger) Add(stream uint64, m []byte) {
	if string(m) == string(Greeting) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[m[6]]
	if a == nil {
		a = &account{seen: map[uint64]int{}, next: map[uint64]uint64{}}
		if l.sources == nil {
			l.sources = map[byte]*account{}
		}
		l.sources[m[6]] = a
	}
	seq := binary.LittleEndian.Uint64(m[8:])
	a.seen[seq]++
	if seq < a.next[stream] {
		a.late++
	}
	a.next[stream] = seq + 1
	l.total++
}

// Total is how many messages came.
func (l *Ledger) Total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Of is the account of a source, of the messages from sequence from on.
func (l *Ledger) Of(source byte, from uint64) Account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sources[source]
	if a == nil {
		return Account{}
	}
	r := Account{Late: a.late}
	n := 0
	for seq, times := range a.seen {
		if seq < from {
			continue
		}
		if n++; n == 1 {
			r.First = seq
		}
		r.First, r.Next = min(r.First, seq), max(r.Next, seq+1)
		if times > 1 {
			r.Doubled += times - 1
		}
	}
	r.Missing = int(r.Next-r.First) - n
	return r
}
