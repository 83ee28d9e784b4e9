package tcp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// keeper holds what was read last from the files of a TLS.
type keeper struct {
	mu      sync.Mutex
	stamp   [3]stamp
	cert    *tls.Certificate
	pool    *x509.CertPool
	reloads uint64
	failed  stamp // of a set of files that was refused, so that it is told once
}

// stamp tells one state of a file from another.
type stamp struct {
	size, mod int64
}

// load returns certificate and authorities, read anew if a file has changed.
func (t *TLS) load(log *slog.Logger) (*tls.Certificate, *x509.CertPool, error) {
	k := &t.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	var now [3]stamp
	var sum stamp
	for i, name := range []string{t.Cert, t.Key, t.CA} {
		info, err := os.Stat(name)
		if err != nil {
			return k.last(log, sum, err)
		}
		now[i] = stamp{info.Size(), info.ModTime().UnixNano()}
		sum.size, sum.mod = sum.size*31+now[i].size, sum.mod*31+now[i].mod
	}
	if k.cert != nil && now == k.stamp {
		return k.cert, k.pool, nil
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return k.last(log, sum, fmt.Errorf("certificate %s: %w", t.Cert, err))
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return k.last(log, sum, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return k.last(log, sum, fmt.Errorf("authorities %s: no certificate in PEM", t.CA))
	}
	if k.cert != nil {
		k.reloads++
		log.Info("certificates read anew", "cert", t.Cert)
	}
	k.stamp, k.cert, k.pool = now, &cert, pool
	return k.cert, k.pool, nil
}

// last is the last good state, after an error.
func (k *keeper) last(log *slog.Logger, sum stamp, err error) (*tls.Certificate, *x509.CertPool, error) {
	if k.cert == nil {
		return nil, nil, err
	}
	if k.failed != sum {
		k.failed = sum
		log.Error("certificates cannot be read: the last good ones stay", "error", err)
	}
	return k.cert, k.pool, nil
}

// Reloads is how often changed files were taken over.
func (t *TLS) Reloads() uint64 {
	t.keeper.mu.Lock()
	defer t.keeper.mu.Unlock()
	return t.keeper.reloads
}

// Check reads the files once.
func (t *TLS) Check() error {
	if t.Cert == "" || t.Key == "" || t.CA == "" {
		return errors.New("TLS needs cert, key and ca")
	}
	_, _, err := t.load(slog.New(slog.DiscardHandler))
	return err
}

// expiry is when the certificate in use ends.
func (t *TLS) expiry(log *slog.Logger) time.Time {
	cert, _, err := t.load(log)
	if err != nil || cert.Leaf == nil {
		return time.Time{}
	}
	return cert.Leaf.NotAfter
}

// server is the configuration of an accepted connection. The client's name is judged
// when HELLO has told which it is.
func (t *TLS) server(log *slog.Logger) (*tls.Config, error) {
	cert, pool, err := t.load(log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tlsVersion, Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs: pool, SessionTicketsDisabled: true}, nil
}

// client is the configuration of a dialled connection to a peer of that name.
func (t *TLS) client(log *slog.Logger, peer string) (*tls.Config, error) {
	cert, pool, err := t.load(log)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tlsVersion, Certificates: []tls.Certificate{*cert}, RootCAs: pool, ServerName: peer}, nil
}
