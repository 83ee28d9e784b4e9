package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/transport/tcp"
)

func newForwardCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "forward",
		Short: "Extend topics to other hosts over TCP",
		Long: `Extend topics to other hosts: a forwarder on each host carries what its
configuration exports and imports, each message once, in order per source, over
cuts of the network and restarts of everything. docs/forwarding.md shows how to
set up two hosts.`,
	}
	o := &forwardTarget{}
	f := c.PersistentFlags()
	f.StringVar(&o.file, "config", "", "configuration `file` (MYCELIUM_FORWARD_CONFIG; default: forward.toml beside the registry's)")
	f.StringVar(&o.control, "control", "", "control `socket` of a running forwarder (default: as its configuration says)")
	c.AddCommand(newForwardRunCommand(a, o), newForwardListCommand(a, o), newForwardInspectCommand(a, o),
		newForwardPauseCommand(a, o, "pause"), newForwardPauseCommand(a, o, "resume"), newForwardForgetCommand(a, o),
		newForwardGraphCommand(a), newForwardCheckCommand(a), newForwardDemoCommand(a))
	return c
}

// forwardTarget says which forwarder is meant.
type forwardTarget struct{ file, control string }

const forwardConfigEnv = "MYCELIUM_FORWARD_CONFIG"

// load reads the configuration.
func (o *forwardTarget) load() (*config.Forward, error) {
	file := cmp.Or(o.file, os.Getenv(forwardConfigEnv), config.DefaultForwardFile(os.Getuid(), os.Getenv))
	if file == "" {
		return nil, usagef("no configuration: name one with --config")
	}
	c, err := config.LoadForward(file)
	var bad *config.Error
	if err != nil && !errors.As(err, &bad) {
		return nil, withHint(err, "name a configuration with --config; docs/forwarding.md has an example")
	}
	return c, err
}

// socket is the registry that a forwarder forwards for.
func (a *app) forwardRegistry(c *config.Forward) string {
	return cmp.Or(a.socket, c.Registry, registry.DefaultSocket())
}

// controlOf is where the forwarder takes orders.
func (a *app) controlOf(o *forwardTarget) (string, error) {
	if o.control != "" {
		return o.control, nil
	}
	c, err := o.load()
	if err != nil {
		return "", err
	}
	return cmp.Or(c.Control, config.ForwardControl(a.forwardRegistry(c), c.Node)), nil
}

// askForwarder sends an order to the forwarder that is meant.
func (a *app) askForwarder(ctx context.Context, o *forwardTarget, order tcp.Order) (*tcp.Status, error) {
	path, err := a.controlOf(o)
	if err != nil {
		return nil, err
	}
	s, err := tcp.Ask(ctx, path, order)
	if errors.Is(err, tcp.ErrNoForwarder) {
		return nil, withHint(fmt.Errorf("control socket %s: %w", path, err), "start a forwarder with: myceliumctl forward run, or name its control socket with --control")
	}
	return s, err
}
