package model

import (
	"context"
	"fmt"
	"hash/maphash"
	"strings"
)

// Result is what an exploration found.
type Result struct {
	States int
	Steps  int             // edges between different states
	Taken  map[string]bool // names of the steps that changed the state
	Broken violation       // fine if there is none
	Trace  []string        // shortest way to the violation
}

// explorer visits every reachable state breadth first. Of each state it keeps a 64-bit fingerprint, the
// parent and the successors; whole states only for the frontier.
type explorer struct {
	m      *model
	seed   maphash.Seed
	table  []uint32 // open addressing: state number + 1
	prints []uint64 // the following four by state number
	parent []uint32
	first  []uint32 // where its successors begin in edges
	ends   []bool   // it is an end that everybody wanted
	edges  []uint32
	level  []State // being expanded
	todo   []State // next level
	now    uint32  // state being expanded
	taken  map[string]bool
	broken violation
	last   string // the step that broke it
}

// Explore visits every state of sc under mut and then checks that an end can be reached from each of them.
// Its error is that of ctx, which bounds the time.
func Explore(ctx context.Context, sc Scenario, mut Mutant) (Result, error) {
	x := &explorer{
		m:     newModel(sc, mut),
		seed:  maphash.MakeSeed(),
		table: make([]uint32, 1<<16),
		taken: make(map[string]bool),
	}
	x.m.step = x.add
	start := x.m.initial()
	x.m.next = start
	x.visit()
	err := x.run(ctx)
	res := Result{States: len(x.prints), Steps: len(x.edges), Taken: x.taken, Broken: x.broken}
	switch {
	case err != nil:
	case x.broken != fine:
		res.Trace = append(x.trace(start, x.pathTo(x.now)), x.last)
	default:
		if s, found := x.doomed(); found {
			res.Broken = stuck
			res.Trace = append(x.trace(start, x.pathTo(s)), "-- no end can be reached from here; for example:")
			res.Trace = append(res.Trace, x.trace(start, x.pathOn(s))[len(res.Trace)-1:]...)
		}
	}
	return res, err
}

// run expands states until none is left or a promise is broken.
func (x *explorer) run(ctx context.Context) error {
	for len(x.todo) > 0 {
		x.level, x.todo = x.todo, x.level[:0]
		for i := range x.level {
			s := &x.level[i]
			x.now = uint32(len(x.first))
			x.first = append(x.first, uint32(len(x.edges)))
			end, broken := x.m.done(s)
			x.ends = append(x.ends, end)
			if broken != fine {
				x.broken, x.last = broken, "=> "+broken.String()
				return nil
			}
			x.m.successors(s)
			if x.broken != fine {
				return nil
			}
			if x.now%(1<<16) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	x.first = append(x.first, uint32(len(x.edges)))
	return nil
}

// add takes the successor that the model has just made.
func (x *explorer) add(who thread, what string) {
	if x.broken != fine {
		return
	}
	if x.m.next.Broken != fine {
		x.broken = x.m.next.Broken
		x.last = fmt.Sprintf("%-8s %s => %v", who, what, x.broken)
		return
	}
	if n := x.visit(); n != x.now {
		x.edges = append(x.edges, n)
		x.taken[what] = true
	}
}

// visit numbers the state in m.next.
func (x *explorer) visit() uint32 {
	h := maphash.Comparable(x.seed, x.m.next)
	n, slot := x.find(h)
	if n != 0 {
		return n - 1
	}
	x.prints = append(x.prints, h)
	x.parent = append(x.parent, x.now)
	x.todo = append(x.todo, x.m.next)
	x.table[slot] = uint32(len(x.prints))
	if len(x.prints)*2 > len(x.table) {
		x.table = make([]uint32, 2*len(x.table))
		for i, h := range x.prints {
			_, slot := x.find(h)
			x.table[slot] = uint32(i + 1)
		}
	}
	return uint32(len(x.prints) - 1)
}

// find returns the number of the state with fingerprint h plus 1, or 0 and the slot for it.
func (x *explorer) find(h uint64) (number uint32, slot uint64) {
	mask := uint64(len(x.table) - 1)
	for slot = h & mask; x.table[slot] != 0; slot = (slot + 1) & mask {
		if x.prints[x.table[slot]-1] == h {
			return x.table[slot], slot
		}
	}
	return 0, slot
}

func (x *explorer) successorsOf(s uint32) []uint32 { return x.edges[x.first[s]:x.first[s+1]] }

// doomed finds the first state from which no end can be reached. It overwrites ends.
func (x *explorer) doomed() (uint32, bool) {
	ok := x.ends
	for changed := true; changed; {
		changed = false
		for s := len(ok) - 1; s >= 0; s-- {
			if ok[s] {
				continue
			}
			for _, to := range x.successorsOf(uint32(s)) {
				if ok[to] {
					ok[s], changed = true, true
					break
				}
			}
		}
	}
	for s, good := range ok {
		if !good {
			return uint32(s), true
		}
	}
	return 0, false
}

// pathTo is the shortest path from the first state to n.
func (x *explorer) pathTo(n uint32) []uint32 {
	if n == 0 {
		return nil
	}
	return append(x.pathTo(x.parent[n]), n)
}

// pathOn is pathTo(n) and a walk on from there, until it can only repeat itself.
func (x *explorer) pathOn(n uint32) []uint32 {
	path := x.pathTo(n)
	seen := map[uint32]bool{n: true}
	for range 60 {
		next := n
		for _, to := range x.successorsOf(n) {
			if !seen[to] && (next == n || to > next) {
				next = to
			}
		}
		if next == n {
			break
		}
		n = next
		seen[n] = true
		path = append(path, n)
	}
	return path
}

// trace replays a path from s.
func (x *explorer) trace(s State, path []uint32) (steps []string) {
	for _, n := range path {
		from, found := s, false
		x.m.step = func(who thread, what string) {
			if !found && maphash.Comparable(x.seed, x.m.next) == x.prints[n] {
				found, s = true, x.m.next
				detail := x.m.changes(&from, &s)
				if p := from.Buf[bufStart[who]]; what == "flush" {
					detail = p.addr().String() + "=" + wordString(p.addr(), p.val())
				}
				line := fmt.Sprintf("%-8s %-45s %s", who, what, detail)
				steps = append(steps, strings.TrimRight(line, " "))
			}
		}
		x.m.successors(&from)
	}
	return steps
}
