package actor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// folder knows which conversations have messages that the members' unread
// counts do not hold yet. What a crash makes it forget is found again when the
// conversation is loaded, or by housekeeping.
type folder struct {
	mu    sync.Mutex
	dirty map[string]struct{}
}

// maxDirty bounds the set; what does not fit is found later by housekeeping.
const maxDirty = 1 << 20

func (f *folder) init() { f.dirty = map[string]struct{}{} }

func (f *folder) mark(convo string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty) < maxDirty {
		f.dirty[convo] = struct{}{}
	}
}

func (f *folder) takeAll() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.dirty) == 0 {
		return nil
	}
	all := make([]string, 0, len(f.dirty))
	for convo := range f.dirty {
		all = append(all, convo)
	}
	f.dirty = map[string]struct{}{}
	return all
}

func (r *Registry) foldLoop(ctx context.Context) {
	t := time.NewTicker(r.cfg.FoldEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := r.foldAll(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("unread counts not folded; they will be", "error", err)
			}
		}
	}
}

// foldAll folds what is dirty, in the order of the ids and in small
// transactions, so that it holds no lock for long.
func (r *Registry) foldAll(ctx context.Context) error {
	all := r.folds.takeAll()
	slices.Sort(all)
	for len(all) > 0 {
		chunk := all[:min(foldBatch, len(all))]
		if err := r.fold(ctx, chunk); err != nil {
			// The database has trouble: leave it alone until the next time.
			for _, convo := range all {
				r.folds.mark(convo)
			}
			return fmt.Errorf("folding unread counts: %w", err)
		}
		r.metrics.folds.Add(float64(len(chunk)))
		all = all[len(chunk):]
	}
	return nil
}

func (r *Registry) fold(ctx context.Context, convos []string) error {
	ask, cancel := context.WithTimeout(ctx, r.cfg.StoreTimeout)
	defer cancel()
	return r.guarded(func() error { return r.cfg.Store.Fold(ask, convos) })
}
