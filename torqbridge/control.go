package torqbridge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/torq/mycelium/shm"
)

// A command to a running bridge is one line of JSON on its control socket, the
// answer another; then the connection ends. Only the bridge's user may connect.
//
//	{"op":"status"}                                         {"status":[...]}
//	{"op":"move","domain":"signals","to":"bus","force":false,"dry_run":false}   {"move":{...}}
//	                                                        {"error":"...","kind":"no_relay"}
type request struct {
	Op     string `json:"op"`
	Domain string `json:"domain,omitempty"` // "" = all, for status
	To     Mode   `json:"to,omitempty"`
	Force  bool   `json:"force,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

type answer struct {
	Status []Status `json:"status,omitempty"`
	Move   *Move    `json:"move,omitempty"`
	Error  string   `json:"error,omitempty"`
	Kind   string   `json:"kind,omitempty"`
}

// kinds are the errors that a command can tell apart.
var kinds = map[string]error{
	"unknown_domain": ErrUnknownDomain,
	"no_relay":       ErrNoRelay,
	"not_proven":     ErrNotProven,
	"too_far":        ErrTooFar,
	"live":           ErrLive,
	"access":         ErrAccess,
	"invalid":        shm.ErrInvalid,
	"quota":          shm.ErrQuota,
	"no_space":       shm.ErrNoSpace,
	"registry_down":  shm.ErrRegistryDown,
	"source_busy":    shm.ErrSourceBusy,
	"permission":     shm.ErrPermission,
}

// remoteError is an error of the bridge, as a command sees it.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// ErrBridgeDown: no bridge answers on the control socket.
var ErrBridgeDown = errors.New("no bridge answers")

const (
	maxRequestBytes = 64 << 10
	requestTime     = 5 * time.Second
	moveTime        = 30 * time.Second // a move takes less than ten seconds
)

// controlSocket is the bridge's end.
type controlSocket struct {
	l    *net.UnixListener
	path string
	once sync.Once
}

func listenControl(path string) (*controlSocket, error) {
	n := &names{bus: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := n.listen(); err != nil {
		if errors.Is(err, ErrLive) {
			return nil, fmt.Errorf("%s: %w: another bridge runs: stop it, or set bridge.control to another path", path, ErrLive)
		}
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		n.close()
		return nil, err
	}
	return &controlSocket{l: n.l, path: path}, nil
}

func (c *controlSocket) close() {
	c.once.Do(func() {
		_ = os.Remove(c.path)
		_ = c.l.Close()
	})
}

func (c *controlSocket) serve(b *Bridge) {
	for {
		conn, err := c.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(firstDelay)
			continue
		}
		go func() {
			defer conn.Close()
			_ = conn.SetReadDeadline(time.Now().Add(requestTime))
			var r request
			line, err := bufio.NewReaderSize(conn, maxRequestBytes).ReadSlice('\n')
			if err == nil {
				err = json.Unmarshal(line, &r)
			}
			a := &answer{}
			if err == nil {
				a, err = b.answer(&r)
			}
			if err != nil {
				a = &answer{Error: err.Error()}
				for kind, e := range kinds {
					if errors.Is(err, e) {
						a.Kind = kind
					}
				}
			}
			_ = json.NewEncoder(conn).Encode(a)
		}()
	}
}

// answer obeys a command. One that comes while the bridge begins waits for it.
func (b *Bridge) answer(r *request) (*answer, error) {
	if b.waits.Load() {
		return nil, fmt.Errorf("the bridge waits for its registry: %w", shm.ErrRegistryDown)
	}
	select {
	case <-b.begun:
	case <-b.ctx.Done():
		return nil, errors.New("the bridge ends")
	}
	switch r.Op {
	case "status":
		a := &answer{Status: []Status{}}
		for _, d := range b.domains {
			if r.Domain == "" || r.Domain == d.cfg.Name {
				a.Status = append(a.Status, d.status())
			}
		}
		if len(a.Status) == 0 {
			_, err := b.domain(r.Domain)
			return nil, err
		}
		return a, nil
	case "move":
		d, err := b.domain(r.Domain)
		if err != nil {
			return nil, err
		}
		m, err := d.move(b.ctx, r.To, r.Force, r.DryRun, "")
		return &answer{Move: &m}, err
	}
	return nil, fmt.Errorf("unknown operation %q", r.Op)
}

// GetStatus asks the bridge behind a control socket ("" = the default one) what a
// domain does, "" = all.
func GetStatus(ctx context.Context, control, domain string) ([]Status, error) {
	a, err := ask(ctx, control, &request{Op: "status", Domain: domain}, requestTime)
	return a.Status, err
}

// MoveTo has the bridge bring a domain into a mode, or only say whether it could.
// Errors: ErrBridgeDown, ErrUnknownDomain, ErrNoRelay, ErrNotProven, ErrTooFar.
func MoveTo(ctx context.Context, control, domain string, to Mode, force, dryRun bool) (Move, error) {
	a, err := ask(ctx, control, &request{Op: "move", Domain: domain, To: to, Force: force, DryRun: dryRun}, moveTime)
	if err != nil {
		return Move{}, err
	}
	return *a.Move, nil
}

func ask(ctx context.Context, control string, r *request, limit time.Duration) (*answer, error) {
	if control == "" {
		control = DefaultControl()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	a := &answer{}
	var dial net.Dialer
	conn, err := dial.DialContext(ctx, "unix", control)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", control, ErrBridgeDown)
		}
		return a, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	err = json.NewEncoder(conn).Encode(r)
	if err == nil {
		err = json.NewDecoder(conn).Decode(a)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return a, fmt.Errorf("%s: %w", control, err)
	}
	if a.Error != "" {
		return a, &remoteError{a.Error, kinds[a.Kind]}
	}
	return a, nil
}
