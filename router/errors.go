package router

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

// statusOf is the API's table of errors.
var statusOf = map[conversation.Code]int{
	conversation.InvalidRequest:         http.StatusBadRequest,
	conversation.InvalidCursor:          http.StatusBadRequest,
	conversation.InvalidEpochRange:      http.StatusBadRequest,
	conversation.InvalidCipherSuite:     http.StatusBadRequest,
	conversation.InvalidKeyPackage:      http.StatusBadRequest,
	conversation.InvalidCommit:          http.StatusBadRequest,
	conversation.ExpirationTooFar:       http.StatusBadRequest,
	conversation.TooManyMembers:         http.StatusBadRequest,
	conversation.TooManyDids:            http.StatusBadRequest,
	conversation.TooManyKeyPackages:     http.StatusBadRequest,
	conversation.LastMember:             http.StatusBadRequest,
	conversation.AuthenticationRequired: http.StatusUnauthorized,
	conversation.InvalidToken:           http.StatusUnauthorized,
	conversation.ExpiredToken:           http.StatusUnauthorized,
	conversation.ReplayDetected:         http.StatusUnauthorized,
	conversation.NotMember:              http.StatusForbidden,
	conversation.NotAuthorized:          http.StatusForbidden,
	conversation.ConvoNotFound:          http.StatusNotFound,
	conversation.WelcomeNotFound:        http.StatusNotFound,
	conversation.KeyPackageNotFound:     http.StatusNotFound,
	conversation.MethodNotFound:         http.StatusNotFound,
	conversation.EpochMismatch:          http.StatusConflict,
	conversation.AlreadyMember:          http.StatusConflict,
	conversation.TargetNotMember:        http.StatusConflict,
	conversation.ConvoAlreadyExists:     http.StatusConflict,
	conversation.IdempotencyConflict:    http.StatusConflict,
	conversation.MessageTooLarge:        http.StatusRequestEntityTooLarge,
	conversation.RateLimitExceeded:      http.StatusTooManyRequests,
	conversation.MailboxFull:            http.StatusServiceUnavailable,
	conversation.Overloaded:             http.StatusServiceUnavailable,
	conversation.Unavailable:            http.StatusServiceUnavailable,
	conversation.Draining:               http.StatusServiceUnavailable,
	conversation.OutcomeUnknown:         http.StatusGatewayTimeout,
	conversation.InternalServerError:    http.StatusInternalServerError,
}

const (
	// statusClientGone stands in logs and figures for a client that did not
	// wait for its answer.
	statusClientGone = 499
	// retryAfter is how soon a client may try again that was turned away for
	// want of room or of the database.
	retryAfter = time.Second
)

var (
	errPanic  = errors.New("panic")
	errInside = conversation.Refuse(conversation.InternalServerError, "a fault of the service; it is logged with the request's id")
)

// errorBody is the form of every answer that says no.
type errorBody struct {
	Error   conversation.Code `json:"error"`
	Message string            `json:"message"`
	*missed
}

// missed is what an EpochMismatch carries beside: see [Router.epochMismatch].
type missed struct {
	CurrentEpoch int64        `json:"currentEpoch"`
	Commits      []commitView `json:"commits"`
	More         bool         `json:"more,omitempty"`
}

// missedError is an EpochMismatch with the commits that the client has missed.
type missedError struct {
	refusal *conversation.Error
	missed  missed
}

// Error returns what the EpochMismatch says.
func (e *missedError) Error() string { return e.refusal.Error() }

// Unwrap returns the EpochMismatch.
func (e *missedError) Unwrap() error { return e.refusal }

// classify says what a client is told of err. changing says whether the call may
// have changed something, so that an end before there was an answer leaves its
// outcome open; a question that went unanswered may simply be asked again.
func classify(err error, changing bool) *conversation.Error {
	var told *conversation.Error
	var form *wire.Error
	switch {
	case errors.As(err, &told):
		if _, known := statusOf[told.Code]; !known || told.Code == conversation.InternalServerError {
			return errInside
		}
		return told
	case errors.As(err, &form):
		return conversation.Refuse(conversation.InvalidRequest, "%s", form.Error())
	case errors.Is(err, persistence.ErrUnavailable):
		return conversation.Refuse(conversation.Unavailable, "the database cannot be reached")
	case errors.Is(err, persistence.ErrOutcomeUnknown),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		if changing {
			return conversation.Refuse(conversation.OutcomeUnknown,
				"there was no answer in time; the change may have happened, which the same request with the same idempotencyKey tells")
		}
		return conversation.Refuse(conversation.Unavailable, "there was no answer in time")
	default:
		return errInside
	}
}

// refuse answers the call with err, counts it and, where it is a fault of ours,
// logs it. It is the only way an error leaves the API.
func (rt *Router) refuse(c *call, err error) {
	told := classify(err, c.changing)
	status := statusOf[told.Code]
	c.err, c.name, c.status = err, told.Code, status
	if c.request.Context().Err() != nil && !errors.Is(err, errPanic) {
		c.status = statusClientGone
	} else if told == errInside && !errors.Is(err, errPanic) {
		rt.log.Error("request failed", "request_id", c.trail.id, "op", c.endpoint.op, "error", err)
	}
	rt.metrics.countError(told.Code)
	if c.writer.Written() {
		return
	}
	h := c.writer.Header()
	switch status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", seconds(retryAfter))
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = bearerChallenge
	case http.StatusRequestEntityTooLarge:
		h["Connection"] = connectionClose // the rest of the body is not worth reading
	}
	body := errorBody{Error: told.Code, Message: told.Message}
	var behind *missedError
	if errors.As(err, &behind) {
		body.missed = &behind.missed
	}
	b := buffers.Get().(*bytes.Buffer)
	defer putBuffer(b)
	if err := encode(b, body); err != nil {
		panic("router: an error that does not encode: " + err.Error()) // plain structs always do
	}
	c.write(status, b.Bytes())
}
