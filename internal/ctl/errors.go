package ctl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
)

// Error is what a node answered instead of what was asked for.
type Error struct {
	Status  int    `json:"-"`
	Code    string `json:"error"`
	Message string `json:"message"`
}

// Error returns what the node said.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("the node answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Code + ": " + e.Message
}

// UnreachableError says that no answer came. What was asked for may have
// happened all the same.
type UnreachableError struct {
	Base string // where the node should be
	Err  error
}

// Error names the address and the reason.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the node at %s cannot be reached: %v", e.Base, e.Err)
}

// Unwrap returns the reason.
func (e *UnreachableError) Unwrap() error { return e.Err }

var errSlow = errors.New("no answer in time")

// unreachable makes one line of what net/http says, without the address twice.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var slow net.Error
	var dial *net.OpError
	var call *os.SyscallError
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case errors.As(err, &slow) && slow.Timeout():
		err = errSlow
	case errors.As(err, &call): // such as: connection refused
		err = call.Err
	case errors.As(err, &dial):
		err = dial.Err
	}
	return &UnreachableError{Base: c.base, Err: err}
}
