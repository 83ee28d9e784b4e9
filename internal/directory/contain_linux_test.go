package directory

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

func TestPanicInOneConnectionLeavesTheOthers(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.Authorize = func(_ control.Peer, name string, _ Verb) error {
			if name == "boom" {
				panic("authorize")
			}
			return nil
		}
	})
	p := b.dial().publisher("a.b", "s")
	for _, m := range []*control.Message{
		openPub("boom", "s"),
		{Op: control.OpDelete, Topic: "boom"},
	} {
		victim := b.dial()
		victim.send(m)
		if _, _, err := victim.conn.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v, want the end of the connection", m.Op, err)
		}
	}
	b.count("panics", 2)
	s := b.dial().subscriber("a.b", subOptions{mode: layout.Lossy})
	s.lane(p.lane)
	p.settle(control.OpLane)
}

func TestUnsendableMessageIsTakenForALeave(t *testing.T) {
	b := newBus(t, nil)
	c := b.dial()
	b.s.mu.Lock()
	for ss := range b.s.core.sessions {
		ss.send(&control.Message{Op: control.OpFinal, Reason: strings.Repeat("x", control.MaxMessageBytes)})
	}
	b.s.mu.Unlock()
	c.gone()
	b.count("slow_clients", 1)
}

func TestClosedTopicNeedsCreateTopic(t *testing.T) {
	b := newBus(t, func(o *Options) {
		o.TopicFor = func(name string) (TopicConfig, error) { return TopicConfig{Closed: name != "open"}, nil }
	})
	c := b.dial()
	c.publisher("open", "s")
	if e := c.refused(openPub("a.b", "s"), control.CodeNotFound); e.Hint != "create it first: myceliumctl topic create a.b" {
		t.Errorf("hint %q", e.Hint)
	}
	c.subscriber("a.b", subOptions{mode: layout.Lossy}) // may wait for it, but does not make it
	c.refused(openPub("a.b", "s"), control.CodeNotFound)
	c.ok(&control.Message{Op: control.OpCreate, Topic: "a.b"})
	c.publisher("a.b", "s")
}

func TestAuthorizeAnswersInItsOwnWords(t *testing.T) {
	own := &control.Error{Code: control.CodePermission, Message: "because", Hint: "do that"}
	b := newBus(t, func(o *Options) {
		o.Authorize = func(control.Peer, string, Verb) error { return own }
	})
	if e := b.dial().refused(openPub("a.b", "s"), control.CodePermission); *e != *own {
		t.Errorf("got %+v, want %+v", e, own)
	}
}
