package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/pressly/goose/v3"

	"catbird/persistence"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	fileName     = "catbird.db"
	versionTable = "catbird_schema_version"
)

// Config says where the database is.
type Config struct {
	// Dir is the folder of the files catbird.db and catbird.lock; it is created
	// where it is missing. It must be on a local disk.
	Dir string
	// Logger may be nil: nothing is logged then.
	Logger *slog.Logger
}

// Store is persistence.Store in one SQLite file. Its methods may be called from
// any number of goroutines at once.
type Store struct {
	path string
	log  *slog.Logger
	lock *os.File

	writeDB, readDB *sql.DB
	writers         *pool // one connection
	readers         *pool

	housekeeping sync.Mutex // held while one round runs
	closing      sync.Once
	closeErr     error
}

var _ persistence.Store = (*Store)(nil)

// Open opens the database in cfg.Dir, which it creates where it is missing, and
// takes the folder for this process: [ErrInUse] when another has it. The tables
// are made by [Store.Prepare].
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("sqlite: no data folder given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("sqlite: data folder %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sqlite: create data folder: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{path: filepath.Join(dir, fileName), log: log.With("component", "sqlite"), lock: lock}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", s.path, errors.Join(err, s.closeFiles()))
	}
	return s, nil
}

// open opens the file and all connections.
func (s *Store) open(ctx context.Context) error {
	// SQLite would create the file readable by others; what it puts beside it
	// takes its mode from it.
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.writeDB, err = openDB(s.path, "journal_mode(WAL)"); err != nil {
		return err
	}
	writer, err := openConn(ctx, s.writeDB)
	if err != nil {
		return err
	}
	s.writers = newPool(writer)
	if s.readDB, err = openDB(s.path, "query_only(1)"); err != nil {
		return err
	}
	var readers []*conn
	for range max(4, runtime.GOMAXPROCS(0)) {
		c, err := openConn(ctx, s.readDB)
		if err != nil {
			s.readers = newPool(readers...)
			return err
		}
		readers = append(readers, c)
	}
	s.readers = newPool(readers...)
	return nil
}

// Prepare brings the tables to the version that this program knows.
func (s *Store) Prepare(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("sqlite: prepare %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) prepare(ctx context.Context) (err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	c, err := s.writers.take(ctx, true)
	if err != nil {
		return err
	}
	defer s.writers.give(c)
	db, err := openDB(s.path) // goose wants a handle of its own
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithSlog(s.log))
	if err != nil {
		return err
	}
	done, err := p.Up(ctx)
	for _, m := range done {
		s.log.Info("applied migration", "version", m.Source.Version, "duration", m.Duration)
	}
	return err
}

// Ping reads the header of the database file.
func (s *Store) Ping(ctx context.Context) error {
	return s.query(ctx, "ping", func(c *conn) error {
		var version int64
		return c.row("PRAGMA schema_version").scan(&version)
	})
}

// Stats returns the state of the connections, the one that writes included.
func (s *Store) Stats() persistence.PoolStats {
	r, w := s.readers.stats(), s.writers.stats()
	return persistence.PoolStats{
		Active: r.Active + w.Active, Idle: r.Idle + w.Idle, Max: r.Max + w.Max, Waits: r.Waits + w.Waits,
	}
}

// Close turns new work away, waits for what runs, and lets go of the folder.
// It may be called more than once.
func (s *Store) Close() error {
	s.closing.Do(func() {
		if err := s.closeFiles(); err != nil {
			s.closeErr = fmt.Errorf("sqlite: close %s: %w", s.path, err)
		}
	})
	return s.closeErr
}

// closeFiles closes whatever is open. The writer goes last: closing the last
// connection moves the write-ahead log into the database file.
func (s *Store) closeFiles() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.close())
	}
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.writers != nil {
		errs = append(errs, s.writers.close())
	}
	if s.writeDB != nil {
		errs = append(errs, s.writeDB.Close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}
