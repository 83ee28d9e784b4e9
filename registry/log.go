package registry

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/torq/mycelium/internal/config"
)

// logging is where the log goes and how, changed by a reload while others log.
type logging struct {
	level slog.LevelVar
	json  atomic.Bool
}

// follow takes over log_level and log_format.
func (l *logging) follow(r config.Registry) {
	_ = l.level.UnmarshalText([]byte(r.LogLevel)) // the configuration holds no other words
	l.json.Store(r.LogFormat == "json")
}

func (l *logging) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: &l.level}
	return slog.New(&logHandler{l, slog.NewTextHandler(w, o), slog.NewJSONHandler(w, o)})
}

// logHandler picks one of two formats for each record.
type logHandler struct {
	*logging
	text, object slog.Handler
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.json.Load() {
		return h.object.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &logHandler{h.logging, h.text.WithAttrs(a), h.object.WithAttrs(a)}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.logging, h.text.WithGroup(name), h.object.WithGroup(name)}
}
