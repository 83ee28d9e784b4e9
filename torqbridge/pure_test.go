package torqbridge

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/torq/mycelium/codec"
)

const second = int64(time.Second)

// windowOf plays sightings and closes the window long after.
func windowOf(play func(c *comparer)) Window {
	c := newComparer(patience)
	c.begin(time.Unix(1, 0))
	play(c)
	return c.close(100*second, time.Unix(2, 0))
}

func TestComparisonMissesADifference(t *testing.T) {
	m := func(source codec.Source, seq uint64) []byte {
		b := trade(source, "BTC", seq)
		copy(b[16:24], make([]byte, 8)) // the same whenever it is made
		return b
	}
	other := m(1, 2)
	other[40] ^= 1
	both := func(c *comparer, b []byte, at int64) {
		c.saw(sideOld, b, at)
		c.saw(sideNew, b, at+3000)
	}
	for name, x := range map[string]struct {
		play func(c *comparer)
		want Window
	}{
		"nothing": {func(c *comparer) {}, Window{Verdict: VerdictIdle}},
		"same": {func(c *comparer) {
			both(c, m(1, 1), 10)
			both(c, m(1, 1), 20) // the same message twice is two messages
			both(c, m(2, 1), 30)
		}, Window{Matched: 3, LatencyP50Ns: 3000, LatencyP99Ns: 3000, Verdict: VerdictSame}},
		"the bridge is earlier": {func(c *comparer) {
			c.saw(sideNew, m(1, 1), 10)
			c.saw(sideOld, m(1, 1), 50)
		}, Window{Matched: 1, LatencyP50Ns: -40, LatencyP99Ns: -40, Verdict: VerdictSame}},
		"missing": {func(c *comparer) {
			c.saw(sideOld, m(1, 1), 10)
			both(c, m(1, 2), 20)
		}, Window{Matched: 1, Missing: 1, LatencyP50Ns: 3000, LatencyP99Ns: 3000, Verdict: VerdictDiffers}},
		"extra": {func(c *comparer) {
			c.saw(sideNew, m(1, 1), 10)
			c.saw(sideNew, m(1, 1), 10)
		}, Window{Extra: 2, Verdict: VerdictDiffers}},
		"different": {func(c *comparer) {
			c.saw(sideOld, m(1, 2), 10)
			c.saw(sideNew, other, 20)
		}, Window{Different: 1, Verdict: VerdictDiffers}},
		"reordered": {func(c *comparer) {
			for i := range uint64(4) {
				c.saw(sideOld, m(1, i), int64(i))
			}
			for _, i := range []uint64{0, 2, 1, 3} {
				c.saw(sideNew, m(1, i), 100)
			}
		}, Window{Matched: 4, Reordered: 1, LatencyP50Ns: 99, LatencyP99Ns: 100, Verdict: VerdictDiffers}},
		"two sources have no order": {func(c *comparer) {
			c.saw(sideOld, m(1, 1), 1)
			c.saw(sideOld, m(2, 1), 2)
			c.saw(sideNew, m(2, 1), 3)
			c.saw(sideNew, m(1, 1), 4)
		}, Window{Matched: 2, LatencyP50Ns: 3, LatencyP99Ns: 3, Verdict: VerdictSame}},
		"no message": {func(c *comparer) { c.saw(sideOld, []byte("x"), 1) }, Window{Verdict: VerdictIdle}},
		"warming up": {func(c *comparer) {
			c.saw(sideOld, m(1, 1), 0)
			c.restart(5)
			c.saw(sideNew, m(1, 2), 10)
			both(c, m(1, 3), 20)
		}, Window{Matched: 1, LatencyP50Ns: 3000, LatencyP99Ns: 3000, Verdict: VerdictSame}},
	} {
		got := windowOf(x.play)
		x.want.Start, x.want.End = time.Unix(1, 0), time.Unix(2, 0)
		if got != x.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, x.want)
		}
	}
}

func TestComparisonWaitsForALateMessage(t *testing.T) {
	c := newComparer(patience)
	c.begin(time.Unix(0, 0))
	c.saw(sideOld, trade(1, "BTC", 1), 10*second)
	if w := c.close(11*second, time.Unix(0, 0)); w.Verdict != VerdictIdle {
		t.Errorf("judged too early: %+v", w)
	}
	if w := c.close(13*second, time.Unix(0, 0)); w.Missing != 1 {
		t.Errorf("%+v", w)
	}
}

func TestComparisonForgetsWhatItCannotHold(t *testing.T) {
	c := newComparer(patience)
	m := trade(1, "BTC", 1)
	for i := range maxWaiting + 10 {
		m[8], m[9], m[10] = byte(i), byte(i>>8), byte(i>>16)
		c.saw(sideOld, m, int64(i))
	}
	if n := len(c.all); n > maxWaiting {
		t.Errorf("%d wait", n)
	}
	if w := c.close(0, time.Now()); w.Missing == 0 {
		t.Error("what was given up does not count")
	}
}

func TestMoveThatShouldNotBeMade(t *testing.T) {
	for _, c := range []struct {
		from, to Mode
		f        facts
		want     []step
		err      error
	}{
		{ModeLegacy, ModeLegacy, facts{}, nil, nil},
		{ModeLegacy, ModeShadow, facts{}, []step{stepStart}, nil},
		{ModeLegacy, ModeBus, facts{}, nil, ErrTooFar},
		{ModeLegacy, ModeBus, facts{force: true}, []step{stepStart, stepTake}, nil},
		{ModeShadow, ModeBus, facts{relayUp: true}, nil, ErrNotProven},
		{ModeShadow, ModeBus, facts{relayUp: true, verdict: VerdictDiffers}, nil, ErrNotProven},
		{ModeShadow, ModeBus, facts{relayUp: true, verdict: VerdictSame}, []step{stepTake}, nil},
		{ModeShadow, ModeBus, facts{relayUp: true, force: true}, []step{stepTake}, nil},
		{ModeShadow, ModeBus, facts{}, []step{stepTake}, nil},
		{ModeShadow, ModeLegacy, facts{}, []step{stepStop}, nil},
		{ModeBus, ModeShadow, facts{relayUp: true}, []step{stepHandBack}, nil},
		{ModeBus, ModeShadow, facts{}, nil, ErrNoRelay},
		{ModeBus, ModeShadow, facts{force: true}, []step{stepHandBack}, nil},
		{ModeBus, ModeLegacy, facts{relayUp: true}, []step{stepHandBack, stepStop}, nil},
	} {
		got, err := plan(c.from, c.to, c.f)
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s to %s with %+v: %v, %v", c.from, c.to, c.f, got, err)
		}
	}
	if _, err := plan(ModeBus, "away", facts{}); err == nil {
		t.Error("a mode that does not exist")
	}
}

func TestLossOrSlownessGoesUnnoticed(t *testing.T) {
	fresh := func() *judge {
		j := &judge{maxDropPercent: 20}
		for range 10 {
			j.shadow(1000, 5)
		}
		return j
	}
	if r := fresh().bus(1000, 6, Window{}); !strings.Contains(r, "1 messages were lost") {
		t.Error(r)
	}
	if r := fresh().bus(1000, 5, Window{Missing: 2}); !strings.Contains(r, "2 messages missing") {
		t.Error(r)
	}
	if r := fresh().bus(1000, 5, Window{Extra: 2, Reordered: 1}); r != "" {
		t.Error(r)
	}
	j := fresh()
	for i, c := range []struct {
		rate float64
		back bool
	}{{790, false}, {790, false}, {810, false}, {790, false}, {790, false}, {790, true}} {
		if r := j.bus(c.rate, 5, Window{}); (r != "") != c.back {
			t.Errorf("window %d: %q", i, r)
		}
	}
	quiet := &judge{maxDropPercent: 20}
	quiet.shadow(5, 0)
	for range 10 {
		if r := quiet.bus(0, 0, Window{}); r != "" {
			t.Error(r)
		}
	}
}

func TestEchoIsTakenForNews(t *testing.T) {
	e := newEchoes()
	now := time.Unix(0, 0)
	a, b, c := trade(1, "A", 1), trade(1, "B", 2), trade(1, "C", 3)
	if own, _ := e.own(a); own {
		t.Error("nothing was sent")
	}
	e.add(a, 10, now)
	e.add(b, 11, now)
	e.add(b, 12, now)
	e.add(c, 13, now)
	if own, _ := e.own(trade(2, "A", 1)); own {
		t.Error("somebody else's message is taken for an echo")
	}
	if n, oldest := e.pending(); n != 4 || oldest != 10 || e.echoing() {
		t.Errorf("%d pending, from %d", n, oldest)
	}
	if own, lost := e.own(b); !own || lost != 1 {
		t.Errorf("own %v, %d lost", own, lost)
	}
	if own, lost := e.own(b); !own || lost != 0 {
		t.Errorf("the second of two equal messages: own %v, %d lost", own, lost)
	}
	if own, _ := e.own(b); own {
		t.Error("a third of two")
	}
	if n, oldest := e.pending(); n != 1 || oldest != 13 || !e.echoing() {
		t.Errorf("%d pending, from %d", n, oldest)
	}
	// What is too old is given up, and counts since this relay does echo.
	if lost := e.add(a, 14, now.Add(2*echoTimeout)); lost != 1 {
		t.Errorf("%d lost", lost)
	}
	silent := newEchoes()
	for i := range uint64(maxEchoes + 5) {
		if lost := silent.add(a, i, now); lost != 0 {
			t.Fatal("a relay that never echoes has lost something")
		}
	}
	if n, oldest := silent.pending(); n != maxEchoes || oldest != 5 {
		t.Errorf("%d pending, from %d", n, oldest)
	}
	if n, oldest := newEchoes().pending(); n != 0 || oldest != noIndex {
		t.Errorf("%d pending, from %d", n, oldest)
	}
}

func TestRelayIsTriedTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		begin := time.Now()
		var at []time.Duration
		for range 12 {
			if b.down() != (len(at) >= 10) {
				t.Errorf("down = %v after %d attempts", b.down(), len(at))
			}
			if !sleep(t.Context(), b.fail(), nil) {
				t.Fatal("interrupted")
			}
			at = append(at, time.Since(begin))
		}
		// 0.1 s doubled eight times, then 30 s.
		want := []time.Duration{100, 300, 700, 1500, 3100, 6300, 12700, 25500, 51100, 81100, 111100, 141100}
		for i := range want {
			if i == 8 { // 25.6 s
				continue
			}
			if i < 8 && at[i] != want[i]*time.Millisecond {
				t.Errorf("attempt %d after %v, want %v", i+2, at[i], want[i]*time.Millisecond)
			}
		}
		if d := at[11] - at[10]; d != maxDelay {
			t.Errorf("later attempts are %v apart", d)
		}
		b.success()
		if b.fail() != firstDelay || b.down() {
			t.Error("success changes nothing")
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if sleep(ctx, time.Hour, nil) {
			t.Error("slept on")
		}
		knock := make(chan struct{}, 1)
		knock <- struct{}{}
		if begin := time.Now(); !sleep(t.Context(), time.Hour, knock) || time.Since(begin) > time.Second {
			t.Error("a knock is not heard")
		}
	})
}

func TestModeIsForgottenOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	log := slog.New(slog.DiscardHandler)
	cfg := &Config{MaxCrashes: 3, CrashWindow: time.Minute}
	now := time.Unix(1000, 0)
	start := func(configured Mode) (*state, Mode, string) {
		s := loadState(path, log)
		m, _, reason := s.begin("signals", configured, now, cfg)
		s.save(map[string]Mode{"signals": m, "other": ModeBus})
		return s, m, reason
	}
	s, m, _ := start(ModeShadow)
	if m != ModeShadow {
		t.Errorf("begins in %s", m)
	}
	s.save(map[string]Mode{"signals": ModeBus})
	s.end(nil)
	s, m, _ = start(ModeShadow)
	if m != ModeBus {
		t.Errorf("the live mode is forgotten: %s", m)
	}
	s.end(nil)
	if _, m, _ = start(ModeLegacy); m != ModeLegacy {
		t.Errorf("the file's new mode does not win: %s", m)
	}
	// It serves, and crashes again and again.
	s, _, _ = start(ModeBus)
	for i := 1; ; i++ {
		_, m, reason := start(ModeBus)
		if i < cfg.MaxCrashes && m != ModeBus || i == cfg.MaxCrashes && (m != ModeShadow || reason == "") {
			t.Errorf("crash %d: begins in %s, %q", i, m, reason)
		}
		if i == cfg.MaxCrashes {
			break
		}
		now = now.Add(time.Second)
	}
	_ = s
	if crashed([]time.Time{now, now, now}, now.Add(time.Hour), 3, time.Minute) {
		t.Error("old crashes count")
	}
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	if _, m, _ = start(ModeShadow); m != ModeShadow {
		t.Errorf("spoiled state: %s", m)
	}
	(&state{path: filepath.Join(path, "x"), log: log}).write() // logged, no more
}
