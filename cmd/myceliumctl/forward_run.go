package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/transport/tcp"
)

func newForwardRunCommand(a *app, o *forwardTarget) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the forwarder until SIGINT or SIGTERM",
		Long: `Run the forwarder of this host. It attaches to the registry, accepts and dials
links, and sends and takes what its configuration says. When it ends, and when
it is killed, what its peers do not have yet is held for it (key keep), and the
next start goes on there.

If the registry is not there yet it waits, says so once, and begins when the
registry is up; a service manager is told when it has. The other side of a link
may come and go as well.

Certificates are read again when their files change, and SIGHUP says that they
have; links stay up. Everything else changes with a restart.`,
		Example: `  myceliumctl forward run --config /etc/mycelium/forward.toml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.load()
			if err != nil {
				return err
			}
			var level slog.Level
			_ = level.UnmarshalText([]byte(c.LogLevel)) // the configuration holds no other words
			if cmd.Flags().Changed("log-level") || os.Getenv("MYCELIUM_LOG_LEVEL") != "" {
				_ = level.UnmarshalText([]byte(a.logLevel))
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			opt := tcp.FromConfig(c)
			opt.Log = log
			if err := opt.Check(); err != nil { // before it waits for anybody
				return err
			}
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP)
			defer signal.Stop(hup)
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			defer tellStopping(ctx, log)()
			socket := a.forwardRegistry(c)
			client, err := registry.Dial(ctx, socket, &registry.DialOptions{Program: "forward", Log: log, Waiting: awaitRegistry(log)})
			if err != nil {
				return err
			}
			defer client.Close()
			orders, err := tcp.ListenControl(cmp.Or(o.control, c.Control, config.ForwardControl(socket, c.Node)))
			if err != nil {
				return err
			}
			defer orders.Close()
			spareProcs(len(opt.Links))
			f, err := tcp.New(ctx, client, opt)
			if err != nil {
				return err
			}
			for _, at := range f.Addrs() {
				log.Info("listening", "node", c.Node, "address", at.String())
			}
			go func() {
				for {
					select {
					case <-ctx.Done():
						return
					case <-hup:
						f.Reload()
					}
				}
			}()
			control := make(chan error, 1)
			go func() {
				err := f.ServeControl(ctx, orders)
				if err != nil {
					cancel()
				}
				control <- err
			}()
			log.Info("forwarding", "node", c.Node, "registry", socket, "links", len(opt.Links))
			notifyManager(log, notifyReady)
			err = f.Run(ctx)
			cancel()
			return cmp.Or(<-control, err)
		},
	}
}

// spareProcs lets the runtime have more threads in Go code than there are cores. A link
// has two that sleep in system calls; where they are as many as GOMAXPROCS, the runtime's
// monitor wakes up some 10,000 times a second to take their places away (ADR 0053).
func spareProcs(links int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), 2*min(links, runtime.NumCPU())+2))
	}
}
