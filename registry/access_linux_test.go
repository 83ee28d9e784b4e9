package registry

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/shm"
)

const listed = `
[[topic]]
name = "open.>"

[[topic]]
name = "lists.*"
publish = ["uid:4001", "gid:4100"]
subscribe = ["gid:4200"]

[[topic]]
name = "lists.nobody"
publish = []

[[topic]]
name = "closed"
create = false
subscribe = ["uid:4001"]
`

// The matrix is decided twice: by the rules alone, and by a registry that the
// kernel tells who its clients are.
var matrix = []struct {
	access string
	as     string // uid gid groups...
	ask    string // verb topic
	want   string // "ok", or words of the refusal
}{
	{"all", "4001 4000", "publish open.a", "ok"},
	{"all", "4001 4000", "subscribe open.a", "ok"},
	{"all", "4001 4000", "publish rest", "ok"},
	{"all", "4001 4000", "publish lists.a", "ok"},
	{"all", "4002 4100", "publish lists.a", "ok"},
	{"all", "4002 4000 4300 4100", "publish lists.a", "ok"},
	{"all", "4002 4000 4300", "publish lists.a", "uid 4002 may not publish on lists.a: publish of [[topic]] lists.* (FILE:11:11) admits only uid:4001, gid:4100; add the user there"},
	{"all", "4001 4000", "subscribe lists.a", "uid 4001 may not subscribe to lists.a: subscribe of [[topic]] lists.* (FILE:12:13) admits only gid:4200"},
	{"all", "4001 4000 4200", "subscribe lists.a", "ok"},
	{"all", "0 0", "publish lists.a", "uid 0 may not publish on lists.a"},
	{"all", "4001 4100", "publish lists.nobody", "(FILE:16:11) admits only nobody"},
	{"all", "4001 4000", "create open.c", "ok"},
	{"all", "4001 4000", "create lists.c", "ok"},
	{"all", "4002 4000", "create lists.d", "uid 4002 may not create or delete lists.d: publish of"},
	{"all", "0 0", "create lists.e", "ok"},
	{"all", "4001 4000", "publish closed", "no topic closed, and publishers do not create it; create it first: myceliumctl topic create closed"},
	{"all", "4001 4000", "create closed", "create is false (FILE:20:10): only root and uid 0 create and delete it"},
	{"all", "0 0", "create closed", "ok"},
	{"all", "4002 4000", "publish closed", "ok"},
	{"all", "4001 4000", "delete closed", "create is false"},
	{"all", "65534 4100", "publish open.a", "65534"},

	{"group", "4001 0", "publish open.a", "ok"},
	{"group", "4001 4000 0", "publish open.a", "ok"},
	{"group", "4001 4000", "publish open.a", "refused"},
	{"group", "4002 4000 0", "publish lists.a", "admits only"},
	{"owner", "0 0", "publish open.a", "ok"},
	{"owner", "4001 0", "publish open.a", "refused"},
}

func TestAllowListsDecideByWhatTheKernelTells(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the rules are tested with made-up peers, by the test below")
		return
	}
	for _, access := range []string{"all", "group", "owner"} {
		b := newBus(t, fmt.Sprintf("access = %q", access), listed)
		b.serve()
		clients := make(map[string]child)
		for _, c := range matrix {
			if c.access != access {
				continue
			}
			k, known := clients[c.as]
			if !known {
				k = b.client(asEnv + "=" + c.as)
				clients[c.as] = k
				if got := k.tell("dial"); got != "ok" {
					// Turned away by the socket's mode, or before the first request.
					if c.want == "ok" || !strings.Contains(got, "permission denied (registry.access says who may connect)") && !strings.Contains(got, "65534") {
						t.Errorf("access %s, as %s: dial: %s", access, c.as, got)
					}
					delete(clients, c.as)
					continue
				}
			}
			want := strings.ReplaceAll(c.want, "FILE", b.file)
			if got := k.tell(c.ask); got != "ok" && want == "ok" || !strings.Contains(got, want) {
				t.Errorf("access %s, as %s: %s: got %q, want %q", access, c.as, c.ask, got, want)
			}
		}
	}
}

func TestRulesOfEveryPeer(t *testing.T) {
	for _, access := range []string{"all", "group", "owner"} {
		b := newBus(t, fmt.Sprintf("access = %q", access), listed)
		cfg, err := loadFile(b.file)()
		must(t, err)
		r, err := newRules(cfg, 0, 0)
		must(t, err)
		for _, c := range matrix {
			if c.access != access || strings.Contains(c.want, "no topic") {
				continue
			}
			var p control.Peer
			var ids []uint32
			for _, f := range strings.Fields(c.as) {
				var id uint32
				_, _ = fmt.Sscan(f, &id)
				ids = append(ids, id)
			}
			p.UID, p.GID, p.Groups = ids[0], ids[1], ids[2:]
			verb, name, _ := strings.Cut(c.ask, " ")
			v := directory.Verb(verb)
			if verb == "create" || verb == "delete" {
				v = directory.VerbAdmin
			}
			err := r.authorize(p, name, v)
			if (err == nil) != (c.want == "ok") {
				t.Errorf("access %s, as %s: %s: %v, want %s", access, c.as, c.ask, err, c.want)
			}
			var ce *control.Error
			if err == nil {
				continue
			}
			if !errors.As(err, &ce) || ce.Code != control.CodePermission || ce.Hint == "" || !strings.Contains(ce.Message, fmt.Sprintf("uid %d", p.UID)) || !strings.Contains(ce.Message, name) {
				t.Errorf("%#v: want a refusal that names uid, topic and the way out", err)
			}
			if c.want == "refused" && !strings.Contains(ce.Message, "registry.access is \""+access+"\" ("+b.file+":4:10)") {
				t.Errorf("access %s: %s", access, ce.Message)
			}
		}
	}
}

func TestSubscriberToAPatternGetsOnlyWhatItMayRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: nobody else's client can be started")
		return
	}
	b := newBus(t, `access = "all"`, "[[topic]]\nname = \"*.secret\"\nsubscribe = [\"uid:0\"]")
	b.serve()
	c := b.dial()
	for _, name := range []string{"a.secret", "a.open"} {
		p, err := c.Publisher(testContext(t), name, nil)
		must(t, err)
		defer p.Close()
	}
	k := b.client(asEnv + "=4001 4000")
	if k.tell("dial") != "ok" || k.tell("subscribe a.*") != "ok" {
		t.Fatal("cannot subscribe to a pattern")
	}
	read := make(map[string]bool)
	for _, name := range []string{"a.secret", "a.open"} {
		m, err := c.Request(testContext(t), &control.Message{Op: control.OpInspect, Topic: name})
		must(t, err)
		read[name] = m.Topics[0].Subscribers > 0
	}
	if read["a.secret"] || !read["a.open"] {
		t.Errorf("who subscribed by a pattern reads %v", read)
	}
}

func TestImpossibleGeometryIsRefused(t *testing.T) {
	cfg := config.Default()
	cfg.Topics = []config.TopicConfig{{Name: "a"}, {Name: "b", Geometry: config.Geometry{RingBytes: 12345, MaxMessageBytes: 10, StepBytes: 32}}}
	if _, err := newRules(cfg, 0, 0); err == nil || !strings.Contains(err.Error(), "ring of 12345") {
		t.Errorf("got %v", err)
	}
}

func TestPublisherMayAskForAnotherRing(t *testing.T) {
	b := newBus(t, "", "[[topic]]\nname = \"set\"\nring = \"1MiB\"\nmax_message = \"64KiB\"\n[[topic]]\nname = \"free\"\nring = \"128KiB\"")
	b.serve()
	c := b.dial()
	for _, x := range []struct {
		topic     string
		ring, max uint64
		ok        bool
	}{
		{"rest", 64 << 10, 0, true},
		{"rest", 0, 100 << 10, true},
		{"free", 64 << 10, 0, true},
		{"free", 0, 16 << 10, true},
		{"free", 0, 17 << 10, false},
		{"set", 64 << 10, 0, false}, // a message of 64 KiB is promised
		{"set", 64 << 10, 1000, true},
	} {
		p, err := c.Publisher(testContext(t), x.topic, &shm.PublisherOptions{RingBytes: x.ring, MaxMessageBytes: uint32(x.max), Source: fmt.Sprint(x)})
		if (err == nil) != x.ok {
			t.Errorf("%s: ring %d, max message %d: %v", x.topic, x.ring, x.max, err)
		}
		if err == nil {
			must(t, p.Close())
		}
	}
}
