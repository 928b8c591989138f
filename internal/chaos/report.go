package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files of a report, in its folder.
const (
	historyFile  = "history.jsonl"
	scheduleFile = "schedule.jsonl"
	verdictFile  = "verdict.json"
	tableFile    = "report.txt"
	logFile      = "log.txt"
	nodesDir     = "nodes"
	violationDir = "violations"
)

// report is what a run leaves behind, and its live log. Its methods may be
// called from any goroutine.
type report struct {
	dir     string
	nodes   string
	history io.Writer
	clock   func() time.Duration

	mu       sync.Mutex
	log      io.Writer
	schedule *json.Encoder
	err      error // the first that writing met
	closers  []func() error
}

func newReport(opt Options) (*report, error) {
	if opt.Dir == "" {
		return nil, errors.New("no folder for the report")
	}
	r := &report{dir: opt.Dir, nodes: filepath.Join(opt.Dir, nodesDir)}
	for _, dir := range []string{r.nodes, filepath.Join(opt.Dir, violationDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making the report's folder: %w", err)
		}
	}
	var err error
	if r.history, err = r.create(historyFile); err != nil {
		return nil, errors.Join(err, r.close())
	}
	schedule, err := r.create(scheduleFile)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.schedule = json.NewEncoder(schedule)
	kept, err := r.create(logFile)
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	r.log = kept
	if opt.Log != nil {
		r.log = io.MultiWriter(opt.Log, kept)
	}
	return r, nil
}

// create makes a file that close closes. What is written is there at once, also
// for who looks into it after a run that was killed.
func (r *report) create(name string) (io.Writer, error) {
	f, err := os.Create(filepath.Join(r.dir, name))
	if err != nil {
		return nil, fmt.Errorf("keeping the report: %w", err)
	}
	r.closers = append(r.closers, f.Close)
	return f, nil
}

func (r *report) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := []error{r.err}
	for _, c := range r.closers {
		errs = append(errs, c())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// say writes a line of the live log.
func (r *report) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := time.Duration(0)
	if r.clock != nil {
		at = r.clock()
	}
	_, err := fmt.Fprintf(r.log, "%7.2fs  %s\n", at.Seconds(), fmt.Sprintf(format, args...))
	r.keep(err)
}

func (r *report) event(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(r.schedule.Encode(e))
}

func (r *report) keep(err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("keeping the report: %w", err)
	}
}

// verdict writes the verdict, as JSON and as text.
func (r *report) verdict(v Verdict) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the verdict: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(r.dir, verdictFile), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(r.dir, tableFile), []byte(v.String()), 0o644),
	)
}
