package directory

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/topic"
)

// young is how long a segment without a header is left alone after a start: a
// client may be between the receipt of it and its lock.
const young = 10 * time.Second

// found is a file of the bus directory at start.
type found struct {
	ref
	age    time.Duration
	bytes  uint64
	lane   layout.LaneHeader // of its kind
	cursor layout.CursorHeader
	err    error // why there is no header
}

// adopt rebuilds lanes and subscribers from the segments that a directory
// before this one left.
func (c *core) adopt(all []found) {
	type birth struct {
		at   int64
		born *uint64
	}
	var births []birth
	var dead []*lane
	for i := range all {
		if f := &all[i]; f.kind == laneFile {
			f.lane, f.err = c.files.lane(f.ref)
		} else {
			f.cursor, f.err = c.files.cursor(f.ref)
		}
	}
	// What is whole comes first: nothing else may take its number.
	slices.SortStableFunc(all, func(a, b found) int {
		switch {
		case a.err == nil && b.err != nil:
			return -1
		case a.err != nil && b.err == nil:
			return 1
		}
		return 0
	})
	for _, f := range all {
		if f.kind == laneFile {
			l := c.adoptLane(f)
			if l == nil {
				continue
			}
			births = append(births, birth{l.head.CreatedMono, &l.born})
			if l.phase == ended {
				dead = append(dead, l)
			}
		} else if u := c.adoptSub(f); u != nil {
			births = append(births, birth{u.head.CreatedMono, &u.born})
		}
	}
	slices.SortFunc(births, func(a, b birth) int { return int(min(max(a.at-b.at, -1), 1)) })
	for _, b := range births {
		*b.born = c.bear()
	}
	for _, t := range c.topics {
		slices.SortFunc(t.lanes, func(a, b *lane) int { return int(int64(a.born - b.born)) })
	}
	for _, l := range dead {
		c.counters["deaths_publisher"]++
		c.end(l, c.files.state(l.file) != layout.LaneClosed)
	}
}

// refuseFile deals with a file that is no segment of ours; false if a record
// of it is to be kept until its lock is free.
func (c *core) refuseFile(f found, err error) bool {
	if errors.Is(err, layout.ErrVersion) {
		c.foreign = append(c.foreign, f.name)
		c.counters["foreign"]++
		c.opt.Log.Warn("segment of another release: left alone", "file", f.name, "error", err)
		return true
	}
	c.opt.Log.Warn("segment without a valid header", "file", f.name, "error", err)
	return false
}

func (c *core) ignore(f found) {
	c.counters["garbage"]++
	c.opt.Log.Warn("not a name of ours: left alone", "file", f.name)
}

func (c *core) adoptLane(f found) *lane {
	id, number, epoch, ok := parseLaneName(f.name)
	if !ok || c.lanes[epoch] != nil {
		c.ignore(f)
		return nil
	}
	for len(c.numbers) <= int(number) {
		c.numbers = append(c.numbers, false)
	}
	if c.numbers[number] {
		c.ignore(f) // two files with one number: only the other can be in a cursor file's slot
		return nil
	}
	h, err := f.lane, f.err
	if err == nil && h.BootID != c.boot {
		c.removeFile(f.ref)
		return nil
	}
	if err == nil && (h.TopicID != id || h.Lane != number || h.Epoch != epoch || topic.Check(h.Topic) != nil || topic.ID(h.Topic) != id) {
		err = errors.New("the header does not belong to the name")
	}
	c.numbers[number] = true
	l := &lane{head: h, file: f.ref, adopted: true, bytes: f.bytes, joins: make(map[*subscriber]*join)}
	if err == nil {
		var terr *control.Error
		if l.topic, terr = c.topicFor(h.Topic); terr != nil {
			err = terr
		}
	}
	if err != nil {
		if c.refuseFile(f, err) {
			return nil // its number stays taken
		}
		l.phase, l.head = unreadable, layout.LaneHeader{Epoch: epoch, Lane: number}
		c.enter(l)
		c.after(max(0, young-f.age), func() { c.look(l) })
		return nil
	}
	if cfg, cerr := c.config(h.Topic); cerr == nil {
		l.policy = cfg.Policy
	}
	c.enter(l)
	if l.phase = ended; c.files.held(f.ref) {
		l.phase, l.probe.said = orphan, true
		c.counters["adoptions"]++
		c.after(l.probe.pause(c.opt.Now()), func() { c.look(l) })
	}
	return l
}

func (c *core) adoptSub(f found) *subscriber {
	epoch, ok := parseCursorName(f.name)
	if !ok || c.subs[epoch] != nil {
		c.ignore(f)
		return nil
	}
	h, err := f.cursor, f.err
	if err == nil && h.BootID != c.boot {
		c.removeFile(f.ref)
		return nil
	}
	if err == nil && (h.Epoch != epoch || topic.CheckPattern(h.Pattern) != nil) {
		err = errors.New("the header does not belong to the name")
	}
	u := &subscriber{head: h, file: f.ref, bytes: f.bytes, phase: orphan, unknown: true, peer: control.Peer{UID: h.UID, GID: h.GID}}
	if err != nil {
		if c.refuseFile(f, err) {
			return nil
		}
		u.phase, u.head = unreadable, layout.CursorHeader{Epoch: epoch}
		c.enterSub(u)
		c.after(max(0, young-f.age), func() { c.lookSub(u) })
		return nil
	}
	if !c.files.held(f.ref) {
		c.counters["deaths_subscriber"]++
		if h.Keep > 0 {
			c.adoptDurable(u)
			return u
		}
		c.removeFile(f.ref)
		return nil
	}
	if !topic.IsPattern(h.Pattern) {
		if _, terr := c.topicFor(h.Pattern); terr != nil {
			c.opt.Log.Warn("topic of a subscriber", "error", terr.Error())
		}
	}
	c.enterSub(u)
	u.probe.said = true
	c.counters["adoptions"]++
	c.after(u.probe.pause(c.opt.Now()), func() { c.lookSub(u) })
	return u
}

// parseLaneName takes <topic16hex>.<number>.<epoch32hex>.ring apart.
func parseLaneName(name string) (id uint64, number uint32, epoch layout.ID16, ok bool) {
	parts := strings.Split(name, ".")
	if len(parts) != 4 || len(parts[0]) != 16 || parts[3] != "ring" {
		return 0, 0, epoch, false
	}
	id, err1 := strconv.ParseUint(parts[0], 16, 64)
	n, err2 := strconv.ParseUint(parts[1], 10, 32)
	err3 := epoch.UnmarshalText([]byte(parts[2]))
	return id, uint32(n), epoch, errors.Join(err1, err2, err3) == nil && n < layout.MaxLanes
}

// parseCursorName takes <epoch32hex>.cur apart.
func parseCursorName(name string) (epoch layout.ID16, ok bool) {
	hex, isCursor := strings.CutSuffix(name, ".cur")
	return epoch, isCursor && epoch.UnmarshalText([]byte(hex)) == nil
}
