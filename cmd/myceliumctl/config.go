package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
)

func newConfigCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and show the registry's configuration"}
	c.AddCommand(newConfigCheckCommand(a), newConfigShowCommand(a))
	return c
}

type configProblem struct {
	Origin  string `json:"origin"` // the file, a variable or an option
	Line    int    `json:"line"`   // 0 = not known
	Column  int    `json:"column"`
	Key     string `json:"key"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

type configChecked struct {
	File     string          `json:"file"`
	Valid    bool            `json:"valid"`
	Topics   int             `json:"topics"`
	Problems []configProblem `json:"problems"`
	Warnings []string        `json:"warnings"`
}

func newConfigCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Report every problem of a configuration file",
		Long: `Check a configuration file as the registry would read it, environment
included. Every problem is a line FILE:LINE:COLUMN: MESSAGE on stderr, and the
exit code is then 7.`,
		Example: `  myceliumctl config check /etc/mycelium/mycelium.toml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := config.Load(config.LoadOptions{File: args[0], KnownEnv: knownEnv})
			r := configChecked{File: args[0], Valid: err == nil, Problems: []configProblem{}, Warnings: []string{}}
			var bad *config.Error
			switch {
			case errors.As(err, &bad):
				r.Problems = problemsOf(bad)
				if a.output != "json" {
					return err
				}
			case err != nil:
				return err
			default:
				r.Topics = len(c.Topics)
				r.Warnings = append(r.Warnings, c.Warnings...)
			}
			if perr := a.print(cmd, "config_check", r, func(w io.Writer) {
				fmt.Fprintf(w, "%s: ok, %d topic %s\n", r.File, r.Topics, plural(r.Topics, "entry", "entries"))
			}); perr != nil {
				return perr
			}
			return err
		},
	}
}

// problemsOf are the problems of a configuration as JSON has them.
func problemsOf(bad *config.Error) []configProblem {
	all := []configProblem{}
	for _, p := range bad.Problems {
		j := configProblem{Origin: p.Origin, Line: p.Line, Column: p.Col, Key: p.Key, Message: p.Msg, Hint: p.Hint}
		if j.Origin == "" {
			j.Origin = bad.File
		}
		all = append(all, j)
	}
	return all
}

type configShown struct {
	File string      `json:"file"` // "" = built-in values and the environment only
	Keys []configKey `json:"keys"`
}

type configKey struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // as TOML
	Origin string `json:"origin"`
}

func newConfigShowCommand(a *app) *cobra.Command {
	var file string
	var set []string
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the effective configuration and where each value comes from",
		Long: `Print what a registry started now would use: defaults, file, --set and
environment laid over each other, as TOML with the origin of each value.`,
		Example: `  myceliumctl config show
  myceliumctl config show --config mycelium.toml -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.LoadOptions{File: file, Set: set, KnownEnv: knownEnv})
			if err != nil {
				return err
			}
			text := c.Effective()
			return a.print(cmd, "config", configShown{c.File, configKeys(text)}, func(w io.Writer) { _, _ = io.WriteString(w, text) })
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration `file` (MYCELIUM_CONFIG; default: this user's, if there is one)")
	c.Flags().StringArrayVar(&set, "set", nil, "`key=value` that wins over the file; may be repeated")
	return c
}

// configKeys are the lines of config.Effective: KEY = VALUE # ORIGIN below
// [registry] or [[topic]].
func configKeys(text string) []configKey {
	keys := []configKey{}
	table, topics := "", 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "[[topic]]":
			table = fmt.Sprintf("topic[%d]", topics)
			topics++
		case strings.HasPrefix(line, "["):
			table = strings.Trim(line, "[]")
		default:
			key, rest, ok := strings.Cut(line, " = ")
			at := strings.LastIndex(rest, " # ")
			if ok && at >= 0 {
				keys = append(keys, configKey{table + "." + key, rest[:at], rest[at+3:]})
			}
		}
	}
	return keys
}

func plural[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
