package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/persistence"
)

// HoldingsConfig is what Holdings needs. All but Registerer are required.
type HoldingsConfig struct {
	Lease Lease
	Node  string
	// Address returns the host:port of the node's internal port. It is asked
	// for after Start only.
	Address func() string
	TTL     time.Duration
	// Session returns the id of the node's session, "" while there is none.
	Session func() string
	// Renewed returns how long ago the database last took that session. Others
	// are told to ask this node for no longer than TTL after it: what the database
	// has lost sight of cannot serve.
	Renewed func() time.Duration
	// Held yields every claim in memory, in no order, until yield returns false.
	Held   func(yield func(convo, session string, fence int64) bool)
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// Holdings keeps the lease in step with what this node holds: it takes entries
// before claims, writes fences and gives entries back behind the callers' backs,
// and renews the session's key every third of the TTL, while the database does the
// same, however many conversations there are. What is lost on the way costs others a detour.
//
// All methods may be called from any goroutine.
type Holdings struct {
	cfg    HoldingsConfig
	log    *slog.Logger
	queue  chan holdingNote
	behind []holdingNote // taken from the queue, and to be written next
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	taken   *prometheus.CounterVec
	dropped prometheus.Counter
}

// holdingNote is one thing to tell the lease: fences of claims, or entries to
// give back.
type holdingNote struct {
	session string
	claims  []Fenced
	freed   []string
	denied  []string
}

const (
	holdingQueue = 4096
	holdingBatch = 256
	// touchChunk entries are kept from expiring at once, with a pause between,
	// so that an idle node stays at a few commands per second.
	touchChunk = 8
)

// NewHoldings returns holdings that have not started.
func NewHoldings(cfg HoldingsConfig) *Holdings {
	h := &Holdings{cfg: cfg, log: cfg.Logger.With("component", "cluster"), queue: make(chan holdingNote, holdingQueue)}
	h.taken = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lease_takes_total", Help: "Conversations whose lease was asked for, by outcome.",
	}, []string{"outcome"})
	for _, o := range []string{"taken", "held", "taken_over", "unreachable"} {
		h.taken.WithLabelValues(o)
	}
	h.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lease_notes_dropped_total", Help: "Fences and releases that were not written to the lease because too many waited.",
	})
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(h.taken, h.dropped, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lease_notes_waiting", Help: "Fences and releases that wait to be written to the lease.",
		}, func() float64 { return float64(len(h.queue)) }))
	}
	return h
}

// Start begins to renew and to write. Stop ends it.
func (h *Holdings) Start() {
	ctx, cancel := context.WithCancelCause(context.Background())
	h.cancel = cancel
	h.wg.Go(func() { h.renewLoop(ctx) })
	h.wg.Go(func() { h.writeLoop(ctx) })
	h.wg.Go(func() { h.touchLoop(ctx) })
}

// Stop writes what waits, ends the session's key and stops. It may be called
// without Start.
func (h *Holdings) Stop(ctx context.Context) error {
	if h.cancel == nil {
		return nil
	}
	h.cancel(errors.New("holdings stopped"))
	h.wg.Wait()
	for (len(h.behind) > 0 || len(h.queue) > 0) && ctx.Err() == nil && h.cfg.Lease.Up() {
		if n, ok := h.next(ctx); ok {
			h.write(ctx, n)
		}
	}
	if session := h.cfg.Session(); session != "" {
		if err := h.cfg.Lease.EndSession(ctx, session); err != nil { // it lapses by itself
			h.log.Warn("the lease was not told that this session ends", "session", session, "error", err)
		}
	}
	return nil
}

func (h *Holdings) entry(session string) Entry {
	return Entry{Session: session, Node: h.cfg.Node, Address: h.cfg.Address()}
}

// Take takes the lease of convo for session, in one round trip where nobody
// else holds it, or returns who holds it, alive. An error means that the lease
// cannot tell.
func (h *Holdings) Take(ctx context.Context, convo, session string) (*persistence.Holder, error) {
	mine := h.entry(session)
	outcome := "taken"
	current, acquired, err := h.cfg.Lease.Acquire(ctx, convo, mine, "")
	for range 2 { // an entry of a session that is gone, or that changed meanwhile
		if err != nil || acquired {
			break
		}
		var live bool
		current, live, err = h.cfg.Lease.Find(ctx, convo)
		if err != nil {
			break
		}
		if live && current.Session != session {
			h.taken.WithLabelValues("held").Inc()
			return &persistence.Holder{Session: current.Session, Node: current.Node, Address: current.Address, Fence: current.Fence}, nil
		}
		outcome = "taken_over"
		current, acquired, err = h.cfg.Lease.Acquire(ctx, convo, mine, current.Session)
	}
	if err != nil {
		h.taken.WithLabelValues("unreachable").Inc()
		return nil, fmt.Errorf("taking a lease: %w", err)
	}
	if acquired {
		h.taken.WithLabelValues(outcome).Inc()
	}
	return nil, nil // not acquired after all: the database decides
}

// Claimed writes the fence of a granted claim. It does not block.
func (h *Holdings) Claimed(convo, session string, fence int64) {
	h.note(holdingNote{session: session, claims: []Fenced{{Convo: convo, Fence: fence}}})
}

// Freed gives entries back. It does not block.
func (h *Holdings) Freed(session string, convos []string) {
	h.note(holdingNote{session: session, freed: convos})
}

// Deny deletes the entry of convo if it still names session. It does not block.
func (h *Holdings) Deny(convo, session string) {
	h.note(holdingNote{session: session, denied: []string{convo}})
}

func (h *Holdings) note(n holdingNote) {
	select {
	case h.queue <- n:
	default:
		h.dropped.Inc()
	}
}

func (h *Holdings) writeLoop(ctx context.Context) {
	for {
		n, ok := h.next(ctx)
		if !ok {
			return
		}
		h.write(ctx, h.gather(n))
	}
}

// next returns the next note; ok is false when ctx ends first.
func (h *Holdings) next(ctx context.Context) (n holdingNote, ok bool) {
	if len(h.behind) > 0 {
		n, h.behind = h.behind[0], h.behind[1:]
		return n, true
	}
	select {
	case n := <-h.queue:
		return n, true
	case <-ctx.Done():
		return holdingNote{}, false
	}
}

// gather adds what waits behind n and goes with it, in order: a claim must not
// overtake the release before it.
func (h *Holdings) gather(n holdingNote) holdingNote {
	for len(n.claims) > 0 && len(n.claims) < holdingBatch && len(h.behind) == 0 && len(h.queue) > 0 {
		next := <-h.queue
		if next.session != n.session || len(next.claims) == 0 {
			h.behind = append(h.behind, next)
			return n
		}
		n.claims = append(n.claims, next.claims...)
	}
	return n
}

func (h *Holdings) write(ctx context.Context, n holdingNote) {
	if !h.cfg.Lease.Up() {
		h.dropped.Inc()
		return
	}
	var errs []error
	if len(n.claims) > 0 {
		errs = append(errs, h.cfg.Lease.SetFences(ctx, h.entry(n.session), n.claims))
	}
	for chunk := range slices.Chunk(n.freed, holdingBatch) {
		errs = append(errs, h.cfg.Lease.Release(ctx, n.session, chunk))
	}
	for _, convo := range n.denied {
		errs = append(errs, h.cfg.Lease.Deny(ctx, convo, n.session))
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		h.log.Debug("lease not written", "error", err)
	}
}

func (h *Holdings) renewLoop(ctx context.Context) {
	lost := false // Redis was out of reach at the last renewal
	for {
		wait := h.cfg.TTL / 3
		left := min(h.cfg.TTL-h.cfg.Renewed(), h.cfg.TTL) // clocks are set back, too
		if session := h.cfg.Session(); session == "" || left < time.Millisecond {
			wait = min(wait, 100*time.Millisecond)
		} else if err := h.cfg.Lease.RenewSession(ctx, session, h.cfg.Node, h.cfg.Address(), left); err != nil {
			wait, lost = min(wait, time.Second), true
		} else if lost || h.forgotten(ctx) {
			lost = !h.restore(ctx)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// forgotten reports whether Redis has lost the lease of a conversation in
// memory, any of them: it was flushed, replaced, or failed over with its last
// writes lost.
func (h *Holdings) forgotten(ctx context.Context) bool {
	var held string
	h.cfg.Held(func(convo, _ string, _ int64) bool {
		held = convo
		return false
	})
	if held == "" {
		return false
	}
	entry, _, err := h.cfg.Lease.Find(ctx, held)
	return err == nil && entry == (Entry{})
}

// restore writes the leases of all that is in memory anew and reports whether
// that went through. Only a higher fence overwrites an entry, so what others
// have written meanwhile stands.
func (h *Holdings) restore(ctx context.Context) bool {
	bySession := map[string][]Fenced{}
	h.cfg.Held(func(convo, session string, fence int64) bool {
		bySession[session] = append(bySession[session], Fenced{Convo: convo, Fence: fence})
		return true
	})
	n := 0
	for session, claims := range bySession {
		for chunk := range slices.Chunk(claims, holdingBatch) {
			if err := h.cfg.Lease.SetFences(ctx, h.entry(session), chunk); err != nil {
				h.log.Debug("leases not restored", "error", err)
				return false
			}
			n += len(chunk)
		}
	}
	if n > 0 {
		h.log.Info("leases written anew", "conversations", n)
	}
	return true
}

// touchLoop keeps the entries of what is in memory from expiring: all of them
// once in a quarter of LeaseEntryTTL, spread over that time.
func (h *Holdings) touchLoop(ctx context.Context) {
	for sleep(ctx, LeaseEntryTTL/8) {
		var convos []string
		h.cfg.Held(func(convo, _ string, _ int64) bool {
			convos = append(convos, convo)
			return true
		})
		chunks := (len(convos) + touchChunk - 1) / touchChunk
		for chunk := range slices.Chunk(convos, touchChunk) {
			if err := h.cfg.Lease.Touch(ctx, h.cfg.Session(), chunk); err != nil {
				h.log.Debug("leases not touched", "error", err)
			}
			if !sleep(ctx, LeaseEntryTTL/8/time.Duration(chunks)) {
				return
			}
		}
	}
}
