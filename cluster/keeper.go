package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"catbird/internal/broken"
	"catbird/persistence"
)

// SessionStore is what the keeper asks of the database.
type SessionStore interface {
	StartSession(ctx context.Context, s persistence.Session) error
	RenewSession(ctx context.Context, id string) error
	LiveSessions(ctx context.Context) ([]persistence.Session, error)
	EndStalled(ctx context.Context, id string, seen int64) (ended bool, err error)
	EndSession(ctx context.Context, id string) error
	Wanted(ctx context.Context, session string) ([]string, error)
}

// KeeperConfig is what a Keeper needs. Store, Node, TTL and Logger are
// required.
type KeeperConfig struct {
	Store   SessionStore
	Node    string
	Address string // of the node's internal port, "" for none
	TTL     time.Duration
	Logger  *slog.Logger

	// Registerer takes the keeper's metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

const (
	watchEvery = 250 * time.Millisecond
	// watchCalm is the pause between two looks where there are more than many
	// sessions and all of them renew: what looking costs rises with their square.
	watchCalm = time.Second
	many      = 100
	// wantsEvery is the pause between two looks at what others want.
	wantsEvery = 500 * time.Millisecond
	// trustShare of the TTL is how long memory is trusted after a renewal was
	// sent; the rest is what a looker needs to notice.
	trustShare = 0.8
)

// Keeper keeps this node's session alive in the database and ends those of
// nodes that stand still: rules 1 to 4 of docs/architecture.md.
//
// Callbacks are set before Start. All other methods may be called from any
// goroutine.
type Keeper struct {
	cfg     KeeperConfig
	log     *slog.Logger
	metrics keeperMetrics
	current atomic.Pointer[Session]
	onLost  []func(*Session)
	onBegin []func(*Session)
	wanted  func(ctx context.Context, convos []string)

	established chan struct{} // closed with the first session
	once        sync.Once
	cancel      context.CancelCauseFunc
	wg          sync.WaitGroup
	watch       watcher
	lastRenewal atomic.Int64 // Unix nanoseconds
}

// NewKeeper returns a keeper that has not started.
func NewKeeper(cfg KeeperConfig) *Keeper {
	k := &Keeper{cfg: cfg, log: cfg.Logger.With("component", "cluster"), established: make(chan struct{})}
	k.metrics = newKeeperMetrics(cfg.Registerer, k)
	k.watch.seen = map[string]sighting{}
	return k
}

// SetAddress sets the address that the session tells others, before Start: it is
// known only once the port is open.
func (k *Keeper) SetAddress(address string) { k.cfg.Address = address }

// OnLost adds f, called after a session was found ended: what was loaded under
// it must be dropped. f must not block.
func (k *Keeper) OnLost(f func(*Session)) { k.onLost = append(k.onLost, f) }

// OnBegin adds f, called with every new session. f must not block.
func (k *Keeper) OnBegin(f func(*Session)) { k.onBegin = append(k.onBegin, f) }

// OnWanted sets f, called with the conversations that others want and cannot
// ask for over the network (rule 18). It may block: nothing but the next look at
// what others want waits for it.
func (k *Keeper) OnWanted(f func(ctx context.Context, convos []string)) { k.wanted = f }

// Start begins to keep a session and returns at once; without a database it
// goes on trying. Stop ends it.
func (k *Keeper) Start(context.Context) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	k.cancel = cancel
	k.wg.Go(func() { k.renewLoop(ctx) })
	k.wg.Go(func() { k.watchLoop(ctx) })
	if k.wanted != nil {
		k.wg.Go(func() { k.wantsLoop(ctx) })
	}
	return nil
}

// Established waits until there is a first session.
func (k *Keeper) Established(ctx context.Context) error {
	select {
	case <-k.established:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a session: %w", context.Cause(ctx))
	}
}

// Current returns the node's session, nil while there is none.
func (k *Keeper) Current() *Session { return k.current.Load() }

// SinceRenewal returns how long ago the session was last renewed, 0 before the
// first.
func (k *Keeper) SinceRenewal() time.Duration {
	at := k.lastRenewal.Load()
	if at == 0 {
		return 0
	}
	return time.Since(time.Unix(0, at))
}

// RenewedSince reports whether another session was seen to renew after since:
// its node lived then and reached the database. A renewal counts when a look that
// was sent after since still showed the one before it: what a look shows may have
// happened before, and its node may have died since.
func (k *Keeper) RenewedSince(session string, since time.Time) bool {
	k.watch.mu.Lock()
	defer k.watch.mu.Unlock()
	return k.watch.seen[session].moved.After(since)
}

// Stop stops renewing and ends the session, which frees what it still claims.
// The caller has dropped what was loaded under it. Stop may be called twice,
// and without Start.
func (k *Keeper) Stop(ctx context.Context) error {
	if k.cancel == nil {
		return nil
	}
	k.cancel(errors.New("keeper stopped"))
	k.wg.Wait()
	s := k.current.Swap(nil)
	if s == nil {
		return nil
	}
	s.end()
	if err := k.cfg.Store.EndSession(ctx, s.id); err != nil {
		if errors.Is(err, persistence.ErrUnavailable) { // others end it when it stands still
			k.log.Warn("session not ended: the database cannot be reached", "session", s.id, "error", err)
			return nil
		}
		return fmt.Errorf("ending session: %w", err)
	}
	k.log.Info("session ended", "session", s.id)
	return nil
}

// Abandon stops as the end of the process would: nothing is asked of the
// database any more, and the session stays until others find that it stands
// still. Stop does nothing afterwards.
func (k *Keeper) Abandon() {
	if k.cancel == nil {
		return
	}
	k.cancel(errors.New("keeper abandoned"))
	k.wg.Wait()
	if s := k.current.Swap(nil); s != nil {
		s.end()
	}
}

func (k *Keeper) renewLoop(ctx context.Context) {
	retry := min(k.cfg.TTL/20, 250*time.Millisecond)
	for ctx.Err() == nil {
		sent := time.Now()
		wait := retry
		if k.renew(ctx) { // a slow reply does not put the next renewal off
			wait = max(k.cfg.TTL/3-time.Since(sent), retry)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// bounded bounds a question to the database: two of them fit into the time that
// memory is trusted, so that one lost reply costs nothing.
func (k *Keeper) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, k.cfg.TTL/3)
}

// renew renews the session, or begins one, and reports whether that worked.
func (k *Keeper) renew(ctx context.Context) bool {
	s := k.current.Load()
	if s == nil {
		return k.begin(ctx)
	}
	ask, cancel := k.bounded(ctx)
	defer cancel()
	sent := time.Now()
	err := k.cfg.Store.RenewSession(ask, s.id)
	switch {
	case err == nil:
		s.extend(sent, k.trust())
		k.lastRenewal.Store(sent.UnixNano())
		k.metrics.renewals.WithLabelValues("ok").Inc()
		return true
	case errors.Is(err, persistence.ErrSessionOver):
		k.lose(s)
		return k.begin(ctx)
	case ctx.Err() != nil:
		return false
	default: // no reply changes nothing
		k.metrics.renewals.WithLabelValues("error").Inc()
		k.log.Warn("session not renewed", "session", s.id, "error", err)
		return false
	}
}

func (k *Keeper) begin(ctx context.Context) bool {
	id, err := uuid.NewRandom()
	if err != nil {
		k.log.Error("no random session id", "error", err)
		return false
	}
	sent := time.Now()
	s := &Session{id: id.String(), began: sent}
	ask, cancel := k.bounded(ctx)
	defer cancel()
	err = k.cfg.Store.StartSession(ask, persistence.Session{
		ID: s.id, Node: k.cfg.Node, Address: k.cfg.Address, TTL: k.cfg.TTL,
	})
	if err != nil { // if it was stored after all, others end it: nobody renews it
		if ctx.Err() == nil {
			k.metrics.renewals.WithLabelValues("error").Inc()
			k.log.Warn("session not started", "error", err)
		}
		return false
	}
	s.extend(sent, k.trust())
	k.lastRenewal.Store(sent.UnixNano())
	k.current.Store(s)
	k.once.Do(func() { close(k.established) })
	k.log.Info("session started", "session", s.id, "ttl", k.cfg.TTL)
	for _, f := range k.onBegin {
		f(s)
	}
	return true
}

func (k *Keeper) lose(s *Session) {
	s.end()
	k.current.Store(nil)
	k.metrics.lost.Inc()
	k.log.Warn("session lost: dropping what was loaded under it", "session", s.id)
	for _, f := range k.onLost {
		f(s)
	}
}

func (k *Keeper) trust() time.Duration {
	return time.Duration(trustShare * float64(k.cfg.TTL))
}

func (k *Keeper) watchLoop(ctx context.Context) {
	for pause := watchEvery; sleep(ctx, pause); {
		pause = k.look(ctx)
	}
}

func (k *Keeper) wantsLoop(ctx context.Context) {
	for sleep(ctx, wantsEvery) {
		if s := k.current.Load(); s != nil {
			k.readWants(ctx, s)
		}
	}
}

// look looks at the others' counters, ends the sessions of those that stand
// still, and returns when to look again.
func (k *Keeper) look(ctx context.Context) (pause time.Duration) {
	ask, cancel := k.bounded(ctx)
	defer cancel()
	sent := time.Now()
	live, err := k.cfg.Store.LiveSessions(ask)
	if err != nil {
		k.log.Debug("sessions not read", "error", err)
		return watchEvery
	}
	own := ""
	if s := k.current.Load(); s != nil {
		own = s.id
	}
	stalled, suspects := k.watch.note(sent, time.Now(), live, own)
	for _, s := range stalled {
		ended, err := k.endStalled(ask, s)
		if err != nil {
			k.log.Debug("stalled session not ended", "session", s.ID, "error", err)
			continue
		}
		if ended {
			k.metrics.ended.Inc()
			k.log.Warn("ended the session of a node that stands still", "session", s.ID, "node", s.Node)
		}
	}
	if len(live) > many && !suspects {
		return watchCalm
	}
	return watchEvery
}

// endStalled ends a session on condition that it still stands there.
func (k *Keeper) endStalled(ctx context.Context, s persistence.Session) (ended bool, err error) {
	if broken.Is(broken.PrivateJudgement) {
		return true, k.cfg.Store.EndSession(ctx, s.ID)
	}
	return k.cfg.Store.EndStalled(ctx, s.ID, s.Counter)
}

func (k *Keeper) readWants(ctx context.Context, s *Session) {
	ask, cancel := k.bounded(ctx)
	defer cancel()
	convos, err := k.cfg.Store.Wanted(ask, s.id)
	if err != nil {
		k.log.Debug("wants not read", "error", err)
		return
	}
	if len(convos) > 0 {
		k.wanted(ctx, convos)
	}
}

// watcher remembers when it first saw each counter.
type watcher struct {
	mu   sync.Mutex
	seen map[string]sighting
	last time.Time // of the newest reply
	sent time.Time // when that was asked for
}

type sighting struct {
	counter int64
	since   time.Time // of the reply that showed it first
	moved   time.Time // it has changed since then, zero: never seen to
	waived  bool      // it was counted from a later reply, once
}

// note notes what a reply at now, to a look sent then, showed and returns the sessions other than own
// whose counter has stood still for their own TTL, and whether there are others
// that should have renewed by now.
//
// What kept this node from looking for long, a database that was out of reach,
// may have kept the others from renewing: then they get their TTL once more,
// lest an outage ends every session.
func (w *watcher) note(sent, now time.Time, live []persistence.Session, own string) (stalled []persistence.Session, suspects bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[string]sighting, len(live))
	gap := now.Sub(w.last)
	for _, s := range live {
		old, known := w.seen[s.ID]
		switch {
		case !known:
			old = sighting{counter: s.Counter, since: now}
		case old.counter != s.Counter:
			old = sighting{counter: s.Counter, since: now, moved: w.sent}
		case !old.waived && gap > max(s.TTL/2, 2*watchEvery):
			old.since, old.waived = now, true
		}
		seen[s.ID] = old
		if s.ID == own {
			continue
		}
		still := now.Sub(old.since)
		suspects = suspects || still >= s.TTL/2
		if still >= s.TTL {
			stalled = append(stalled, s)
		}
	}
	w.seen, w.last, w.sent = seen, now, sent // those that are gone are forgotten with it
	return stalled, suspects
}

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

type keeperMetrics struct {
	renewals *prometheus.CounterVec
	lost     prometheus.Counter
	ended    prometheus.Counter
}

func newKeeperMetrics(reg prometheus.Registerer, k *Keeper) keeperMetrics {
	m := keeperMetrics{
		renewals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "session_renewals_total", Help: "Renewals of this node's session in the database, by outcome.",
		}, []string{"outcome"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "session_lost_total", Help: "How often this node found its session ended by another.",
		}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "session_ended_others_total", Help: "Sessions of other nodes that this node ended because they stood still.",
		}),
	}
	m.renewals.WithLabelValues("ok")
	m.renewals.WithLabelValues("error")
	if reg != nil {
		reg.MustRegister(m.renewals, m.lost, m.ended, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "session_renewal_age_seconds", Help: "Time since this node's session was last renewed.",
		}, func() float64 { return k.SinceRenewal().Seconds() }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "session_age_seconds", Help: "Time since this node's session began; 0 while it has none.",
		}, func() float64 {
			if s := k.current.Load(); s != nil {
				return time.Since(s.began).Seconds()
			}
			return 0
		}))
	}
	return m
}
