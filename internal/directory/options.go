package directory

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// ErrBusy says that another directory serves the bus. The error is a
// *BusyError.
var ErrBusy = errors.New("bus directory is in use")

// BusyError is an ErrBusy with the holder.
type BusyError struct {
	Dir string
	PID int // of the holder, as it wrote it; 0 = unknown; for humans only
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("%s: %v by process %d: stop it, or choose another bus", e.Dir, ErrBusy, e.PID)
}

func (e *BusyError) Unwrap() error { return ErrBusy }

// ErrUnsafe says that a bus directory is not ours alone.
var ErrUnsafe = errors.New("unsafe bus directory")

// Verb is what a peer wants to do with a topic.
type Verb string

// The verbs that Options.Authorize decides on.
const (
	VerbPublish   Verb = "publish"
	VerbSubscribe Verb = "subscribe"
	VerbAdmin     Verb = "admin" // create and delete
)

// NobodyUID is the overflow uid: it stands for anybody whom the kernel cannot
// name here, and is always refused.
const NobodyUID = 65534

// TopicConfig is what the configuration says of a topic.
type TopicConfig struct {
	Geometry    layout.Geometry // of a lane whose publisher asks for nothing; zero fields = defaults
	MaxRing     uint64          // largest ring a publisher may ask for, bytes; 0 = layout.MaxRing
	Policy      control.Policy  // zero = evict after 1 s
	MaxLanes    int             // 0 = Quotas.MaxLanesPerTopic
	Closed      bool            // publishers attach only after create-topic
	MaxLossless int             // 0 = Quotas.MaxLosslessPerTopic; at most layout.Notices
}

// Quotas bound what clients can make the directory spend. Zero fields mean the
// default that is named.
type Quotas struct {
	MaxShmBytes       uint64 // all segments; 0 = no limit
	MaxShmBytesPerUID uint64 // 0 = no limit

	MaxLanes             int // lane numbers, hence slots of a cursor file; 4096, at most layout.MaxLanes; fixed at Open
	MaxLanesPerUID       int // 0 = no limit of its own
	MaxLanesPerTopic     int // 64
	MaxLosslessPerTopic  int // 128 = layout.Notices, the most
	MaxSubscribersPerUID int // 4096
	MaxTopics            int // 16384
	MaxConnectionsPerUID int // 256

	HandshakeTimeout  time.Duration // for hello, and from grant to ready; 2 s
	WriteTimeout      time.Duration // a client that takes nothing for so long is disconnected; 1 s
	RequestsPerSecond int           // per connection, with a burst of as many; 1000; < 0 = no limit
}

// Options of a Server. Only Dir is required.
type Options struct {
	Dir string // bus directory: created 0700, else it must be ours and 0700
	Bus string // name told to clients

	// TopicFor says how lanes of a topic are made. It may refuse a topic. nil
	// = defaults for every topic.
	TopicFor func(name string) (TopicConfig, error)

	// Authorize says whether a peer may do that with the topic of that exact
	// name. A subscriber to a pattern is asked about topic by topic and gets
	// those it may read. A *control.Error is the answer as it stands. nil =
	// root and the server's own uid.
	Authorize func(peer control.Peer, topic string, verb Verb) error

	Quotas    Quotas
	LaneGrace time.Duration // how long an ended lane is kept for subscribers that ask for the past; 60 s; < 0 = not at all
	CleanUp   bool          // Close removes every segment without an owner
	Log       *slog.Logger  // nil = discard

	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	q := &o.Quotas
	q.MaxLanes = min(orInt(q.MaxLanes, 4096), layout.MaxLanes)
	q.MaxLanesPerTopic = orInt(q.MaxLanesPerTopic, 64)
	q.MaxLosslessPerTopic = min(orInt(q.MaxLosslessPerTopic, layout.Notices), layout.Notices)
	q.MaxSubscribersPerUID = orInt(q.MaxSubscribersPerUID, 4096)
	q.MaxTopics = orInt(q.MaxTopics, 16384)
	q.MaxConnectionsPerUID = orInt(q.MaxConnectionsPerUID, 256)
	q.RequestsPerSecond = orInt(q.RequestsPerSecond, 1000)
	if q.HandshakeTimeout <= 0 {
		q.HandshakeTimeout = 2 * time.Second
	}
	if q.WriteTimeout <= 0 {
		q.WriteTimeout = time.Second
	}
	if o.LaneGrace == 0 {
		o.LaneGrace = 60 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func orInt(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}
