package actor

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/persistence"
)

const shardCount = 256

type shard struct {
	mu     sync.RWMutex
	actors map[string]*actor
}

// Registry holds a node's actors. All methods may be called at once from any
// goroutine.
type Registry struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	seed    maphash.Seed
	shards  [shardCount]shard
	count   atomic.Int64
	queued  atomic.Int64
	load    nodeLoad
	evict   sync.Mutex // one eviction at a time
	guard   supervisor
	folds   folder

	claims  batcher[claimAsk, persistence.Claimed]
	lookups batcher[lookupAsk, []*conversation.Earlier]
	small   batcher[*conversation.Unit, persistence.AppendOutcome]
	large   batcher[*conversation.Unit, persistence.AppendOutcome]
	frees   batcher[freeAsk, struct{}]

	ctx       context.Context // ends with Stop, after the actors have
	cancel    context.CancelCauseFunc
	closed    atomic.Bool
	gate      sync.RWMutex   // held for writing while closed is set, so that no work begins after
	work      sync.WaitGroup // actors' goroutines
	loops     sync.WaitGroup
	stopLoops context.CancelFunc
}

// NewRegistry returns a registry that serves at once. Stop ends it.
func NewRegistry(cfg Config) *Registry {
	cfg = cfg.withDefaults()
	r := &Registry{cfg: cfg, log: cfg.Logger.With("component", "actor"), seed: maphash.MakeSeed()}
	r.load.maxLetters, r.load.maxBytes = int64(cfg.NodeLetters), int64(cfg.NodeBytes)
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	for i := range r.shards {
		r.shards[i].actors = map[string]*actor{}
	}
	r.guard.init()
	r.folds.init()
	r.initStore()
	r.metrics = newMetrics(cfg.Registerer, r)
	loops, stop := context.WithCancel(r.ctx)
	r.stopLoops = stop
	r.loops.Go(func() { r.sweepLoop(loops) })
	r.loops.Go(func() { r.foldLoop(loops) })
	return r
}

func (r *Registry) shard(convo string) *shard {
	return &r.shards[maphash.String(r.seed, convo)%shardCount]
}

func (r *Registry) find(convo string) *actor {
	s := r.shard(convo)
	s.mu.RLock()
	a := s.actors[convo]
	s.mu.RUnlock()
	return a
}

// Do lets the conversation's actor handle req and waits for its answer; the
// actor is spawned if there is none. When ctx ends first, work that has not
// begun does not begin, and work that has begun is ErrOutcomeUnknown.
//
// It returns an *conversation.Error as a refusal, ErrMoving,
// *persistence.HeldError, persistence.ErrUnavailable (not stored) or
// persistence.ErrOutcomeUnknown.
func (r *Registry) Do(ctx context.Context, req *conversation.Request) (conversation.Result, error) {
	l := newLetter(ctx, req)
	if r.cfg.Traced {
		l.belongTo(ctx)
	}
	if err := r.post(req.Convo, l); err != nil {
		return conversation.Result{}, err
	}
	res, err := l.await(ctx)
	r.metrics.observe(req.Command.Op(), time.Since(l.at), err)
	return res, err
}

// Load sees to it that the conversation is claimed and in memory. One that is
// need not be fit for an answer: while it is silent, or this node's session has
// lapsed, the database is to be asked.
func (r *Registry) Load(ctx context.Context, convo string) error {
	if a := r.find(convo); a != nil {
		s := a.snap.Load()
		if s != nil && !s.void && s.session == r.cfg.Sessions.Current() {
			return nil
		}
	}
	l := newLetter(ctx, nil)
	if err := r.post(convo, l); err != nil {
		return err
	}
	_, err := l.await(ctx)
	return err
}

// await waits for the letter's answer, or until ctx ends.
func (l *letter) await(ctx context.Context) (conversation.Result, error) {
	select {
	case rep := <-l.reply:
		return rep.result, rep.err
	case <-ctx.Done():
	}
	if l.taken.CompareAndSwap(false, true) {
		return conversation.Result{}, context.Cause(ctx) // never begun
	}
	select {
	case rep := <-l.reply:
		return rep.result, rep.err
	default:
		return conversation.Result{}, errors.Join(persistence.ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// Epoch answers from memory, with no lock on the conversation, no allocation
// and no wait: the epoch, and whether caller is a member. ok is false where
// memory cannot tell: ask the database then.
func (r *Registry) Epoch(convo, caller string) (epoch int64, member, ok bool) {
	a := r.find(convo)
	if a == nil {
		return 0, false, false
	}
	s := a.snap.Load()
	if s == nil || s.silent {
		return 0, false, false
	}
	now := time.Now()
	if broken.Is(broken.CurrentSessionsDeadline) && r.cfg.Sessions.Current().Trusted(now) {
		return s.state.Epoch, s.state.Members.Has(caller), true
	}
	if !s.trustedAt(now) {
		return 0, false, false
	}
	if n := now.UnixNano(); n-a.used.Load() > usedGrain {
		a.used.Store(n)
	}
	return s.state.Epoch, s.state.Members.Has(caller), true
}

// usedGrain is how exactly reading is noted as use: a write by every reader would
// send the actor's memory back and forth between processors.
const usedGrain = int64(10 * time.Millisecond)

// Has reports whether the conversation's actor is in memory.
func (r *Registry) Has(convo string) bool { return r.find(convo) != nil }

// Each calls f with every conversation in memory, in no order. f must not call
// the registry.
func (r *Registry) Each(f func(convo string)) { r.each(func(a *actor) { f(a.convo) }) }

// EachClaim yields every claim in memory, in no order, until yield returns false.
// yield must not call the registry.
func (r *Registry) EachClaim(yield func(convo, session string, fence int64) bool) {
	for i := range r.shards {
		if !r.shards[i].eachClaim(yield) {
			return
		}
	}
}

func (s *shard) eachClaim(yield func(convo, session string, fence int64) bool) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.actors {
		if snap := a.snap.Load(); snap != nil && !yield(a.convo, snap.session.ID(), snap.fence) {
			return false
		}
	}
	return true
}

// Active returns how many actors there are.
func (r *Registry) Active() int { return int(r.count.Load()) }

// Info is what an operator sees of an actor.
type Info struct {
	Convo      string
	Epoch, Seq int64
	Fence      int64
	Mailbox    int
	Idle       time.Duration
	// Trusted: the actor has the conversation in memory, under a session that
	// may be believed at this instant.
	Trusted bool
}

// List returns up to limit actors in the order of their conversations' ids,
// after cursor, and the cursor of the next page, "" on the last.
func (r *Registry) List(limit int, cursor string) (page []Info, next string) {
	var all []*actor
	r.each(func(a *actor) {
		if a.convo > cursor {
			all = append(all, a)
		}
	})
	slices.SortFunc(all, func(a, b *actor) int {
		if a.convo < b.convo {
			return -1
		}
		return 1
	})
	if len(all) > limit {
		all = all[:limit]
		next = all[limit-1].convo
	}
	now := time.Now()
	for _, a := range all {
		i := Info{Convo: a.convo, Mailbox: a.waiting(), Idle: now.Sub(time.Unix(0, a.used.Load()))}
		if s := a.snap.Load(); s != nil {
			i.Epoch, i.Seq, i.Fence = s.state.Epoch, s.state.Seq, s.fence
			i.Trusted = !s.void && s.trusted()
		}
		page = append(page, i)
	}
	return page, next
}

func (r *Registry) each(f func(*actor)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, a := range s.actors {
			f(a)
		}
		s.mu.RUnlock()
	}
}

// post puts a letter into the mailbox of the conversation's actor. Only the
// evictions that a new actor may take let it wait.
func (r *Registry) post(convo string, l *letter) error {
	if !r.load.enter(l) {
		r.metrics.errors.WithLabelValues("overloaded").Inc()
		return conversation.Refuse(conversation.Overloaded, "this node has too much waiting")
	}
	for {
		a, err := r.obtain(convo)
		if err == nil {
			err = r.enqueue(a, l)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errGone):
			r.forget(a)
			continue
		case errors.Is(err, errMailboxFull):
			r.metrics.errors.WithLabelValues("mailbox_full").Inc()
			err = conversation.Refuse(conversation.MailboxFull, "this conversation has too much waiting")
		}
		r.load.leave(l)
		return err
	}
}

// enqueue puts a letter into an actor's mailbox and starts the actor's goroutine
// where none runs.
func (r *Registry) enqueue(a *actor, l *letter) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed.Load() {
		if a.snap.Load() == nil && a.releaseIfIdle() { // made too late to be let go of with the others
			r.forget(a)
		}
		return ErrClosed
	}
	start, err := a.enqueue(l, r.cfg.MailboxSize, r.cfg.MailboxBytes)
	if err != nil {
		return err
	}
	r.queued.Add(1)
	if start {
		r.work.Go(func() { r.run(a) })
	}
	return nil
}

// obtain returns the conversation's actor, a new one if there is none.
func (r *Registry) obtain(convo string) (*actor, error) {
	if r.closed.Load() {
		return nil, ErrClosed
	}
	if a := r.find(convo); a != nil {
		return a, nil
	}
	now := time.Now()
	if err := r.guard.allow(convo, now); err != nil {
		r.log.Error("Failed to get conversation actor", "convo", convo, "error", err)
		return nil, err
	}
	if err := r.takePlace(); err != nil {
		r.log.Error("Failed to get conversation actor", "convo", convo, "error", err)
		return nil, err
	}
	s := r.shard(convo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.actors[convo]; a != nil {
		r.count.Add(-1)
		return a, nil
	}
	a := newActor(convo, now)
	s.actors[convo] = a
	return a, nil
}

// forget takes a out of the registry, if it is still in it.
func (r *Registry) forget(a *actor) {
	s := r.shard(a.convo)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.actors[a.convo] == a {
		delete(s.actors, a.convo)
		r.count.Add(-1)
	}
}

// Stop lets every actor finish what its mailbox holds, folds the unread counts,
// releases the claims and waits for all of it, or until ctx ends. Requests that
// come meanwhile get ErrClosed. It may be called twice.
func (r *Registry) Stop(ctx context.Context) error {
	r.gate.Lock()
	stopped := r.closed.Swap(true)
	r.gate.Unlock()
	if stopped {
		return nil
	}
	r.stopLoops()
	err := errors.Join(
		waitFor(ctx, &r.loops),
		waitFor(ctx, &r.work),
		r.ReleaseAll(ctx, func(string) bool { return true }),
		r.foldAll(ctx),
	)
	r.cancel(ErrClosed) // whoever still waits for the database gives up
	return errors.Join(err, r.waitStore(ctx))
}

// Abandon stops as the end of the process would: whoever waits gets ErrClosed or
// an unknown outcome, nothing more is asked of the store, and the claims stay
// with the session. It returns when all goroutines have ended. Stop does nothing
// afterwards.
func (r *Registry) Abandon() {
	r.gate.Lock()
	r.closed.Store(true)
	r.gate.Unlock()
	r.stopLoops()
	r.cancel(ErrClosed)
	r.loops.Wait()
	r.work.Wait()
	_ = r.waitStore(context.Background()) // it ends: what is asked of the store is cut off
}

func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
