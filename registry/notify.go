package registry

import (
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// What a service manager is told.
const (
	notifyReady    = daemon.SdNotifyReady + "\nSTATUS=serving"
	notifyStopping = daemon.SdNotifyStopping + "\nSTATUS=stopping"
	notifyWatchdog = daemon.SdNotifyWatchdog
)

// notifyReloading carries the time, by which the manager tells this reload from
// the one before.
func notifyReloading() string {
	return daemon.SdNotifyReloading + "\nSTATUS=loading the configuration\n" + daemon.SdNotifyMonotonicUsec()
}

// notify tells the service manager, if there is one.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", "error", err)
	}
}

// watchdog ticks twice in the time after which the service manager takes the
// registry for dead; never if it does not watch.
func watchdog(log *slog.Logger) *time.Ticker {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("no watchdog", "error", err)
	}
	if every <= 0 {
		t := time.NewTicker(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTicker(max(every/2, time.Millisecond))
}
