package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// step undoes one thing that was started.
type step struct {
	name string
	// within bounds the step beside the whole stop's deadline; 0: that alone.
	within time.Duration
	run    func(ctx context.Context) error
}

// lastBreath is what a step gets when the whole budget is spent: enough to
// send one statement, or to close what needs no waiting.
const lastBreath = 250 * time.Millisecond

// stack holds the steps of a stop. It is safe for use by several goroutines at
// once.
type stack struct {
	log   *slog.Logger
	muted atomic.Bool // failures are expected

	mu      sync.Mutex
	steps   []step
	stopped bool
	done    chan struct{} // closed when the first unwind has ended
	err     error
}

func newStack(log *slog.Logger) *stack { return &stack{log: log, done: make(chan struct{})} }

// push adds a step, to be written on the line after what it undoes.
func (s *stack) push(name string, within time.Duration, run func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step{name, within, run})
}

// unwind runs the steps, last pushed first, every one of them whatever the
// others return, and joins their errors. A second call waits for the first, or
// until its ctx ends, and returns the same.
func (s *stack) unwind(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return fmt.Errorf("waiting for the stop: %w", context.Cause(ctx))
		}
	}
	s.stopped = true
	steps := s.steps
	s.mu.Unlock()

	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		if err := s.runStep(ctx, steps[i]); err != nil {
			errs = append(errs, err)
		}
	}
	s.err = errors.Join(errs...)
	close(s.done)
	return s.err
}

func (s *stack) runStep(ctx context.Context, st step) error {
	ctx, cancel := stepContext(ctx, st.within)
	defer cancel()
	began := time.Now()
	if err := st.run(ctx); err != nil {
		level := slog.LevelError
		if s.muted.Load() {
			level = slog.LevelDebug
		}
		s.log.Log(ctx, level, "stopping failed", "step", st.name, "took", time.Since(began), "error", err)
		return fmt.Errorf("stopping %s: %w", st.name, err)
	}
	s.log.Debug("stopped", "step", st.name, "took", time.Since(began))
	return nil
}

func stepContext(ctx context.Context, within time.Duration) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithTimeout(context.WithoutCancel(ctx), lastBreath)
	}
	if within > 0 {
		return context.WithTimeout(ctx, within)
	}
	return context.WithCancel(ctx)
}

// within runs f, which knows no context, and stops waiting for it when ctx
// ends: a database that hangs must not keep a node from ending.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
