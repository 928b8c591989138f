package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"catbird/conversation"
	"catbird/persistence"
)

// write runs f in a write transaction and commits it.
func (s *Store) write(ctx context.Context, doing string, f func(*conn) error) error {
	return s.transact(ctx, doing, false, f)
}

// writeUrgent is write before all others that wait.
func (s *Store) writeUrgent(ctx context.Context, doing string, f func(*conn) error) error {
	return s.transact(ctx, doing, true, f)
}

func (s *Store) transact(ctx context.Context, doing string, urgent bool, f func(*conn) error) error {
	c, err := s.writers.take(ctx, urgent)
	if err != nil {
		return failure(doing, err)
	}
	defer s.writers.give(c)
	if err := begin(c, "BEGIN IMMEDIATE"); err != nil {
		return failure(doing, err)
	}
	committed := false
	defer func() {
		if !committed { // also when f panics
			rollback(c)
		}
	}()
	if err := f(c); err != nil {
		return failure(doing, err)
	}
	if err := ctx.Err(); err != nil {
		return failure(doing, fmt.Errorf("%w: %w", persistence.ErrUnavailable, err))
	}
	if _, err := c.exec("COMMIT"); err != nil {
		if codeOf(err) == sqlite3.SQLITE_BUSY {
			return failure(doing, err) // the transaction is still open
		}
		// The log may have reached the disk all the same.
		return fmt.Errorf("sqlite: %s: commit: %w: %w", doing, persistence.ErrOutcomeUnknown, err)
	}
	committed = true
	return nil
}

// snapshot runs f, which only reads, on one snapshot of the database.
func (s *Store) snapshot(ctx context.Context, doing string, f func(*conn) error) error {
	return s.query(ctx, doing, func(c *conn) error {
		if err := begin(c, "BEGIN"); err != nil {
			return err
		}
		defer rollback(c)
		return f(c)
	})
}

// query runs f, which reads with one statement.
func (s *Store) query(ctx context.Context, doing string, f func(*conn) error) error {
	c, err := s.readers.take(ctx, false)
	if err != nil {
		return failure(doing, err)
	}
	defer s.readers.give(c)
	return failure(doing, f(c))
}

// begin begins a transaction, and ends one that a failed commit left open.
func begin(c *conn, text string) error {
	_, err := c.exec(text)
	if err != nil && codeOf(err) == sqlite3.SQLITE_ERROR {
		rollback(c)
		_, err = c.exec(text)
	}
	return err
}

// rollback ends a transaction; some errors have ended it before.
func rollback(c *conn) { _, _ = c.exec("ROLLBACK") }

// codeOf returns SQLite's primary result code, 0 where err is not SQLite's.
func codeOf(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// failure says what was being done when err came, and whether the database was
// out of reach. What a caller decides on passes as it is; nil stays nil.
func failure(doing string, err error) error {
	var refusal *conversation.Error
	var held *persistence.HeldError
	switch {
	case err == nil, errors.As(err, &refusal), errors.As(err, &held):
		return err
	case errors.Is(err, persistence.ErrUnavailable), errors.Is(err, persistence.ErrSessionOver):
		return fmt.Errorf("sqlite: %s: %w", doing, err)
	case unavailable(err):
		return fmt.Errorf("sqlite: %s: %w: %w", doing, persistence.ErrUnavailable, err)
	default:
		return fmt.Errorf("sqlite: %s: %w", doing, err)
	}
}

// unavailable reports whether the file or the machine failed, not the
// statement.
func unavailable(err error) bool {
	switch codeOf(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT:
		return true
	}
	return errors.Is(err, sql.ErrConnDone)
}

// refusedRow reports whether the database refused one row for what is in it: a
// failure of one unit, not of the transaction.
func refusedRow(err error) bool {
	switch codeOf(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}
