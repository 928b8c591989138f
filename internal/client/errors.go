package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"catbird/conversation"
)

// Error is an answer of the API that says no.
type Error struct {
	Endpoint string // without Prefix
	Status   int    // of HTTP
	// Name is the error's name; "" where the answer is none of the API's, but
	// for example a load balancer's.
	Name    conversation.Code
	Message string

	// CurrentEpoch, Commits and More come with EpochMismatch: the epoch the
	// conversation is at, the commits that the caller has missed, and whether
	// there are others.
	CurrentEpoch int64
	Commits      []Commit
	More         bool

	// RetryAfter is when to try again; 0: not said.
	RetryAfter time.Duration
}

// Error says which endpoint refused and why.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d", e.Endpoint, e.Status)
	if e.Name != "" {
		fmt.Fprintf(&b, " %s", e.Name)
	} else if text := http.StatusText(e.Status); text != "" {
		fmt.Fprintf(&b, " (%s)", text)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	return b.String()
}

// Is reports whether target is an *Error of the same name, so that
// errors.Is(err, &client.Error{Name: conversation.NotMember}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// unknown reports whether the answer leaves open what happened.
func (e *Error) unknown() bool {
	switch {
	case e.Status == http.StatusBadGateway, e.Status == http.StatusGatewayTimeout:
		return true
	case e.Status == http.StatusServiceUnavailable:
		return false
	default:
		return e.Name == "" && e.Status >= 500
	}
}

// NameOf returns the name of the *Error in err's chain, and "" if there is
// none.
func NameOf(err error) conversation.Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}

// ConnectionError says that no whole answer came.
type ConnectionError struct {
	Endpoint string
	Node     string // the base URL
	// Sent says that the request may have reached the node.
	Sent bool
	Err  error
}

// Error says what was asked of whom, and how contact was lost.
func (e *ConnectionError) Error() string {
	doing := "reach"
	if e.Sent {
		doing = "get an answer from"
	}
	return fmt.Sprintf("%s: %s %s: %v", e.Endpoint, doing, e.Node, e.Err)
}

// Unwrap returns the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

// UncertainError says that a change ended with Err after an earlier attempt, or
// this one, may have been stored.
type UncertainError struct{ Err error }

// Error says that the outcome is unknown, and why.
func (e *UncertainError) Error() string { return "outcome unknown: " + e.Err.Error() }

// Unwrap returns how the last attempt ended.
func (e *UncertainError) Unwrap() error { return e.Err }

// OutcomeUnknown reports whether err leaves open if a change happened. Any
// other error of a change means that it did not.
func OutcomeUnknown(err error) bool {
	var u *UncertainError
	return errors.As(err, &u)
}
