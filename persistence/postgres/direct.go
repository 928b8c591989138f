package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/persistence"
)

// Direct changes a conversation in one transaction of two flights: one that
// locks and reads, one that writes and commits. In between the server waits a
// second at most. The write voids whatever claim the row names and raises the
// fence, so that nothing a dead owner still has on its way fits any more.
func (s *Store) Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	st, err := s.prepared()
	if err != nil {
		return conversation.Result{}, err
	}
	var result conversation.Result
	err = s.interactive(ctx, "change directly", func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		result, err = direct(ctx, conn, st, r, env)
		return err
	})
	if err != nil {
		return conversation.Result{}, err
	}
	return result, nil
}

// interactive runs a transaction that run begins, and ends where it succeeds.
// It runs once more when the server has undone it for a reason that passes.
func (s *Store) interactive(ctx context.Context, doing string, run func(context.Context, *pgx.Conn) error) error {
	conn, err := s.main.acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { s.main.done(conn, err) }()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.reply(changes))
	defer cancel()
	for attempt := 1; ; attempt++ {
		err = run(ctx, conn.Conn())
		undo(ctx, conn)
		if err == nil {
			return nil
		}
		var step *stepError
		e := changes
		if errors.As(err, &step) {
			e, err = step.effect, step.err
		}
		if attempt == attempts || conn.Conn().IsClosed() || ctx.Err() != nil || !worthRepeating(codeOf(err)) {
			err = translate(doing, e, conn.Conn().IsClosed(), err)
			return err
		}
	}
}

// stepError says that the transaction failed in a flight that could not commit.
type stepError struct {
	effect effect
	err    error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// undo rolls an open transaction back, whatever has become of ctx.
func undo(ctx context.Context, conn *pgxpool.Conn) {
	c := conn.Conn()
	if c.IsClosed() || c.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		_ = c.Close(ctx) // the server rolls back
	}
}

func direct(ctx context.Context, conn *pgx.Conn, st *statements, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	ids := []string{r.Convo}
	var found map[string]*loaded
	var earlier []*conversation.Earlier
	err := send(ctx, conn, func(b *pgx.Batch) {
		b.Queue("BEGIN")
		b.Queue(lockSQL, ids)
		found = queueLoad(b, stateByLogSQL, ids)
		earlier = queueLookup(b, ids, []persistence.Ref{persistence.RefOf(r)})
	})
	if err != nil {
		return conversation.Result{}, &stepError{reads, err}
	}
	l := found[r.Convo]
	if l != nil && l.live && !broken.Is(broken.DirectIgnoresClaim) {
		return conversation.Result{}, &persistence.HeldError{Holder: l.holder}
	}
	if earlier[0] != nil {
		return conversation.Repeat(r, *earlier[0])
	}
	if l == nil {
		return conversation.Result{}, conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation")
	}
	l.finish()
	ch, next, err := conversation.Decide(env, l.state, r)
	if err != nil {
		return conversation.Result{}, err
	}
	u := conversation.NewUnit(r.Convo, l.state, l.row.Fence)
	u.Add(ch, next)
	w := &write{unit: u, base: l.row, fence: l.row.Fence + 1, release: true, suspect: true}
	err = send(ctx, conn, func(b *pgx.Batch) {
		st.queueWrites(b, []*write{w})
		queueFold(b, ids)
		b.Queue("COMMIT")
	})
	switch {
	case err != nil:
		return conversation.Result{}, err
	case w.stored:
		return ch.Result, nil
	case w.fits:
		return conversation.Result{}, conversation.Refuse(conversation.KeyPackageNotFound, "a key package that the change uses is gone")
	default:
		return conversation.Result{}, fmt.Errorf("the id %s belongs to another change", r.ID)
	}
}
