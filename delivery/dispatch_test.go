package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/actor"
	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// scripted are actors that answer as they are told, the last answer again and
// again.
type scripted struct {
	mu   sync.Mutex
	errs []error
	seen []conversation.Request
	at   []time.Time
}

func (a *scripted) Do(_ context.Context, r *conversation.Request) (conversation.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, *r)
	a.at = append(a.at, time.Now())
	err := a.errs[0]
	if len(a.errs) > 1 {
		a.errs = a.errs[1:]
	}
	if err != nil {
		return conversation.Result{}, err
	}
	return conversation.Result{ID: r.ID, Epoch: 1, Seq: 1}, nil
}

func (a *scripted) Epoch(string, string) (int64, bool, bool)            { return 0, false, false }
func (a *scripted) Load(context.Context, string) error                  { return nil }
func (a *scripted) Has(string) bool                                     { return true }
func (a *scripted) Release(context.Context, string) error               { return nil }
func (a *scripted) ReleaseAll(context.Context, func(string) bool) error { return nil }
func (a *scripted) ReleaseSome(context.Context, []string) error         { return nil }
func (a *scripted) Each(func(string))                                   {}

// scriptedService is a service whose actors answer with errs.
func scriptedService(errs ...error) (*delivery.Service, *scripted) {
	actors := &scripted{errs: errs}
	store := memstore.New()
	store.Seed(convo, alice, bob)
	s := delivery.New(delivery.Config{
		Store: store, Policy: conversation.DefaultPolicy(), Flags: on, Logger: slog.New(slog.DiscardHandler),
		Session: func() string { return "session" },
	})
	s.Use(actors)
	return s, actors
}

var (
	errUnknown     = fmt.Errorf("append: %w", persistence.ErrOutcomeUnknown)
	errUnavailable = fmt.Errorf("claim: %w", persistence.ErrUnavailable)
)

func behind(expected, current int64) error {
	e := conversation.Refuse(conversation.EpochMismatch, "x")
	e.Expected, e.Current = expected, current
	return e
}

// Rule 19: after an attempt whose outcome is unknown only a refusal that can
// never turn is told.
func TestAfterAnUnknownOutcomeOnlyFinalRefusalsAreTold(t *testing.T) {
	tests := []struct {
		then error
		want conversation.Code // "" for success
	}{
		{nil, ""},
		{behind(4, 5), conversation.EpochMismatch},
		{conversation.Refuse(conversation.IdempotencyConflict, "x"), conversation.IdempotencyConflict},
		{behind(6, 5), conversation.OutcomeUnknown}, // the epoch may yet come to it
		{conversation.Refuse(conversation.NotMember, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.AlreadyMember, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.TargetNotMember, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.KeyPackageNotFound, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.ConvoNotFound, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.MailboxFull, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.Overloaded, "x"), conversation.OutcomeUnknown},
		{conversation.Refuse(conversation.Unavailable, "x"), conversation.OutcomeUnknown},
		{errUnavailable, conversation.OutcomeUnknown},
		{errors.New("a fault"), conversation.OutcomeUnknown},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.then), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, actors := scriptedService(errUnknown, tt.then)
				r := request(convo, alice, send(0))
				_, err := s.Do(t.Context(), r)
				refused(t, err, tt.want)
				if r.Retry {
					t.Error("the caller's request was altered")
				}
				if len(actors.seen) != 2 || actors.seen[0].Retry || !actors.seen[1].Retry || actors.seen[1].ID != r.ID {
					t.Errorf("asked for %+v", actors.seen)
				}

				// Without the doubt it is told as it is.
				s, _ = scriptedService(tt.then)
				_, err = s.Do(t.Context(), request(convo, alice, send(0)))
				var e *conversation.Error
				if errors.As(tt.then, &e) {
					refused(t, err, e.Code)
				}
			})
		})
	}
}

func TestOutcomeThatStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, actors := scriptedService(errUnknown)
		_, err := s.Do(t.Context(), request(convo, alice, send(0)))
		refused(t, err, conversation.OutcomeUnknown)
		if n := len(actors.seen); n != 3 {
			t.Errorf("%d attempts, want 3", n)
		}
	})
}

// Doubt that comes with a conversation on the move is not given up before the
// deadline: who has it then knows.
func TestUnknownOutcomeOfAConversationOnTheMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		moving := errors.Join(persistence.ErrOutcomeUnknown, actor.ErrMoving)
		s, actors := scriptedService(moving, moving, moving, moving, moving, nil)
		if _, err := s.Do(t.Context(), request(convo, alice, send(0))); err != nil {
			t.Error(err)
		}
		if n := len(actors.seen); n != 6 {
			t.Errorf("%d attempts, want 6", n)
		}
	})
}

// Rule 20: MailboxFull after 'moving' is tried again until the deadline.
func TestMailboxFullAfterMoving(t *testing.T) {
	full := conversation.Refuse(conversation.MailboxFull, "x")
	synctest.Test(t, func(t *testing.T) {
		s, actors := scriptedService(actor.ErrMoving, full, full, full, nil)
		if _, err := s.Do(t.Context(), request(convo, alice, send(0))); err != nil {
			t.Error(err)
		}
		if n := len(actors.seen); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
		s, actors = scriptedService(full, nil)
		begin := time.Now()
		_, err := s.Do(t.Context(), request(convo, alice, send(0)))
		refused(t, err, conversation.MailboxFull)
		if len(actors.seen) != 1 || time.Since(begin) != 0 {
			t.Errorf("%d attempts in %v; overload is told at once", len(actors.seen), time.Since(begin))
		}
	})
}

// A conversation on the move is asked for again and again, a little slower each
// time, until the request's deadline, and no longer.
func TestMovingUntilTheDeadline(t *testing.T) {
	tests := []struct {
		name  string
		first error
		ctx   func() (context.Context, context.CancelFunc)
		check func(error) bool
	}{
		{"deadline", actor.ErrMoving, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 3*time.Second)
		}, func(err error) bool { return conversation.CodeOf(err) == conversation.Unavailable }},
		{"client gone", actor.ErrMoving, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(3*time.Second, cancel)
			return ctx, cancel
		}, func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"deadline in doubt", errors.Join(persistence.ErrOutcomeUnknown, actor.ErrMoving), func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 3*time.Second)
		}, func(err error) bool { return conversation.CodeOf(err) == conversation.OutcomeUnknown }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, actors := scriptedService(tt.first, actor.ErrMoving)
				ctx, cancel := tt.ctx()
				defer cancel()
				begin := time.Now()
				_, err := s.Do(ctx, request(convo, alice, send(0)))
				if !tt.check(err) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(begin); took != 3*time.Second {
					t.Errorf("gave up after %v", took)
				}
				if n := len(actors.at); n < 30 || n > 40 {
					t.Errorf("%d attempts in 3 s", n)
				}
				if first := actors.at[1].Sub(actors.at[0]); first > 5*time.Millisecond {
					t.Errorf("the first pause is %v", first)
				}
			})
		})
	}
}

// Nothing piles up where the database is gone: it is told at once.
func TestUnavailableIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, f := range []delivery.Flags{on, off} {
			w := newWorld(t)
			n := w.node("a", setup{flags: f, noNetwork: true})
			w.store.SetFaults(func(memstore.Call) memstore.Fault { return memstore.Fault{Fate: memstore.Refused} })
			begin := time.Now()
			r := request(convo, alice, send(0))
			_, err := n.try(r)
			refused(t, err, conversation.Unavailable)
			if took := time.Since(begin); took != 0 {
				t.Errorf("took %v", took)
			}
			_, err = n.svc.Epoch(t.Context(), convo, alice)
			if !errors.Is(err, persistence.ErrUnavailable) {
				t.Errorf("epoch: %v", err)
			}
			w.store.SetFaults(nil)
			n.do(request(convo, alice, send(0)))
			w.never(r)
			n.stop()
		}
	})
}

// A client that is gone before its request has begun has changed nothing.
func TestClientGoneBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: on, noNetwork: true})
		hold := make(chan struct{})
		w.store.Fail(memstore.Append, memstore.Fault{Hold: hold})
		w.wg.Go(func() { _, _ = n.try(request(convo, alice, send(0))) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		r := request(convo, alice, send(0))
		w.wg.Go(func() {
			if _, err := n.svc.Do(ctx, r); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(hold)
		w.wg.Wait()
		n.do(request(convo, alice, send(0)))
		w.never(r)
	})
}

// Lost contact on the direct path: the id is looked up, and the change happens
// exactly once.
func TestDirectPathAsksAgainAfterALostReply(t *testing.T) {
	for name, f := range map[string]memstore.Fault{
		"ran":       {Fate: memstore.ReplyLost},
		"never ran": {Fate: memstore.RequestLost},
		"ran later": {Fate: memstore.RunsLater, Before: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := w.node("a", setup{flags: off, noNetwork: true})
				w.store.Fail(memstore.Direct, f)
				r := request(convo, alice, add(carol))
				if res := n.do(r); res.ID != r.ID || res.Epoch != 1 {
					t.Errorf("got %+v", res)
				}
				w.store.Wait()
				w.once(r)
			})
		})
	}
}

// Rule 19 on the direct path, with a zombie that does it after all.
func TestZombieOnTheDirectPathIsNeverDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: off, noNetwork: true})
		// The message is built on epoch 1, which only comes later.
		w.store.Fail(memstore.Direct, memstore.Fault{Fate: memstore.RunsLater, Before: time.Second})
		r := request(convo, alice, send(1))
		_, err := n.try(r)
		refused(t, err, conversation.OutcomeUnknown)
		n.do(request(convo, alice, commit()))
		w.store.Wait()
		w.once(r) // it did happen
	})
}

// A registry that stops fails no request: what it does not take any more is
// served directly.
func TestStoppingFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: on, noNetwork: true})
		n.do(request(convo, alice, send(0)))
		hold := make(chan struct{})
		w.store.Fail(memstore.Append, memstore.Fault{Hold: hold})
		r, late := request(convo, alice, send(0)), request(convo, alice, send(0))
		w.wg.Go(func() { n.do(r) })
		synctest.Wait()
		w.wg.Go(func() {
			if err := n.reg.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		w.wg.Go(func() { n.do(late) })
		pass(time.Second)
		w.never(late)
		close(hold)
		w.wg.Wait()
		n.do(request(convo, alice, send(0)))
	})
}

// A node that was frozen finds its session ended. What it is asked for meanwhile
// waits for the next session and is served.
func TestLostSessionFailsNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := w.node("a", setup{flags: on, noNetwork: true})
		n.do(request(convo, alice, commit()))
		other := w.node("b", setup{flags: off, noNetwork: true})
		frozen := n.keeper.Current().ID()
		w.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.RenewSession && c.Session == frozen {
				return memstore.Fault{Fate: memstore.RequestLost}
			}
			return memstore.Fault{}
		})
		pass(ttl + time.Second)
		other.do(request(convo, bob, commit())) // another server writes meanwhile
		begin := time.Now()
		time.AfterFunc(time.Second, func() { w.store.SetFaults(nil) }) // thawed
		n.do(request(convo, alice, send(2)))
		if took := time.Since(begin); took > time.Second+ttl/20+2*maxPause {
			t.Errorf("took %v", took)
		}
	})
}

const maxPause = 100 * time.Millisecond
