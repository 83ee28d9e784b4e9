// Package control is the conversation between a client and the directory that
// owns the segments: one Message per SOCK_SEQPACKET packet, JSON, at most
// MaxMessageBytes, with at most one file descriptor. It is never on the data
// path.
//
// # The conversation
//
// Requests carry an ID that the answer repeats; events carry none. A client
// may have several requests under way; answers and events of one connection
// arrive in the order in which the directory decided them.
//
//	client                              directory
//	  hello{version,client,incarnation} ->
//	                                    <- welcome{incarnation,...}
//	publisher
//	  open-pub{topic,source,...}        ->
//	                                    <- join{lane,sub,...}+fd   one per subscriber that must be joined
//	                                    <- granted{lane header}+fd
//	  ready-pub{lane,joined[...]}       ->
//	                                    <- ok
//	                                    <- join{lane,sub}+fd       later subscribers
//	  joined{lane,sub,pos,ticket,notice} ->
//	                                    <- leave{lane,sub}
//	  evicted{lane,sub,reason}          ->
//	  close-pub{lane}                   -> <- ok
//	subscriber
//	  open-sub{topic,name,mode,...}     ->
//	                                    <- granted{cursor header}+fd
//	  ready-sub{sub}                    ->
//	                                    <- lane{sub,lane,join}+fd   one per lane, also later
//	                                    <- ok                       every lane of that moment was sent
//	                                    <- final{sub,lane,pos}      the lane's publisher is gone
//	  drained{sub,lane}                 ->
//	  rejoin{sub,lane}                  -> <- lane{...} without fd
//	  close-sub{sub}                    -> <- ok
//	after a lost connection
//	  hello, then per handle
//	  resume-pub{lane,joined[...]}      -> <- ok, join... for subscribers unknown to the publisher, leave... for the gone
//	  resume-sub{sub,lanes[...]}        -> <- ok, lane... for lanes unknown to the subscriber
//
// What a connection loses is made up for: lane and final of a lane that the
// subscriber is done with are answered with drained again.
//
// A list that does not fit one packet goes in parts of at most ListPart
// entries: each is a request with More and is answered ok; the last, without
// More, has the effect of all.
package control

import (
	"errors"
	"fmt"

	"github.com/torq/mycelium/internal/layout"
)

// Version of the conversation. A directory speaks its own and the one before.
const Version = 1

// MaxMessageBytes bounds one packet.
const MaxMessageBytes = 64 << 10

// ListPart is how many entries of joined or lanes fit one packet.
const ListPart = 256

// Op names a Message.
type Op string

// Requests of a client.
const (
	OpHello    Op = "hello"
	OpOpenPub  Op = "open-pub"
	OpReadyPub Op = "ready-pub"
	OpClosePub Op = "close-pub"
	OpOpenSub  Op = "open-sub"
	OpReadySub Op = "ready-sub"
	OpCloseSub Op = "close-sub"
	OpResPub   Op = "resume-pub"
	OpResSub   Op = "resume-sub"
	OpDiscard  Op = "discard" // a grant that could not be used: {epoch}
	OpCreate   Op = "create-topic"
	OpPlan     Op = "plan-topic" // what create-topic would make, or why it would not
	OpDelete   Op = "delete-topic"
	OpList     Op = "list"    // {topic: pattern}, paged by Cursor
	OpInspect  Op = "inspect" // {topic}, its lanes and then subscribers paged by Cursor
	OpStats    Op = "stats"
)

// Notices of a client, not answered.
const (
	OpJoined  Op = "joined"
	OpEvicted Op = "evicted"
	OpDrained Op = "drained"
	OpRejoin  Op = "rejoin"
)

// What a directory sends.
const (
	OpWelcome Op = "welcome"
	OpGranted Op = "granted"
	OpOK      Op = "ok"
	OpError   Op = "error"
	OpJoin    Op = "join"
	OpLeave   Op = "leave"
	OpLane    Op = "lane"
	OpFinal   Op = "final"
)

// Message is every request, answer, notice and event; Op says which fields
// count. Epochs name lanes and subscribers.
type Message struct {
	Op Op     `json:"op"`
	ID uint64 `json:"id,omitempty"` // request and its answer

	Lane layout.ID16 `json:"lane,omitzero"` // lane epoch
	Sub  layout.ID16 `json:"sub,omitzero"`  // subscriber (cursor file) epoch

	Hello   *Hello   `json:"hello,omitempty"`
	Welcome *Welcome `json:"welcome,omitempty"`
	OpenPub *OpenPub `json:"open_pub,omitempty"`
	OpenSub *OpenSub `json:"open_sub,omitempty"`

	LaneGrant *LaneGrant `json:"lane_grant,omitempty"` // granted (publisher)
	SubGrant  *SubGrant  `json:"sub_grant,omitempty"`  // granted (subscriber)
	Join      *Join      `json:"join,omitempty"`       // join
	Joined    []Joined   `json:"joined,omitempty"`     // ready-pub, resume-pub, joined (one), lane (one, for lanes that were joined)
	LaneInfo  *LaneInfo  `json:"lane_info,omitempty"`  // lane
	Lanes     []HeldLane `json:"lanes,omitempty"`      // resume-sub
	Final     *Final     `json:"final,omitempty"`      // final, lane of a dead publisher
	More      bool       `json:"more,omitempty"`       // ready-pub, resume-pub, resume-sub: a part of joined or lanes, the rest follows in the next request
	Back      bool       `json:"back,omitempty"`       // resume-sub: of a durable subscriber whose ready-sub was not answered; open slots are those of the owner before
	Reason    string     `json:"reason,omitempty"`     // evicted, leave
	Forget    bool       `json:"forget,omitempty"`     // close-sub: a durable subscriber is over for good
	Topic     string     `json:"topic,omitempty"`      // create, plan, delete, list, inspect
	Cursor    string     `json:"cursor,omitempty"`     // list, inspect: continue here; empty in the last answer

	TopicSpec *TopicSpec  `json:"topic_spec,omitempty"` // create-topic, plan-topic
	Topics    []TopicInfo `json:"topics,omitempty"`     // list, inspect, plan-topic
	Stats     *Stats      `json:"stats,omitempty"`
	Error     *Error      `json:"error,omitempty"`
}

// Hello opens a connection.
type Hello struct {
	Version     int         `json:"version"`
	Client      layout.ID16 `json:"client"`                // random per client, kept over reconnects
	Incarnation uint64      `json:"incarnation,omitempty"` // of the directory last seen
	Program     string      `json:"program,omitempty"`     // for humans
}

// Welcome answers Hello.
type Welcome struct {
	Version     int         `json:"version"`
	Incarnation uint64      `json:"incarnation"` // grows at each start of the directory
	Bus         string      `json:"bus"`
	Node        layout.ID16 `json:"node"`
	Slots       uint32      `json:"slots"` // lane numbers on this bus
}

// OpenPub asks for a lane.
type OpenPub struct {
	Topic     string           `json:"topic"`
	Source    string           `json:"source"` // stable name; one live lane per (topic, source)
	Ring      uint64           `json:"ring,omitempty"`
	MaxMsg    uint32           `json:"max_msg,omitempty"`
	Timestamp layout.Timestamp `json:"timestamp,omitempty"`
	Mirror    *Mirror          `json:"mirror,omitempty"` // nil = an ordinary lane
}

// Mirror is what a mirror lane carries on: where its frames were published first.
type Mirror struct {
	Node     layout.ID16   `json:"node"`
	Epoch    layout.ID16   `json:"epoch"`     // of the lane there
	FirstSeq uint64        `json:"first_seq"` // to begin with, unless the directory knows better
	Hops     uint8         `json:"hops"`      // links that its frames came over, 1 to layout.MaxHops
	Via      []layout.ID16 `json:"via,omitempty"`
	Wall     int64         `json:"wall_ns"` // a pair of readings of the origin's clocks
	Mono     int64         `json:"mono_ns"`
}

// Policy for a lossless subscriber that makes no progress while the ring is full.
type Policy struct {
	Kind string `json:"kind"`         // block, evict, fail
	Ns   int64  `json:"ns,omitempty"` // block: deadline, 0 = none; evict: how long without progress
}

// LaneGrant describes the lane file that came with it, still empty; the
// publisher writes exactly this header.
type LaneGrant struct {
	Topic     string      `json:"topic"`
	Source    string      `json:"source"`
	Number    uint32      `json:"number"`
	UID       uint32      `json:"uid"`
	GID       uint32      `json:"gid"`
	Ring      uint64      `json:"ring"`
	MaxMsg    uint32      `json:"max_msg"`
	Step      uint64      `json:"step"`
	Node      layout.ID16 `json:"node"`
	Boot      layout.ID16 `json:"boot"`
	PrevEpoch layout.ID16 `json:"prev_epoch,omitzero"`
	FirstSeq  uint64      `json:"first_seq,omitempty"`
	Found     bool        `json:"found,omitempty"` // mirror: first_seq follows what this bus has of the origin epoch
	Policy    Policy      `json:"policy"`
	Joins     int         `json:"joins"` // join messages that preceded this one
}

// OpenSub asks for a cursor file on a topic or pattern.
type OpenSub struct {
	Topic string      `json:"topic"`
	Name  string      `json:"name,omitempty"` // for humans
	Mode  layout.Mode `json:"mode"`
	Park  bool        `json:"park,omitempty"`    // publishers must wake it
	Past  bool        `json:"past,omitempty"`    // also lanes whose publisher is gone, while they are kept
	Keep  int64       `json:"keep_ns,omitempty"` // durable: the cursor file outlives its owner for so long, and Name is its identity
}

// SubGrant describes the cursor file that came with it, still empty.
type SubGrant struct {
	UID     uint32      `json:"uid"`
	GID     uint32      `json:"gid"`
	Slots   uint32      `json:"slots"`
	Boot    layout.ID16 `json:"boot"`
	Resumed bool        `json:"resumed,omitempty"` // a durable subscriber's file, as its owner before left it
}

// Join tells a publisher to honour (lossless) or wake (park) a subscriber.
// The cursor file comes with it, read-only.
type Join struct {
	Mode  layout.Mode `json:"mode"`
	Park  bool        `json:"park,omitempty"`
	Again bool        `json:"again,omitempty"` // after an eviction: a new ticket
}

// Joined is a publisher's answer to a Join.
type Joined struct {
	Sub    layout.ID16 `json:"sub"`
	Pos    uint64      `json:"pos"`    // J: everything at or after it is held for the subscriber
	Ticket uint64      `json:"ticket"` // never used twice in a lane, 0 = refused
	Notice uint32      `json:"notice"` // index of the subscriber's eviction notice
	Err    string      `json:"err,omitempty"`
}

// LaneInfo introduces a lane to a subscriber.
type LaneInfo struct {
	Topic     string      `json:"topic"`
	Number    uint32      `json:"number"`
	PrevEpoch layout.ID16 `json:"prev_epoch,omitzero"`
	New       bool        `json:"new,omitempty"` // published its first frame after the subscriber attached: read from the start
	Policy    Policy      `json:"policy"`
}

// HeldLane is a lane that a resuming subscriber reads.
type HeldLane struct {
	Lane   layout.ID16 `json:"lane"`
	Number uint32      `json:"number"`
}

// Final is where a lane ends: its publisher closed it or is dead.
type Final struct {
	Pos  uint64 `json:"pos"` // first position that holds no frame
	Seq  uint64 `json:"seq"` // sequence that would have come there
	Dead bool   `json:"dead,omitempty"`
}

// TopicSpec creates a topic ahead of its publishers.
type TopicSpec struct {
	Ring   uint64  `json:"ring,omitempty"`
	MaxMsg uint32  `json:"max_msg,omitempty"`
	Policy *Policy `json:"policy,omitempty"`
}

// TopicInfo is what list and inspect tell of a topic. List leaves Lanes and
// Subscribers out and sums them up.
type TopicInfo struct {
	Topic       string           `json:"topic"`
	Ring        uint64           `json:"ring_bytes"`
	MaxMsg      uint32           `json:"max_message_bytes"`
	Step        uint64           `json:"step_bytes"`
	Policy      string           `json:"policy"`
	Frames      uint64           `json:"frames,string"`
	Bytes       uint64           `json:"bytes,string"`
	Publishers  int              `json:"publishers"`
	Subscribers int              `json:"subscribers"`
	LaneCount   int              `json:"lanes"`
	Mirrors     int              `json:"mirrors"`              // lanes of those that mirror one of another host
	Unreadable  bool             `json:"unreadable,omitempty"` // whoever asks may not subscribe to it
	Lanes       []LaneStatus     `json:"lane_list,omitempty"`
	Subs        []SubscriberStat `json:"subscriber_list,omitempty"`
}

// LaneStatus is one lane as its header words tell.
type LaneStatus struct {
	Epoch     layout.ID16       `json:"epoch"`
	Number    uint32            `json:"number"`
	Source    string            `json:"source"`
	State     string            `json:"state"` // active, closed, fault, dead, orphan (owner not connected), new (not ready)
	UID       uint32            `json:"uid"`
	PID       uint32            `json:"pid"`
	NextSeq   uint64            `json:"next_seq,string"`
	Tail      uint64            `json:"tail,string"`
	Intent    uint64            `json:"intent,string"`
	BeatAgeNs int64             `json:"beat_age_ns"`
	Metrics   map[string]uint64 `json:"metrics"`

	Mirror     bool        `json:"mirror,omitempty"`
	OriginNode layout.ID16 `json:"origin_node"`    // host on which the frames were published
	Hops       uint8       `json:"hops,omitempty"` // links that they came over
}

// SubscriberStat is one subscriber of an inspected topic.
type SubscriberStat struct {
	Epoch    layout.ID16       `json:"epoch"`
	Name     string            `json:"name"`
	Pattern  string            `json:"pattern"`
	Mode     string            `json:"mode"`
	UID      uint32            `json:"uid"`
	Lanes    []SubscriberLane  `json:"lanes"`
	BeatAge  int64             `json:"beat_age_ns"`
	Sleeping bool              `json:"sleeping"`
	Metrics  map[string]uint64 `json:"metrics"`
}

// SubscriberLane is how far a subscriber is on one lane.
type SubscriberLane struct {
	Lane      layout.ID16 `json:"lane"`
	Cursor    uint64      `json:"cursor,string"`
	Seq       uint64      `json:"seq,string"`
	LagBytes  uint64      `json:"lag_bytes"`
	LagFrames uint64      `json:"lag_frames"`
}

// Stats of the directory itself.
type Stats struct {
	Incarnation   uint64            `json:"incarnation"`
	UptimeNs      int64             `json:"uptime_ns"`
	Topics        int               `json:"topics"`
	Lanes         int               `json:"lanes"`
	Subscribers   int               `json:"subscribers"`
	Connections   int               `json:"connections"`
	ShmBytes      uint64            `json:"shm_bytes"`
	ShmLimitBytes uint64            `json:"shm_limit_bytes,omitempty"`
	ShmFreeBytes  uint64            `json:"shm_free_bytes"` // of the bus directory's file system
	Counters      map[string]uint64 `json:"counters"`       // adoptions, deaths, unlinks, refusals by reason
}

// Code classes an Error, for errors.Is on the client's side and exit codes.
type Code string

const (
	CodeInvalid     Code = "invalid"     // the request breaks a rule
	CodeNotFound    Code = "not-found"   // no such topic, lane or subscriber
	CodePermission  Code = "permission"  // the allow-lists say no
	CodeExists      Code = "exists"      // a topic of that name exists with other settings
	CodeSourceBusy  Code = "source-busy" // (topic, source) has a live lane
	CodeInUse       Code = "in-use"      // delete of a topic that is attached to
	CodeQuota       Code = "quota"       // a limit of the bus or the uid
	CodeNoSpace     Code = "no-space"    // the shared-memory file system is full
	CodeVersion     Code = "version"     // conversation or layout too old or too new
	CodeTimeout     Code = "timeout"     // the other side did not answer in time
	CodeUnavailable Code = "unavailable" // the directory is stopping
	CodeInternal    Code = "internal"
)

// Error is an answer that refuses. It names the thing, the reason and the way out.
type Error struct {
	Code    Code        `json:"code"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"`
	Epoch   layout.ID16 `json:"epoch,omitzero"` // source-busy: the lane that lives
}

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return e.Message
}

// Is matches two Errors of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf makes an Error.
func Errorf(code Code, format string, a ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, a...)}
}

var (
	// ErrTooBig says that a message does not fit one packet.
	ErrTooBig = errors.New("control message is too big")
	// ErrMalformed says that a packet is not a message.
	ErrMalformed = errors.New("malformed control message")
)
