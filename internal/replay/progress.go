package replay

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// redrawEvery keeps a terminal from being written to more often than anybody
// can see.
const redrawEvery = 50 * time.Millisecond

// progress shows how far the groups are: one line that is drawn again and again
// in a terminal, else a line for each phase and each quarter of the work.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	width    func() int
	began    time.Time
	drawn    time.Time
	names    []string
	total    map[string]int
	ready    map[string]int
	err      error // the first of writing
}

func newProgress(cfg *Config) *progress {
	return &progress{
		out: cfg.Out, terminal: cfg.Terminal, width: cfg.Width, began: time.Now(),
		total: make(map[string]int), ready: make(map[string]int),
	}
}

func (p *progress) add(group string, work int) {
	p.names = append(p.names, group)
	p.total[group] = work
}

// say tells of a new phase of a group. In a terminal the line that moves says
// enough.
func (p *progress) say(group, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		p.printf("%s: %s\n", group, fmt.Sprintf(format, args...))
	}
}

// done counts one unit of a group's work.
func (p *progress) done(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready[group]++
	ready, total := p.ready[group], p.total[group]
	if !p.terminal {
		if quarter := 4 * ready / total; quarter != 4*(ready-1)/total {
			p.printf("%s: %d%% (%d of %d)\n", group, 100*ready/total, ready, total)
		}
		return
	}
	if time.Since(p.drawn) >= redrawEvery {
		p.drawn = time.Now()
		p.printf("\r%s\x1b[K", p.line())
	}
}

// end takes the line off the terminal and returns the first error of writing.
func (p *progress) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		p.printf("\r\x1b[K")
	}
	return p.err
}

// line returns what the terminal shows: a bar as wide as there is room, and
// where each group is. It is shorter than the terminal is wide, as some wrap at
// the last column.
func (p *progress) line() string {
	const least = 10 // of a bar that tells anything
	ready, total := 0, 0
	var text strings.Builder
	for _, name := range p.names {
		ready, total = ready+p.ready[name], total+p.total[name]
		fmt.Fprintf(&text, "  %s %d/%d", name, p.ready[name], p.total[name])
	}
	tail := fmt.Sprintf(" %3d%%%s  %.1fs", 100*ready/total, text.String(), time.Since(p.began).Seconds())
	room := p.width() - 1
	if inner := min(room-utf8.RuneCountInString(tail)-2, 40); inner >= least {
		full := inner * ready / total
		return "[" + strings.Repeat("=", full) + strings.Repeat(" ", inner-full) + "]" + tail
	}
	return cut(strings.TrimSpace(tail), room)
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:max(most, 0)])
	}
	return s
}

func (p *progress) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(p.out, format, args...); err != nil && p.err == nil {
		p.err = fmt.Errorf("show the progress: %w", err)
	}
}
