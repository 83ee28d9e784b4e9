package model

import (
	"fmt"
	"strings"
)

// changes describes what a step did to shared memory, to the writers' tails and to the consumers.
func (m *model) changes(a, b *State) string {
	var out []string
	for i := range a.Mem {
		if a.Mem[i] != b.Mem[i] {
			out = append(out, addr(i).String()+"="+wordString(addr(i), b.Mem[i]))
		}
	}
	for l := range m.Lanes {
		if wa, wb := a.Writer[l], b.Writer[l]; wa.p != wb.p {
			out = append(out, fmt.Sprintf("p=%d next seq=%d", wb.p, wb.seq))
		}
	}
	for r := range m.Consumers {
		for l := range m.Lanes {
			if fa, fb := a.Reader[r].lanes[l], b.Reader[r].lanes[l]; fa != fb {
				out = append(out, fmt.Sprintf("reader%d {p %d want %d cursor %d J %d ticket %d}", r, fb.p, fb.want, fb.cursor, fb.join, fb.ticket))
			}
		}
	}
	return strings.Join(out, ", ")
}

var laneWords = []struct {
	first addr
	name  string
	count int
}{
	{oHeader, "ring", maxCap},
	{oMeta, "meta", maxCap},
	{oIndex, "index", maxBlocks},
	{oIntent, "intent", 1},
	{oTail, "tail_hint", 1},
	{oTailSeq, "tail_seq_hint", 1},
	{oWake, "wake_seq", 1},
	{oNotice, "notice", maxRead},
	{oSet, "consumers", maxRead},
	{oOwnPos, "p,seq", 1},
}

func (a addr) String() string {
	if a >= oSleep {
		return fmt.Sprintf("reader%d.sleeping", a-oSleep)
	}
	if a >= oCursors {
		a -= oCursors
		return fmt.Sprintf("reader%d.lane%d.%s", a/4, a%4/2, [...]string{"epoch", "cursor"}[a%2])
	}
	lane, off := a/laneSize, a%laneSize
	for _, w := range laneWords {
		if i := int(off) - int(w.first); i >= 0 && i < w.count {
			if w.count == 1 {
				return fmt.Sprintf("lane%d.%s", lane, w.name)
			}
			return fmt.Sprintf("lane%d.%s[%d]", lane, w.name, i)
		}
	}
	return fmt.Sprintf("word %d", uint8(a))
}

func wordString(a addr, w word) string {
	off := a % laneSize
	switch {
	case w == 0 || a >= oCursors:
	case off < oMeta:
		s := fmt.Sprintf("%d|%s", Pos(w), [...]string{"DATA", "PAD", "GAP", "END"}[w>>8&3])
		if w&ghostPayload != 0 {
			s += " (payload)"
		}
		return s
	case off < oIndex:
		return fmt.Sprintf("{len %d seq %d}", metaLen(w), metaSeq(w))
	case off >= oSet && off < oOwnPos:
		return fmt.Sprintf("{ticket %d J %d}", entryTicket(w), entryJoin(w))
	case off >= oOwnPos:
		return fmt.Sprintf("{%d %d}", Pos(w), w>>8)
	}
	return fmt.Sprint(uint16(w))
}
