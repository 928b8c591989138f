package peer

import (
	"context"
	"errors"
	"fmt"

	"catbird/conversation"
)

// Question is what one node asks another. How long the asking node will wait is
// in the context on both sides; what crosses the wire is the time that is left,
// so the two clocks need not agree.
type Question struct {
	// Change is the change to make, complete with the verified caller; nil asks
	// for the current epoch. It must not be altered once it was passed to Ask,
	// nor after Ask has returned.
	Change *conversation.Request
	// Convo and Caller, the caller's verified identity, of an epoch query. With
	// a Change, its own are what counts.
	Convo, Caller string
	// Offer asks which of these conversations the node's own ring gives it, Take
	// tells it that they are free now and that it may load them; without a
	// Change, Convo and Caller.
	Offer, Take []string
	// MustServe says that nobody holds the conversation: who is asked must take
	// it, whatever its ring says (rule 16).
	MustServe bool
	// RequestID is the client request's id, for logs; "" for none.
	RequestID string
	// Traceparent is the W3C trace context's header, "" for none.
	Traceparent string
}

// Subject returns the conversation that q is about.
func (q *Question) Subject() string {
	if q.Change != nil {
		return q.Change.Convo
	}
	return q.Convo
}

// Status says what became of a question.
type Status uint8

// What became of a question.
const (
	// Served: it was done. Result holds for a change, Epoch for an epoch query.
	Served Status = iota + 1
	// Refused: Refusal is what the client is to be told, rule 19 permitting.
	Refused
	// NotMine: the node does not hold the conversation. Holder is who does, as
	// far as it knows; the zero Holder when it does not.
	NotMine
	// Moving: the conversation is on its way to the node or from it; it is worth
	// asking again in a moment.
	Moving

	// On the wire only; Ask makes errors of them.
	statusBusy
	statusUnsupported
)

// String returns the status as metrics and logs name it.
func (s Status) String() string {
	switch s {
	case Served:
		return "served"
	case Refused:
		return "refused"
	case NotMine:
		return "not_mine"
	case Moving:
		return "moving"
	case statusBusy:
		return "busy"
	case statusUnsupported:
		return "unsupported"
	default:
		return fmt.Sprintf("status %d", uint8(s))
	}
}

// Holder is who holds a conversation: the node, the address of its internal
// port, its session, and the fence of its claim.
type Holder struct {
	Node    string
	Address string
	Session string
	Fence   int64
}

// Answer is what a node says to a question.
type Answer struct {
	Status  Status
	Result  conversation.Result
	Epoch   int64
	Refusal *conversation.Error
	// Accepted are those of an Offer that the node will take.
	Accepted []string
	Holder   Holder
	// Draining says that the node is about to leave: next time, somebody else is
	// the better one to ask.
	Draining bool
}

// Errors of Ask, to be told apart by errors.Is. What they wrap beside, such as
// a context's error, says why.
var (
	// ErrUnreachable: the peer has certainly not received the question.
	ErrUnreachable = errors.New("peer unreachable")
	// ErrLost: the peer may have received the question, and may have acted on
	// it, or may still do so.
	ErrLost = errors.New("answer lost")
	// ErrBusy: too much is under way, here or at the peer. The question was
	// certainly not acted on.
	ErrBusy = errors.New("peer busy")
	// ErrUnsupported: the peer is of a version that does not know this kind of
	// question. It was certainly not acted on.
	ErrUnsupported = errors.New("peer does not know this kind of question")
	// ErrClosed: the client was closed. It comes with ErrUnreachable or ErrLost.
	ErrClosed = errors.New("peer client closed")
)

// errUnauthorized: the other side does not know the cluster's secret, or not
// the same one.
var errUnauthorized = errors.New("cluster secret not accepted")

// failure is an error that is one of the above and has a cause.
type failure struct {
	kind  error
	cause error
}

// fail returns an error that is both kind and cause; cause may be nil.
func fail(kind, cause error) error {
	if cause == nil {
		return kind
	}
	return &failure{kind: kind, cause: cause}
}

func (f *failure) Error() string   { return f.kind.Error() + ": " + f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.kind, f.cause} }

// Handler answers the questions of other nodes. Its methods are called from
// many goroutines at once.
type Handler interface {
	// Serve answers a question. ctx ends with the asking node's deadline, and
	// when the asking node has given up or its connection is lost: what has not
	// begun by then need not begin. Serve must return soon after that.
	Serve(ctx context.Context, q Question) Answer
	// TryEpoch answers an epoch query if that takes no waiting: the epoch, or
	// the *conversation.Error to refuse it with. With ok false the question goes
	// to Serve, and so does, unasked, one that is part of a trace that is
	// recorded. It is called on the goroutine that reads from the peer and must
	// not block.
	TryEpoch(convo, caller string) (epoch int64, ok bool, err error)
}
