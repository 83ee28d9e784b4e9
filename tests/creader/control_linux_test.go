package creader

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/directory"
	"github.com/torq/mycelium/registry"
	"golang.org/x/sys/unix"
)

// stranger is a client that knows the conversation from docs/layout.md only.
type stranger struct {
	t *testing.T
	c *net.UnixConn
}

func (s *stranger) send(format string, a ...any) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.c, format, a...); err != nil {
		s.t.Fatal(err)
	}
}

// receive returns the next packet, which must have that op, and its descriptor.
func (s *stranger) receive(op string) (m map[string]any, f *os.File) {
	s.t.Helper()
	b, oob := make([]byte, 65536), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := s.c.ReadMsgUnix(b, oob)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(b[:n], &m); err != nil {
		s.t.Fatal(err)
	}
	if m["op"] != op {
		s.t.Fatalf("received %s, want %s", b[:n], op)
	}
	if oobn > 0 {
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			s.t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil {
			s.t.Fatal(err)
		}
		f = os.NewFile(uintptr(fds[0]), op)
		s.t.Cleanup(func() { _ = f.Close() })
	}
	return m, f
}

func bytes16(t *testing.T, s any) []byte {
	t.Helper()
	b, err := hex.DecodeString(s.(string))
	if err != nil || len(b) != 16 {
		t.Fatalf("%v is no 16 bytes in hex", s)
	}
	return b
}

// Fear: the document leaves out what a client in another language must say or
// write before it is shown a lane.
func TestALossySubscriberFromTheDocument(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	dir, err := os.MkdirTemp("/dev/shm", "mycelium-creader-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	server, err := directory.Open(directory.Options{Dir: filepath.Join(dir, "bus"), Bus: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	socket := filepath.Join(dir, "registry.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go server.ServeConn(control.NewConn(c))
		}
	}()
	client, err := registry.Dial(ctx, socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	pub, err := client.Publisher(ctx, topicName, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "0 7 5 0 9a71bb4c\n" // CRC32C("hello") = 9a71bb4c
	if _, err := pub.Publish(7, []byte("hello")); err != nil {
		t.Fatal(err)
	}

	// From here on everything is as the document says.
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	s := &stranger{t, c}
	s.send(`{"op":"hello","id":1,"hello":{"version":1,"client":"0123456789abcdef0123456789abcdef","program":"tap"}}`)
	s.receive("welcome")
	s.send(`{"op":"open-sub","id":2,"open_sub":{"topic":"market.>","name":"tap","mode":2}}`)
	m, cursors := s.receive("granted")
	sub, grant := m["sub"].(string), m["sub_grant"].(map[string]any)
	num := func(key string) uint32 {
		v, _ := grant[key].(float64) // absent = 0
		return uint32(v)
	}
	size := (4096 + 32*int64(num("slots")) + 4095) / 4096 * 4096
	if err := unix.FcntlFlock(cursors.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(cursors.Fd()), 0, 0, size); err != nil {
		t.Fatal(err)
	}
	const magic = 0x015352554343594d
	le, h := binary.LittleEndian, make([]byte, 0x408)
	le.PutUint64(h[0x00:], magic)
	le.PutUint16(h[0x08:], 1)
	le.PutUint32(h[0x0c:], 4096)
	le.PutUint64(h[0x10:], uint64(size))
	le.PutUint32(h[0x18:], num("slots"))
	le.PutUint32(h[0x1c:], 32)
	copy(h[0x20:], bytes16(t, sub))
	le.PutUint32(h[0x30:], num("uid"))
	le.PutUint32(h[0x34:], num("gid"))
	h[0x38] = 2
	copy(h[0x50:], bytes16(t, grant["boot"]))
	copy(h[0x80:], "tap")
	copy(h[0x100:], "market.>")
	le.PutUint32(h[0x3fc:], crc32.Checksum(h[:0x3fc], castagnoli))
	le.PutUint64(h[0x400:], magic^le.Uint64(h[0x20:]))
	if _, err := cursors.WriteAt(h, 0); err != nil {
		t.Fatal(err)
	}
	s.send(`{"op":"ready-sub","id":3,"sub":%q}`, sub)
	m, lane := s.receive("lane")
	epoch, info := m["lane"].(string), m["lane_info"].(map[string]any)
	if m["sub"] != sub || info["topic"] != topicName || info["new"] != nil || lane == nil {
		t.Fatalf("lane %v, descriptor %v", m, lane)
	}
	if m, _ := s.receive("ok"); m["id"] != 3.0 {
		t.Errorf("answered %v", m)
	}
	if err := pub.Close(); err != nil {
		t.Fatal(err)
	}
	m, _ = s.receive("final")
	if f := m["final"].(map[string]any); m["lane"] != epoch || f["seq"] != 1.0 || f["dead"] != nil {
		t.Errorf("final %v", m)
	}
	cmd := exec.CommandContext(ctx, reader, "--fd", "3")
	cmd.ExtraFiles = []*os.File{lane}
	out, err := cmd.CombinedOutput()
	if got := string(out); err != nil || got != "reading "+topicName+" "+pub.Source()+" 0\n"+want+"end 1\n" {
		t.Errorf("%v: %q", err, got)
	}
	s.send(`{"op":"drained","sub":%q,"lane":%q}`, sub, epoch)
	s.send(`{"op":"close-sub","id":4,"sub":%q}`, sub)
	s.receive("ok")
	s.send(`{"op":"nonsense","id":5}`)
	if m, _ := s.receive("error"); m["id"] != 5.0 || m["error"].(map[string]any)["code"] != "invalid" {
		t.Errorf("answered %v", m)
	}
}
