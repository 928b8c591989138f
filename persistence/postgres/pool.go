package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"catbird/persistence"
)

// pool is one share of the connections.
type pool struct {
	p     *pgxpool.Pool
	wait  time.Duration
	gate  *gate // nil: always open
	waits *atomic.Int64
	// views are made on each connection before it is used; nil: none.
	views atomic.Pointer[[]string]
}

func newPool(base *pgxpool.Config, size int, wait time.Duration, g *gate, waits *atomic.Int64) (*pool, error) {
	c := base.Copy()
	c.MaxConns = int32(size)
	// A look at the socket replaces the ping: it costs no round trip, and finds
	// the connections that a restart of the server has closed.
	c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerBlobs(conn.TypeMap())
		return nil
	}
	out := &pool{wait: wait, gate: g, waits: waits}
	c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if views := out.views.Load(); views != nil {
			if err := makeViews(ctx, conn, *views); err != nil {
				return false, err
			}
		}
		return quiet(conn.PgConn().Conn()), nil
	}
	p, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, err
	}
	out.p = p
	return out, nil
}

// acquire returns a connection, which the caller releases, or ErrUnavailable.
func (p *pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if err := p.gate.enter(); err != nil {
		return nil, err
	}
	start, asked := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	if s := p.p.Stat(); s.IdleConns() == 0 && s.TotalConns() == s.MaxConns() {
		p.waits.Add(1)
	}
	conn, err := p.p.Acquire(ctx)
	if err == nil {
		return conn, nil
	}
	// All connections in use is a matter of load, and a caller without patience
	// is none of the database's doing.
	patient := asked.Err() == nil || time.Since(start) > gatePause
	if s := p.p.Stat(); patient && !errors.Is(err, context.Canceled) && s.AcquiredConns() < s.MaxConns() {
		p.gate.failed()
	}
	return nil, fmt.Errorf("%w: no connection: %w", persistence.ErrUnavailable, err)
}

// done notes how a call on conn went and gives conn back.
func (p *pool) done(conn *pgxpool.Conn, err error) {
	if conn.Conn().IsClosed() && !errors.Is(err, context.Canceled) {
		p.gate.failed()
	} else if !conn.Conn().IsClosed() {
		p.gate.passed()
	}
	conn.Release()
}

// gate answers at once while the database is down: after a few failures in a
// row only one call at a time tries, now and then, so that the others do not
// pile up waiting for a server that does not answer. The nil gate is open.
type gate struct {
	failures atomic.Int64
	next     atomic.Int64 // when the next one may try, in Unix nanoseconds
}

const (
	gateFailures = 3
	gatePause    = 250 * time.Millisecond
)

var errDown = fmt.Errorf("%w: it did not answer lately", persistence.ErrUnavailable)

func (g *gate) enter() error {
	if g == nil || g.failures.Load() < gateFailures {
		return nil
	}
	now := time.Now().UnixNano()
	next := g.next.Load()
	if now < next || !g.next.CompareAndSwap(next, now+int64(gatePause)) {
		return errDown
	}
	return nil
}

func (g *gate) failed() {
	if g != nil {
		g.failures.Add(1)
		g.next.Store(time.Now().Add(gatePause).UnixNano())
	}
}

func (g *gate) passed() {
	if g != nil && g.failures.Load() != 0 {
		g.failures.Store(0)
	}
}
