package model

// The x86-TSO machine: one flat memory, one FIFO store buffer per thread.
//
//	store       append to the own buffer                  (MOV to memory)
//	load        newest own buffered value, else memory    (MOV from memory)
//	flush       oldest buffered store reaches memory      (any time, a step of its own)
//	xchg, CAS   drain the own buffer, then act at once    (LOCK prefix, XCHG)
//	membarrier  drain the buffer of every thread          (GLOBAL_EXPEDITED)
//
// Appending to the own buffer is invisible to everybody else, so a thread's run of plain stores is one
// step; each store still reaches memory in a flush step of its own, between which anybody may load.

// thread numbers a hardware thread; each has one store buffer.
type thread uint8

const (
	tWriter0 thread = iota // publishing goroutine of lane 0
	tWriter1               // publishing goroutine of lane 1
	tControl               // control goroutine in the process of writer 0
	tReader0               // first consumer
	tReader1               // second consumer
	numThreads
)

func (t thread) String() string {
	return [...]string{"writer0", "writer1", "control", "reader0", "reader1"}[t]
}

// Room in the store buffers: a writer holds at least one whole publication, the others a cursor slot.
const (
	writerBuf = 12
	otherBuf  = 4
	bufWords  = 2*writerBuf + 3*otherBuf
)

var bufStart = [numThreads + 1]int{0, writerBuf, 2 * writerBuf, 2*writerBuf + otherBuf, 2*writerBuf + 2*otherBuf, bufWords}

// pending is one buffered store: value, address and, for the store that makes frames reachable, the
// committed end it creates (ghost: only assertions look at it).
type pending uint64

func mkPending(a addr, v word, end Pos, endSeq uint8) pending {
	return pending(v) | pending(a)<<16 | pending(end)<<32 | pending(endSeq)<<40
}

func (p pending) val() word     { return word(p) }
func (p pending) addr() addr    { return addr(p >> 16) }
func (p pending) end() Pos      { return Pos(p >> 32) }
func (p pending) endSeq() uint8 { return uint8(p >> 40) }

// room is how many more stores thread t can buffer.
func (s *State) room(t thread) int {
	return bufStart[t+1] - bufStart[t] - int(s.BufLen[t])
}

func (s *State) load(t thread, a addr) word {
	base := bufStart[t]
	for i := int(s.BufLen[t]) - 1; i >= 0; i-- {
		if p := s.Buf[base+i]; p.addr() == a {
			return p.val()
		}
	}
	return s.Mem[a]
}

func (s *State) store(t thread, a addr, v word) { s.storeGhost(t, a, v, 0, 0) }

// storeGhost is store for the one store of a publication that makes everything below end reachable.
func (s *State) storeGhost(t thread, a addr, v word, end Pos, endSeq uint8) {
	if s.room(t) == 0 {
		s.flush(t) // a full buffer stalls the core until its oldest store is out
	}
	s.Buf[bufStart[t]+int(s.BufLen[t])] = mkPending(a, v, end, endSeq)
	s.BufLen[t]++
}

// flush moves the oldest store of thread t to memory.
func (s *State) flush(t thread) {
	base, n := bufStart[t], int(s.BufLen[t])
	p := s.Buf[base]
	copy(s.Buf[base:base+n-1], s.Buf[base+1:base+n])
	s.Buf[base+n-1] = 0
	s.BufLen[t]--
	s.Mem[p.addr()] = p.val()
	if p.end() != 0 {
		l := int(t) // only writers publish; writer n owns lane n
		s.Lane[l].end, s.Lane[l].endSeq = p.end(), p.endSeq()
	}
}

func (s *State) drain(t thread) {
	for s.BufLen[t] > 0 {
		s.flush(t)
	}
}

// die drains the first k buffered stores of t and forgets the rest. Stores behind a crash were never
// executed, executed ones drain; since a run of plain stores is one step, every k is a crash at another
// instruction. "The whole buffer drains" is the largest k.
func (s *State) die(t thread, k int) {
	for range k {
		s.flush(t)
	}
	base := bufStart[t]
	clear(s.Buf[base : base+int(s.BufLen[t])])
	s.BufLen[t] = 0
}

func (s *State) xchg(t thread, a addr, v word) {
	s.drain(t)
	s.Mem[a] = v
}

func (s *State) membarrier() {
	for t := range numThreads {
		s.drain(t)
	}
}
