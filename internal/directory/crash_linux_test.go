package directory

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/clock"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/internal/segment"
	"github.com/torq/mycelium/internal/topic"
	"golang.org/x/sys/unix"
)

// The test binary runs itself as the process that is killed: role, stage and
// socket come in the environment. It stops at its stage, says so, and waits.
const childEnv = "MYCELIUM_TEST_CHILD"

var (
	pubStages = []string{"connected", "hello", "open", "granted", "locked", "allocated", "header", "ready word", "ready", "published", "closed word", "closed"}
	subStages = []string{"connected", "hello", "open", "granted", "locked", "allocated", "header", "ready word", "ready sent", "ready", "closed"}
)

func TestChild(t *testing.T) {
	spec := os.Getenv(childEnv)
	if spec == "" {
		return // only the child has something to do
	}
	parts := strings.Split(spec, "|")
	role, stage, path := parts[0], parts[1], parts[2]
	at := func(s string) {
		if s == stage {
			fmt.Println("here")
			time.Sleep(time.Hour)
		}
	}
	if role == "server" {
		_, err := Open(Options{Dir: path})
		fmt.Println(err)
		return
	}
	raw, err := net.Dial("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, conn: control.NewConn(raw.(*net.UnixConn)), epoch: newEpoch()}
	at("connected")
	c.slots = c.ok(&control.Message{Op: control.OpHello, Hello: &control.Hello{Version: control.Version, Client: c.epoch}}).m.Welcome.Slots
	at("hello")
	open := openPub("a.b", "child")
	if role == "sub" {
		open = &control.Message{Op: control.OpOpenSub, OpenSub: &control.OpenSub{Topic: "a.*", Mode: layout.Lossless}}
	}
	if stage == "open" {
		open.ID = 99
		c.send(open)
		at("open")
	}
	g := c.ok(open)
	at("granted")
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(segment.Lock(g.f))
	at("locked")
	size := layout.CursorFileBytes(c.slots)
	if role == "pub" {
		size = layout.Geometry{Ring: g.m.LaneGrant.Ring}.FileBytes()
	}
	must(segment.Allocate(g.f, size))
	at("allocated")
	if role == "pub" {
		p := &pub{client: c, g: g.m.LaneGrant, f: g.f, lane: g.m.Lane, pos: g.m.LaneGrant.Ring}
		lg := g.m.LaneGrant
		p.head = layout.LaneHeader{
			Geometry: layout.Geometry{Ring: lg.Ring, MaxMsg: lg.MaxMsg, Step: lg.Step}, TopicID: topic.ID(lg.Topic), Lane: lg.Number,
			Epoch: g.m.Lane, OriginNode: lg.Node, UID: lg.UID, GID: lg.GID, CreatedMono: clock.Mono(), BootID: lg.Boot,
			PrevEpoch: lg.PrevEpoch, FirstPos: lg.Ring, FirstSeq: lg.FirstSeq, Topic: lg.Topic, Source: lg.Source,
		}
		binary.LittleEndian.PutUint64(p.head.SourceID[:], topic.ID(lg.Source))
		p.writeHeader()
		if stage == "header" {
			p.word(layout.OffReady, 0)
			at("header")
		}
		at("ready word")
		p.ok(p.readyMessage(p.admit()...))
		at("ready")
		p.publish(10, 20, 30)
		at("published")
		p.tail()
		p.word(layout.OffState, uint64(layout.LaneClosed))
		at("closed word")
		p.ok(&control.Message{Op: control.OpClosePub, Lane: p.lane})
		at("closed")
		return
	}
	s := &sub{client: c, f: g.f, sub: g.m.Sub, head: layout.CursorHeader{Epoch: g.m.Sub, UID: g.m.SubGrant.UID, GID: g.m.SubGrant.GID,
		Mode: layout.Lossless, Slots: g.m.SubGrant.Slots, CreatedMono: clock.Mono(), BootID: g.m.SubGrant.Boot, Pattern: "a.*"}}
	s.writeHeader()
	if stage == "header" {
		_, err := s.f.WriteAt(make([]byte, 8), layout.OffReady)
		must(err)
		at("header")
	}
	at("ready word")
	if stage == "ready sent" {
		s.send(s.readyMessage())
		at("ready sent")
	}
	s.ok(s.readyMessage())
	at("ready")
	s.ok(&control.Message{Op: control.OpCloseSub, Sub: s.sub})
	at("closed")
}

// child is a process to be killed.
type child struct {
	*exec.Cmd
	out *bufio.Reader
}

func startChild(t *testing.T, role, stage, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestChild$", "-test.timeout", "60s")
	cmd.Env = append(os.Environ(), childEnv+"="+role+"|"+stage+"|"+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, bufio.NewReader(out)}
	t.Cleanup(c.kill)
	return c
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("child: %v, said %q", err, s)
	}
	return strings.TrimSpace(s)
}

func (c *child) kill() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// listen serves the bus on a socket, as the registry does; over a restart, too.
func (b *bus) listen() string {
	b.t.Helper()
	path := filepath.Join(shmDir(b.t), "sock")
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.AcceptUnix()
			if err != nil {
				return
			}
			go b.s.ServeConn(control.NewConn(c))
		}
	}()
	return path
}

func TestKilledAtAnyStage(t *testing.T) {
	b := newBus(t, nil)
	path := b.listen()
	for role, stages := range map[string][]string{"pub": pubStages, "sub": subStages} {
		for _, stage := range stages {
			c := startChild(t, role, stage, path)
			if got := c.line(t); got != "here" {
				t.Fatalf("%s at %s: %s", role, stage, got)
			}
			c.kill()
			eventually(t, "its connection gone", func() bool { return b.s.Stats().Connections == 0 })
			b.empty()
			if st := b.s.Stats(); st.Topics != 0 {
				t.Errorf("%s killed at %q left %d topics", role, stage, st.Topics)
			}
		}
	}
}

func TestKilledPublisherAndItsReaders(t *testing.T) {
	b := newBus(t, nil)
	path := b.listen()
	s := b.dial().subscriber("a.b", subOptions{mode: layout.Lossy})
	for _, dead := range []bool{true, false} {
		stage := map[bool]string{true: "published", false: "closed word"}[dead]
		c := startChild(t, "pub", stage, path)
		c.line(t)
		m := s.lane(layout.ID16{})
		c.kill()
		if f := s.event(control.OpFinal, m.Lane, s.sub).m.Final; f.Seq != 3 || f.Dead != dead || f.Pos != layout.MinRing+3*64 {
			t.Errorf("killed at %q: %+v", stage, f)
		}
		if b.s.Stats().Lanes != 1 {
			t.Error("the lane is gone before it was read")
		}
		s.drained(m.Lane)
		eventually(t, "the lane unlinked", func() bool { return b.s.Stats().Lanes == 0 })
	}
	// A killed lossless subscriber is taken from the publisher.
	p := b.dial().publisher("a.b", "s")
	c := startChild(t, "sub", "ready", path)
	j := p.answerJoin(layout.ID16{})
	c.line(t)
	c.kill()
	p.event(control.OpLeave, p.lane, j.Sub)
}

func TestStoppedOwnerIsTakenForDead(t *testing.T) {
	b := newBus(t, nil)
	path := b.listen()
	c := startChild(t, "pub", "published", path)
	c.line(t)
	if err := c.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.restart()
	time.Sleep(100 * time.Millisecond) // over several looks at its lock
	if st := b.s.Stats(); st.Lanes != 1 || st.Counters["deaths_publisher"] != 0 {
		t.Fatalf("a stopped publisher: %+v", st)
	}
	b.dial().refused(openPub("a.b", "child"), control.CodeSourceBusy)
	c.kill()
	b.dial().publisher("a.b", "child") // the lock decides at this moment
	if n := b.s.Stats().Counters["deaths_publisher"]; n != 1 {
		t.Errorf("%d deaths", n)
	}
}

func TestTwoProcessesServeOneBus(t *testing.T) {
	b := newBus(t, nil)
	c := startChild(t, "server", "", b.o.Dir)
	mustContain(t, c.line(t), fmt.Sprintf("in use by process %d", os.Getpid()))
	if _, err := Open(b.o); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}
