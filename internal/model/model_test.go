//go:build !race

// An exploration is one goroutine on its own memory: the race detector has nothing to find in it and makes it
// five times as long.

package model

import (
	"context"
	"flag"
	"strings"
	"sync"
	"testing"
	"time"
)

var large = flag.Int("model.large", 0, "publications added to every scenario")

// watchdog ends an exploration before the test binary's own deadline would kill it without a word.
func watchdog(t *testing.T) context.Context {
	deadline, ok := t.Deadline()
	if !ok {
		deadline = time.Now().Add(24 * time.Hour)
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline.Add(-5*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// each runs f for every item, in parallel unless the run is large (its memory is).
func each[T any](t *testing.T, items []T, name func(T) string, f func(*testing.T, T)) {
	t.Run("all", func(t *testing.T) {
		for _, item := range items {
			t.Run(strings.ReplaceAll(name(item), " ", "_"), func(t *testing.T) {
				if *large == 0 {
					t.Parallel()
				}
				f(t, item)
			})
		}
	})
}

// rare are steps that only some interleavings take: a clean run that never took one has shown nothing.
var rare = []string{
	"crash",
	"Refill: acq cursor_i",
	"Backpressure: again: set = consumers.Load()",
	"Evict: STALLED",
	"Evict: CAS consumer out",
	"Probe: lock FREE, owner dead",
	"Close: no room, state = CLOSED",
	"Join: CAS remove i",
	"Join: again: J = acq tail_hint",
	"lane dead before the join",
	"Overrun: acq evict[slot]",
	"Overrun: resync at an index entry",
	"Overrun: resync at tail_hint",
	"Poll: bad length: overrun(p)?",
	"ErrEvicted: join again",
	"ErrEvicted",
	"store a bad cursor",
	"handler returns",
	"open lane",
	"Wake: FUTEX_WAKE",
	"Park: woken",
}

func TestNoInterleavingBreaksAnInvariant(t *testing.T) {
	var mu sync.Mutex
	ran, states, taken := 0, 0, map[string]bool{}
	each(t, Scenarios, func(sc Scenario) string { return sc.Name }, func(t *testing.T, sc Scenario) {
		sc.Messages += uint8(*large)
		if m := newModel(sc, None); 2*m.g > int(m.Cap) {
			t.Fatalf("G = %d is more than half of a ring of %d units", m.g, m.Cap)
		}
		res, err := Explore(watchdog(t), sc, None)
		if err != nil {
			t.Fatalf("stopped after %d states: %v", res.States, err)
		}
		t.Logf("%d states, %d steps: %s", res.States, res.Steps, sc.Fear)
		if res.Broken != fine {
			t.Errorf("%v\n%s", res.Broken, strings.Join(res.Trace, "\n"))
		}
		mu.Lock()
		defer mu.Unlock()
		ran++
		states += res.States
		for step := range res.Taken {
			taken[step] = true
		}
	})
	t.Logf("%d states", states)
	if t.Failed() || ran < len(Scenarios) { // a -run pattern chose some
		return
	}
	if states < 1_000_000 {
		t.Errorf("%d states in all: too few to mean anything", states)
	}
	for _, step := range rare {
		if !taken[step] {
			t.Errorf("no scenario took the step %q", step)
		}
	}
}

func TestEveryMistakeIsCaught(t *testing.T) {
	var all []Mutant
	for mut := None + 1; mut < numMutants; mut++ {
		all = append(all, mut)
	}
	each(t, all, Mutant.String, func(t *testing.T, mut Mutant) {
		for _, sc := range Scenarios {
			if sc.Name != mutants[mut].scenario {
				continue
			}
			res, err := Explore(watchdog(t), sc, mut)
			if err != nil {
				t.Fatalf("stopped after %d states: %v", res.States, err)
			}
			trace := strings.Join(res.Trace, "\n")
			switch {
			case res.Broken == fine:
				t.Fatalf("survived %q (%d states)", sc.Name, res.States)
			case res.Broken != mutants[mut].breaks:
				t.Errorf("want: %v", mutants[mut].breaks)
			case len(res.Trace) < 2:
				t.Error("no trace")
			}
			t.Logf("%s: %v after %d states\n%s", sc.Name, res.Broken, res.States, trace)
			return
		}
		t.Fatalf("no scenario named %q", mutants[mut].scenario)
	})
}
