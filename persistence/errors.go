package persistence

import (
	"errors"
	"fmt"
)

// Errors that a caller decides on. Everything else that a Store returns is a
// fault; it did not store anything.
var (
	// ErrUnavailable: the database cannot be reached, or has no connection free
	// in time. Nothing was stored.
	ErrUnavailable = errors.New("database unavailable")
	// ErrOutcomeUnknown: contact was lost while a change was being stored. It
	// may have happened, or may still happen later.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrSessionOver: the session is ended, or never was.
	ErrSessionOver = errors.New("session is over")
)

// HeldError says that somebody else holds the conversation.
type HeldError struct{ Holder Holder }

// Error names the holder.
func (e *HeldError) Error() string {
	return fmt.Sprintf("conversation is held by node %s, session %s", e.Holder.Node, e.Holder.Session)
}
