//go:build failpoint

package crash

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

var soakFor = flag.Duration("crash.soak", 10*time.Minute, "how long the large soak runs")

const (
	soakLanes   = 4
	soakMessage = 64
)

// told reports, once a line has come on standard input, that it is time to end.
func told() *atomic.Bool {
	var end atomic.Bool
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		end.Store(true)
	}()
	return &end
}

// steady SOCKET TOPIC RATE publishes RATE messages a second, each with its
// sequence, until it is told to end; then it says how many those were.
var _ = testproc.Register("steady", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	p, err := c.Publisher(ctx, args[1], nil)
	if err != nil {
		return err
	}
	rate, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	end, begin := told(), time.Now()
	payload := make([]byte, soakMessage)
	sent := uint64(0)
	err = p.Protect(func() error {
		for !end.Load() {
			for due := uint64(time.Since(begin).Seconds() * float64(rate)); sent < due; sent++ {
				binary.LittleEndian.PutUint64(payload, p.Seq())
				if _, err := p.Publish(1, payload); err != nil {
					return err
				}
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Println(sent)
	return errors.Join(p.Close(), c.Close())
})

// count SOCKET PATTERN counts the messages of soakLanes publishers, losslessly,
// until all have ended, and says how many those were. A message that is not the
// next of its lane is an error.
var _ = testproc.Register("count", func(args []string) error {
	ctx := context.Background()
	c, err := registry.Dial(ctx, args[0], nil)
	if err != nil {
		return err
	}
	s, err := c.Subscriber(ctx, args[1], &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var wrong, got uint64
	next := map[shm.TopicID]uint64{}
	end, idle := told(), s.Idler()
	for {
		last := end.Load() // nothing is published any more
		n, err := s.Poll(func(f shm.Frame) {
			if seq := binary.LittleEndian.Uint64(f.Payload); seq != f.Seq || next[f.Topic] != 0 && next[f.Topic] != seq {
				wrong++
			}
			next[f.Topic] = f.Seq + 1
			got++
		}, 0)
		if err != nil {
			return err
		}
		if n == 0 && last {
			break
		}
		idle.Idle(n)
	}
	if wrong != 0 || len(next) != soakLanes {
		return fmt.Errorf("%d of %d messages were not the next of their lane; %d lanes", wrong, got, len(next))
	}
	fmt.Println(got)
	return errors.Join(s.Close(), c.Close())
})

// held is what a process holds.
type held struct {
	rss   int64
	files int
}

func (h held) most(o held) held { return held{max(h.rss, o.rss), max(h.files, o.files)} }

func holds(t *testing.T, pid int) held {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return held{rss(t, pid), len(files)}
}

// Publishers and subscribers come and go beside a steady load, and something is
// left of each.
func TestSoakGrows(t *testing.T) {
	length := 4 * time.Second
	if *large {
		length = *soakFor
	}
	ctx := watchdog(t, time.Minute, length+time.Minute)
	b := startBus(t)
	start := func(name string, args ...string) *testproc.Proc {
		p := testproc.Start(t, name, append([]string{b.socket}, args...), nil)
		p.Limit(length + time.Minute)
		if got := p.Line(); got != "ready" {
			t.Fatalf("%s said %q", name, got)
		}
		return p
	}
	counter := start("count", "block.soak.*")
	names, procs := []string{"registry", "subscriber"}, []*testproc.Proc{b.proc, counter}
	var publishers []*testproc.Proc
	for i := range soakLanes {
		p := start("steady", fmt.Sprintf("block.soak.%d", i), fmt.Sprint(figure(25_000, 250_000)))
		names, procs, publishers = append(names, fmt.Sprintf("publisher %d", i)), append(procs, p), append(publishers, p)
	}

	// The most that each held in the second quarter and in the last.
	var early, late [2 + soakLanes]held
	begin, churned := time.Now(), 0
	pause := time.Duration(figure(50, 1000)) * time.Millisecond
	for elapsed := time.Duration(0); elapsed < length; elapsed = time.Since(begin) {
		attachAndExchange(ctx, t, b, churned)
		churned++
		for i, p := range procs {
			switch h := holds(t, p.Pid()); {
			case elapsed < length/4:
			case elapsed < length/2:
				early[i] = early[i].most(h)
			case elapsed >= length*3/4:
				late[i] = late[i].most(h)
			}
		}
		time.Sleep(pause)
	}

	var sent uint64
	for _, p := range publishers {
		fmt.Fprintln(p.Stdin)
		n, err := strconv.ParseUint(p.Line(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	fmt.Fprintln(counter.Stdin)
	if got := counter.Line(); got != fmt.Sprint(sent) {
		t.Errorf("%d published, %s delivered", sent, got)
	}
	for _, p := range procs[1:] {
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	}
	b.awaitEmpty(ctx)
	allowed := int64(figure(4<<20, 1<<20)) // a short run ends before Go's collector has seen 4 MiB
	figures := map[string]any{"seconds": length.Seconds(), "published": sent, "attachments": churned, "leftovers": len(b.leftovers())}
	for i, name := range names {
		grown := held{late[i].rss - early[i].rss, late[i].files - early[i].files}
		figures[name+" grew by bytes"], figures[name+" holds bytes"] = grown.rss, late[i].rss
		if grown.rss > allowed || grown.files > 2 {
			t.Errorf("%s: %+v, then %+v", name, early[i], late[i])
		}
	}
	report(t, figures)
}
