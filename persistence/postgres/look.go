package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNoTables says that the database holds none of the tables that a server
// would have made.
var ErrNoTables = errors.New("the database holds no conversations: no server has used it yet")

// ours are the columns that migrations add to the tables of before, as far as
// statements that only read know them.
var ours = map[string]map[string]string{
	"conversations": {
		"catbird_seq": "bigint", "catbird_fence": "bigint", "catbird_claim": "text", "catbird_mls": "boolean",
		"catbird_folded_seq": "bigint", "catbird_trimmed_seq": "bigint", "catbird_last_activity": "timestamptz",
		"catbird_last_message_at": "timestamptz", "catbird_cipher_suite": "text", "catbird_name": "text", "catbird_description": "text",
	},
	"members": {"catbird_counted_seq": "bigint", "catbird_left_seq": "bigint"},
	"messages": {
		"catbird_v": "smallint", "catbird_embed_type": "text", "catbird_embed_uri": "text", "catbird_client_id": "text",
	},
}

// Look makes the store ready to read, as [Store.Prepare] does, but changes
// nothing: where the tables lack what this version adds to them, each
// connection sees views of its own that have it, empty. Changes are not to be
// asked of such a store.
func (s *Store) Look(ctx context.Context) error {
	sch, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	var views []string
	for _, table := range slices.Sorted(maps.Keys(ours)) {
		if len(sch.columns[table]) == 0 {
			return ErrNoTables
		}
		view, err := s.overlay(ctx, sch, table)
		if err != nil {
			return err
		}
		if view != "" {
			views = append(views, view)
		}
	}
	if len(views) > 0 {
		s.main.views.Store(&views)
	}
	s.statements.Store(newStatements(sch))
	return nil
}

// overlay returns the statement that makes a view over table with the columns
// that it lacks, "" where it lacks none.
func (s *Store) overlay(ctx context.Context, sch schema, table string) (view string, err error) {
	var missing strings.Builder
	for _, column := range slices.Sorted(maps.Keys(ours[table])) {
		if !sch.has(table, column) {
			fmt.Fprintf(&missing, ", NULL::%s AS %s", ours[table][column], column)
		}
	}
	if missing.Len() == 0 {
		return "", nil
	}
	var name string
	err = s.one(ctx, s.main, "look at the tables", reads,
		`SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`,
		[]any{table}, func(r pgx.Row) error { return r.Scan(&name) })
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("CREATE TEMP VIEW %s AS SELECT t.*%s FROM %s t", table, missing.String(), name), nil
}

// viewsMade marks a connection whose views are there.
const viewsMade = "catbird views"

// makeViews makes views that only conn sees.
func makeViews(ctx context.Context, conn *pgx.Conn, views []string) error {
	data := conn.PgConn().CustomData()
	if data[viewsMade] != nil {
		return nil
	}
	for _, view := range views {
		if _, err := conn.Exec(ctx, view); err != nil {
			return fmt.Errorf("making a view over the tables as they are: %w", err)
		}
	}
	data[viewsMade] = true
	return nil
}
