package registry

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/shm"
)

// Packets as they may come from anybody, some after a proper hello, some with a
// descriptor: the registry goes on serving a client that behaves.
//
// The input is a list of packets, each a 2-byte length, of which the top bit
// stands for a descriptor, and so many bytes.
func FuzzSocket(f *testing.F) {
	packets := func(all ...string) (b []byte) {
		for _, p := range all {
			b = append(binary.LittleEndian.AppendUint16(b, uint16(len(p))), p...)
		}
		return b
	}
	f.Add(true, packets(`{"op":"open-pub","id":1,"open_pub":{"topic":"a.b","source":"s"}}`, `{"op":"stats","id":2}`))
	f.Add(true, packets(`{"op":"open-sub","id":1,"open_sub":{"topic":"a.>","mode":1}}`, `{"op":"list","id":2}`, ""))
	f.Add(true, packets(`{"op":"create-topic","id":1,"topic":"a","topic_spec":{"ring":65536}}`, `{"op":"delete-topic","id":3,"topic":"a"}`))
	f.Add(true, packets(`{"op":"resume-sub","more":true,"lanes":[{}]}`, `{"op":"resume-pub","joined":null}`))
	f.Add(false, packets(`{"op":"hello"}`, "{", "\x00"))
	f.Add(false, []byte{1, 0x80, '{', 0xff, 0x7f})

	b := newBus(f, "requests_per_second = 1048576\nmax_connections_per_uid = 1000\nmax_shm_bytes = \"64MiB\"", "")
	b.serveWith(Options{Load: loadFile(b.file), Log: discard()})
	good := b.dial()
	null, err := os.Open(os.DevNull)
	must(f, err)
	f.Cleanup(func() { _ = null.Close() })

	f.Fuzz(func(t *testing.T, hello bool, input []byte) {
		u, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: b.socket, Net: "unixpacket"})
		must(t, err)
		conn := control.NewConn(u)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		if hello {
			must(t, conn.Send(&control.Message{Op: control.OpHello, ID: 1, Hello: &control.Hello{Version: control.Version}}, nil))
			if m, _, err := conn.Recv(); err != nil || m.Op != control.OpWelcome {
				t.Fatalf("welcome: %+v, %v", m, err)
			}
		}
		for len(input) >= 2 {
			head := binary.LittleEndian.Uint16(input)
			n := min(int(head&0x7fff), len(input)-2)
			if err := sendPacket(u, input[2:2+n], null, head>>15 == 1); err != nil {
				break // the registry has had enough
			}
			input = input[2+n:]
		}
		if _, err := good.Request(testContext(t), &control.Message{Op: control.OpStats}); err != nil {
			t.Fatal("a client that behaves:", err)
		}
	})
	st := b.stats()
	if st.Counters["panics"] != 0 {
		f.Errorf("counters %v", st.Counters)
	}
	p, err := good.Publisher(testContext(f), "after.all", &shm.PublisherOptions{RingBytes: 64 << 10})
	must(f, err)
	must(f, p.Close())
}
