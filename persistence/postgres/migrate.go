package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose keeps what has been done; goose_db_version may
// belong to others.
const versionTable = "catbird_goose_version"

// migrationLock keeps two nodes from migrating at once. It is tried again and
// again instead of waited for: a statement that waits holds a snapshot, which
// building an index beside it would wait for in turn.
const migrationLock = 0x63617462697264 // "catbird"

// Prepare makes the store ready: it migrates the database and looks at what its
// tables are like. Until it has succeeded every other call returns
// ErrUnavailable. It may be called again, by any number of nodes at once; the
// caller retries while the database is down.
func (s *Store) Prepare(ctx context.Context) error {
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	sch, err := s.inspect(ctx)
	if err != nil {
		return err
	}
	s.statements.Store(newStatements(sch))
	return nil
}

// Migrate brings the tables up to date. It only ever adds: nullable columns,
// tables, indexes; a server of before goes on working. Indexes on tables that
// may be large are built while others write. It waits, without a limit but
// ctx, while another node migrates.
func (s *Store) Migrate(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			var pg *pgconn.PgError
			err = translate("migrate the database", reads, !errors.As(err, &pg), err)
		}
	}()
	cfg := s.base.ConnConfig.Copy()
	cfg.RuntimeParams["statement_timeout"] = "0"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	delete(cfg.RuntimeParams, "enable_seqscan")
	db := stdlib.OpenDB(*cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(2) // one holds the lock

	p, err := s.provider(db)
	if err != nil {
		return err
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		s.log.InfoContext(ctx, "database migrated", "version", r.Source.Version, "duration", r.Duration)
	}
	return err
}

func (s *Store) provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	// Tried every second, practically for ever: ctx ends the waiting.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 1<<30))
	if err != nil {
		return nil, fmt.Errorf("make the lock of migrations: %w", err)
	}
	return goose.NewProvider(database.DialectPostgres, db, files,
		goose.WithTableName(versionTable),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(2, &goose.GoFunc{RunDB: buildIndexes}, nil)),
	)
}

// index is an index that is built while others write.
type index struct {
	name, table, definition string
	unique                  bool
}

// mlsPrefix are the first four bytes of an MLS message (RFC 9420 section 6):
// version mls10, wire format public or private message.
const mlsPrefix = `substring(ciphertext from 1 for 4) IN ('\x00010001'::bytea, '\x00010002'::bytea)`

// indexes are those on tables that were there before us. Unique ones are over
// our own rows only: the old server inserts commits without a seq and takes
// its next seq from MAX + 1 without a lock. None is over a column that every
// append changes in conversations or members, so those updates stay HOT.
// The one on members is not partial, lest a plan that was made while the table
// was empty reads it whole instead of the few rows of one conversation.
var indexes = []index{
	{name: "catbird_messages_seq", table: "messages", unique: true, definition: `(convo_id, seq) WHERE catbird_v IS NOT NULL`},
	{name: "catbird_messages_epoch", table: "messages", unique: true, definition: `(convo_id, epoch) WHERE catbird_v IS NOT NULL AND message_type = 'commit'`},
	{name: "catbird_messages_old", table: "messages", definition: `(convo_id, coalesce(seq, 0), created_at, id) WHERE catbird_v IS NULL`},
	{name: "catbird_messages_old_commits", table: "messages", definition: `(convo_id, epoch, created_at, id) WHERE catbird_v IS NULL AND message_type = 'commit'`},
	{name: "catbird_messages_old_mls", table: "messages", definition: `(convo_id) WHERE catbird_v IS NULL AND message_type = 'commit' AND ` + mlsPrefix},
	{name: "catbird_messages_expires", table: "messages", definition: `(expires_at) WHERE expires_at IS NOT NULL AND message_type = 'app'`},
	{name: "catbird_members_did", table: "members", definition: `(member_did, convo_id)`},
	{name: "catbird_welcomes_recipient", table: "welcome_messages", definition: `(convo_id, recipient_did, created_at)`},
	{name: "catbird_welcomes_consumed", table: "welcome_messages", definition: `(consumed_at) WHERE consumed`},
}

// keyPackageIndexes are those on the table of key packages, whichever it is.
var keyPackageIndexes = []index{
	{name: "_did", definition: `(did, cipher_suite, created_at)`},
	{name: "_expires", definition: `(expires_at)`},
	{name: "_consumed", definition: `(id) WHERE consumed`},
}

func buildIndexes(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Building waits for transactions of others that have been open for long.
	if _, err := conn.ExecContext(ctx, "SET lock_timeout = 0"); err != nil {
		return err
	}
	all := append([]index{}, indexes...)
	legacy, err := keyPackagesFit(ctx, conn)
	if err != nil {
		return err
	}
	tables := []string{"catbird_key_packages"}
	if legacy {
		tables = append(tables, "key_packages")
	}
	for _, table := range tables {
		prefix := "catbird_key_packages"
		if table == "key_packages" {
			prefix = "catbird_old_key_packages"
		}
		for _, i := range keyPackageIndexes {
			i.name, i.table = prefix+i.name, table
			all = append(all, i)
		}
	}
	for _, i := range all {
		if err := i.build(ctx, conn); err != nil {
			return fmt.Errorf("build index %s: %w", i.name, err)
		}
	}
	return nil
}

// build builds the index unless it is there and whole. A build that was
// interrupted leaves an invalid index behind, which nobody reads and everybody
// has to write.
func (i index) build(ctx context.Context, conn *sql.Conn) error {
	var valid sql.NullBool
	err := conn.QueryRowContext(ctx, "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1))", i.name).Scan(&valid)
	if err != nil {
		return err
	}
	if valid.Valid && !valid.Bool {
		if _, err := conn.ExecContext(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+i.name); err != nil {
			return err
		}
	}
	kind := "INDEX"
	if i.unique {
		kind = "UNIQUE INDEX"
	}
	_, err = conn.ExecContext(ctx, "CREATE "+kind+" CONCURRENTLY IF NOT EXISTS "+i.name+" ON "+i.table+" "+i.definition)
	return err
}
