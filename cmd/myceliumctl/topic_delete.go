package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/control"
)

type topicDeleted struct {
	Topic       string `json:"topic"`
	Deleted     bool   `json:"deleted"` // false = a dry run
	Publishers  int    `json:"publishers"`
	Subscribers int    `json:"subscribers"`
	Lanes       int    `json:"lanes"`
}

func newDeleteCommand(a *app, path string) *cobra.Command {
	var yes, dry bool
	c := &cobra.Command{
		Use:   "delete TOPIC",
		Short: "Delete a topic",
		Long: `Delete a topic and what is kept of its messages. A topic that is published on or
subscribed to by its name is refused (exit code 6). Asks first on a terminal, and
refuses without --yes elsewhere.`,
		Example:           "  myceliumctl " + path + "delete market.test --dry-run\n  myceliumctl " + path + "delete market.test --yes",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			if !yes && !dry && !a.stdinTTY {
				return usagef("delete %s: stdin is no terminal to ask on; confirm with --yes", args[0])
			}
			client, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			t, err := inspectTopic(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			r := topicDeleted{Topic: t.Topic, Deleted: !dry, Publishers: t.Publishers, Subscribers: t.Subscribers, Lanes: t.Lanes}
			if !yes && !dry {
				if err := a.confirm(cmd, fmt.Sprintf("Delete %s (%s)?", r.Topic, r.counts())); err != nil {
					return err
				}
			}
			if !dry {
				if _, err := client.Request(cmd.Context(), &control.Message{Op: control.OpDelete, Topic: args[0]}); err != nil {
					return err
				}
			}
			return a.print(cmd, "topic_delete", r, func(w io.Writer) {
				fmt.Fprintf(w, "%s %s (%s)\n", map[bool]string{true: "deleted", false: "would delete"}[r.Deleted], r.Topic, r.counts())
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&dry, "dry-run", false, "say what would be deleted and delete nothing")
	return c
}

func (r *topicDeleted) counts() string {
	return fmt.Sprintf("%d %s, %d %s, %d %s", r.Publishers, plural(r.Publishers, "publisher", "publishers"),
		r.Subscribers, plural(r.Subscribers, "subscriber", "subscribers"), r.Lanes, plural(r.Lanes, "lane", "lanes"))
}

var errDeclined = errors.New("not confirmed: nothing was done")

// confirm asks on the terminal; anything but y or yes declines.
func (a *app) confirm(cmd *cobra.Command, question string) error {
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	answer, _ := bufio.NewReader(&interruptible{ctx: cmd.Context(), r: cmd.InOrStdin()}).ReadString('\n')
	if err := context.Cause(cmd.Context()); err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}
