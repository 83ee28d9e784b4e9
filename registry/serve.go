package registry

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/directory"
)

// Options of Serve. The zero value serves the bus of this user with the
// built-in configuration.
type Options struct {
	// Config is what to serve. nil = what Load returns, or the built-in one
	// without Load.
	Config *config.Config

	// Load reads the configuration anew at SIGHUP. nil = Serve leaves the
	// signal alone.
	Load func() (*config.Config, error)

	// Log; nil = standard error, as log_level and log_format say at any time.
	Log *slog.Logger

	// Ready is called once, when clients can connect. nil = nobody waits.
	Ready func()

	// CleanUp has the end of Serve remove every segment without an owner: for a
	// bus that is used once.
	CleanUp bool
}

// Serve runs the registry until ctx ends, which is no error. It tells a service
// manager what it does (NOTIFY_SOCKET, WATCHDOG_USEC) and takes the socket from
// one that offers it (LISTEN_FDS).
//
// A bus that has a registry is a directory.ErrBusy with its process; a socket
// on which another one listens is an EADDRINUSE; a bus directory that others
// could write is a directory.ErrUnsafe; a bad configuration is a *config.Error.
func Serve(ctx context.Context, o Options) error {
	hangup := make(chan os.Signal, 1)
	if o.Load != nil {
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
	}
	s, err := start(o)
	if err != nil {
		return err
	}
	s.run(ctx, hangup)
	s.stop()
	return nil
}

// server is a registry that runs. Its fields are for the goroutine of Serve,
// where nothing else is said.
type server struct {
	opt      Options
	log      *slog.Logger // safe for concurrent use
	logging  logging
	cfg      *config.Config // as loaded last
	maxLanes int            // as at start: cursor files have so many slots
	dir      *directory.Server
	socket   *listener
	limit    atomic.Int64  // connections served at one time
	accepted chan struct{} // closed when acceptor has ended
}

func start(o Options) (*server, error) {
	s := &server{opt: o, cfg: o.Config, accepted: make(chan struct{})}
	if s.cfg == nil && o.Load != nil {
		var err error
		if s.cfg, err = o.Load(); err != nil {
			return nil, err
		}
	}
	if s.cfg == nil {
		s.cfg = config.Default()
	}
	r := s.cfg.Registry.WithDefaults()
	s.logging.follow(r)
	if s.log = o.Log; s.log == nil {
		s.log = s.logging.logger(os.Stderr)
	}
	s.maxLanes = r.MaxLanes

	opts, err := s.options(s.cfg, uint32(os.Getegid()))
	if err != nil {
		return nil, err
	}
	if s.dir, err = directory.Open(opts); err != nil {
		return nil, err
	}
	if s.socket, err = listen(r.Socket, r.Access); err != nil {
		_ = s.dir.Close()
		return nil, err
	}
	if err := s.configure(s.cfg); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// options are those of the bus directory under a configuration.
func (s *server) options(cfg *config.Config, group uint32) (directory.Options, error) {
	if err := cfg.Validate(); err != nil { // it may have been made in Go
		return directory.Options{}, err
	}
	rules, err := newRules(cfg, uint32(os.Geteuid()), group)
	if err != nil {
		return directory.Options{}, err
	}
	r := cfg.Registry.WithDefaults()
	return directory.Options{
		Dir:       r.ShmDir,
		Bus:       filepath.Base(r.ShmDir),
		TopicFor:  rules.topicFor,
		Authorize: rules.authorize,
		Quotas: directory.Quotas{
			MaxShmBytes:          r.MaxShmBytes,
			MaxShmBytesPerUID:    r.MaxShmBytesPerUID,
			MaxLanes:             s.maxLanes,
			MaxLanesPerUID:       r.MaxLanesPerUID,
			MaxLanesPerTopic:     r.MaxLanesPerTopic,
			MaxLosslessPerTopic:  r.MaxLosslessPerTopic,
			MaxSubscribersPerUID: r.MaxSubscribersPerUID,
			MaxTopics:            r.MaxTopics,
			MaxConnectionsPerUID: r.MaxConnectionsPerUID,
			HandshakeTimeout:     r.HandshakeTimeout,
			RequestsPerSecond:    r.RequestsPerSecond,
		},
		LaneGrace: r.LaneGrace,
		CleanUp:   s.opt.CleanUp,
		Log:       s.log,
	}, nil
}

// configure puts a configuration in force, as far as a running registry can,
// or refuses it and changes nothing.
func (s *server) configure(cfg *config.Config) error {
	opts, err := s.options(cfg, s.socket.group())
	if err != nil {
		return err
	}
	r := cfg.Registry.WithDefaults()
	if err := s.socket.setAccess(r.Access); err != nil {
		return err
	}
	s.logging.follow(r)
	s.dir.Reconfigure(opts)
	s.limit.Store(connectionLimit(r.MaxConnectionsPerUID))
	s.cfg = cfg
	return nil
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context, hangup <-chan os.Signal) {
	alive := watchdog(s.log)
	defer alive.Stop()

	go func() {
		defer close(s.accepted)
		newAcceptor(s).run()
	}()

	s.log.Info("serving", "socket", s.socket.path, "access", s.cfg.Registry.WithDefaults().Access, "max_connections", s.limit.Load(), "config", s.cfg.File, "pid", os.Getpid())
	for _, w := range s.cfg.Warnings {
		s.log.Warn("configuration", "warning", w)
	}
	notify(s.log, notifyReady)
	if s.opt.Ready != nil {
		s.opt.Ready()
	}
	for {
		select {
		case <-ctx.Done():
			s.log.Info("stopping", "why", context.Cause(ctx))
			return
		case <-hangup:
			s.reload()
		case <-alive.C:
			s.dir.Stats() // waits for ever if the state machine is stuck
			notify(s.log, notifyWatchdog)
		}
	}
}

// reload follows a changed configuration; a bad one is refused as a whole.
func (s *server) reload() {
	notify(s.log, notifyReloading())
	defer notify(s.log, notifyReady)
	old := s.cfg
	cfg, err := s.opt.Load()
	if err == nil {
		err = s.configure(cfg)
	}
	if err != nil {
		s.dir.Count("reloads_refused")
		s.log.Error("configuration refused, the old one stays in force")
		for _, problem := range problems(err) {
			s.log.Error("configuration", "error", problem)
		}
		return
	}
	s.dir.Count("reloads")
	changes := config.Diff(old, cfg)
	s.log.Info("configuration loaded", "config", cfg.File, "changes", len(changes))
	for _, c := range changes {
		level := slog.LevelInfo
		if c.Restart {
			level = slog.LevelWarn
		}
		s.log.Log(context.Background(), level, "configuration", "change", c.String())
	}
	for _, w := range cfg.Warnings {
		s.log.Warn("configuration", "warning", w)
	}
}

// problems are the lines of an error in a configuration.
func problems(err error) []string {
	var all *config.Error
	if !errors.As(err, &all) {
		return []string{err.Error()}
	}
	lines := make([]string, len(all.Problems))
	for i := range all.Problems {
		one := config.Error{File: all.File, Problems: all.Problems[i : i+1]}
		lines[i] = one.Error()
	}
	return lines
}

// stop ends the registry: no new client, no connection, then the bus is free.
func (s *server) stop() {
	notify(s.log, notifyStopping)
	s.close()
	<-s.accepted
	s.log.Info("stopped")
}

func (s *server) close() {
	s.socket.close()
	_ = s.dir.Close() // has nothing to fail at
}
