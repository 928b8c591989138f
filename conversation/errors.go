package conversation

import (
	"errors"
	"fmt"
)

// Code names what went wrong in the words of the client API. The HTTP status
// that belongs to a code is the router's business.
type Code string

// The codes of the client API.
const (
	InvalidRequest         Code = "InvalidRequest"
	InvalidCursor          Code = "InvalidCursor"
	InvalidEpochRange      Code = "InvalidEpochRange"
	InvalidCipherSuite     Code = "InvalidCipherSuite"
	InvalidKeyPackage      Code = "InvalidKeyPackage"
	InvalidCommit          Code = "InvalidCommit"
	ExpirationTooFar       Code = "ExpirationTooFar"
	TooManyMembers         Code = "TooManyMembers"
	TooManyDids            Code = "TooManyDids"
	TooManyKeyPackages     Code = "TooManyKeyPackages"
	LastMember             Code = "LastMember"
	AuthenticationRequired Code = "AuthenticationRequired"
	InvalidToken           Code = "InvalidToken"
	ExpiredToken           Code = "ExpiredToken"
	ReplayDetected         Code = "ReplayDetected"
	NotMember              Code = "NotMember"
	NotAuthorized          Code = "NotAuthorized"
	ConvoNotFound          Code = "ConvoNotFound"
	WelcomeNotFound        Code = "WelcomeNotFound"
	KeyPackageNotFound     Code = "KeyPackageNotFound"
	MethodNotFound         Code = "MethodNotFound"
	EpochMismatch          Code = "EpochMismatch"
	AlreadyMember          Code = "AlreadyMember"
	TargetNotMember        Code = "TargetNotMember"
	ConvoAlreadyExists     Code = "ConvoAlreadyExists"
	IdempotencyConflict    Code = "IdempotencyConflict"
	MessageTooLarge        Code = "MessageTooLarge"
	RateLimitExceeded      Code = "RateLimitExceeded"
	MailboxFull            Code = "MailboxFull"
	Overloaded             Code = "Overloaded"
	Unavailable            Code = "Unavailable"
	Draining               Code = "Draining"
	OutcomeUnknown         Code = "OutcomeUnknown"
	InternalServerError    Code = "InternalServerError"
)

// Error is a refusal that a client is told: a code to decide on and one
// sentence for a person. The message never holds a secret, an SQL text or a
// stack.
type Error struct {
	Code    Code
	Message string

	// Expected and Current are set with EpochMismatch: the epoch the client
	// built on, and the one the conversation has.
	Expected, Current int64
}

// Error returns the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, conversation.Refuse(conversation.NotMember, "")) works.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// Final reports whether the refusal can never turn into success, whatever
// happens to the conversation later. Only such a refusal may be told to a
// client after an attempt whose outcome is unknown: a client must not hear
// "no" and then see its change happen all the same.
func (e *Error) Final() bool {
	switch e.Code {
	case IdempotencyConflict:
		return true
	case EpochMismatch:
		return e.Expected < e.Current
	default:
		return false
	}
}

// Refuse returns an *Error with a formatted message.
func Refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of the *Error in err's chain, and "" if there is
// none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func epochMismatch(expected, current int64) *Error {
	e := Refuse(EpochMismatch, "the conversation is at epoch %d, not %d", current, expected)
	e.Expected, e.Current = expected, current
	return e
}
