package seqlock

// StoreRelease stores v at p so that every load and store that comes before the
// call in program order is visible to whoever sees v. p is 8-aligned and may
// point into shared memory. It orders nothing that comes after the call: put
// [StoreStore] there when later stores must not overtake it.
//
// It exists because Go has no release store: sync/atomic's store is an XCHG on
// amd64, which drains the store buffer and halves the throughput of a lane. The
// other end of the pair is atomic.LoadUint64, which already is a MOV on amd64
// and an LDAR on arm64.
func StoreRelease(p *uint64, v uint64) { storeRelease(p, v) }

// StoreRelease32 is [StoreRelease] for a 4-aligned 32-bit word.
func StoreRelease32(p *uint32, v uint32) { storeRelease32(p, v) }

// LoadLoad keeps every load before the call ahead of every load after it. Put it
// between the last racy read and the load that validates what was read.
func LoadLoad() { loadLoad() }

// StoreStore keeps every store before the call ahead of every store after it.
// Put it between the store that announces a write and the write itself.
func StoreStore() { storeStore() }

// pauseChunk bounds one run inside assembly, where the runtime cannot stop the
// goroutine: 256 pauses take 3 to 12 us.
const pauseChunk = 256

// Pause tells the core n times that this is a spin loop: 10 to 50 ns each on
// amd64, depending on the core; shorter on arm64; nothing at all elsewhere. It
// leaves memory order alone and never yields to the scheduler.
func Pause(n uint32) {
	for ; n > pauseChunk; n -= pauseChunk {
		pause(pauseChunk)
	}
	pause(n)
}
