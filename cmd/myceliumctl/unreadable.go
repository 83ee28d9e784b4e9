package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/topic"
	"github.com/torq/mycelium/shm"
)

const (
	unreadableNamed = 3 // topics, in a warning
	unreadableFirst = time.Second
	unreadableLast  = time.Minute
)

// warnUnreadable warns of the topics that match a pattern and may not be read, of
// which a subscriber hears nothing. It returns how many there are.
func (a *app) warnUnreadable(ctx context.Context, cmd *cobra.Command, client *shm.Client, pattern string) int {
	if !topic.IsPattern(pattern) { // to subscribe was an error
		return 0
	}
	all, err := listTopics(ctx, client, pattern)
	if err != nil {
		return 0
	}
	var names []string
	for i := range all {
		if !all[i].Readable {
			names = append(names, all[i].Topic)
		}
	}
	if len(names) == 0 {
		return 0
	}
	why := refusalOf(ctx, client, names[0])
	if ctx.Err() != nil {
		return 0
	}
	text := strings.Join(names[:min(len(names), unreadableNamed)], ", ")
	if more := len(names) - unreadableNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	a.warn(cmd, "%d %s of %s may not be read: %s%s", len(names), plural(len(names), "topic", "topics"), pattern, text, why)
	return len(names)
}

// refusalOf asks why a topic may not be read: the registry tells the user that it
// sees, and the key of its configuration.
func refusalOf(ctx context.Context, client *shm.Client, name string) string {
	s, err := client.Subscriber(ctx, name, nil)
	if err == nil { // since this moment it may
		_ = s.Close()
	}
	var refused *control.Error
	if !errors.As(err, &refused) {
		return ""
	}
	return safe(fmt.Sprintf("; %s (%s)", refused.Message, refused.Hint))
}

// awaitUnreadable looks for such topics now and, since they may come later, now and
// then as long as quiet says that nothing else came, until it has warned of some.
func (a *app) awaitUnreadable(ctx context.Context, cmd *cobra.Command, client *shm.Client, pattern string, quiet func() bool) int {
	for wait := unreadableFirst; ; wait = min(2*wait, unreadableLast) {
		n := a.warnUnreadable(ctx, cmd, client, pattern)
		if n > 0 || !topic.IsPattern(pattern) || sleepUntil(ctx, time.Now().Add(wait)) != nil || !quiet() {
			return n
		}
	}
}
