package actor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/persistence"
)

// run works on a's mailbox until it is empty.
func (r *Registry) run(a *actor) {
	for {
		batch, end := a.next(maxRows, maxBytes)
		if end {
			r.finish(a, stopReleased)
			a.tellEnded()
			return
		}
		if batch == nil {
			break
		}
		r.queued.Add(-int64(len(batch)))
		a.used.Store(time.Now().UnixNano())
		if !r.handle(a, batch) {
			return
		}
	}
	if !r.cfg.Keep(a.convo) && a.releaseIfIdle() {
		r.finish(a, stopReleased)
	}
}

// handle answers a batch and reports whether the actor lives on.
func (r *Registry) handle(a *actor, batch []*letter) (alive bool) {
	t := &turn{r: r, a: a}
	for _, l := range batch {
		if l.begin() {
			t.letters = append(t.letters, l)
		}
	}
	if r.log.Enabled(context.Background(), levelTrace) {
		r.log.Log(context.Background(), levelTrace, "working on a batch", "convo", a.convo, "letters", len(t.letters))
	}
	if r.cfg.Traced {
		tellTaken(t.letters)
	}
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("Actor crashed", "convo", a.convo, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r.metrics.errors.WithLabelValues("panic").Inc()
			alive = t.crash()
		}
	}()
	return t.run()
}

// levelTrace is finer than debug.
const levelTrace = slog.LevelDebug - 4

// turn is an actor's work on one batch.
type turn struct {
	r *Registry
	a *actor

	letters []*letter // not answered yet, in order
	// inAppend are those whose changes are on their way to the database.
	inAppend []*letter
	// lookAll: look up every letter's id, not only those that say so.
	lookAll bool
	// single: one change to a unit, to find the one that the database refuses.
	single    bool
	conflicts int // in a row
	unknowns  int
}

// More of either and the batch is given up: something else is wrong.
const (
	maxConflicts = 1
	maxUnknowns  = 2
)

func (t *turn) run() (alive bool) {
	for len(t.letters) > 0 {
		snap, justLoaded, ok := t.load()
		if !ok {
			return false
		}
		if !t.round(snap, justLoaded) {
			return false
		}
	}
	return true
}

// load returns what memory holds, loading it first where it holds nothing, or
// something of another session. ok is false when the actor has ended instead.
func (t *turn) load() (s *snapshot, justLoaded, ok bool) {
	session := t.r.cfg.Sessions.Current()
	if session == nil {
		t.stop(stopNoStore, fmt.Errorf("%w: no session yet", persistence.ErrUnavailable))
		return nil, false, false
	}
	if s := t.a.snap.Load(); s != nil && !s.void && s.session == session {
		return s, false, true
	}
	t.a.drop()
	if holder := t.r.takeLease(t.a.convo, session.ID()); holder != nil {
		t.r.metrics.claims.WithLabelValues("held").Inc()
		t.stop(stopHeld, &persistence.HeldError{Holder: *holder})
		return nil, false, false
	}
	got, err := t.r.claims.ask(claimAsk{session.ID(), t.a.convo})
	if err != nil || got.Outcome != persistence.ClaimGranted {
		t.r.cfg.Lease.Freed(session.ID(), []string{t.a.convo})
		t.notLoaded(got, err)
		return nil, false, false
	}
	t.r.metrics.claims.WithLabelValues("granted").Inc()
	t.r.cfg.Lease.Claimed(t.a.convo, session.ID(), got.Fence)
	s = &snapshot{state: got.State, fence: got.Fence, session: session}
	t.a.snap.Store(s)
	if t.a.loaded() {
		t.r.metrics.spawns.Inc()
		t.r.log.Debug(fmt.Sprintf("ConversationActor %s starting at epoch %d", t.a.convo, got.State.Epoch), "convo", t.a.convo, "fence", got.Fence)
	}
	if got.Unfolded {
		t.r.folds.mark(t.a.convo)
	}
	return s, true, true
}

// notLoaded ends an actor whose claim was not granted.
func (t *turn) notLoaded(got persistence.Claimed, err error) {
	switch {
	case errors.Is(err, persistence.ErrSessionOver): // the keeper is about to notice and to begin another
		t.stop(stopSession, ErrMoving)
	case err != nil:
		t.r.metrics.spawnFailed(t.a)
		t.r.log.Error("Failed to get conversation actor", "convo", t.a.convo, "error", err)
		t.storeFailed(err)
	case got.Outcome == persistence.ClaimHeld:
		t.r.metrics.claims.WithLabelValues("held").Inc()
		t.stop(stopHeld, &persistence.HeldError{Holder: got.Holder})
	default:
		t.r.metrics.claims.WithLabelValues("not_found").Inc()
		t.stop(stopNotFound, conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation"))
	}
}

// storeFailed ends an actor that could not ask the store what it must know.
func (t *turn) storeFailed(err error) (alive bool) {
	if isPanic(err) {
		t.r.log.Error("Actor crashed", "convo", t.a.convo, "error", err)
		return t.crash()
	}
	return t.stop(stopNoStore, notStored(err))
}

// takeLease returns who else holds the conversation by its lease. That nobody
// can tell is no reason to wait: the database can.
func (r *Registry) takeLease(convo, session string) *persistence.Holder {
	ctx, cancel := r.bounded()
	defer cancel()
	holder, err := r.cfg.Lease.Take(ctx, convo, session)
	if err != nil {
		r.log.Debug("lease not taken: the database decides", "convo", convo, "error", err)
		return nil
	}
	return holder
}

// notStored makes an error of loading or looking up, which changes nothing
// that a client asked for, into one that says so.
func notStored(err error) error {
	if errors.Is(err, persistence.ErrUnavailable) && !errors.Is(err, persistence.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", persistence.ErrUnavailable, withoutUnknown{err})
}

// withoutUnknown hides ErrOutcomeUnknown: the outcome of a claim does not
// matter to a client.
type withoutUnknown struct{ err error }

func (e withoutUnknown) Error() string { return e.err.Error() }

// verdict is what a round found for one letter.
type verdict struct {
	result conversation.Result
	err    error
	// follows is the index of the letter in the same round whose result this
	// one gets, -1 for none; asked is what the other must equal.
	follows int
}

// round decides the letters on snap, up to what fits one append, appends, and
// answers. It reports whether the actor lives on; unanswered letters stay in
// t.letters.
func (t *turn) round(snap *snapshot, justLoaded bool) (alive bool) {
	earlier, err := t.lookUp()
	if err != nil {
		return t.storeFailed(err)
	}
	d := decide(t.r.cfg.Policy, snap, t.a.convo, t.letters, earlier, t.single)
	if d.unit.Empty() {
		t.settleOn(snap, justLoaded, d)
		return true
	}
	if d.unit.Alters() && !broken.Is(broken.NoSilence) {
		silent := *snap
		silent.silent = true
		t.a.snap.Store(&silent)
	}
	if t.r.log.Enabled(context.Background(), levelTrace) {
		t.r.log.Log(context.Background(), levelTrace, "appending", "convo", t.a.convo, "changes", len(d.unit.IDs),
			"epoch", d.unit.Epoch, "seq", d.unit.Seq, "fence", snap.fence)
	}
	t.inAppend = t.letters[:len(d.verdicts)]
	if t.r.cfg.Traced {
		tellSent(t.inAppend, d.unit)
	}
	outcome, err := t.r.append(d.unit)
	if t.r.cfg.Traced {
		tellAnswered(t.inAppend, outcome, err)
	}
	t.inAppend = nil
	if err != nil {
		return t.appendFailed(snap, d, err)
	}
	return t.appended(snap, justLoaded, d, outcome)
}

// settleOn answers what nothing was stored for, if what it was decided on may be
// believed. Otherwise the letters stay, to be decided again on what is loaded
// then (rules 11 and 13).
func (t *turn) settleOn(snap *snapshot, justLoaded bool, d decision) {
	if justLoaded || snap.trusted() {
		t.settle(d)
		return
	}
	t.a.drop()
}

func (t *turn) appended(snap *snapshot, justLoaded bool, d decision, outcome persistence.AppendOutcome) (alive bool) {
	t.r.metrics.appends.WithLabelValues(appendLabel(outcome)).Inc()
	switch outcome {
	case persistence.Appended:
		t.a.snap.Store(&snapshot{state: d.state, fence: snap.fence, session: snap.session})
		t.conflicts = 0
		t.r.metrics.batch.Observe(float64(len(d.unit.IDs)))
		if !d.unit.LastMessage.IsZero() {
			t.r.folds.mark(t.a.convo)
		}
		t.settle(d)
		return true
	case persistence.KeyPackageGone:
		t.a.snap.Store(snap)
		for i := range d.verdicts {
			if d.verdicts[i].err == nil && d.verdicts[i].result.ID == d.unit.IDs[0] {
				d.verdicts[i].err = conversation.Refuse(conversation.KeyPackageNotFound, "a key package that is named is used up, expired or not that member's")
			}
		}
		t.settleOn(snap, justLoaded, d)
		return true
	case persistence.Conflict:
		t.a.drop()
		t.lookAll = true
		t.conflicts++
		if t.conflicts > maxConflicts {
			t.r.metrics.errors.WithLabelValues("conflict").Inc()
			return t.stop(stopConflict, conversation.Refuse(conversation.Unavailable, "the conversation was changed by another server at the same time"))
		}
		return true
	default: // Failed: the database refused this unit alone
		t.a.drop()
		t.r.metrics.errors.WithLabelValues("append_failed").Inc()
		t.isolate(d)
		return true
	}
}

// isolate finds the change that the database refuses: those of a unit that was
// refused are stored one by one, and one that is refused alone fails.
func (t *turn) isolate(d decision) {
	if len(d.unit.IDs) > 1 {
		t.single = true
		return
	}
	for i, v := range d.verdicts {
		if v.err == nil && v.result.ID == d.unit.IDs[0] {
			l := t.letters[i]
			l.answer(conversation.Result{}, l.doubt(conversation.Refuse(conversation.InternalServerError, "the change could not be stored")))
			t.letters = slices.Delete(t.letters, i, i+1)
			return
		}
	}
}

func (t *turn) appendFailed(snap *snapshot, d decision, err error) (alive bool) {
	if !errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.a.snap.Store(snap) // certainly not stored: what was known still is
		t.r.metrics.errors.WithLabelValues("database_unavailable").Inc()
		t.failFirst(len(t.letters), err)
		return true
	}
	t.r.metrics.errors.WithLabelValues("outcome_unknown").Inc()
	t.a.drop() // rule 10
	for i := range d.verdicts {
		t.letters[i].unknown = true
	}
	t.unknowns++
	// Who has not heard of the database for so long that its memory has lapsed
	// does not ask it for more: others may reach it.
	if t.unknowns > maxUnknowns || !snap.trusted() {
		return t.storeFailed(err)
	}
	t.r.log.Warn("outcome of an append unknown: claiming anew", "convo", t.a.convo, "error", err)
	return true
}

// settle answers the letters that were decided.
func (t *turn) settle(d decision) {
	n := len(d.verdicts)
	for i, l := range t.letters[:n] {
		v := d.verdicts[i]
		if v.follows >= 0 {
			first := d.verdicts[v.follows]
			if v.err, v.result = first.err, first.result; v.err == nil {
				v.result, v.err = conversation.Repeat(l.req, conversation.Earlier{
					Result: first.result, Digest: t.letters[v.follows].req.Digest,
				})
			}
		}
		l.answer(v.result, v.err)
	}
	t.letters = t.letters[n:]
}

// failFirst answers the first n letters with err, or, where an append with
// their change may have been stored, that nobody knows.
func (t *turn) failFirst(n int, err error) {
	for _, l := range t.letters[:n] {
		l.answer(conversation.Result{}, l.doubt(err))
	}
	t.letters = t.letters[n:]
}

func (l *letter) doubt(err error) error {
	if l.unknown && !errors.Is(err, persistence.ErrOutcomeUnknown) {
		return errors.Join(persistence.ErrOutcomeUnknown, err)
	}
	return err
}

// stop ends the actor and answers everybody with err. It returns false.
func (t *turn) stop(reason string, err error) bool {
	waiting := t.a.end()
	session, claim, claimed := t.r.claimOf(t.a, reason)
	t.failFirst(len(t.letters), err) // who hears of the end finds no trace of the actor,
	t.r.tellAll(waiting, err)        // and need not wait until the claim is given back
	if claimed {
		t.r.giveBack(session, claim)
	}
	t.a.tellEnded()
	return false
}

// lookUp finds what the letters' ids and keys led to before. A fresh id without
// a key need not be looked up.
func (t *turn) lookUp() ([]*conversation.Earlier, error) {
	var refs []persistence.Ref
	var at []int
	for i, l := range t.letters {
		if l.req != nil && (l.req.Key != "" || l.req.Retry || l.unknown || t.lookAll) {
			refs = append(refs, persistence.RefOf(l.req))
			at = append(at, i)
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	got, err := t.r.lookups.ask(lookupAsk{t.a.convo, refs})
	if err != nil {
		return nil, err
	}
	earlier := make([]*conversation.Earlier, len(t.letters))
	for i, e := range got {
		earlier[at[i]] = e
	}
	return earlier, nil
}

// crash ends an actor whose state is in doubt, and holds the next one back for a
// while. It returns false.
func (t *turn) crash() (alive bool) {
	t.r.guard.crashed(t.a.convo, time.Now())
	for _, l := range t.inAppend {
		l.unknown = true
	}
	return t.stop(stopCrashed, conversation.Refuse(conversation.Unavailable, "the conversation is being loaded anew; try again"))
}
