package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// conn is one connection with the statements that it has prepared: the texts
// are constants of this package, so their number is bounded. One goroutine uses
// it at a time.
type conn struct {
	sc    *sql.Conn
	stmts map[string]*sql.Stmt
}

// background is what statements run under: once begun they are not
// interrupted, see the package comment.
var background = context.Background()

// openDB returns a handle on the database file at path. extra are further
// pragmas of each connection.
func openDB(path string, extra ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(5000)", // for the moments in which SQLite itself recovers or checkpoints
		"foreign_keys(1)",
		"temp_store(MEMORY)", // sorting needs no folder that can be written to
		"synchronous(FULL)",  // a commit is on the disk before it is answered
		"journal_size_limit(67108864)",
	}, extra...)}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return sql.Open("sqlite", u.String())
}

func openConn(ctx context.Context, db *sql.DB) (*conn, error) {
	sc, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{sc: sc, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	errs = append(errs, c.sc.Close())
	return errors.Join(errs...)
}

func (c *conn) prepared(text string) (*sql.Stmt, error) {
	if s := c.stmts[text]; s != nil {
		return s, nil
	}
	s, err := c.sc.PrepareContext(background, text)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	c.stmts[text] = s
	return s, nil
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(text string, args ...any) (int64, error) {
	res, err := c.result(text, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (c *conn) result(text string, args ...any) (sql.Result, error) {
	s, err := c.prepared(text)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(background, args...)
}

// row is the one row that a query gives.
type row struct {
	r   *sql.Row
	err error
}

func (r row) scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.r.Scan(dest...)
}

// found scans the row, if there is one.
func (r row) found(dest ...any) (bool, error) {
	err := r.scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (c *conn) row(text string, args ...any) row {
	s, err := c.prepared(text)
	if err != nil {
		return row{err: err}
	}
	return row{r: s.QueryRowContext(background, args...)}
}

// errStop ends each early, without an error.
var errStop = errors.New("stop")

// each calls scan for every row.
func (c *conn) each(scan func(*sql.Rows) error, text string, args ...any) error {
	s, err := c.prepared(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(background, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// micros is a time as the tables hold it.
func micros(t time.Time) int64 { return t.UnixMicro() }

// microsOrNull is the same with null for the zero time.
func microsOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(v int64) time.Time { return time.UnixMicro(v).UTC() }

func fromNullMicros(v sql.NullInt64) time.Time {
	if !v.Valid {
		return time.Time{}
	}
	return fromMicros(v.Int64)
}

// textOrNull is a text with null for the empty one.
func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// blob is bytes that a NOT NULL column takes: the driver writes nil as null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// jsonList is a list as json_each takes it, so that a statement with a list
// has one constant text.
func jsonList(list []string) string {
	b, err := json.Marshal(list)
	if err != nil {
		panic("sqlite: a list of strings that does not encode: " + err.Error())
	}
	return string(b)
}
