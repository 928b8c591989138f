package actor

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"catbird/conversation"
	"catbird/persistence"
)

// What actors ask of the store goes through batchers, so that what many actors
// want at once takes few transactions.

type claimAsk struct {
	session string
	convo   string
}

type lookupAsk struct {
	convo string
	refs  []persistence.Ref
}

type freeAsk struct {
	session string
	claim   persistence.Claim
}

func (r *Registry) initStore() {
	// A fault comes again if it is the conversation's own; what is repeated does
	// no harm.
	fault := func(err error) bool { return isPanic(err) || certain(err) }
	r.claims = batcher[claimAsk, persistence.Claimed]{
		do: safely(r, r.doClaims), weigh: one[claimAsk], maxRows: claimBatch, maxSize: claimBatch, workers: 2, alone: fault,
	}
	r.lookups = batcher[lookupAsk, []*conversation.Earlier]{
		do: safely(r, r.doLookups), weigh: func(q lookupAsk) (int, int) { return len(q.refs), 0 },
		maxRows: lookupBatch, maxSize: 1, workers: 2, alone: fault,
	}
	weigh := func(u *conversation.Unit) (int, int) { return u.Weight() }
	r.small = batcher[*conversation.Unit, persistence.AppendOutcome]{
		do: safely(r, r.doAppends), weigh: weigh, maxRows: maxRows, maxSize: maxBytes, workers: 2, alone: certain,
	}
	r.large = batcher[*conversation.Unit, persistence.AppendOutcome]{
		do: safely(r, r.doAppends), weigh: weigh, maxRows: maxRows, maxSize: maxBytes, workers: 1, alone: certain,
	}
	r.frees = batcher[freeAsk, struct{}]{
		do: safely(r, r.doFrees), weigh: one[freeAsk], maxRows: freeBatch, maxSize: freeBatch, workers: 1,
		alone: func(error) bool { return false },
	}
}

func one[Q any](Q) (rows, size int) { return 1, 1 }

// certain reports whether err is a fault of the store: nothing was stored, and
// the reason is not that the database is out of reach.
func certain(err error) bool {
	for _, other := range []error{
		persistence.ErrOutcomeUnknown, persistence.ErrUnavailable, persistence.ErrSessionOver,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// panicError is a panic below the store: what was asked for may have happened.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("the store panicked: %v", e.value) }
func (*panicError) Unwrap() error   { return persistence.ErrOutcomeUnknown }

func isPanic(err error) bool {
	var p *panicError
	return errors.As(err, &p)
}

// guarded runs do and makes an error of a panic: those who wait for the answer
// must get one.
func (r *Registry) guarded(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.metrics.errors.WithLabelValues("panic").Inc()
			r.log.Error("the store panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = &panicError{p}
		}
	}()
	return do()
}

func safely[Q, A any](r *Registry, do func([]Q) ([]A, error)) func([]Q) ([]A, error) {
	return func(batch []Q) (as []A, err error) {
		err = r.guarded(func() error {
			as, err = do(batch)
			if err == nil && len(as) != len(batch) {
				panic(fmt.Sprintf("%d answers to %d questions", len(as), len(batch)))
			}
			return err
		})
		return as, err
	}
}

// waitStore waits until nothing more is asked of the store.
func (r *Registry) waitStore(ctx context.Context) error {
	return errors.Join(r.claims.wait(ctx), r.lookups.wait(ctx), r.small.wait(ctx), r.large.wait(ctx), r.frees.wait(ctx))
}

func (r *Registry) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, r.cfg.StoreTimeout)
}

func (r *Registry) doClaims(batch []claimAsk) ([]persistence.Claimed, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	out := make([]persistence.Claimed, len(batch))
	for from := 0; from < len(batch); { // almost always one round: one session at a time
		to := from
		var ids []string
		for ; to < len(batch) && batch[to].session == batch[from].session; to++ {
			ids = append(ids, batch[to].convo)
		}
		got, err := r.cfg.Store.Claim(ctx, batch[from].session, ids)
		if err != nil {
			return nil, err
		}
		if len(got) != to-from {
			panic(fmt.Sprintf("%d answers to %d claims", len(got), to-from))
		}
		copy(out[from:to], got)
		from = to
	}
	return out, nil
}

func (r *Registry) doLookups(batch []lookupAsk) ([][]*conversation.Earlier, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	var convos []string
	var refs []persistence.Ref
	for _, q := range batch {
		for _, ref := range q.refs {
			convos = append(convos, q.convo)
			refs = append(refs, ref)
		}
	}
	got, err := r.cfg.Store.Lookup(ctx, convos, refs)
	if err != nil {
		return nil, err
	}
	out := make([][]*conversation.Earlier, len(batch))
	for i, q := range batch {
		out[i], got = got[:len(q.refs):len(q.refs)], got[len(q.refs):]
	}
	return out, nil
}

func (r *Registry) doAppends(units []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	r.metrics.units.Observe(float64(len(units)))
	return r.cfg.Store.Append(ctx, units)
}

func (r *Registry) append(u *conversation.Unit) (persistence.AppendOutcome, error) {
	if _, size := u.Weight(); size >= largeUnit {
		return r.large.ask(u)
	}
	return r.small.ask(u)
}

func (r *Registry) doFrees(batch []freeAsk) ([]struct{}, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	free := map[string][]persistence.Claim{}
	for _, q := range batch {
		free[q.session] = append(free[q.session], q.claim)
	}
	return make([]struct{}, len(batch)), r.freeAll(ctx, free)
}
