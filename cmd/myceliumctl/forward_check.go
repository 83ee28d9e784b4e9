package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/transport/tcp"
)

// survey loads the configurations of several hosts.
func survey(files []string) (*tcp.Topology, error) {
	var all []*config.Forward
	for _, file := range files {
		c, err := config.LoadForward(file)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return tcp.Survey(all), nil
}

// topologyError says that configurations do not fit together.
type topologyError struct{ fatal int }

func (e *topologyError) Error() string {
	return fmt.Sprintf("%d %s that the forwarders cannot work with", e.fatal, plural(e.fatal, "finding", "findings"))
}

func newForwardCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check the configurations of one or more hosts together",
		Long: `Check forwarder configurations: each by itself, with file, line and column of
every problem, and together, before anything starts. Findings are

  unmatched  one side has a link or a rule that the other has not
  overlap    rules of one link that match the same topic
  loop       a way by which a host's own messages would come back to it
  double     two ways by which a host would get the same messages

While they run, forwarders refuse loops and doubles by themselves. The exit code
is 7 if a file is invalid, or a finding is fatal.`,
		Example: `  myceliumctl forward check host-a.toml host-b.toml host-c.toml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := survey(args)
			if err != nil {
				return err
			}
			if err := a.print(cmd, "forward_check", t, func(w io.Writer) {
				for _, f := range t.Findings {
					level := a.paint(yellow, "warning", a.stdoutTTY)
					if f.Fatal {
						level = a.paint(red, "error", a.stdoutTTY)
					}
					fmt.Fprintf(w, "%s: %s: %s (%s)\n", safe(f.At), level, safe(f.Text), f.Kind)
				}
				fmt.Fprintf(w, "%d %s, %d %s, %d %s\n", len(t.Nodes), plural(len(t.Nodes), "host", "hosts"),
					len(t.Edges), plural(len(t.Edges), "direction", "directions"), len(t.Findings), plural(len(t.Findings), "finding", "findings"))
			}); err != nil {
				return err
			}
			if n := t.Fatal(); n > 0 {
				return &topologyError{n}
			}
			return nil
		},
	}
}

func newForwardGraphCommand(a *app) *cobra.Command {
	var dot bool
	c := &cobra.Command{
		Use:   "graph FILE...",
		Short: "Show what goes where, by the configurations of several hosts",
		Long: `Show which topics go from which host to which, by the configurations of several
hosts. A direction whose receiving side was not given is marked with a question
mark. --dot writes it for Graphviz.`,
		Example: `  myceliumctl forward graph host-*.toml
  myceliumctl forward graph --dot host-*.toml | dot -Tsvg > graph.svg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := survey(args)
			if err != nil {
				return err
			}
			return a.print(cmd, "forward_graph", t, func(w io.Writer) {
				if dot {
					writeDot(w, t)
					return
				}
				tb := newTable("FROM", "TO", "LINK", "TRANSIT", "TOPICS")
				for _, e := range t.Edges {
					to, transit := e.To, "no"
					if !e.Known {
						to += " ?"
					}
					if e.Transit {
						transit = "yes"
					}
					tb.row(e.From, to, e.Link, transit, strings.Join(edgeTopics(&e), " "))
				}
				tb.write(w, "", a.title)
			})
		},
	}
	c.Flags().BoolVar(&dot, "dot", false, "write the graph for Graphviz")
	return c
}

func edgeTopics(e *tcp.Edge) []string {
	all := append([]string{}, e.Topics...)
	for _, p := range e.Lossy {
		all = append(all, p+" (lossy)")
	}
	return all
}

func writeDot(w io.Writer, t *tcp.Topology) {
	fmt.Fprintln(w, "digraph links {")
	for _, n := range t.Nodes {
		fmt.Fprintf(w, "  %q;\n", n)
	}
	for _, e := range t.Edges {
		style := "solid"
		if !e.Known {
			style = "dashed"
		}
		fmt.Fprintf(w, "  %q -> %q [label=%q, style=%s];\n", e.From, e.To, strings.Join(edgeTopics(&e), "\n"), style)
	}
	fmt.Fprintln(w, "}")
}

type forgotten struct {
	Node    string   `json:"node"`
	Exports []string `json:"exports"` // that were held
}

func newForwardForgetCommand(a *app, o *forwardTarget) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "forget",
		Short: "Hold nothing any more for a forwarder that does not come back",
		Long: `Give up what this host's publishers are held for, for the links of a
configuration whose forwarder is not running: what its peers do not have yet is
lost to them. A forwarder that runs is left alone.`,
		Example: `  myceliumctl forward forget --config old-forward.toml --yes`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.load()
			if err != nil {
				return err
			}
			if !yes {
				return withHint(usagef("what is held for %s would be lost to its peers", cfg.Node), "say --yes if that is meant")
			}
			client, err := registry.Dial(cmd.Context(), a.forwardRegistry(cfg), &registry.DialOptions{Program: "myceliumctl", Log: a.log})
			if err != nil {
				return err
			}
			defer client.Close()
			r := forgotten{Node: cfg.Node}
			r.Exports, err = tcp.Forget(cmd.Context(), client, tcp.FromConfig(cfg))
			if err != nil {
				return fmt.Errorf("%w (%d given up before)", err, len(r.Exports))
			}
			return a.print(cmd, "forward_forget", r, func(w io.Writer) {
				if len(r.Exports) == 0 {
					fmt.Fprintf(w, "nothing was held for %s\n", safe(cfg.Node))
				}
				for _, e := range r.Exports {
					fmt.Fprintf(w, "given up: %s\n", safe(e))
				}
			})
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}
