package tcp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/torq/mycelium/internal/layout"
	"github.com/torq/mycelium/shm"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.template("ca", true), a.template("ca", true), &a.key.PublicKey, a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) template(name string, ca bool) *x509.Certificate {
	a.n++
	return &x509.Certificate{SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
}

func (a *authority) write(name, kind string, der []byte) string {
	file := filepath.Join(a.dir, name)
	must(a.t, os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	must(a.t, os.Rename(file+".new", file))
	return file
}

// issue writes a certificate of a name and returns the TLS of a forwarder.
func (a *authority) issue(file, name string) *TLS {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.template(name, false), a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	raw, err := x509.MarshalECPrivateKey(key)
	must(a.t, err)
	return &TLS{Cert: a.write(file+".pem", "CERTIFICATE", der), Key: a.write(file+".key", "EC PRIVATE KEY", raw), CA: filepath.Join(a.dir, "ca.pem")}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func linkOf(f *Forwarder) LinkStatus { return f.Status().Links[0] }

// arrived reports whether everything that a link exports is there.
func arrived(l LinkStatus) bool { return l.LagFrames != nil && *l.LagFrames == 0 }

func TestLinkOverTLSAndItsCertificatesAreReadAnew(t *testing.T) {
	watch(t, time.Minute)
	ca := newAuthority(t)
	a, b := newBus(t, nil), newBus(t, nil)
	ob := listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}, Compression: "s2"})
	ob.TLS = ca.issue("b", "b")
	fb, _ := start(t, b, ob)
	oa := Options{Node: "a", TLS: ca.issue("a", "a"), Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}}
	fa, _ := start(t, a, oa)
	s := subscriber(t, b.Client, "m.x")
	p := publisher(t, a.Client, "m.x", "feed")
	must(t, publishAll(p, 0, 1000, 64))
	readAll(t, s, 0, 1000)
	if st := fb.Status(); !st.TLS || st.CertExpires == "" || st.Plaintext != 0 {
		t.Errorf("status %+v", st)
	}
	// The files change; the link stays, and the next connection uses them.
	time.Sleep(10 * time.Millisecond)
	ca.issue("b", "b")
	fb.Reload()
	if fb.opt.TLS.Reloads() != 1 || linkOf(fa).Reconnects != 0 {
		t.Errorf("%d reloads, %d reconnects", fb.opt.TLS.Reloads(), linkOf(fa).Reconnects)
	}
	must(t, os.WriteFile(fb.opt.TLS.Cert, []byte("nonsense"), 0o600)) // the last good one stays
	fb.Reload()
	fb.links[0].current().fail(io.ErrUnexpectedEOF)
	must(t, publishAll(p, 1000, 2000, 64))
	readAll(t, s, 1000, 2000)
	must(t, os.Remove(fb.opt.TLS.Cert))
	fb.links[0].current().fail(io.ErrUnexpectedEOF)
	must(t, publishAll(p, 2000, 3000, 64))
	readAll(t, s, 2000, 3000)
	must(t, p.Close())
}

// Fear: somebody who should not is let in.
func TestWrongCertificatesNamesAndPlaintextAreRefused(t *testing.T) {
	watch(t, time.Minute)
	ca, other := newAuthority(t), newAuthority(t)
	b := newBus(t, nil)
	ob := listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}, LinkOptions{Peer: "open", Name: "x", Imports: []string{"o.>"}, Insecure: true})
	ob.TLS = ca.issue("b", "b")
	fb, _ := start(t, b, ob)
	link := func(peer string) []LinkOptions {
		return []LinkOptions{{Peer: peer, Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}
	}
	for name, o := range map[string]Options{
		"a certificate of another name":      {Node: "a", TLS: ca.issue("mallory", "mallory"), Links: link("b")},
		"a certificate of another authority": {Node: "a", TLS: &TLS{Cert: other.issue("a", "a").Cert, Key: filepath.Join(other.dir, "a.key"), CA: filepath.Join(ca.dir, "ca.pem")}, Links: link("b")},
		"a node that is not listed":          {Node: "c", TLS: ca.issue("c", "c"), Links: link("b")},
		"no TLS":                             {Node: "a", Links: link("b")},
		"a server of another name":           {Node: "a", TLS: ca.issue("a2", "a"), Links: link("z")},
	} {
		a := newBus(t, nil)
		fa, stop := start(t, a, o)
		until(t, name+" to be refused", func() bool { return linkOf(fa).LastError != "" })
		if st := linkOf(fa); st.Connects > 0 && !strings.Contains(st.LastError, "refused") {
			t.Errorf("%s: connected %d times, %s", name, st.Connects, st.LastError)
		}
		stop()
	}
	until(t, "the refusals to be counted", func() bool { st := fb.Status(); return st.AuthFailures > 0 && st.Refused >= 4 })
	if n := linkOf(fb).Connects; n != 0 {
		t.Errorf("%d connections were let in", n)
	}
	// Without TLS where both sides say so.
	a := newBus(t, nil)
	fa, _ := start(t, a, Options{Node: "open", Links: []LinkOptions{{Peer: "b", Name: "x", Address: address(fb), Exports: []Export{{Pattern: "o.>"}}, Insecure: true}}})
	until(t, "the open link", func() bool { return linkOf(fa).State == "up" })
	if fb.Status().Plaintext == 0 {
		t.Error("a connection without TLS was not counted")
	}
	// One bus on both ends.
	fc, _ := start(t, b, Options{Node: "open", Links: []LinkOptions{{Peer: "b", Name: "x", Address: address(fb), Exports: []Export{{Pattern: "o.>"}}, Insecure: true}}})
	until(t, "a link to itself to be refused", func() bool { return strings.Contains(linkOf(fc).LastError, "self") })
}

// raw is a hostile peer.
func raw(t *testing.T, f *Forwarder) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address(f))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func rawHello(name string) []byte {
	h := hello{version: 1, oldest: 1, maxBody: defaultBody, node: layout.ID16{9}, incarnation: layout.ID16{8}, name: name, link: "main"}
	return h.encode()
}

// cutOff waits until the other side closes.
func cutOff(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a hostile peer is still connected")
	}
}

func TestHostilePeersAreCutAndCounted(t *testing.T) {
	watch(t, time.Minute)
	b := newBus(t, nil)
	o := listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}, Exports: []Export{{Pattern: "e.>"}}})
	o.Dead = 400 * time.Millisecond
	fb, _ := start(t, b, o)
	good := open{originEpoch: layout.ID16{1}, originNode: layout.ID16{9}, maxMsg: 64, hops: 1, topic: "m.x", source: "s"}
	bad := func(change func(*open)) []byte { o := good; change(&o); return o.encode(1, 0) }
	old := hello{version: 9, oldest: 8, maxBody: defaultBody, node: layout.ID16{9}, name: "a", link: "main"}
	for name, sent := range map[string][][]byte{
		"silence before HELLO":    {},
		"garbage":                 {[]byte(strings.Repeat("GET / HTTP/1.1\r\n", 20))},
		"zeros":                   {make([]byte, 4096)},
		"another version":         {old.encode()},
		"an unknown name":         {rawHello("mallory")},
		"half a HELLO":            {rawHello("a")[:40]},
		"OPEN before HELLO":       {good.encode(1, 0)},
		"CLOSE before HELLO":      {encodeReason(kindClose, 0, codeStopping, "bye")},
		"a second HELLO":          {rawHello("a"), rawHello("a")},
		"an oversized length":     {rawHello("a"), {0xf8, 0xff, 0xff, 0x7f, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		"DATA of no stream":       {rawHello("a"), encode(kindData, 7, 0, make([]byte, 32))},
		"ACK of no stream":        {rawHello("a"), encode(kindAck, 7, 0, words(1))},
		"a flipped bit":           {rawHello("a"), func() []byte { b := good.encode(1, 0); b[40] ^= 1; return b }()},
		"a topic that is none":    {rawHello("a"), bad(func(o *open) { o.topic = "m..x" })},
		"a source with a newline": {rawHello("a"), bad(func(o *open) { o.source = "a\nb" })},
		"no origin":               {rawHello("a"), bad(func(o *open) { o.originEpoch = layout.ID16{} })},
		"stream 0":                {rawHello("a"), good.encode(0, 0)},
		"a stream twice":          {rawHello("a"), good.encode(1, 0), good.encode(1, 0)},
		"DATA before RESUME":      {rawHello("a"), good.encode(1, 0), encode(kindData, 1, 0, make([]byte, 32))},
		"a CLOSE":                 {rawHello("a"), encodeReason(kindClose, 0, codeStopping, "bye")},
		"a broken CLOSE":          {rawHello("a"), encode(kindClose, 0, 0, words(1<<40))},
		"silence after HELLO":     {rawHello("a")},
	} {
		c := raw(t, fb)
		for _, b := range sent {
			if _, err := c.Write(b); err != nil {
				break
			}
		}
		cutOff(t, c)
		if fb.Status().Panics != 0 {
			t.Fatalf("%s: a panic", name)
		}
	}
	until(t, "what hostile peers did to be counted", func() bool {
		st := fb.Status()
		return st.Refused != 0 && st.Links[0].ProtocolErrors != 0 && st.Links[0].Silences != 0
	})
	// Slowloris: a byte now and then is life, but no progress.
	c := raw(t, fb)
	_, err := c.Write(rawHello("a"))
	must(t, err)
	go func() {
		head := encode(kindData, 1, 0, make([]byte, 4096))
		for i := range head {
			if _, err := c.Write(head[i : i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	cutOff(t, c)
}

// Fear: connections that say nothing keep everybody else out, or cost memory without end.
func TestHalfOpenConnectionsAreFewAndShort(t *testing.T) {
	watch(t, time.Minute)
	a, b := newBus(t, nil), newBus(t, nil)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}))
	var all []net.Conn
	before := runtime.NumGoroutine()
	for range 1000 {
		c, err := net.Dial("tcp", address(fb))
		if err != nil {
			continue
		}
		all = append(all, c)
	}
	until(t, "them to be turned away", func() bool { return fb.Status().Crowded >= uint64(len(all)-maxHalfPerIP) })
	if more := runtime.NumGoroutine() - before; more > 2*maxHalf {
		t.Errorf("%d goroutines more", more)
	}
	for _, c := range all {
		c.Close()
	}
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	until(t, "a peer to get in", func() bool { return linkOf(fa).State == "up" })
}

// Fear: one topic that nobody reads there stops the others.
func TestSlowTopicDoesNotBlockTheOthers(t *testing.T) {
	watch(t, time.Minute)
	small := &shm.LocalOptions{RingBytes: 64 << 10, Policy: shm.Policy{Timeout: 20 * time.Second}}
	a, b := newBus(t, small), newBus(t, small)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}))
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	slow, fast := subscriber(t, b.Client, "m.slow"), subscriber(t, b.Client, "m.fast")
	ps, pf := publisher(t, a.Client, "m.slow", "s"), publisher(t, a.Client, "m.fast", "s")
	done := make(chan error, 1)
	go func() { done <- publishAll(ps, 0, 3000, 100) }()
	must(t, publishAll(pf, 0, 100, 100))
	readAll(t, fast, 0, 100)
	until(t, "the slow topic to be held", func() bool {
		for _, e := range linkOf(fa).Exports {
			if e.Topic == "m.slow" && e.LagBytes != nil && *e.LagBytes > 20<<10 {
				return true
			}
		}
		return false
	})
	wait := aside(t, func() error { return publishAll(pf, 100, 20_000, 100) })
	readAll(t, fast, 100, 20_000)
	wait()
	readAll(t, slow, 0, 3000) // and it was only held
	must(t, <-done)
	must(t, ps.Close())
	must(t, pf.Close())
}

func TestLossyExportHoldsNobodyAndItsGapsAreExact(t *testing.T) {
	watch(t, time.Minute)
	small := &shm.LocalOptions{RingBytes: 64 << 10}
	a, b := newBus(t, small), newBus(t, small)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{">"}}))
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb),
		Exports: []Export{{Pattern: "m.>"}, {Pattern: "m.x", Lossy: true}}, Compression: "zstd"}}})
	until(t, "the link", func() bool { return linkOf(fa).State == "up" })
	s := subscriber(t, b.Client, "m.x")
	p := publisher(t, a.Client, "m.x", "s")
	const n = 200_000
	// A lossy export of a lane that has come and gone carries nothing.
	until(t, "the lane to be followed", func() bool { return len(linkOf(fa).Exports) == 1 })
	must(t, publishAll(p, 0, n, 64)) // nothing holds it
	must(t, p.Close())
	var next, received, missed uint64
	for end := time.Now().Add(20 * time.Second); next < n; {
		if time.Now().After(end) {
			t.Fatalf("%d of %d, sender %+v, receiver %+v, subscriber %+v", next, n, linkOf(fa), linkOf(fb), s.Stats())
		}
		_, err := s.Poll(func(f shm.Frame) {
			if got := binary.LittleEndian.Uint64(f.Payload); got != f.Seq || f.Seq != next {
				t.Fatalf("message %d, sequence %d where %d is due", got, f.Seq, next)
			}
			next++
			received++
		}, 0)
		var gap *shm.GapError
		if errors.As(err, &gap) {
			if gap.From != next {
				t.Fatalf("%v where %d is due", gap, next)
			}
			next = gap.Next
			missed += gap.Missed()
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if received+missed != n {
		t.Errorf("%d received, %d missed, %d published", received, missed, n)
	}
}

func TestPausedLinkSendsNothingAndTakesOrders(t *testing.T) {
	ctx := watch(t, time.Minute)
	a, b := newBus(t, nil), newBus(t, nil)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}, Exports: []Export{{Pattern: "back.>"}}}))
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}, Imports: []string{"back.*"}}}})
	socket := filepath.Join(t.TempDir(), "f")
	cctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	ln, err := ListenControl(socket)
	must(t, err)
	go func() { served <- fa.ServeControl(cctx, ln) }()
	if _, err := ListenControl(socket); !errors.Is(err, shm.ErrExists) {
		t.Errorf("a second forwarder on the socket: %v", err)
	}
	st, err := Ask(ctx, socket, Order{Op: "pause", Link: "b"})
	must(t, err)
	if st.Links[0].State != "paused" {
		t.Errorf("state %q", st.Links[0].State)
	}
	s, back := subscriber(t, b.Client, "m.x"), subscriber(t, a.Client, "back.x")
	p, q := publisher(t, a.Client, "m.x", "s"), publisher(t, b.Client, "back.x", "s")
	must(t, publishAll(p, 0, 10, 64))
	must(t, publishAll(q, 0, 10, 64))
	readAll(t, back, 0, 10) // the other way goes on
	if n, err := s.Poll(func(shm.Frame) {}, 0); n != 0 || err != nil {
		t.Errorf("%d messages over a paused link, %v", n, err)
	}
	// Something waits, and nobody has told how much: that is no lag of 0.
	until(t, "the lane", func() bool { return len(linkOf(fa).Exports) == 1 })
	if l := linkOf(fa); l.LagFrames != nil || l.LagBytes != nil || l.Exports[0].LagFrames != nil || l.Exports[0].State != "idle" {
		t.Errorf("what a paused link tells of its lag: %+v", l)
	}
	for _, k := range linkOf(fa).Imports {
		if k.LagFrames != nil {
			t.Errorf("the lag of an import: %+v", k)
		}
	}
	p.Flush()
	if l := linkOf(fa); l.LagFrames == nil || *l.LagFrames != 10 || *l.LagBytes != *l.Exports[0].LagBytes {
		t.Errorf("the lag that was told: %+v", l)
	}
	_, err = Ask(ctx, socket, Order{Op: "resume", Link: "b/main"})
	must(t, err)
	readAll(t, s, 0, 10)
	until(t, "the lag to be 0", func() bool { return arrived(linkOf(fa)) })
	for _, o := range []Order{{Op: "pause", Link: "c"}, {Op: "resume", Link: ""}} {
		if _, err := Ask(ctx, socket, o); !errors.Is(err, shm.ErrNotFound) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Ask(ctx, socket, Order{Op: "dance"}); err == nil {
		t.Error("an unknown order was obeyed")
	}
	if err := fa.Pause("x", "y", true); !errors.Is(err, shm.ErrNotFound) {
		t.Error(err)
	}
	c, err := net.Dial("unix", socket)
	must(t, err)
	_, err = c.Write([]byte("nonsense\n"))
	must(t, err)
	if answer, _ := io.ReadAll(c); !strings.Contains(string(answer), "error") {
		t.Errorf("answer to nonsense: %s", answer)
	}
	cancel()
	must(t, <-served)
	if _, err := Ask(ctx, socket, Order{Op: "status"}); !errors.Is(err, ErrNoForwarder) {
		t.Errorf("after the end: %v", err)
	}
	must(t, os.WriteFile(socket, nil, 0o600))
	if _, err := ListenControl(socket); err == nil {
		t.Error("a file was taken for a socket")
	}
	must(t, p.Close())
	must(t, q.Close())
}

// Fear: rules that the receiver does not have stall the sender's publishers.
func TestRefusedTopicHoldsNobody(t *testing.T) {
	watch(t, time.Minute)
	small := &shm.LocalOptions{RingBytes: 64 << 10, Policy: shm.Policy{Timeout: 20 * time.Second}}
	a, b := newBus(t, small), newBus(t, small)
	ob := listening("b", LinkOptions{Peer: "a", Imports: []string{"m.x"}})
	ob.MaxBody = 16 << 10
	fb, _ := start(t, b, ob)
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}}}})
	until(t, "the link", func() bool { return linkOf(fa).State == "up" })
	p, err := a.Publisher(context.Background(), "m.y", &shm.PublisherOptions{Source: "s"})
	must(t, err)
	must(t, publishAll(p, 0, 20_000, 100))
	big, err := a.Publisher(context.Background(), "m.x", &shm.PublisherOptions{Source: "s", RingBytes: 1 << 20, MaxMessageBytes: 32 << 10})
	must(t, err)
	must(t, publishAll(big, 0, 20_000, 100))
	until(t, "both refusals", func() bool {
		why := ""
		for _, e := range linkOf(fa).Exports {
			why += e.Why + " "
		}
		return strings.Contains(why, "denied") && strings.Contains(why, "large")
	})
	must(t, p.Close())
	must(t, big.Close())
	until(t, "the lanes to be given up", func() bool { return len(linkOf(fa).Exports) == 0 })
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	ok := LinkOptions{Peer: "b", Address: "x:1", Exports: []Export{{Pattern: "a"}}}
	with := func(change func(*LinkOptions)) Options {
		l := ok
		change(&l)
		return Options{Node: "a", Links: []LinkOptions{l}}
	}
	good := Options{Node: "a", Links: []LinkOptions{ok}}
	must(t, good.Validate())
	for name, o := range map[string]Options{
		"no name":         {Links: []LinkOptions{ok}},
		"no link":         {Node: "a"},
		"max body":        {Node: "a", MaxBody: 7, Links: []LinkOptions{ok}},
		"beat":            {Node: "a", Beat: time.Second, Dead: time.Second, Links: []LinkOptions{ok}},
		"twice":           {Node: "a", Links: []LinkOptions{ok, ok}},
		"no peer":         with(func(l *LinkOptions) { l.Peer = "" }),
		"itself":          with(func(l *LinkOptions) { l.Peer = "a" }),
		"nobody dials":    with(func(l *LinkOptions) { l.Address = "" }),
		"bad export":      with(func(l *LinkOptions) { l.Exports = []Export{{Pattern: "a..b"}} }),
		"export twice":    with(func(l *LinkOptions) { l.Exports = append(l.Exports, l.Exports[0]) }),
		"bad import":      with(func(l *LinkOptions) { l.Imports = []string{""} }),
		"nothing":         with(func(l *LinkOptions) { l.Exports = nil }),
		"odd compression": with(func(l *LinkOptions) { l.Compression = "lz4" }),
	} {
		if err := o.Validate(); !errors.Is(err, shm.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := newBus(t, nil)
	bad := good
	bad.TLS = &TLS{}
	if _, err := New(context.Background(), b.Client, bad); err == nil {
		t.Error("TLS without files")
	}
	bad.TLS = &TLS{Cert: "x", Key: "y", CA: "z"}
	if _, err := New(context.Background(), b.Client, bad); err == nil {
		t.Error("TLS with files that are not there")
	}
	bad = good
	bad.Listen = []string{"256.0.0.1:1"}
	if _, err := New(context.Background(), b.Client, bad); err == nil {
		t.Error("an address that is none")
	}
	if _, err := New(context.Background(), b.Client, Options{}); err == nil {
		t.Error("no options")
	}
	f, stop := start(t, b, good)
	if _, err := New(context.Background(), b.Client, good); !errors.Is(err, shm.ErrExists) {
		t.Errorf("a second forwarder for the same link: %v", err)
	}
	_ = f
	stop()
	held, err := Forget(context.Background(), b.Client, good)
	if err != nil || len(held) != 1 {
		t.Errorf("forgot %v, %v", held, err)
	}
	if held, err = Forget(context.Background(), b.Client, good); err != nil || len(held) != 0 {
		t.Errorf("forgot again %v, %v", held, err)
	}
}

// A second connection of a link takes the place of the first.
func TestSecondConnectionReplacesTheFirst(t *testing.T) {
	watch(t, time.Minute)
	b := newBus(t, nil)
	fb, _ := start(t, b, listening("b", LinkOptions{Peer: "a", Imports: []string{"m.>"}}))
	first := raw(t, fb)
	_, err := first.Write(rawHello("a"))
	must(t, err)
	until(t, "the first", func() bool { return linkOf(fb).State == "up" })
	second := raw(t, fb)
	_, err = second.Write(rawHello("a"))
	must(t, err)
	cutOff(t, first)
	until(t, "the second", func() bool { return linkOf(fb).Connects == 2 })
	// One that is offered while another waits to be taken over.
	l := fb.links[0]
	x, y := net.Pipe()
	defer y.Close()
	s1 := newSession(l, x, &hello{node: layout.ID16{9}, maxBody: defaultBody})
	l.connMu.Lock()
	l.next = s1
	l.connMu.Unlock()
	z, w := net.Pipe()
	defer w.Close()
	l.offer(z, &hello{node: layout.ID16{9}, maxBody: defaultBody})
	<-s1.gone
}

// Several links between two hosts, both ways on each, over IPv6.
func TestTwoLinksOverIPv6CarryBothWays(t *testing.T) {
	watch(t, time.Minute)
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this host has no IPv6: ", err)
	}
	must(t, probe.Close())
	a, b := newBus(t, nil), newBus(t, nil)
	fb, _ := start(t, b, Options{Node: "b", Listen: []string{"[::1]:0"}, Links: []LinkOptions{
		{Peer: "a", Imports: []string{"m.>"}, Exports: []Export{{Pattern: "o.>"}}}, {Peer: "a", Name: "two", Imports: []string{"n.>"}}}})
	fa, _ := start(t, a, Options{Node: "a", Links: []LinkOptions{
		{Peer: "b", Address: address(fb), Exports: []Export{{Pattern: "m.>"}}, Imports: []string{"o.>"}},
		{Peer: "b", Name: "two", Address: address(fb), Exports: []Export{{Pattern: "n.>"}}}}})
	sm, sn, so := subscriber(t, b.Client, "m.x"), subscriber(t, b.Client, "n.x"), subscriber(t, a.Client, "o.x")
	pm, pn, po := publisher(t, a.Client, "m.x", "s"), publisher(t, a.Client, "n.x", "s"), publisher(t, b.Client, "o.x", "s")
	wait := []func(){aside(t, func() error { return publishAll(pm, 0, 20_000, 64) }), aside(t, func() error { return publishAll(pn, 0, 20_000, 64) }),
		aside(t, func() error { return publishAll(po, 0, 20_000, 64) })}
	read := []func(){aside(t, func() error { readAll(t, sm, 0, 20_000); return nil }), aside(t, func() error { readAll(t, sn, 0, 20_000); return nil }),
		aside(t, func() error { readAll(t, so, 0, 20_000); return nil })}
	for _, f := range append(wait, read...) {
		f()
	}
	st := fa.Status()
	if _, err := st.Link("b"); err == nil {
		t.Error("an ambiguous name was enough")
	}
	if l, err := st.Link("b/two"); err != nil || l.Sent.Frames != 20_000 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, p := range []*shm.Publisher{pm, pn, po} {
		must(t, p.Close())
	}
}
