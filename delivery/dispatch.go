package delivery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"catbird/actor"
	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/peer"
	"catbird/persistence"
)

// The pauses between attempts for one request.
const (
	firstPause = 2 * time.Millisecond
	maxPause   = 100 * time.Millisecond
	// unknownRetries is how often a change is asked for again after contact was
	// lost, to find out what became of it.
	unknownRetries = 2
	// deafFor is for how long a holder that lives must be out of reach before it
	// is asked in the database: one that has just come back is refused by what
	// asks nodes for about a second, as its life before was.
	deafFor = 1500 * time.Millisecond
)

// dispatch is one request on its way, at the first node that saw it. Only that
// node waits and asks again; whoever it asks serves or says at once why not
// (rule 16).
type dispatch struct {
	s        *Service
	r        conversation.Request
	pause    time.Duration
	unknown  bool // an attempt may have been stored
	unknowns int
	moving   bool // the conversation was on the move

	// holder is who was said to hold the conversation, to be asked next.
	holder *persistence.Holder
	// here says that the next attempt is to be made on this node, whatever its
	// ring says: the one that was asked before did not hold the conversation.
	here bool
	// deaf is where a node could not be reached in the last attempt, its address
	// or, without one, its session; since that attempt began.
	deaf      string
	deafSince time.Time
	// wanted is the session that was asked in the database to let go.
	wanted string
	// bounces counts how often one node pointed to another.
	bounces int
	noted   noted
}

func (d *dispatch) run(ctx context.Context) (conversation.Result, error) {
	for {
		res, err := d.attempt(ctx)
		again, wait, err := d.judge(ctx, err)
		if !again {
			return res, err
		}
		if wait && !d.wait(ctx) || ctx.Err() != nil {
			return conversation.Result{}, d.gaveUp(ctx)
		}
	}
}

// attempt tries once, here or at the node that holds, or should hold, the
// conversation.
func (d *dispatch) attempt(ctx context.Context) (conversation.Result, error) {
	s, convo := d.s, d.r.Convo
	here, holder := d.here, d.holder
	d.here, d.holder = false, nil
	if holder != nil {
		return d.remote(ctx, *holder, true)
	}
	if !here && s.keeps(convo) && !s.cfg.Actors.Has(convo) {
		if owner, ok := s.ownerElsewhere(convo); ok {
			return d.remote(ctx, owner, false)
		}
	}
	r := d.r // an attempt that was given up may still be read from
	return s.local(ctx, &r, &d.noted)
}

// noted says which paths a request was logged and counted for: however often it
// is tried, once each.
type noted struct{ direct, actors bool }

// local runs r on this node, once: through the actor, or directly.
func (s *Service) local(ctx context.Context, r *conversation.Request, n *noted) (conversation.Result, error) {
	// A node that leaves loads nothing more: what nobody holds it serves
	// directly.
	if s.keeps(r.Convo) && (!s.cfg.Cluster.Leaving() || s.cfg.Actors.Has(r.Convo)) {
		if !n.actors {
			n.actors = true
			s.note(ctx, r.Command.Op(), r.Convo, true)
		}
		res, err := s.throughActor(ctx, r)
		if !errors.Is(err, actor.ErrClosed) {
			return res, err
		}
	}
	if !n.direct {
		n.direct = true
		s.note(ctx, r.Command.Op(), r.Convo, false)
	}
	own := s.cfg.Session()
	env := conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: s.cfg.Policy}
	res, err := s.direct(ctx, own, r, env)
	var held *persistence.HeldError
	if errors.As(err, &held) && own != "" && held.Holder.Session == own {
		return s.throughActor(ctx, r) // one's own claim (rule 14)
	}
	return res, err
}

func (s *Service) direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	ctx, span := s.span(ctx, spanDirect, trace.SpanKindInternal, r.Command.Op(), r.Convo)
	res, err := s.cfg.Store.Direct(ctx, own, r, env)
	endSpan(span, err)
	return res, err
}

func (s *Service) throughActor(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.say(ctx, slog.LevelDebug, "Sending "+title(r.Command.Op())+" message to actor", slog.String("convo", r.Convo))
	}
	ctx, span := s.span(ctx, spanActor, trace.SpanKindInternal, r.Command.Op(), r.Convo)
	res, err := s.cfg.Actors.Do(ctx, r)
	endSpan(span, err)
	return res, err
}

func title(op conversation.Op) string {
	switch op {
	case conversation.OpAddMembers:
		return "AddMembers"
	case conversation.OpLeave:
		return "LeaveConvo"
	case conversation.OpCommit:
		return "Commit"
	default:
		return "SendMessage"
	}
}

// notMine is what another node answered: ask its Holder, or, if that is not
// known, serve the conversation here.
type notMine struct {
	asked  persistence.Holder
	holder peer.Holder
	// named says that asked was named by a lease or a claim, not by the ring.
	named bool
}

func (*notMine) Error() string { return "the node that was asked does not hold the conversation" }

// unreachable says that a node was certainly not reached.
type unreachable struct {
	holder persistence.Holder
	since  time.Time // when it was asked
	err    error
}

func (e *unreachable) Error() string {
	return "node " + e.holder.Node + " not reached: " + e.err.Error()
}
func (e *unreachable) Unwrap() error { return e.err }

// remote asks another node, once. named says that a lease or a claim names it:
// then it must serve, whatever its ring says, unless it knows better.
func (d *dispatch) remote(ctx context.Context, h persistence.Holder, named bool) (conversation.Result, error) {
	s := d.s
	req := d.r
	began := time.Now()
	answer, err := s.ask(ctx, h, req.Command.Op(), peer.Question{Change: &req, MustServe: named})
	switch {
	case errors.Is(err, peer.ErrLost):
		return conversation.Result{}, errors.Join(persistence.ErrOutcomeUnknown, err)
	case errors.Is(err, peer.ErrBusy): // not out of reach: its conversations stay where they are
		return conversation.Result{}, conversation.Refuse(conversation.Overloaded, "the node that serves this conversation has too much waiting")
	case err != nil:
		return conversation.Result{}, &unreachable{h, began, err}
	}
	switch answer.Status {
	case peer.Served:
		if named {
			s.hints.add(d.r.Convo, h)
		}
		return answer.Result, nil
	case peer.Refused:
		if answer.Refusal.Code == conversation.OutcomeUnknown {
			return conversation.Result{}, errors.Join(persistence.ErrOutcomeUnknown, answer.Refusal)
		}
		return conversation.Result{}, answer.Refusal
	case peer.Moving:
		return conversation.Result{}, actor.ErrMoving
	default:
		return conversation.Result{}, &notMine{asked: h, holder: answer.Holder, named: named}
	}
}

// judge says whether to try again after err, whether to wait before, and
// otherwise what to tell.
func (d *dispatch) judge(ctx context.Context, err error) (again, wait bool, tell error) {
	if err == nil {
		return false, false, nil
	}
	var held *persistence.HeldError
	isHeld := errors.As(err, &held)
	// The registry stops: it is about to give back the claim that stood in the
	// way of the direct path.
	isMoving := errors.Is(err, actor.ErrMoving) || errors.Is(err, actor.ErrClosed)
	if errors.Is(err, persistence.ErrOutcomeUnknown) {
		d.unknown, d.r.Retry = true, true
		if broken.Is(broken.RetryWithoutIDs) {
			d.r.ID += "-again"
		}
		d.s.metrics.unknown.Inc()
		if ctx.Err() != nil || (d.unknowns >= unknownRetries && !isHeld && !isMoving) {
			return false, false, outcomeUnknown()
		}
		d.unknowns++
	}
	var denied *notMine
	var deaf *unreachable
	var refusal *conversation.Error
	switch {
	case isHeld:
		return true, d.follow(ctx, held.Holder), nil
	case errors.As(err, &denied):
		return true, d.denied(denied), nil
	case errors.As(err, &deaf):
		return true, d.notReached(deaf), nil
	case isMoving:
		d.moving = true
		return true, true, nil
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		return true, true, nil
	case errors.Is(err, persistence.ErrUnavailable):
		d.s.say(ctx, slog.LevelWarn, "database unavailable", slog.Any("error", err))
		return false, false, d.doubt(conversation.Refuse(conversation.Unavailable, "the database cannot be reached"))
	case errors.As(err, &refusal):
		if refusal.Code == conversation.MailboxFull && d.moving {
			return true, true, nil // rule 20
		}
		return false, false, d.doubt(refusal)
	case ctx.Err() != nil:
		return false, false, d.doubt(context.Cause(ctx))
	default:
		return false, false, d.doubt(err)
	}
}

// follow goes to the holder next, or, where no network leads to it, asks it in
// the database to let go (rule 18). It returns whether to wait before.
func (d *dispatch) follow(ctx context.Context, h persistence.Holder) (wait bool) {
	address := h.Address != "" && d.s.cfg.Peers != nil
	switch {
	case address && d.deaf != h.Address:
		d.holder = &h
		return false
	case !address && d.deaf != h.Session:
		d.deaf, d.deafSince = h.Session, time.Now()
	}
	lives := d.s.cfg.Renewed(h.Session, d.deafSince) // otherwise its session will be over soon
	switch {
	case lives && (!address || time.Since(d.deafSince) >= deafFor):
		d.here = true
		d.want(ctx, h)
	case address:
		d.holder = &h // once more
	default:
		d.here = true
	}
	return true
}

// want asks another server's session to let go, once.
func (d *dispatch) want(ctx context.Context, h persistence.Holder) {
	s := d.s
	if d.wanted == h.Session {
		return
	}
	d.wanted = h.Session
	s.apart.add(d.r.Convo)
	s.metrics.wants.WithLabelValues("asked").Inc()
	if err := s.cfg.Store.Want(ctx, h.Session, d.r.Convo); err != nil {
		s.say(ctx, slog.LevelWarn, "holder not asked to let go",
			slog.String("convo", d.r.Convo), slog.String("holder", h.Node), slog.Any("error", err))
	}
}

// denied goes where the node that was asked points to. If it knows nobody, the
// conversation is served here: the second node must (rule 16).
func (d *dispatch) denied(e *notMine) (wait bool) {
	s := d.s
	s.hints.forget(d.r.Convo)
	if e.named { // what the named node denies is deleted (rule 21)
		s.cfg.Cluster.Deny(d.r.Convo, e.asked.Session)
	}
	if e.holder.Node == "" || e.holder.Session == e.asked.Session {
		d.here = true
		return e.named // its claim is on its way out
	}
	h := persistence.Holder{Session: e.holder.Session, Node: e.holder.Node, Address: e.holder.Address, Fence: e.holder.Fence}
	if h.Session == s.cfg.Session() {
		d.here = true
		return false
	}
	d.holder = &h
	d.bounces++
	return d.bounces > 2
}

// notReached tries here: if the node that was not reached holds the
// conversation, its claim says so.
func (d *dispatch) notReached(e *unreachable) (wait bool) {
	d.s.hints.forget(d.r.Convo)
	d.here = true
	if d.deaf != e.holder.Address {
		d.deaf, d.deafSince = e.holder.Address, e.since
	}
	return false
}

// doubt is what may be told after an attempt whose outcome is unknown: only a
// refusal that can never turn (rule 19).
func (d *dispatch) doubt(err error) error {
	if !d.unknown || broken.Is(broken.RetryTellsRefusals) {
		return err
	}
	var refusal *conversation.Error
	if errors.As(err, &refusal) && refusal.Final() {
		return err
	}
	return outcomeUnknown()
}

func outcomeUnknown() error {
	return conversation.Refuse(conversation.OutcomeUnknown, "contact was lost while the change was being stored; the same request with the same idempotencyKey tells what became of it")
}

func (d *dispatch) gaveUp(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return d.doubt(context.Cause(ctx))
	}
	return d.doubt(conversation.Refuse(conversation.Unavailable, "the conversation is on the move between servers; try again"))
}

// wait waits a little longer each time and reports whether there is time left.
func (d *dispatch) wait(ctx context.Context) bool {
	t := time.NewTimer(d.pause)
	defer t.Stop()
	d.pause = min(2*d.pause, maxPause)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
