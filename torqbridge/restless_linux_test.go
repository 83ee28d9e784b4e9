package torqbridge

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/torq/mycelium/codec"
	"github.com/torq/mycelium/internal/testproc"
	"github.com/torq/mycelium/shm"
	"github.com/torq/mycelium/tests/legacy"
)

var restlessFor = flag.Duration("torqbridge.restless", 2*time.Second, "how long restless peers come and go")

// lives keeps, by source and life of a producer, what must come next.
type lives struct {
	mu    sync.Mutex
	next  map[uint64]uint64
	wrong []string
	total uint64
}

const (
	lifeBits   = 24 // of a sequence: messages of one life
	sourceBits = 8
)

// add notes a message: whole says that none may be missing before it.
func (l *lives) add(m []byte, whole bool) {
	if codec.IsGreeting(m) {
		return
	}
	seq := binary.LittleEndian.Uint64(m[8:])
	life, n := seq>>lifeBits<<sourceBits|uint64(m[6]), seq&(1<<lifeBits-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = map[uint64]uint64{}
	}
	if due := l.next[life]; (n < due || whole && n != due) && len(l.wrong) < 10 {
		l.wrong = append(l.wrong, fmt.Sprintf("source %d, life %d: message %d where %d is due", life&(1<<sourceBits-1), life>>sourceBits, n, due))
	}
	l.next[life] = n + 1
	l.total++
}

// restless PATH SOURCE LIFE SEED TALLY is a producer with all habits at once. In TALLY, at
// eight times SOURCE, it counts what it has written whole.
var _ = testproc.Register("restless", func(args []string) error {
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(args[1+i], 10, 64); err != nil {
			return err
		}
	}
	source, life, r := n[0], n[1], rand.New(rand.NewPCG(n[2], n[0]<<32|n[1]))
	tally, err := mapTally(args[4])
	if err != nil {
		return err
	}
	fd, err := plainSocket(args[0])
	if err != nil {
		return err
	}
	if r.IntN(2) == 0 {
		_, _ = unix.Write(fd, legacy.Greeting)
	}
	switch r.IntN(3) {
	case 0: // it reads everything
		go func() {
			for b := make([]byte, 64<<10); ; {
				if n, err := unix.Read(fd, b); n <= 0 || err != nil {
					return
				}
			}
		}()
	case 1:
		_ = unix.Shutdown(fd, unix.SHUT_RD)
	}
	seq := uint64(0)
	message := func() []byte {
		m := trade(codec.Source(source), "BTC", life<<lifeBits|seq)
		seq++
		return m
	}
	write := func(b []byte) error {
		for len(b) > 0 {
			n, err := unix.Write(fd, b)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return err
			}
			b = b[n:]
		}
		atomic.StoreUint64(&tally[source], seq)
		return nil
	}
	several := func(k int) (b []byte) {
		for range k {
			b = append(b, message()...)
		}
		return b
	}
	for rounds := 2 + r.IntN(12); rounds > 0 && err == nil; rounds-- {
		switch r.IntN(8) {
		case 0:
			for i := 0; i < 40 && err == nil; i++ {
				err = write(message())
				time.Sleep(100 * time.Microsecond)
			}
		case 1:
			for i := 0; i < 300 && err == nil; i++ {
				err = write(several(2 + r.IntN(3)))
			}
		case 2:
			for i := 0; i < 6 && err == nil; i++ {
				err = write(several(enoughMessages + r.IntN(1000)))
			}
		case 3:
			time.Sleep(time.Duration(r.Int64N(int64(3 * quietTime))))
		case 4:
			m := message()
			cut := 1 + r.IntN(len(m)-1)
			seq--
			err = write(m[:cut])
			time.Sleep(time.Duration(r.Int64N(int64(2 * quietTime))))
			seq++
			if err == nil {
				err = write(m[cut:])
			}
		case 5:
			for i := 0; i < 100 && err == nil; i++ {
				err = write(several(10))
			}
		default: // busy, and hardly any work
			for i := 0; i < 200 && err == nil; i++ {
				err = write(several(2))
				time.Sleep(time.Millisecond)
			}
		}
	}
	if err != nil {
		return err
	}
	switch r.IntN(4) {
	case 0:
		m := message()
		_, _ = unix.Write(fd, m[:1+r.IntN(len(m)-1)])
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
	case 1:
		_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
	case 2:
		_ = unix.Shutdown(fd, unix.SHUT_WR)
		time.Sleep(time.Duration(r.Int64N(int64(quietTime))))
	}
	return nil
})

// mapTally maps a file of one count per source.
func mapTally(path string) ([]uint64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mapWords(int(f.Fd()), 1<<sourceBits)
}

// hearer PATH SEED is a consumer that reads fast, slowly and not at all, until its standard
// input ends; then it says how many messages came, and what was wrong with them.
var _ = testproc.Register("hearer", func(args []string) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	c, err := legacy.NewConsumer(args[0])
	if err != nil {
		return err
	}
	l := &lives{}
	go func() {
		err := c.Run(false, func(m []byte) {
			if l.add(m, false); r.IntN(20_000) == 0 {
				time.Sleep(time.Duration(r.Int64N(int64(3 * quietTime))))
			}
		})
		if err != nil {
			fmt.Println("the connection:", err)
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Println(l.total, c.Skipped.Load(), len(l.wrong), l.wrong)
	return nil
})

// holds are the descriptors and the threads of a process.
func holds(t testing.TB, pid int) (files, threads int) {
	t.Helper()
	for _, c := range []struct {
		dir string
		n   *int
	}{{"fd", &files}, {"task", &threads}} {
		e, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), c.dir))
		must(t, err)
		*c.n = len(e)
	}
	return files, threads
}

// Fear: while peers come, burst, stall, stop and are killed at every point of what they do, a
// message is lost, doubled or cut, or a descriptor, a thread or a place stays behind.
func TestRestlessPeers(t *testing.T) {
	producers, hearers := 48, 6 // more than may be busy
	if *restlessFor < 10*time.Second {
		producers, hearers = 12, 3
	}
	p := newPlaceIn(testproc.Watch(t, *restlessFor+2*limit), t, "", "")
	cfg := p.config(ModeBus)
	cfg.Domains[0].Queue = 100_000
	args, err := json.Marshal(cfg)
	must(t, err)
	bridge := testproc.Start(t, "bridge", []string{string(args)}, nil)
	bridge.Limit(*restlessFor + 2*limit)
	if got := bridge.Line(); got != "ready" {
		t.Fatal(got)
	}
	path, tally := p.socket("market_data"), filepath.Join(p.dir, "tally")
	must(t, os.WriteFile(tally, make([]byte, 8<<sourceBits), 0o600))
	counts, err := mapTally(tally)
	must(t, err)

	onBus := &lives{}
	sub, err := p.dial().Subscriber(p.ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	must(t, err)
	defer sub.Close()
	go func() {
		_ = sub.Run(p.ctx, nil, func(f shm.Frame) { onBus.add(f.Payload, true) })
	}()
	first, err := legacy.NewProducer(path) // opens the topic
	must(t, err)
	must(t, first.Send(trade(0, "BTC", 0)))
	must(t, first.Close())
	eventually(t, "the first message", func() bool { s := p.status(); return s.In == 1 && s.Clients == 0 })
	files, threads := holds(t, bridge.Pid())

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var (
		mu    sync.Mutex
		alive = map[int]*testproc.Proc{}
		ended = map[uint64]uint64{} // life -> written whole
		over  = make(chan struct{})
		all   sync.WaitGroup
	)
	for i := range producers {
		all.Go(func() {
			source := uint64(1 + i)
			for life := uint64(0); ; life++ {
				select {
				case <-over:
					return
				default:
				}
				atomic.StoreUint64(&counts[source], 0)
				proc := testproc.Start(t, "restless", []string{path, fmt.Sprint(source), fmt.Sprint(life), fmt.Sprint(seed), tally}, nil)
				proc.Limit(*restlessFor + 2*limit)
				mu.Lock()
				alive[i] = proc
				mu.Unlock()
				_, _ = io.Copy(io.Discard, proc.Stdout)
				mu.Lock()
				delete(alive, i)
				mu.Unlock()
				_ = proc.Wait()
				mu.Lock()
				ended[life<<sourceBits|source] = atomic.LoadUint64(&counts[source])
				mu.Unlock()
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 1))
	hear := make([]*testproc.Proc, hearers)
	hearAgain := func(i int) {
		hear[i] = testproc.Start(t, "hearer", []string{path, fmt.Sprint(seed + uint64(i))}, nil)
		hear[i].Limit(*restlessFor + 2*limit)
	}
	for i := range hear {
		hearAgain(i)
	}
	mostFiles, mostThreads := files, threads
	for end := time.Now().Add(*restlessFor); time.Now().Before(end); time.Sleep(time.Duration(r.Int64N(int64(20 * time.Millisecond)))) {
		f, n := holds(t, bridge.Pid())
		mostFiles, mostThreads = max(mostFiles, f), max(mostThreads, n)
		if r.IntN(20) == 0 {
			i := r.IntN(hearers)
			hear[i].Kill()
			hearAgain(i)
		}
		proc := hear[r.IntN(hearers)]
		mu.Lock()
		if p := alive[r.IntN(producers)]; p != nil {
			proc = p
		}
		switch r.IntN(4) {
		case 0:
			if !slices.Contains(hear, proc) {
				_ = proc.Cmd.Process.Signal(syscall.SIGKILL)
			}
		case 1:
			if proc.Cmd.Process.Signal(syscall.SIGSTOP) == nil {
				time.AfterFunc(time.Duration(r.Int64N(int64(4*quietTime))), func() { _ = proc.Cmd.Process.Signal(syscall.SIGCONT) })
			}
		}
		mu.Unlock()
	}
	close(over)
	all.Wait()
	eventually(t, "all producers have gone", func() bool { return p.status().Clients <= hearers })
	eventually(t, "everything on the bus", func() bool {
		onBus.mu.Lock()
		defer onBus.mu.Unlock()
		return onBus.total == p.status().In
	})
	time.Sleep(5 * quietTime) // those that were stopped go on, and hear the rest
	for _, h := range hear {
		_ = h.Stdin.Close()
		var total, skipped, wrong uint64
		line := h.Line()
		if n, err := fmt.Sscan(line, &total, &skipped, &wrong); n != 3 || skipped+wrong != 0 {
			t.Errorf("a consumer: %s, %v", line, err)
		}
		_ = h.Wait()
	}
	onBus.mu.Lock()
	for _, w := range onBus.wrong {
		t.Error("on the bus:", w)
	}
	for life, n := range ended {
		if got := onBus.next[life]; got < n || got > n+2*enoughMessages+1000 {
			t.Errorf("source %d, life %d: %d messages on the bus, at least %d were written", life&(1<<sourceBits-1), life>>sourceBits, got, n)
		}
	}
	total := onBus.total
	onBus.mu.Unlock()
	s := p.status()
	if s.Resyncs+s.SkippedBytes+s.Lost+s.Unmappable != 0 {
		t.Errorf("%+v", s)
	}
	var f, n int
	eventually(t, "no descriptor is left", func() bool { f, n = holds(t, bridge.Pid()); return f <= files })
	t.Logf("%d lives, %d messages, %d cut, %d dropped for slow consumers; descriptors %d, at most %d, then %d; threads %d, at most %d, then %d",
		len(ended), total, s.Truncated, s.Dropped, files, mostFiles, f, threads, mostThreads, n)
	if n > threads+2*maxBusy+8 {
		t.Errorf("%d threads, %d before", n, threads)
	}
	must(t, bridge.Wait())
}
