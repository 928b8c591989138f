package actor

import (
	"context"
	"fmt"

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
	r.claims = batcher[claimAsk, persistence.Claimed]{
		do: safely(r.doClaims), weigh: one[claimAsk], maxRows: claimBatch, maxSize: claimBatch, workers: 2,
	}
	r.lookups = batcher[lookupAsk, []*conversation.Earlier]{
		do:    safely(r.doLookups),
		weigh: func(q lookupAsk) (int, int) { return len(q.refs), 0 }, maxRows: lookupBatch, maxSize: 1, workers: 2,
	}
	weigh := func(u *conversation.Unit) (int, int) { return u.Weight() }
	r.small = batcher[*conversation.Unit, persistence.AppendOutcome]{
		do: safely(r.doAppends), weigh: weigh, maxRows: maxRows, maxSize: maxBytes, workers: 2,
	}
	r.large = batcher[*conversation.Unit, persistence.AppendOutcome]{
		do: safely(r.doAppends), weigh: weigh, maxRows: maxRows, maxSize: maxBytes, workers: 1,
	}
	r.frees = batcher[freeAsk, struct{}]{
		do: safely(r.doFrees), weigh: one[freeAsk], maxRows: freeBatch, maxSize: freeBatch, workers: 1,
	}
}

func one[Q any](Q) (rows, size int) { return 1, 1 }

// safely turns a panic below the store into an unknown outcome: the askers
// wait, and what they asked for may have happened.
func safely[Q, A any](do func([]Q) ([]A, error)) func([]Q) ([]A, error) {
	return func(batch []Q) (as []A, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%w: the store panicked: %v", persistence.ErrOutcomeUnknown, p)
			}
		}()
		return do(batch)
	}
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
