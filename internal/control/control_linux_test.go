package control

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// full has something in every field of a message that a peer could send.
func full() *Message {
	return &Message{Op: OpReadyPub, ID: 1, Lane: layout.ID16{1}, Sub: layout.ID16{2},
		Hello: &Hello{Version: 1, Program: "p"}, Welcome: &Welcome{Incarnation: 3}, OpenPub: &OpenPub{Topic: "t"}, OpenSub: &OpenSub{Topic: "t"},
		LaneGrant: &LaneGrant{Ring: 1 << 40}, SubGrant: &SubGrant{Slots: 9}, Join: &Join{Again: true},
		Joined:   []Joined{{Sub: layout.ID16{3}, Pos: 1<<62 + 1, Ticket: ^uint64(0)}},
		LaneInfo: &LaneInfo{New: true}, Lanes: []HeldLane{{Number: 4}}, Final: &Final{Pos: 5}, Reason: "r", Topic: "t", Cursor: "c",
		TopicSpec: &TopicSpec{Policy: &Policy{Kind: "evict", Ns: -1}}, Topics: []TopicInfo{{Frames: ^uint64(0)}}, Stats: &Stats{},
		Error: Errorf(CodeQuota, "%d lanes", 5)}
}

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	a, b := pair(t)
	for _, m := range []*Message{full(), {Op: OpOK}} {
		if err := a.Send(m, nil); err != nil {
			t.Fatal(err)
		}
		got, f, err := b.Recv()
		if err != nil || f != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%+v, %v, %v", got, f, err)
		}
	}
}

func TestOneDescriptorComesAlong(t *testing.T) {
	a, b := pair(t)
	sent, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer sent.Close()
	if err := a.Send(&Message{Op: OpGranted}, sent); err != nil {
		t.Fatal(err)
	}
	_, got, err := b.Recv()
	if err != nil || got == nil {
		t.Fatal(got, err)
	}
	defer got.Close()
	x, _ := sent.Stat()
	y, err := got.Stat()
	if err != nil || !os.SameFile(x, y) {
		t.Fatal("another file came", err)
	}
	flags, err := unix.FcntlInt(got.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Fatal("a child would inherit it")
	}
}

// Whoever sends more descriptors, or none with a broken message, leaks nothing here.
func TestSurplusDescriptorsAreClosed(t *testing.T) {
	a, b := pair(t)
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := count()
	for range 50 {
		fds := make([]int, 5)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		for i := range fds {
			fds[i] = int(r.Fd())
		}
		for _, body := range []string{`{"op":"ok"}`, `{`} {
			if _, _, err := a.c.WriteMsgUnix([]byte(body), unix.UnixRights(fds...), nil); err != nil {
				t.Fatal(err)
			}
			_, f, err := b.Recv()
			if (err == nil) != (body != "{") || (f != nil) != (body != "{") {
				t.Fatal(f, err)
			}
			if f != nil {
				f.Close()
			}
		}
		r.Close()
		w.Close()
	}
	if after := count(); after > before+1 {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
}

func TestBadPacketsEndNothing(t *testing.T) {
	a, b := pair(t)
	send := func(p []byte) {
		t.Helper()
		if _, err := a.c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	send([]byte("not json"))
	if _, _, err := b.Recv(); !errors.Is(err, ErrMalformed) || Gone(err) {
		t.Fatal(err)
	}
	send([]byte(`{"lane":"zz"}`))
	if _, _, err := b.Recv(); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	send(make([]byte, MaxMessageBytes+1))
	if _, _, err := b.Recv(); !errors.Is(err, ErrTooBig) || Gone(err) {
		t.Fatal(err)
	}
	send(make([]byte, MaxMessageBytes+5000))
	if _, _, err := b.Recv(); !errors.Is(err, ErrTooBig) {
		t.Fatal(err)
	}
	if err := a.Send(&Message{Op: OpOK, Reason: strings.Repeat("x", MaxMessageBytes)}, nil); !errors.Is(err, ErrTooBig) {
		t.Fatal(err)
	}
	if err := a.Send(&Message{Op: OpOK}, nil); err != nil {
		t.Fatal(err)
	}
	if m, _, err := b.Recv(); err != nil || m.Op != OpOK {
		t.Fatal(m, err)
	}
	a.Close()
	if _, _, err := b.Recv(); !errors.Is(err, io.EOF) || !Gone(err) {
		t.Fatal(err)
	}
	if err := a.Send(&Message{Op: OpOK}, nil); !Gone(err) {
		t.Fatal(err)
	}
}

func TestDeadlines(t *testing.T) {
	a, b := pair(t)
	if err := b.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if _, _, err := b.Recv(); !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatal(err)
	}
	if err := a.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if err := a.Send(full(), nil); err != nil { // nobody reads: the socket fills
			if !errors.As(err, &ne) || !ne.Timeout() {
				t.Fatal(err)
			}
			return
		}
	}
}

func TestPeerIsTheKernelsWord(t *testing.T) {
	a, _ := pair(t)
	p, err := a.Peer()
	if err != nil || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.PID != int32(os.Getpid()) {
		t.Fatalf("%+v, %v", p, err)
	}
	a.Close()
	if _, err := a.Peer(); err == nil {
		t.Fatal("a closed connection has a peer")
	}
}

func TestErrorsMatchByCode(t *testing.T) {
	e := Errorf(CodeQuota, "%d lanes", 5)
	e.Hint = "close one"
	if e.Error() != "5 lanes; close one" || !errors.Is(e, &Error{Code: CodeQuota}) || errors.Is(e, &Error{Code: CodeExists}) || errors.Is(e, io.EOF) {
		t.Fatal(e)
	}
	if Errorf(CodeQuota, "x").Error() != "x" || Gone(nil) {
		t.Fatal("texts")
	}
}

// FuzzMessage: any packet is an error or a message that survives another trip.
func FuzzMessage(f *testing.F) {
	b, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"op":"join","join":{"mode":300}}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, y, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		defer y.Close()
		if _, err := x.c.Write(b); err != nil {
			return // larger than a socket takes
		}
		m, file, err := y.Recv()
		if err != nil {
			if len(b) > 0 && len(b) <= MaxMessageBytes && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if file != nil {
			t.Fatal("a descriptor out of nothing")
		}
		if err := x.Send(m, nil); errors.Is(err, ErrTooBig) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		again, _, err := y.Recv()
		if err != nil {
			t.Fatal(err)
		}
		first, _ := json.Marshal(m)
		second, _ := json.Marshal(again)
		if string(first) != string(second) {
			t.Fatalf("%s became %s", first, second)
		}
	})
}

// Wherever in making a pair the descriptors run out, none is left behind.
func TestPairWithoutDescriptors(t *testing.T) {
	open := func() (n int, top uint64) {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range d {
			if fd, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
				top = max(top, fd)
			}
		}
		return len(d), top
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	before, top := open()
	failed := 0
	for limit := uint64(3); limit < top+8; limit++ {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		a, b, err := Pair()
		if err != nil {
			failed++
			continue
		}
		a.Close()
		b.Close()
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if after, _ := open(); failed < 3 || after > before {
		t.Fatalf("%d failures, %d descriptors before, %d after", failed, before, after)
	}
}
