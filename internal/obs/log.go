package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// LevelTrace is below debug: what happens to single messages.
const LevelTrace = slog.LevelDebug - 4

// The formats of [NewLogger].
const (
	FormatJSON = "json"
	FormatText = "text"
)

// ComponentKey is the attribute by which a logger says whose it is, and by
// which its level is chosen.
const ComponentKey = "component"

// Levels are the level of every component and those of single ones. The zero
// value logs from info on.
type Levels struct {
	base      slog.Level
	component map[string]slog.Level
}

// ParseLevels reads "info" or "info,actor=debug,router=warn". A component
// stands for those below it too: actor for actor.journal. An empty text means
// info.
func ParseLevels(spec string) (Levels, error) {
	l := Levels{component: map[string]slog.Level{}}
	if strings.TrimSpace(spec) == "" {
		return l, nil
	}
	baseSet := false
	for part := range strings.SplitSeq(spec, ",") {
		name, text, single := strings.Cut(strings.TrimSpace(part), "=")
		if !single {
			name, text = "", name
		}
		level, ok := parseLevel(text)
		switch {
		case !ok:
			return Levels{}, fmt.Errorf("%q is not a level (trace, debug, info, warn, error)", text)
		case single && name == "":
			return Levels{}, fmt.Errorf("%q does not name a component", part)
		case single && !slices.Contains(components, strings.SplitN(name, ".", 2)[0]):
			return Levels{}, fmt.Errorf("%q is no component (%s)", name, strings.Join(components, ", "))
		case single:
			l.component[name] = level
		case baseSet:
			return Levels{}, fmt.Errorf("%q sets the level of everything a second time", part)
		default:
			l.base, baseSet = level, true
		}
	}
	return l, nil
}

// components are what lines of the log come from.
var components = []string{
	"actor", "app", "auth", "cluster", "delivery", "housekeeping", "operator", "peer", "postgres", "router", "sqlite", "traces",
}

func parseLevel(s string) (slog.Level, bool) {
	switch strings.ToLower(s) {
	case "trace":
		return LevelTrace, true
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn", "warning":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	default:
		return 0, false
	}
}

// Of returns the level of a component, "" for loggers that name none.
func (l Levels) Of(component string) slog.Level {
	for name := component; name != ""; {
		if level, ok := l.component[name]; ok {
			return level
		}
		cut := strings.LastIndexByte(name, '.')
		if cut < 0 {
			break
		}
		name = name[:cut]
	}
	return l.base
}

// lowest returns the lowest level of all.
func (l Levels) lowest() slog.Level {
	low := l.base
	for _, level := range l.component {
		low = min(low, level)
	}
	return low
}

// NewLogger returns a logger that writes lines of the given format to w, each
// component from its level on. Unknown formats are written as JSON.
func NewLogger(w io.Writer, levels Levels, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: levels.lowest(), ReplaceAttr: nameTrace}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if format == FormatText {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(&componentHandler{next: h, levels: levels, level: levels.base})
}

// nameTrace writes the trace level by its name.
func nameTrace(groups []string, a slog.Attr) slog.Attr {
	if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && level <= LevelTrace {
		a.Value = slog.StringValue("TRACE")
	}
	return a
}

// componentHandler drops what is below the level of the component that its
// logger was given by With.
type componentHandler struct {
	next   slog.Handler
	levels Levels
	level  slog.Level
	nested bool // inside a group: attributes are not the logger's own any more
}

// Enabled implements slog.Handler.
func (h *componentHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level
}

// Handle implements slog.Handler.
func (h *componentHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *componentHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == ComponentKey && !h.nested {
			c.level = h.levels.Of(a.Value.String())
		}
	}
	return &c
}

// WithGroup implements slog.Handler.
func (h *componentHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.next, c.nested = h.next.WithGroup(name), true
	return &c
}
