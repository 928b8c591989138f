package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"catbird/conversation"
	"catbird/persistence"
)

// effect is what a call does to the database.
type effect uint8

const (
	// reads change nothing, or nothing that a repeat would not change again.
	reads effect = iota
	changes
)

// translate turns an error of pgx into one of this project. lost says that the
// connection is gone.
//
// An error that the server reports ends the transaction, so nothing was stored,
// with one exception: a server that is going down may say so after the commit.
func translate(doing string, e effect, lost bool, err error) error {
	if err == nil {
		return nil
	}
	if own(err) {
		return err
	}
	var pg *pgconn.PgError
	switch {
	case pgconn.SafeToRetry(err): // nothing was sent
		return fmt.Errorf("%s: %w: %w", doing, persistence.ErrUnavailable, err)
	case errors.As(err, &pg) && !goingDown(pg.Code):
		if outOfReach(pg.Code) {
			return fmt.Errorf("%s: %w: %w", doing, persistence.ErrUnavailable, err)
		}
		return fmt.Errorf("%s: %w", doing, err)
	case e == changes:
		return fmt.Errorf("%s: %w: %w", doing, persistence.ErrOutcomeUnknown, err)
	case lost || pg != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w: %w", doing, persistence.ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
}

// own reports whether err is already what a caller is to be told.
func own(err error) bool {
	var refusal *conversation.Error
	var held *persistence.HeldError
	return errors.As(err, &refusal) || errors.As(err, &held) || errors.Is(err, persistence.ErrUnavailable) ||
		errors.Is(err, persistence.ErrOutcomeUnknown) || errors.Is(err, persistence.ErrSessionOver)
}

// goingDown: the server, or the way to it, ends this connection.
func goingDown(code string) bool {
	return strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08")
}

// outOfReach: the server cannot do it now, whatever it is. Out of resources,
// out of time, read-only because another server has taken over, busy with
// others; or it has ended a transaction that idled, so that others get on.
func outOfReach(code string) bool {
	switch code {
	case "55P03", "57014", "25006", "25P03", "58030":
		return true
	}
	return strings.HasPrefix(code, "53") || worthRepeating(code)
}

// worthRepeating: the transaction was undone for a reason that lies in its
// moment: a deadlock, a conflict, or a cached statement that does not fit the
// tables any more.
func worthRepeating(code string) bool {
	switch code {
	case "40001", "40P01", "0A000", "26000":
		return true
	}
	return false
}

// codeOf returns the SQLSTATE in err's chain, "" for none.
func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
