package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// app is what all commands of one invocation share: the global flags and the
// three streams. Commands print through cobra's writers only.
type app struct {
	output   string // table, wide or json
	socket   string // "" = the default one
	quiet    bool
	color    string // auto, always or never
	logLevel string

	log     *slog.Logger
	stdout  *stdout
	running bool // a command has begun: what fails from here on is not a matter of usage

	stdinTTY, stdoutTTY, stderrTTY bool
	outFD, errFD                   int

	live atomic.Bool // a line of progress stands on stderr
}

// oneRequest is the time within which signals ask for the same thing: timeout(1)
// and the like send one to the process and one to its group.
const oneRequest = 300 * time.Millisecond

// run is the whole program. It returns the exit code.
func run(args []string, in, out, errOut *os.File) int {
	// A signal's first arrival ends the command in order, its second the process.
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		stop(&signalError{(<-signals).(syscall.Signal)})
		for first := time.Now(); ; {
			if s := <-signals; time.Since(first) >= oneRequest {
				os.Exit(exitSignal + int(s.(syscall.Signal)))
			}
		}
	}()
	// With a handler, a write to a closed pipe fails with EPIPE; without, the
	// runtime kills the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	a := &app{
		stdout:   &stdout{w: out},
		stdinTTY: term.IsTerminal(int(in.Fd())), stdoutTTY: term.IsTerminal(int(out.Fd())), stderrTTY: term.IsTerminal(int(errOut.Fd())),
		outFD: int(out.Fd()), errFD: int(errOut.Fd()),
	}
	root := newRoot(a, in, errOut)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var interrupted *signalError
	switch {
	case errors.As(context.Cause(ctx), &interrupted) && err != nil && !errors.Is(err, errLoss):
		err = interrupted // whatever it was in the middle of
	case err == nil:
		err = a.stdout.err // a command may print with functions that hide it
	}
	if err != nil && !a.running {
		err = &usageError{plainFlags(err)}
		a.guessOutput(args)
	}
	return a.report(errOut, err)
}

// guessOutput finds -o where parsing did not get that far, so that a script
// that asked for JSON gets its errors in JSON.
func (a *app) guessOutput(args []string) {
	if a.output != "" && a.output != "table" {
		return
	}
	a.output = os.Getenv("MYCELIUM_OUTPUT")
	for i, s := range args {
		switch {
		case s == "-o" || s == "--output":
			if i+1 < len(args) {
				a.output = args[i+1]
			}
		case strings.HasPrefix(s, "--output="), strings.HasPrefix(s, "-o="):
			_, a.output, _ = strings.Cut(s, "=")
		case s == "-ojson":
			a.output = "json"
		}
	}
}

func newRoot(a *app, in io.Reader, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "myceliumctl",
		Short: "Run and inspect a Mycelium bus: messages through shared memory",
		Long: `myceliumctl runs and inspects a Mycelium bus: publishers and subscribers in
separate processes that exchange messages through shared memory.

Output goes to stdout, everything else to stderr. With -o json every command
prints JSON; messages and reports that come one by one are one object a line.

Exit codes: 0 ok; 1 failure; 2 usage; 3 not found; 4 permission; 5 registry
unreachable; 6 conflict or exists; 7 configuration invalid; 8 incompatible
version; 9 loss seen with --fail-on-loss; 10 timeout; 11 out of shared memory
or quota; 130 and 143 interrupted by SIGINT and SIGTERM.`,
		Example: `  myceliumctl registry serve &
  myceliumctl sub 'market.>' &
  echo hello | myceliumctl pub market.test`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(in)
	root.SetOut(a.stdout) // before the completion commands are made: they keep it
	root.SetErr(errOut)
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", cmp.Or(os.Getenv("MYCELIUM_OUTPUT"), "table"), "output `format`: table, wide or json (MYCELIUM_OUTPUT)")
	f.StringVar(&a.socket, "registry", "", "registry `socket` (MYCELIUM_REGISTRY; default: this user's bus)")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress, summaries or notes on stderr; errors still")
	f.StringVar(&a.color, "color", "auto", "colours: auto, always or never (NO_COLOR, CLICOLOR_FORCE)")
	f.StringVar(&a.logLevel, "log-level", cmp.Or(os.Getenv("MYCELIUM_LOG_LEVEL"), "warn"), "log `level` on stderr: debug, info, warn or error (MYCELIUM_LOG_LEVEL)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "wide", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	_ = root.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) }

	root.AddGroup(&cobra.Group{ID: "bus", Title: "Bus:"}, &cobra.Group{ID: "data", Title: "Messages:"}, &cobra.Group{ID: "other", Title: "Other:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("data", newCodecCommand(a))
	add("bus", newRegistryCommand(a), newTopicCommand(a), newForwardCommand(a))
	add("bus", topicCommands(a, "")...)
	add("data", newPubCommand(a), newSubCommand(a), newHzCommand(a), newReplayCommand(a), newTorqCommand(a))
	add("other", newBenchCommand(a), newDemoCommand(a), newConfigCommand(a), newVersionCommand(a))
	root.SetCompletionCommandGroupID("other")
	root.SetHelpCommandGroupID("other")
	root.InitDefaultCompletionCmd()
	markRunning(a, root)
	return root
}

// markRunning makes every command note that it has begun, and every group of
// commands refuse what is none of them, which cobra answers with a help page
// and success.
func markRunning(a *app, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		markRunning(a, c)
	}
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(c *cobra.Command, args []string) error {
			a.running = true
			return inner(c, args)
		}
	}
	if inner := cmd.Args; inner != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if inner(c, args) == nil {
				return nil
			}
			err := fmt.Errorf("%d %s; the usage is: %s", len(args), plural(len(args), "argument", "arguments"), c.UseLine())
			return withHint(err, "see "+c.CommandPath()+" --help")
		}
	}
	if !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			err := fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())
			if s := c.SuggestionsFor(args[0]); len(s) > 0 {
				return withHint(err, "did you mean "+strings.Join(s, " or ")+"?")
			}
			return withHint(err, "see "+c.CommandPath()+" --help")
		}
		if cmd.SuggestionsMinimumDistance == 0 {
			cmd.SuggestionsMinimumDistance = 2
		}
	}
}

// prepare checks the global flags and the environment.
func (a *app) prepare(cmd *cobra.Command) error {
	if a.output != "table" && a.output != "wide" && a.output != "json" {
		bad := a.output
		a.output = "table"
		return fmt.Errorf("output format %q: want table, wide or json", bad)
	}
	if a.color != "auto" && a.color != "always" && a.color != "never" {
		return fmt.Errorf("--color %q: want auto, always or never", a.color)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", a.logLevel)
	}
	a.log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	if cmd.CommandPath() != "myceliumctl registry serve" { // for which they are errors
		a.warnEnvironment(cmd)
	}
	return nil
}

// warnEnvironment warns of MYCELIUM_ variables without a meaning. Whoever reads
// the configuration reports the wrong values of the others.
func (a *app) warnEnvironment(cmd *cobra.Command) {
	c, err := config.Load(config.LoadOptions{File: os.DevNull, KnownEnv: knownEnv})
	if err != nil {
		return
	}
	for _, w := range c.Warnings {
		a.warn(cmd, "%s", w)
	}
}

// knownEnv are the variables that mean something to this program beside those
// of the configuration.
var knownEnv = []string{"MYCELIUM_FAILPOINTS", forwardConfigEnv}

// dial attaches to the bus; the caller closes the client.
func (a *app) dial(ctx context.Context) (*shm.Client, error) {
	return registry.Dial(ctx, a.socket, &registry.DialOptions{Program: "myceliumctl", Log: a.log})
}
