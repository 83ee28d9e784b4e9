package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/torq/mycelium/shm"
)

// What a service manager is told of a daemon of this program. The registry tells
// of itself.
const (
	notifyReady    = daemon.SdNotifyReady + "\nSTATUS=running"
	notifyStopping = daemon.SdNotifyStopping + "\nSTATUS=stopping"
)

// notifyManager tells the service manager, if there is one.
func notifyManager(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", "error", err)
	}
}

// tellStopping tells the service manager when ctx ends. A daemon defers done, which waits
// for that: one with little to do ends faster than it is told.
func tellStopping(ctx context.Context, log *slog.Logger) (done func()) {
	told := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(told)
		notifyManager(log, notifyStopping)
	})
	return func() {
		if !stop() {
			<-told
		}
	}
}

// awaitRegistry has a daemon wait for the registry and say so: the order in which
// they are started does not matter.
func awaitRegistry(log *slog.Logger) func(socket string, why error) {
	return func(socket string, why error) {
		text, _ := explain(why)
		log.Warn("waiting for the registry", "socket", socket, "why", strings.TrimPrefix(text, shm.ErrRegistryDown.Error()+": "))
		notifyManager(log, "STATUS=waiting for the registry at "+socket)
	}
}
