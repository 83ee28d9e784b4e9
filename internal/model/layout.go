package model

// Pos is a byte position counted in units of 32 B. It wraps at 256 as the real one wraps at 2^64, so all
// comparisons are differences.
type Pos = uint8

// diff is a-b as a signed distance.
func diff(a, b Pos) int { return int(int8(a - b)) }

// word is one shared 64-bit word, reduced to the bits the model distinguishes.
type word = uint16

// addr names one shared word.
type addr uint8

// Limits of the model; a scenario stays below them.
const (
	maxCap    = 12 // units per ring
	maxBlocks = 4  // entries of the block index
	maxLanes  = 2
	maxRead   = 2 // consumers
	maxLen    = 2 // max_msg in units
)

// Words of one lane file, then of the cursor files.
const (
	oHeader  = 0                    // ring: first word of each unit: commit, or payload
	oMeta    = oHeader + maxCap     // ring: {len, seq} where the unit is a header
	oIndex   = oMeta + maxCap       // block index: pos
	oIntent  = oIndex + maxBlocks   //
	oTail    = oIntent + 1          // tail_hint
	oTailSeq = oTail + 1            // tail_seq_hint
	oWake    = oTailSeq + 1         // wake_seq, the futex word
	oNotice  = oWake + 1            // eviction notice per consumer: ticket
	oSet     = oNotice + maxRead    // the writer process's consumer list: {ticket, join} per consumer
	oOwnPos  = oSet + maxRead       // the writer's {p, seq} as other goroutines see it (mutant only)
	laneSize = oOwnPos + 1          //
	oCursors = maxLanes * laneSize  // per consumer and lane {lane_epoch, cursor}
	oSleep   = oCursors + maxRead*4 // per consumer: sleeping
	memWords = oSleep + maxRead
)

func (m *model) lane(l int) addr {
	if m.mut == PositionReused {
		return 0 // the new incarnation takes over the old file
	}
	return addr(l * laneSize)
}

func (m *model) aHeader(l int, p Pos) addr { return m.lane(l) + oHeader + addr(p%m.Cap) }
func (m *model) aMeta(l int, p Pos) addr   { return m.lane(l) + oMeta + addr(p%m.Cap) }
func (m *model) aIndex(l int, b Pos) addr  { return m.lane(l) + oIndex + addr(b%m.blocks()) }
func (m *model) aIntent(l int) addr        { return m.lane(l) + oIntent }
func (m *model) aTail(l int) addr          { return m.lane(l) + oTail }
func (m *model) aTailSeq(l int) addr       { return m.lane(l) + oTailSeq }
func (m *model) aWake(l int) addr          { return m.lane(l) + oWake }
func (m *model) aNotice(l, r int) addr     { return m.lane(l) + oNotice + addr(r) }
func (m *model) aOwnPos(l int) addr        { return m.lane(l) + oOwnPos }
func aSet(l, r int) addr                   { return addr(l*laneSize + oSet + r) }
func aEpoch(l, r int) addr                 { return addr(oCursors + r*4 + l*2) }
func aCursor(l, r int) addr                { return addr(oCursors + r*4 + l*2 + 1) }
func aSleep(r int) addr                    { return addr(oSleep + r) }

// blocks is the number of index entries: together they cover one lap.
func (m *model) blocks() Pos { return m.Cap / m.Block }

// epoch of the incarnation that owns lane l; 0 is no epoch.
func epoch(l int) word { return word(l + 1) }

// kind of a frame.
type kind uint8

const (
	kindData kind = iota
	kindPad
	kindGap
	kindEnd
)

// A commit word is pos | kind<<8. Ghost bits that no protocol step looks at: bit 10 says that the word is
// payload dressed up as a commit, bit 11 is the lane.
const (
	ghostPayload word = 1 << 10
	ghostLane    word = 1 << 11
)

func commit(l int, p Pos, k kind) word { return word(p) | word(k)<<8 | word(l)<<11 }

// match tells whether header word w commits position p, and what kind of frame it claims.
func match(w word, p Pos) (kind, bool) { return kind(w >> 8 & 3), Pos(w) == p }

// payload is the payload word of the unit at u: it looks like a commit of the same ring offset, d.Laps away.
func (m *model) payload(l int, seq uint8, u Pos) word {
	d := m.Disguises[int(seq)%len(m.Disguises)]
	return commit(l, u+Pos(d.Laps)*m.Cap, d.Kind) | ghostPayload
}

// A meta word is len | seq<<2 plus ghost bits: the position and lane it was written for.
func meta(l int, p Pos, n, seq uint8) word {
	return word(n) | word(seq)<<2 | word(p)<<7 | word(l)<<15
}

func metaLen(w word) uint8 { return uint8(w & 3) }
func metaSeq(w word) uint8 { return uint8(w >> 2 & 31) }

// An entry of the consumer list: absent if zero.
func entry(ticket uint8, join Pos) word { return word(ticket)<<8 | word(join) }

func entryTicket(w word) uint8 { return uint8(w >> 8) }
func entryJoin(w word) Pos     { return Pos(w) }
