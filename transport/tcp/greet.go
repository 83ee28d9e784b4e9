package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// greetTimeout is for TLS and both HELLOs.
const greetTimeout = 2 * time.Second

// RefusedError says why a connection did not become a link, on either side.
type RefusedError struct {
	Code string // of docs/link.md
	Why  string
	Mine bool // this side refused
}

func (e *RefusedError) Error() string {
	who := "the peer"
	if e.Mine {
		who = "this side"
	}
	return fmt.Sprintf("%s refused the link (%s): %s", who, e.Code, e.Why)
}

// judge decides on a HELLO: the link that it belongs to, or why there is none.
func (f *Forwarder) judge(h *hello, c net.Conn, want *link) (*link, *RefusedError) {
	no := func(c code, format string, a ...any) (*link, *RefusedError) {
		return nil, &RefusedError{Code: c.String(), Why: fmt.Sprintf(format, a...), Mine: true}
	}
	if h.oldest > Version || h.version < Version {
		return no(codeVersion, "%s speaks versions %d to %d, this side speaks %d: use matching releases", h.name, h.oldest, h.version, Version)
	}
	l := f.find(h.name, h.link)
	if l == nil || want != nil && l != want {
		return no(codeUnknown, "no link %q with node %q is configured here", h.link, h.name)
	}
	if h.node == f.node {
		return no(codeSelf, "%s is on the same bus", h.name)
	}
	if t, ok := c.(*tls.Conn); ok {
		certs := t.ConnectionState().PeerCertificates
		if len(certs) == 0 || certs[0].VerifyHostname(h.name) != nil {
			f.counters.authFailures.Add(1)
			return no(codeUnknown, "the certificate is not that of node %q", h.name)
		}
	} else if !l.opt.Insecure && (f.opt.TLS != nil || !loopback(c)) {
		return no(codeUnknown, "without TLS only on one host that has no certificates, or with insecure = true on both sides")
	} else {
		f.counters.plaintext.Add(1)
		level := slog.LevelWarn
		if loopback(c) {
			level = slog.LevelDebug
		}
		f.log.Log(context.Background(), level, "link without TLS: anybody on the way can read and write it", "link", l.opt.name(), "peer", h.name, "address", c.RemoteAddr().String())
	}
	return l, nil
}

// loopback reports whether both ends are on this host.
func loopback(c net.Conn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	return !ok || a.IP.IsLoopback()
}

func (f *Forwarder) hello(l *link) []byte {
	h := hello{version: Version, oldest: Version, maxBody: f.opt.MaxBody, node: f.node, incarnation: f.incarnation,
		decodes: 1<<0 | 1<<1, name: f.opt.Node, link: l.opt.name()}
	return h.encode()
}

// greetDialled says HELLO first.
func (f *Forwarder) greetDialled(c net.Conn, l *link) (*hello, error) {
	_ = c.SetDeadline(time.Now().Add(greetTimeout))
	if _, err := c.Write(f.hello(l)); err != nil {
		return nil, err
	}
	h, err := readHello(c)
	if err != nil {
		return nil, err
	}
	if _, no := f.judge(h, c, l); no != nil {
		refuse(c, no)
		return nil, no
	}
	return h, c.SetDeadline(time.Time{})
}

// greetAccepted answers a HELLO.
func (f *Forwarder) greetAccepted(c net.Conn) (*hello, *link, error) {
	_ = c.SetDeadline(time.Now().Add(greetTimeout))
	h, err := readHello(c)
	if err != nil {
		return nil, nil, err
	}
	l, no := f.judge(h, c, nil)
	if no != nil {
		refuse(c, no)
		return nil, nil, no
	}
	if _, err := c.Write(f.hello(l)); err != nil {
		return nil, nil, err
	}
	return h, l, c.SetDeadline(time.Time{})
}

// refuse says CLOSE.
func refuse(c net.Conn, no *RefusedError) {
	for k, name := range codeNames {
		if name == no.Code {
			_, _ = c.Write(encodeReason(kindClose, 0, k, no.Why))
		}
	}
}

// readHello reads exactly one frame.
func readHello(c net.Conn) (*hello, error) {
	b := make([]byte, headerBytes+earlyBody)
	if _, err := io.ReadFull(c, b[:headerBytes]); err != nil {
		return nil, fmt.Errorf("no HELLO: %w", err)
	}
	_, n, err := decode(b[:headerBytes], earlyBody)
	if err != nil {
		return nil, err
	}
	if n == 0 { // there is a body
		n = headerBytes + int(uint32(b[0])|uint32(b[1])<<8)
	}
	if _, err := io.ReadFull(c, b[headerBytes:n]); err != nil {
		return nil, fmt.Errorf("half a HELLO: %w", err)
	}
	fr, _, err := decode(b[:n], earlyBody)
	if err != nil {
		return nil, err
	}
	switch fr.kind {
	case kindHello:
		h, err := decodeHello(fr.body)
		return &h, err
	case kindClose:
		c, text, err := decodeReason(fr.body)
		if err != nil {
			return nil, err
		}
		return nil, &RefusedError{Code: c.String(), Why: text}
	}
	return nil, protocolError("%v before HELLO", fr.kind)
}

// dial makes one connection of a link.
func (f *Forwarder) dial(ctx context.Context, l *link) (net.Conn, *hello, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	var d net.Dialer
	dialled, err := d.DialContext(ctx, "tcp", l.opt.Address)
	if err != nil {
		return nil, nil, err
	}
	s, err := f.socket(dialled.(*net.TCPConn))
	if err != nil {
		return nil, nil, err
	}
	var c net.Conn = s
	if f.opt.TLS != nil && !l.opt.Insecure {
		cfg, err := f.opt.TLS.client(f.log, l.opt.Peer)
		if err != nil {
			_ = c.Close()
			return nil, nil, err
		}
		t := tls.Client(c, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			f.counters.authFailures.Add(1)
			return nil, nil, fmt.Errorf("TLS with %s: %w", l.opt.Peer, err)
		}
		c = t
	}
	h, err := f.greetDialled(c, l)
	if err != nil {
		_ = c.Close()
		var no *RefusedError
		if !errors.As(err, &no) && errors.Is(err, io.EOF) && f.opt.TLS == nil {
			err = fmt.Errorf("%w (does the peer want TLS?)", err)
		}
		return nil, nil, err
	}
	return c, h, nil
}
