package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"catbird/persistence"
)

// Store is a [persistence.Store] on PostgreSQL. Open makes one.
type Store struct {
	cfg  Config
	log  *slog.Logger
	base *pgxpool.Config

	journal, main, session *pool
	waits                  atomic.Int64

	statements atomic.Pointer[statements] // nil until Prepare has succeeded

	sweepMu sync.Mutex
	sweepAt string // where the next round of housekeeping goes on
}

var _ persistence.Store = (*Store)(nil)

// Open returns a store. It does not wait for the database, which may be down
// still: Prepare does, and until it has succeeded every other call returns
// ErrUnavailable. An error means that the configuration is wrong. ctx is not
// kept.
func Open(_ context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	base, err := cfg.parse()
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	s := &Store{cfg: cfg, log: cfg.Logger.With("component", "postgres"), base: base}
	if err := s.openPools(); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	return s, nil
}

func (s *Store) openPools() (err error) {
	journal := min(journalConnections, (s.cfg.MaxConnections-sessionConnections)/2)
	rest := s.cfg.MaxConnections - sessionConnections - journal
	g := &gate{}
	if s.session, err = newPool(s.base, sessionConnections, s.cfg.AcquireTimeout, nil, &s.waits); err != nil {
		return err
	}
	if s.journal, err = newPool(s.base, journal, s.cfg.AcquireTimeout, g, &s.waits); err != nil {
		return err
	}
	s.main, err = newPool(s.base, rest, s.cfg.AcquireTimeout, g, &s.waits)
	return err
}

func (s *Store) pools() []*pool { return []*pool{s.session, s.journal, s.main} }

// Close ends all connections, after what runs on them. It may be called twice.
func (s *Store) Close() error {
	for _, p := range s.pools() {
		if p != nil {
			p.p.Close()
		}
	}
	return nil
}

// Stats returns the state of the connections of all pools together.
func (s *Store) Stats() persistence.PoolStats {
	out := persistence.PoolStats{Waits: s.waits.Load()}
	for _, p := range s.pools() {
		st := p.p.Stat()
		out.Active += int(st.AcquiredConns())
		out.Idle += int(st.IdleConns())
		out.Max += int(st.MaxConns())
	}
	return out
}

// Ping checks that the database answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.flight(ctx, s.main, "ping", reads, func(b *pgx.Batch) { b.Queue("SELECT 1") })
}

// prepared returns the statements that fit the database.
func (s *Store) prepared() (*statements, error) {
	if st := s.statements.Load(); st != nil {
		return st, nil
	}
	return nil, fmt.Errorf("%w: its tables were not looked at yet", persistence.ErrUnavailable)
}

// attempts is how often a transaction is tried that the server has undone for
// a reason that passes.
const attempts = 3

// flight sends the statements that build queues, all of one transaction, in one
// flight and hands their results to what build attached to them. build runs
// again for another attempt.
func (s *Store) flight(ctx context.Context, p *pool, doing string, e effect, build func(*pgx.Batch)) error {
	conn, err := p.acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { p.done(conn, err) }()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.reply(e))
	defer cancel()
	err = fly(ctx, conn.Conn(), doing, e, build)
	return err
}

func fly(ctx context.Context, conn *pgx.Conn, doing string, e effect, build func(*pgx.Batch)) error {
	for attempt := 1; ; attempt++ {
		err := send(ctx, conn, build)
		if err == nil {
			return nil
		}
		if attempt == attempts || conn.IsClosed() || ctx.Err() != nil || !worthRepeating(codeOf(err)) {
			return translate(doing, e, conn.IsClosed(), err)
		}
	}
}

// send sends one batch. What it reads counts only once Close has seen the end
// of the transaction: the server reports each statement before it commits.
func send(ctx context.Context, conn *pgx.Conn, build func(*pgx.Batch)) error {
	var b pgx.Batch
	build(&b)
	return conn.SendBatch(ctx, &b).Close()
}

// one runs a single statement whose first row read scans; no row is
// pgx.ErrNoRows, which read gets to see.
func (s *Store) one(ctx context.Context, p *pool, doing string, e effect, sql string, args []any, read func(pgx.Row) error) error {
	return s.flight(ctx, p, doing, e, func(b *pgx.Batch) { b.Queue(sql, args...).QueryRow(read) })
}

// many runs a single statement and hands every row to read.
func (s *Store) many(ctx context.Context, p *pool, doing string, sql string, args []any, start func(), read func(pgx.Rows) error) error {
	return s.flight(ctx, p, doing, reads, func(b *pgx.Batch) {
		start()
		b.Queue(sql, args...).Query(each(read))
	})
}

// each makes read the reader of all rows.
func each(read func(pgx.Rows) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := read(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}
