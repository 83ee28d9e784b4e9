package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/clock"
)

// DemoOptions of Demo.
type DemoOptions struct {
	Data       string        // recording of Coinbase matches; "" = a sample made up
	Duration   time.Duration // 0 = 10 s
	Publishers int           // 0 = 2
	Rate       uint64        // messages per second of each publisher; 0 = 200,000
}

// DemoReport is what the demo's processes saw.
type DemoReport struct {
	Published  uint64  `json:"published"`
	Lost       uint64  `json:"lost"`         // published and not received, summed over the lossless subscribers
	Duplicated uint64  `json:"duplicated"`   // summed over all subscribers, as are the next two
	OutOfOrder uint64  `json:"out_of_order"` //
	Corrupt    uint64  `json:"corrupt"`
	Seconds    float64 `json:"seconds"`
	Rate       float64 `json:"msgs_per_second"` // published
	Latency            // of the first subscriber, from the publisher's timestamp to the handler

	Data        *DemoData        `json:"data,omitempty"`
	Publishers  int              `json:"publishers"`
	Topics      int              `json:"topics"`
	Subscribers []DemoSubscriber `json:"subscribers"`
	Registry    DemoRegistry     `json:"registry"`
}

// DemoData describes the recording that was replayed.
type DemoData struct {
	File    string `json:"file"`
	PerLoop int    `json:"trades_per_loop"`
	Loops   uint64 `json:"loops"` // completed, of all publishers together
}

// DemoSubscriber is one subscriber's account.
type DemoSubscriber struct {
	Name       string `json:"name"`
	Mode       string `json:"mode"`
	Idle       string `json:"idle"`
	Received   uint64 `json:"received"`
	Missed     uint64 `json:"missed"`
	Gaps       uint64 `json:"gaps"`
	Duplicated uint64 `json:"duplicated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Corrupt    uint64 `json:"corrupt"`
	Latency
}

// DemoRegistry is what the registry process took.
type DemoRegistry struct {
	RSS uint64  `json:"rss_bytes"`   // at the end
	CPU float64 `json:"cpu_percent"` // of one processor, while messages flowed
}

// ErrDemo says that a subscriber of the demo did not see what it should.
var ErrDemo = errors.New("the demo failed")

// Verdict is nil if every lossless subscriber saw every message in order, and
// every other one was told of all that it missed; else an ErrDemo.
func (r *DemoReport) Verdict() error {
	var wrong []string
	for _, s := range r.Subscribers {
		switch {
		case s.Duplicated+s.OutOfOrder+s.Corrupt > 0:
			wrong = append(wrong, fmt.Sprintf("%s: %d duplicated, %d out of order, %d corrupt", s.Name, s.Duplicated, s.OutOfOrder, s.Corrupt))
		case s.Mode == "lossless" && (s.Received != r.Published || s.Missed > 0):
			wrong = append(wrong, fmt.Sprintf("%s received %d of %d messages", s.Name, s.Received, r.Published))
		case s.Received+s.Missed != r.Published:
			wrong = append(wrong, fmt.Sprintf("%s received %d and missed %d of %d messages", s.Name, s.Received, s.Missed, r.Published))
		}
	}
	if r.Published == 0 {
		wrong = append(wrong, "nothing was published")
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrDemo, strings.Join(wrong, "; "))
}

// The demo's subscribers. The slow one is far slower than the publishers, so
// that it is lapped.
var demoSubscribers = []struct {
	name string
	job  job
}{
	{"spinning", job{Idle: "spin"}},
	{"parked", job{Idle: "park"}},
	{"slow", job{Idle: "backoff", Lossy: true, SlowNs: int64(100 * time.Millisecond)}},
}

// Validate fills the zero fields and reports the first impossible value.
func (o *DemoOptions) Validate() error {
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Publishers == 0 {
		o.Publishers = 2
	}
	if o.Rate == 0 {
		o.Rate = 200_000
	}
	if o.Duration < 0 || o.Publishers < 1 || o.Publishers > 16 {
		return fmt.Errorf("%v with %d publishers: want a positive duration and 1 to 16 publishers", o.Duration, o.Publishers)
	}
	return nil
}

// Demo runs publishers and subscribers on a bus of its own. When ctx ends, the
// publishers stop, and the report of what was published until then comes with
// the context's cause.
func Demo(ctx context.Context, env Env, o DemoOptions) (*DemoReport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	feed, err := ReadFeed(o.Data)
	if err != nil {
		return nil, err
	}
	cpus, err := CPUs()
	if err != nil {
		return nil, err
	}
	b, err := openBus(ctx, env, "[[topic]]\nname = \"market.>\"\npolicy = \"block:5s\"\n")
	if err != nil {
		return nil, err
	}
	defer b.close()

	// The spinning subscriber has a processor of its own, if there are two.
	own, rest := cpus, cpus
	if n := len(cpus); n > 1 {
		own, rest = cpus[n-1:], cpus[:n-1]
	}
	members := []member{{demoSubscribers[0].name, own}}
	for _, s := range demoSubscribers[1:] {
		members = append(members, member{s.name, rest})
	}
	for i := range o.Publishers {
		members = append(members, member{fmt.Sprintf("publisher-%d", i+1), rest})
	}
	t, err := newTeam(env, b.socket, 0, members)
	if err != nil {
		return nil, err
	}
	defer t.close()

	var subs, pubs []assignment
	for i, s := range demoSubscribers {
		j := s.job
		j.Op, j.Topic, j.Source = "demo-subscribe", "market.>", s.name
		j.Yield = j.Idle == "spin" && len(cpus) == 1
		subs = append(subs, assignment{t.procs[i], j})
	}
	for _, p := range t.procs[len(subs):] {
		pubs = append(pubs, assignment{p, job{Op: "demo-publish", Source: p.name, Data: o.Data, Rate: o.Rate, RunNs: int64(o.Duration)}})
	}
	if err := t.prepare(ctx, slices.Concat(subs, pubs)...); err != nil {
		return nil, err
	}
	products := map[string]bool{}
	for _, m := range feed {
		products[m.Product] = true
	}
	r := &DemoReport{Publishers: o.Publishers, Topics: len(products)}
	if o.Data != "" {
		r.Data = &DemoData{File: o.Data, PerLoop: len(feed)}
	}
	if err := r.run(ctx, o.Duration, b, subs, pubs); err != nil {
		return nil, err
	}
	return r, context.Cause(ctx)
}

// finishTimeout is how long publishers and subscribers may take to come to an
// end once they should.
const finishTimeout = 30 * time.Second

// run starts the workers, which are prepared, and fills in what they saw.
func (r *DemoReport) run(ctx context.Context, d time.Duration, b *bus, subs, pubs []assignment) error {
	usage := watchUsage(b.cmd.Process.Pid)
	if err := tell(order{Go: true}, slices.Concat(subs, pubs)...); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = tell(order{Finish: new(uint64)}, pubs...) })
	defer stop()
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), d+finishTimeout, errors.New("the demo's processes do not end"))
	defer cancel()
	published, err := collect(bounded, pubs...)
	if err != nil {
		return err
	}
	r.Registry = usage.since()
	start, end := published[0].StartNs, int64(0)
	for _, p := range published {
		r.Published += p.Messages
		start, end = min(start, p.StartNs), max(end, p.EndNs)
	}
	r.Seconds = float64(end-start) / 1e9
	r.Rate = ratio(float64(r.Published), r.Seconds)
	if r.Data != nil {
		for _, p := range published {
			r.Data.Loops += p.Messages / uint64(r.Data.PerLoop)
		}
	}
	if err := tell(order{Finish: &r.Published}, subs...); err != nil {
		return err
	}
	received, err := collect(bounded, subs...)
	if err != nil {
		return err
	}
	for i, s := range received {
		r.add(subs[i].job, s)
	}
	r.Latency = r.Subscribers[0].Latency
	return nil
}

func (r *DemoReport) add(j job, s result) {
	d := DemoSubscriber{Name: j.Source, Mode: "lossless", Idle: j.Idle, Received: s.Messages, Missed: s.Missed, Gaps: s.Gaps,
		Duplicated: s.Duplicated, OutOfOrder: s.OutOfOrder, Corrupt: s.Corrupt, Latency: s.Latency}
	if j.Lossy {
		d.Mode = "lossy"
	} else if got := s.Messages - min(s.Messages, s.Duplicated); got < r.Published {
		r.Lost += r.Published - got
	}
	r.Duplicated += d.Duplicated
	r.OutOfOrder += d.OutOfOrder
	r.Corrupt += d.Corrupt
	r.Subscribers = append(r.Subscribers, d)
}

// usage watches what a process takes.
type usage struct {
	pid   int
	start int64
	ticks uint64
}

const ticksPerSecond = 100 // USER_HZ, the same on every Linux

func watchUsage(pid int) usage { return usage{pid, clock.Mono(), cpuTicks(pid)} }

// since is what the process took since; zeros where the kernel does not tell.
func (u usage) since() (r DemoRegistry) {
	seconds := float64(clock.Mono()-u.start) / 1e9
	r.CPU = 100 * ratio(float64(cpuTicks(u.pid)-u.ticks)/ticksPerSecond, seconds)
	if f := procFields(u.pid, "statm"); len(f) > 1 {
		pages, _ := strconv.ParseUint(f[1], 10, 64)
		r.RSS = pages * uint64(os.Getpagesize())
	}
	return r
}

// cpuTicks is user and system time, fields 14 and 15 of stat.
func cpuTicks(pid int) uint64 {
	f := procFields(pid, "stat")
	if len(f) < 15 {
		return 0
	}
	user, _ := strconv.ParseUint(f[13], 10, 64)
	system, _ := strconv.ParseUint(f[14], 10, 64)
	return user + system
}

// procFields are the fields of a file of a process; the name in parentheses
// that stat has counts as one.
func procFields(pid int, file string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil
	}
	text := string(b)
	if open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')'); open >= 0 && end > open {
		text = text[:open] + "name" + text[end+1:]
	}
	return strings.Fields(text)
}
