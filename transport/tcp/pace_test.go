package tcp

import (
	"math/rand/v2"
	"testing"
	"time"
)

const us = int64(time.Microsecond)

// feel lets messages come with the pauses that are given, and returns which part of the
// time was spent on looking, and which part of the messages found somebody awake.
func feel(p *pace, n int, pause func(i int) int64) (looked, awake float64) {
	now, start := int64(time.Hour), int64(time.Hour)
	var looks, met int64
	p.came(now)
	for i := range n {
		due := now + pause(i)
		since := now
		for {
			look, until := p.next(since, now)
			if until == 0 || until >= due {
				if look {
					met++
					looks += due - now
				}
				break
			}
			if until <= now {
				panic("it stands still")
			}
			if look {
				looks += until - now
			}
			now = until
		}
		now = due
		p.came(now)
	}
	return float64(looks) / float64(now-start), float64(met) / float64(n)
}

// Fear: a link burns a core for messages that it does not meet, or sleeps through those
// that it could.
func TestPaceMeetsRegularMessagesWithinItsShare(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	jitter := func(mean, dev int64) func(int) int64 {
		return func(int) int64 { return mean + rnd.Int64N(2*dev+1) - dev }
	}
	poisson := func(mean int64) func(int) int64 {
		return func(int) int64 { return int64(rnd.ExpFloat64() * float64(mean)) }
	}
	bursts := func(i int) int64 {
		if i%4 != 0 {
			return 10 * us
		}
		return 2000*us + rnd.Int64N(20*us)
	}
	for name, c := range map[string]struct {
		share        int
		pause        func(int) int64
		most         float64 // of the time looked at
		least, spins float64 // of the messages met
	}{
		"1,000 a second":                {25, jitter(1000*us, 20*us), 0.25, 0.97, 0},
		"100 a second":                  {25, jitter(10_000*us, 200*us), 0.25, 0.97, 0},
		"none of it is wanted":          {0, jitter(1000*us, 20*us), 0.06, 0, 0.01},
		"a large share":                 {70, jitter(200*us, 5*us), 0.70, 0.97, 0},
		"too fast for the share":        {25, jitter(200*us, 5*us), 0.26, 0, 0.01},
		"at random":                     {25, poisson(1000 * us), 0.10, 0, 0.10},
		"at random, and all the time":   {100, poisson(1000 * us), 1, 0.99, 1},
		"so seldom that nobody hurries": {100, jitter(50_000*us, 20*us), 0.01, 0, 0.01},
		"bursts":                        {25, bursts, 0.30, 0.97, 1},
	} {
		p := newPace(50*time.Microsecond, c.share)
		feel(&p, 200, c.pause)
		looked, awake := feel(&p, 5000, c.pause)
		if looked > c.most || awake < c.least || c.least == 0 && awake > c.spins {
			t.Errorf("%s: looked for %.3f of the time, met %.3f of the messages", name, looked, awake)
		}
	}
	for _, spin := range []time.Duration{-1, time.Second} {
		p := newPace(spin, 0)
		if looked, awake := feel(&p, 100, jitter(1000*us, 500*us)); looked < 0.99 || awake < 0.99 {
			t.Errorf("spin %v: looked for %.3f of the time, met %.3f of the messages", spin, looked, awake)
		}
	}
	p := newPace(time.Nanosecond, -1)
	if looked, _ := feel(&p, 100, jitter(1000*us, 20*us)); looked > 0.001 {
		t.Errorf("without a spin or a share: looked for %.3f of the time", looked)
	}
}

// Fear: after the messages have stopped a link goes on looking for them.
func TestPaceSleepsWhenNothingComesAnyMore(t *testing.T) {
	for _, share := range []int{25, 100} {
		p := newPace(50*time.Microsecond, share)
		feel(&p, 200, func(int) int64 { return 1000 * us })
		if look, until := p.next(p.last, p.last+paceMost); look || until != 0 {
			t.Errorf("share %d: %v until %d", share, look, until)
		}
		p.came(p.last + int64(time.Second))
		if p.known != 0 {
			t.Errorf("share %d: it knows %d pauses of another time", share, p.known)
		}
	}
}
