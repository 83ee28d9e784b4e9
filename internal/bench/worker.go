package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// job is what a worker is to do next. Fields that an op does not use are zero.
type job struct {
	Op      string `json:"op"`
	Topic   string `json:"topic,omitempty"`
	Reply   string `json:"reply,omitempty"` // ping: the topic of the pongs
	Source  string `json:"source,omitempty"`
	Round   int    `json:"round,omitempty"`
	Size    int    `json:"size,omitempty"`
	Ring    uint64 `json:"ring,omitempty"` // 0 = 1 MiB, or what Size needs
	Count   uint64 `json:"count,omitempty"`
	Warmup  uint64 `json:"warmup,omitempty"`
	Sources int    `json:"sources,omitempty"` // publishers that a subscriber hears of
	RunNs   int64  `json:"run_ns,omitempty"`  // where Count is 0
	PauseNs int64  `json:"pause_ns,omitempty"`
	Lossy   bool   `json:"lossy,omitempty"`
	Read    string `json:"read,omitempty"`  // throughput
	Yield   bool   `json:"yield,omitempty"` // more workers than processors: whoever waits lets the others run
	Idle    string `json:"idle,omitempty"`
	SlowNs  int64  `json:"slow_ns,omitempty"` // demo: how long a slow subscriber sleeps after each poll
	Data    string `json:"data,omitempty"`    // demo: the recording, "" = the sample
	Rate    uint64 `json:"rate,omitempty"`    // demo: messages per second
}

// order is a line that the parent writes.
type order struct {
	Job    *job    `json:"job,omitempty"`
	Go     bool    `json:"go,omitempty"`
	Finish *uint64 `json:"finish,omitempty"` // demo: a publisher stops, a subscriber when it has accounted for so many
}

// reply is a line that a worker writes.
type reply struct {
	Ready  bool    `json:"ready,omitempty"`
	Result *result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// result of a job. Fields that an op does not use are zero.
type result struct {
	Latency  Latency `json:"latency"`
	Messages uint64  `json:"messages"` // published, or received
	Missed   uint64  `json:"missed"`   // sequences in gap reports
	Gaps     uint64  `json:"gaps"`
	Wrong    uint64  `json:"wrong"` // not what was due next: duplicated, out of order, missing without a report
	StartNs  int64   `json:"start_ns"`
	EndNs    int64   `json:"end_ns"`
	Parks    uint64  `json:"parks"`
	// demo
	Duplicated uint64 `json:"duplicated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Corrupt    uint64 `json:"corrupt"` // not the message that was published
}

// task is a prepared job.
type task struct {
	run   func() (result, error)
	close []func() error // in reverse order
}

func (t *task) defers(f func() error) { t.close = append(t.close, f) }

func (t *task) finish() (err error) {
	for i := len(t.close) - 1; i >= 0; i-- {
		err = errors.Join(err, t.close[i]())
	}
	return err
}

var ops = map[string]func(*worker, *job, *task) error{
	"floor-ping":     prepareFloorPing,
	"floor-pong":     prepareFloorPong,
	"bus-ping":       prepareBusPing,
	"bus-pong":       prepareBusPong,
	"slots-write":    prepareSlotsWrite,
	"slots-read":     prepareSlotsRead,
	"bus-publish":    preparePublish,
	"bus-subscribe":  prepareSubscribe,
	"futex-wake":     prepareFutexWake,
	"futex-wait":     prepareFutexWait,
	"bus-wake":       prepareBusWake,
	"bus-park":       prepareBusPark,
	"demo-publish":   prepareDemoPublish,
	"demo-subscribe": prepareDemoSubscribe,
}

// worker is the child's side.
type worker struct {
	mem    []byte
	socket string
	client *shm.Client
	orders chan order
	busy   atomic.Bool
}

// errParentGone ends a job that nobody wants any more.
var errParentGone = errors.New("the parent is gone")

// segmentFD is the descriptor of the shared memory of all workers.
const segmentFD = 3

// Worker is the main function of a worker process: it does the jobs that come
// in on in, attached to the bus whose registry listens on socket, until in
// ends. Descriptor 3 is the shared memory, if segmented.
func Worker(ctx context.Context, socket string, segmented bool, in io.Reader, out io.Writer) error {
	w := &worker{socket: socket, orders: make(chan order, 16)}
	if segmented {
		f := os.NewFile(segmentFD, "segment")
		m, err := segment.Map(f, true)
		if err != nil {
			return err
		}
		_ = f.Close()
		defer m.Close()
		w.mem = m.Bytes()
	}
	go func() {
		lines := bufio.NewReader(in)
		for {
			b, err := lines.ReadBytes('\n')
			var o order
			if err == nil {
				err = json.Unmarshal(b, &o)
			}
			if err != nil {
				if w.busy.Load() {
					os.Exit(1) // the parent is gone; a hot loop hears nothing else
				}
				close(w.orders)
				return
			}
			w.orders <- o
		}
	}()
	enc := json.NewEncoder(out)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case o, ok := <-w.orders:
			if !ok || o.Job == nil {
				return w.close()
			}
			res, err := w.do(ctx, o.Job, enc)
			if errors.Is(err, errParentGone) { // interrupted
				return w.close()
			}
			if err != nil {
				_ = enc.Encode(reply{Error: err.Error()})
				return err
			}
			if err := enc.Encode(reply{Result: &res}); err != nil {
				return err
			}
		}
	}
}

func (w *worker) close() error {
	if w.client == nil {
		return nil
	}
	return w.client.Close()
}

func (w *worker) do(ctx context.Context, j *job, enc *json.Encoder) (res result, err error) {
	w.busy.Store(true)
	defer w.busy.Store(false)
	prepare, ok := ops[j.Op]
	if !ok {
		return res, fmt.Errorf("unknown op %q", j.Op)
	}
	t := &task{}
	defer func() {
		if e := t.finish(); err == nil {
			err = e
		}
	}()
	if err := prepare(w, j, t); err != nil {
		return res, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if err := enc.Encode(reply{Ready: true}); err != nil {
		return res, err
	}
	select {
	case o, ok := <-w.orders:
		if !ok {
			return res, errParentGone
		}
		if !o.Go {
			return res, errors.New("expected go")
		}
	case <-ctx.Done():
		return res, context.Cause(ctx)
	}
	return t.run()
}

// attach dials the bus, once.
func (w *worker) attach() (*shm.Client, error) {
	if w.client != nil {
		return w.client, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	c, err := registry.Dial(ctx, w.socket, &registry.DialOptions{Program: "bench"})
	w.client = c
	return c, err
}

const attachTimeout = 10 * time.Second

// geometryFor is that of lanes for payloads of size bytes. ring is in bytes; 0 = 1 MiB, or as
// much as 16 such payloads need.
func geometryFor(size int, ring uint64) config.Geometry {
	g := config.Geometry{RingBytes: ring}
	if ring == 0 {
		for g.RingBytes = config.DefaultRingBytes; g.RingBytes < 16*uint64(size); {
			g.RingBytes *= 2
		}
	}
	g.MaxMessageBytes = max(g.WithDefaults().MaxMessageBytes, uint64(size))
	return g
}

// publishing are options for a publisher of the job's payloads.
func (j *job) publishing(source string) shm.PublisherOptions {
	g := geometryFor(j.Size, j.Ring)
	return shm.PublisherOptions{Source: source, RingBytes: g.RingBytes, MaxMessageBytes: uint32(g.MaxMessageBytes)}
}

// publisher opens a lane, closed with the task.
func (w *worker) publisher(t *task, topic string, o shm.PublisherOptions) (*shm.Publisher, error) {
	c, err := w.attach()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	p, err := c.Publisher(ctx, topic, &o)
	if err != nil {
		return nil, err
	}
	t.defers(p.Close)
	return p, nil
}

// MaxSize is the largest message that can be measured, bytes.
const MaxSize = 16 << 20

// subscriber attaches to a topic, closed with the task.
func (w *worker) subscriber(t *task, topic string, o shm.SubscriberOptions) (*shm.Subscriber, error) {
	c, err := w.attach()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	s, err := c.Subscriber(ctx, topic, &o)
	if err != nil {
		return nil, err
	}
	t.defers(s.Close)
	return s, nil
}

var sharedTSC = sync.OnceValues(clock.NewTSC)

// now is the finest clock of this machine, of one process only.
func now() (func() int64, error) {
	t, err := sharedTSC()
	if errors.Is(err, clock.ErrUnsupported) {
		return clock.Mono, nil
	}
	if err != nil {
		return nil, err
	}
	return t.Now, nil
}

// spinner is how a worker waits in a hot loop.
func spinner(yield bool) shm.Idler {
	if yield {
		return osYield{}
	}
	return &shm.Spin{}
}

// quota says how long a publisher goes on.
type quota struct {
	count    uint64 // messages, or
	deadline int64  // Mono
}

const askEvery = 4096 // messages between two looks at the clock

func newQuota(j *job) quota {
	if j.Count > 0 {
		return quota{count: j.Count}
	}
	return quota{deadline: clock.Mono() + j.RunNs}
}

// next is how many messages may follow the first done ones before it is asked
// again.
func (q quota) next(done uint64) uint64 {
	if q.deadline == 0 {
		return min(q.count-done, askEvery)
	}
	if clock.Mono() >= q.deadline {
		return 0
	}
	return askEvery
}
