//go:build failpoint

package crash

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/shm"
)

// weather is what a cable does to the packets that it carries.
type weather struct {
	loss, doubled, damaged float64 // shares of the packets
	delay, jitter          time.Duration
}

// cable joins two network namespaces: a TUN device in each, and a goroutine for either
// direction that takes the packets of the kernel's own TCP and hands them on as the
// weather says. It is what netem does, for kernels that come without it.
//
//	namespace a                 this process                 namespace b
//	TCP - tun 10.78.0.1 -> read, lose, wait, write -> tun 10.78.0.2 - TCP
//	                    <- write, wait, lose, read <-
type cable struct {
	weather
	names [2]string // of the namespaces
	ends  [2]*os.File
	cut   atomic.Bool

	carried, lost, doubled, damaged atomic.Uint64
}

var cables atomic.Uint64

// newCable needs the right to make namespaces and devices.
func newCable(t *testing.T, w weather) *cable {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may make network namespaces")
	}
	c := &cable{weather: w}
	tag := fmt.Sprintf("myc%d-%d", os.Getpid(), cables.Add(1))
	for i := range c.ends {
		c.names[i] = fmt.Sprintf("%s%c", tag, 'a'+i)
		if out, err := exec.Command("ip", "netns", "add", c.names[i]).CombinedOutput(); err != nil {
			if errors.Is(err, exec.ErrNotFound) || bytes.Contains(out, []byte("Operation not permitted")) {
				t.Skipf("no network namespaces here: %v: %s", err, bytes.TrimSpace(out))
			}
			t.Fatalf("ip netns add: %v: %s", err, bytes.TrimSpace(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", c.names[i]).Run() })
	}
	for i := range c.ends {
		var err error
		if c.ends[i], err = openTUN(c.names[i]); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
				t.Skipf("no TUN devices here: %v", err)
			}
			t.Fatalf("TUN device: %v", err)
		}
		t.Cleanup(func() { c.ends[i].Close() })
		for _, args := range [][]string{
			{"link", "set", c.names[i], "netns", c.names[i]},
			{"-n", c.names[i], "addr", "add", c.addr(i) + "/24", "dev", c.names[i]},
			{"-n", c.names[i], "link", "set", "lo", "up"},
			{"-n", c.names[i], "link", "set", c.names[i], "up"},
		} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, bytes.TrimSpace(out))
			}
		}
	}
	for i := range c.ends {
		rnd := rand.New(rand.NewPCG(*seed, uint64(i)))
		go c.carry(c.ends[i], c.ends[1-i], rnd)
	}
	return c
}

// addr is the address in namespace i.
func (c *cable) addr(i int) string { return fmt.Sprintf("10.78.0.%d", i+1) }

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// carry takes packets from one end to the other until an end is closed.
func (c *cable) carry(from, to *os.File, rnd *rand.Rand) {
	hand := func(p []byte) { _, _ = to.Write(p) } // a full or a closed device loses it, as cables do
	for {
		b := make([]byte, 2048)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if c.cut.Load() || rnd.Float64() < c.loss {
			c.lost.Add(1)
			continue
		}
		c.carried.Add(1)
		if rnd.Float64() < c.weather.damaged {
			c.damaged.Add(1)
			b[rnd.IntN(n)] ^= byte(1 + rnd.IntN(255)) // a checksum sees it
		}
		times := 1
		if rnd.Float64() < c.weather.doubled {
			c.doubled.Add(1)
			times++
		}
		for range times {
			if wait := c.delay + time.Duration(rnd.Float64()*float64(c.jitter)); wait > 0 {
				time.AfterFunc(wait, func() { hand(b[:n]) })
			} else {
				hand(b[:n])
			}
		}
	}
}

// Fear: what a real network does to packets, and a cable that is cut, loses or doubles a
// message, or the forwarders that are killed meanwhile do.
func TestBadNetworkLosesNothing(t *testing.T) {
	for name, w := range map[string]weather{
		"lossy": {loss: 0.05},
		"far":   {loss: 0.01, delay: 50 * time.Millisecond},
		"rough": {loss: 0.02, doubled: 0.02, damaged: 0.02, delay: 5 * time.Millisecond, jitter: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			throughWeather(t, w)
		})
	}
}

func throughWeather(t *testing.T, w weather) {
	ctx := watchdog(t, time.Minute, 20*time.Minute)
	rnd := random(t)
	c := newCable(t, w)
	all, addrs := make([]*host, 2), make([]string, 2)
	for i := range all {
		all[i], addrs[i] = &host{under: []string{"ip", "netns", "exec", c.names[i]}}, c.addr(i)+":7373"
	}
	startForwarders(t, all, addrs, "250ms", []string{
		"[[link]]\npeer = \"b\"\naddress = \"%ADDRb\"\ninsecure = true\nexport = [\"block.>\"]\n",
		"[[link]]\npeer = \"a\"\ninsecure = true\nimport = [\"block.>\"]\n"})
	a, b := all[0], all[1]
	far := readFar(ctx, t, b.dial(ctx), "block.x")
	p, err := a.dial(ctx).Publisher(ctx, "block.x", &shm.PublisherOptions{Source: "s"})
	if err != nil {
		t.Fatal(err)
	}
	published, stop := feed(p)
	arrived := func(least uint64) {
		await(ctx, t, func() bool {
			select {
			case err := <-far.done:
				t.Fatal(err)
			default:
			}
			return far.seen.Load() >= least
		})
	}
	arrived(100)
	kills := figure(2, 33)
	for i := range kills {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
		h := all[i%2]
		h.fwd.Kill()
		h.forward(t)
		arrived(published.Load())
	}
	c.cut.Store(true)
	time.Sleep(time.Duration(figure(1, 10)) * time.Second)
	c.cut.Store(false)
	healed := time.Now()
	arrived(published.Load() + 1)
	again := time.Since(healed)
	time.Sleep(time.Duration(figure(300, 5000)) * time.Millisecond)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	arrived(published.Load())
	time.Sleep(300 * time.Millisecond) // what comes now is too much
	if err := far.end(); err != nil {
		t.Error(err)
	}
	report(t, map[string]any{"published": published.Load(), "delivered": far.c.frames, "lost": far.c.lost, "duplicated": far.c.dup, "corrupt": far.c.corrupt,
		"kills": kills, "back_ms": again.Milliseconds(), "packets": c.carried.Load(), "packets_lost": c.lost.Load(), "packets_doubled": c.doubled.Load(), "packets_damaged": c.damaged.Load()})
	if far.c.frames != published.Load() {
		t.Errorf("%d of %d messages arrived", far.c.frames, published.Load())
	}
	if c.lost.Load() == 0 || c.carried.Load() == 0 {
		t.Error("the cable lost nothing, or carried nothing")
	}
}
