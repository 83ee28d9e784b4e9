package main

import (
	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
)

func newRegistryCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "registry", Short: "Run the registry, the daemon that owns a bus"}
	c.AddCommand(newRegistryServeCommand(a))
	return c
}

func newRegistryServeCommand(a *app) *cobra.Command {
	var file, socket, shmDir string
	var set []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry until SIGINT or SIGTERM",
		Long: `Run the registry: it creates segments, hands them to publishers and
subscribers over its socket, and removes them. Messages do not pass through it;
what is attached goes on while it is down.

SIGINT and SIGTERM end it in order, with exit code 0; segments in use stay and
the next registry adopts them. SIGHUP loads the configuration again; a bad one
is refused as a whole. Under systemd it takes the socket that is handed over and
reports its state. Unknown MYCELIUM_ variables are errors here.`,
		Example: `  myceliumctl registry serve
  myceliumctl registry serve --config mycelium.toml --set registry.max_topics=100
  myceliumctl registry serve --socket /tmp/bus.sock --shm-dir /dev/shm/my-bus`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := config.LoadOptions{File: file, Set: set, Flags: map[string]string{}, KnownEnv: knownEnv, Strict: true}
			flag := func(name, key, value string) {
				if cmd.Flags().Changed(name) {
					o.Flags[key] = value
				}
			}
			flag("registry", "registry.socket", a.socket)
			flag("socket", "registry.socket", socket)
			flag("shm-dir", "registry.shm_dir", shmDir)
			flag("log-level", "registry.log_level", a.logLevel)
			return registry.Serve(cmd.Context(), registry.Options{
				Load: func() (*config.Config, error) { return config.Load(o) },
			})
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration `file` (MYCELIUM_CONFIG; default: this user's, if there is one)")
	f.StringVar(&socket, "socket", "", "listen on this `path`")
	f.StringVar(&shmDir, "shm-dir", "", "bus `directory`, on a memory file system (MYCELIUM_SHM_DIR)")
	f.StringArrayVar(&set, "set", nil, "`key=value` that wins over the file, as in registry.max_topics=100; may be repeated")
	return c
}
