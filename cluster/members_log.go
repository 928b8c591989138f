package cluster

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// libraryLog turns the lines that memberlist writes to a log.Logger into
// records with a level.
type libraryLog struct{ log *slog.Logger }

func newLibraryLog(l *slog.Logger) *log.Logger {
	return log.New(libraryLog{l}, "", 0)
}

var libraryLevels = []struct {
	prefix string
	level  slog.Level
}{
	{"[DEBUG]", slog.LevelDebug},
	{"[INFO]", slog.LevelInfo},
	{"[WARN]", slog.LevelWarn},
	// What the library calls an error is a peer that does not answer or a
	// stranger that knocks. Faults of our own come back from its functions.
	{"[ERROR]", slog.LevelWarn},
	{"[ERR]", slog.LevelWarn},
}

// Write takes one line.
func (l libraryLog) Write(line []byte) (int, error) {
	level, text := slog.LevelWarn, bytes.TrimSpace(line)
	for _, p := range libraryLevels {
		if rest, ok := bytes.CutPrefix(text, []byte(p.prefix)); ok {
			level, text = p.level, bytes.TrimSpace(rest)
			break
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, string(text))
	}
	return len(line), nil
}
