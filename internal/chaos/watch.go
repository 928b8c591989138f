package chaos

import (
	"context"
	"sync"
	"time"

	"catbird/internal/ctl"
	"catbird/internal/history"
)

const (
	lookEvery   = 100 * time.Millisecond
	lookTimeout = 2 * time.Second
	actorsPage  = 1000 // the most a page may have
)

// watcher asks every node, again and again, what it serves from memory.
//
// A node that says so under one fence in two answers served it all the time
// between: a fence is given once, so what was let go of comes back under another.
// What is sure is therefore the time from the end of the first such request to
// the beginning of the last; that is the tenure. No clock but that of the
// history is needed.
type watcher struct {
	ground *ground
	now    func() time.Duration

	mu   sync.Mutex
	seen map[tenure]*span
	wg   sync.WaitGroup
	stop context.CancelFunc
}

type tenure struct {
	convo, node string
	fence       int64
}

type span struct{ from, to time.Duration }

// watchOwners begins; who calls it stops it.
func watchOwners(g *ground, now func() time.Duration) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{ground: g, now: now, seen: map[tenure]*span{}, stop: cancel}
	for name := range g.sites {
		w.wg.Go(func() {
			for pause(ctx, lookEvery) {
				w.look(ctx, name)
			}
		})
	}
	return w
}

// end stops watching.
func (w *watcher) end() {
	w.stop()
	w.wg.Wait()
}

// look asks a node once. One that is away or does not answer is asked again soon.
func (w *watcher) look(ctx context.Context, name string) {
	if _, err := w.ground.fleet.Node(name); err != nil {
		return
	}
	o, err := w.ground.operator(name)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	w.note(ctx, o, name)
}

func (w *watcher) note(ctx context.Context, o *ctl.Client, name string) {
	for cursor := ""; ; {
		sent := w.now()
		page, err := o.Actors(ctx, actorsPage, cursor)
		if err != nil {
			return
		}
		got := w.now()
		w.mu.Lock()
		for _, a := range page.Actors {
			if a.Trusted {
				w.add(tenure{a.Convo, name, a.Fence}, sent, got)
			}
		}
		w.mu.Unlock()
		if cursor = page.Cursor; cursor == "" {
			return
		}
	}
}

func (w *watcher) add(t tenure, sent, got time.Duration) {
	s := w.seen[t]
	if s == nil {
		s = &span{from: got}
		w.seen[t] = s
	}
	s.to = sent
}

// tenures returns what is sure, in the terms of the history.
func (w *watcher) tenures() (all []history.Tenure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for t, s := range w.seen {
		if s.to >= s.from { // else it was seen once
			all = append(all, history.Tenure{Convo: t.convo, Node: t.node, Fence: t.fence, From: s.from, To: s.to})
		}
	}
	return all
}
