package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"catbird/internal/load"
)

// plainEvery is how often a line is written where there is no terminal.
const plainEvery = 5 * time.Second

// show shows how a run stands: one line that is drawn again and again in a
// terminal, else a line now and then. Its methods may be called by any
// goroutine.
type show struct {
	streams
	quiet bool

	mu    sync.Mutex
	drawn bool // the terminal's line is there
	phase load.Phase
	last  time.Time // a plain line was written
}

func newShow(s streams, quiet bool) *show { return &show{streams: s, quiet: quiet} }

// progress shows p. What cannot be written is not shown.
func (s *show) progress(p load.Progress) {
	if s.quiet || p.Phase == load.Done {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := line(p)
	if width := s.columns(); width > 0 {
		if r := []rune(text); len(r) >= width { // some terminals wrap at the last column
			text = string(r[:width-1])
		}
		fmt.Fprintf(s.err, "\r%s\x1b[K", text)
		s.drawn = true
		return
	}
	if now := time.Now(); p.Phase != s.phase || now.Sub(s.last) >= plainEvery {
		s.phase, s.last = p.Phase, now
		fmt.Fprintln(s.err, text)
	}
}

// say writes a line of its own.
func (s *show) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.err, format+"\n", args...)
}

// end takes the terminal's line away.
func (s *show) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *show) clear() {
	if s.drawn {
		fmt.Fprint(s.err, "\r\x1b[K")
		s.drawn = false
	}
}

func line(p load.Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %.0fs", p.Phase, p.Elapsed.Seconds())
	switch p.Phase {
	case load.Preparing:
		fmt.Fprintf(&b, "  %d of %d conversations", p.Created, p.Conversations)
	case load.Loading:
		fmt.Fprintf(&b, "  %.0f/s  p50 %s  p99 %s  max %s  ok %d", p.PerSecond,
			load.Latency(p.P50), load.Latency(p.P99), load.Latency(p.Max), p.OK)
		for _, n := range []struct {
			name  string
			count int64
		}{{"conflicts", p.Conflicts}, {"failed", p.Failed}, {"late", p.Late}} {
			if n.count > 0 {
				fmt.Fprintf(&b, "  %s %d", n.name, n.count)
			}
		}
		fmt.Fprintf(&b, "  under way %d", p.InFlight)
	case load.Verifying:
		fmt.Fprintf(&b, "  %d of %d conversations read back", p.Verified, p.Conversations)
	}
	if p.Findings > 0 {
		fmt.Fprintf(&b, "  WRONG %d", p.Findings)
	}
	return b.String()
}
