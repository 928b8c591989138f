package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// statementCounter makes PostgreSQL count statements (an extension that comes
// with the server).
const statementCounter = "shared_preload_libraries=pg_stat_statements"

// idleSpan is how long an idle node is looked at: housekeeping, which comes once a
// minute, is part of what it asks.
const idleSpan = 70 * time.Second

// idleNode is P8: what a node with active actors asks of Redis and of the
// database while nothing happens. The other two nodes are stopped first.
func idleNode(ctx context.Context, f *testbed, databaseURL, redisURL string, active int) (Row, error) {
	for _, name := range []string{"b", "c"} {
		if _, err := f.stop(ctx, name); err != nil {
			return Row{}, err
		}
	}
	all, err := bareGroups(ctx, f, "p8", active)
	if err != nil {
		return Row{}, err
	}
	if err := touch(ctx, f, all.ids, all.token); err != nil {
		return Row{}, fmt.Errorf("loading: %w", err)
	}
	a, err := f.Node("a")
	if err != nil {
		return Row{}, err
	}
	held, err := metric(a.Clients(), "actor_registry_active_actors")
	if err != nil {
		return Row{}, err
	}
	w, err := newWatcher(ctx, databaseURL, redisURL)
	if err != nil {
		return Row{}, err
	}
	defer w.close(ctx)
	f.balancer.Remove("a") // who asks whether a node is ready makes it ask the database
	defer f.balancer.Set("a", a.Clients())
	pause(ctx, 5*time.Second) // the last folds and notes
	if err := w.begin(ctx); err != nil {
		return Row{}, err
	}
	pause(ctx, idleSpan)
	commands, statements, most, err := w.end(ctx)
	if err != nil {
		return Row{}, err
	}
	f.balancer.Set("a", a.Clients())
	for _, name := range []string{"b", "c"} {
		if err := f.start(ctx, name); err != nil {
			return Row{}, err
		}
	}
	perSecond := func(n float64) float64 { return n / idleSpan.Seconds() }
	return Row{
		Name: "P8 idle node: Redis commands and database statements", Bar: "< 10/s each",
		Ours: fmt.Sprintf("%.1f/s", perSecond(commands)), Other: fmt.Sprintf("%.1f/s", perSecond(statements)),
		Reached:  perSecond(commands) < 10 && perSecond(statements) < 10 && held >= float64(active),
		Comments: fmt.Sprintf("%.0f active actors, over %v; the database most often: %s", held, idleSpan, most),
	}, nil
}

// watcher counts what is asked of a Redis and of a database.
type watcher struct {
	redis    *redis.Client
	db       *pgx.Conn
	commands float64
}

func newWatcher(ctx context.Context, databaseURL, redisURL string) (*watcher, error) {
	opt, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		return nil, errors.Join(fmt.Errorf("counting statements: %w", err), conn.Close(ctx))
	}
	return &watcher{redis: redis.NewClient(opt), db: conn}, nil
}

func (w *watcher) close(ctx context.Context) {
	w.redis.Close()
	w.db.Close(ctx)
}

func (w *watcher) begin(ctx context.Context) (err error) {
	if _, err := w.db.Exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return err
	}
	w.commands, err = w.redisCommands(ctx)
	return err
}

// end returns what was asked since begin, without the watcher's own questions,
// and the most frequent statement.
func (w *watcher) end(ctx context.Context) (commands, statements float64, most string, err error) {
	now, err := w.redisCommands(ctx)
	if err != nil {
		return 0, 0, "", err
	}
	rows, err := w.db.Query(ctx, `SELECT calls::float8, regexp_replace(left(query, 400), '\s+', ' ', 'g') FROM pg_stat_statements
		WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat_statements%'
		ORDER BY calls DESC`)
	if err != nil {
		return 0, 0, "", err
	}
	var calls float64
	var query string
	_, err = pgx.ForEachRow(rows, []any{&calls, &query}, func() error {
		if most == "" {
			most = fmt.Sprintf("%.1f/s %.60s…", calls/idleSpan.Seconds(), query)
		}
		statements += calls
		return nil
	})
	return now - w.commands - 1, statements, most, err
}

func (w *watcher) redisCommands(ctx context.Context) (float64, error) {
	info, err := w.redis.Info(ctx, "stats").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(info, "\r\n") {
		if v, ok := strings.CutPrefix(line, "total_commands_processed:"); ok {
			return strconv.ParseFloat(v, 64)
		}
	}
	return 0, errors.New("redis does not say how many commands it has processed")
}
