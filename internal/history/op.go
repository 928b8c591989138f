package history

import (
	"time"

	"catbird/conversation"
)

// Kind is what a client asked for, by the name of its endpoint.
type Kind string

// The kinds of operations.
const (
	GetEpoch    Kind = "getEpoch"
	GetMessages Kind = "getMessages"
	SendMessage Kind = "sendMessage"
	Commit      Kind = "commit"
	AddMembers  Kind = "addMembers"
	LeaveConvo  Kind = "leaveConvo"
	// ReadLog is no request of a client: it is the whole log, as the database
	// held it at one instant between Call and Return. Recorded when all is over,
	// it says what became of every request that was not answered.
	ReadLog Kind = "log"
)

// changes reports whether operations of this kind change a conversation.
func (k Kind) changes() bool { return k != GetEpoch && k != GetMessages && k != ReadLog }

// Op is one attempt of one request of a client. What a client repeats, with the
// same idempotency key or without, is another Op each time.
type Op struct {
	// ID numbers the operations of a history, from 1; the Recorder gives it.
	ID int64 `json:"id"`
	// Client is who asked: a number from 0, no two of whose operations overlap.
	// It is for people who read the history, and decides nothing.
	Client int    `json:"client"`
	Node   string `json:"node"` // who was asked; decides nothing
	Convo  string `json:"convo"`
	Caller string `json:"caller"` // a DID
	Kind   Kind   `json:"kind"`

	Input  Input  `json:"input"`
	Output Output `json:"output"`

	// Call is just before the request was sent, Return just after its answer
	// was read, on the Recorder's clock, which no clock of the machine moves.
	// Return of an operation whose outcome is unknown is when the client gave
	// up; the request may take effect later all the same.
	Call   time.Duration `json:"call"`
	Return time.Duration `json:"return"`
}

// Input is what a client asked. Only what belongs to the kind is set.
type Input struct {
	// Epoch is the epoch a message is for, or expectedEpoch of a change; nil: the
	// change goes in line.
	Epoch *int64 `json:"epoch,omitempty"`
	// DIDs are who is added, or who leaves: at most one then, none for the caller.
	DIDs []string `json:"dids,omitempty"`
	// Payload stands for the bytes of the message or commit: themselves if they
	// are short text, or a digest. Let no two requests of a conversation have the
	// same, attempts of one request apart: then what became of one that was not
	// answered is found by its payload in the pages that others read, and
	// checking is fast. "" is a change without a commit.
	Payload string `json:"payload,omitempty"`
	// Key is the idempotency key.
	Key string `json:"key,omitempty"`
	// Since is sinceSeq of getMessages; nil asks for the newest page.
	Since *int64 `json:"since,omitempty"`
	// Limit is the most rows of a page that was asked for, as sent: 1 to 100.
	Limit int `json:"limit,omitempty"`
}

// Outcome says what a client knows of its request.
type Outcome string

// The outcomes of an operation.
const (
	// Succeeded: it took effect between Call and Return.
	Succeeded Outcome = "succeeded"
	// Refused: it took no effect, and the conversation was, at an instant between
	// Call and Return, as the code says.
	Refused Outcome = "refused"
	// Failed: it took no effect, and that says nothing of the conversation.
	Failed Outcome = "failed"
	// Unknown: it takes effect at some instant after Call, or never.
	Unknown Outcome = "unknown"
)

// Output is what a client was told.
type Output struct {
	Outcome Outcome           `json:"outcome"`
	Code    conversation.Code `json:"code,omitempty"` // of Refused, Failed; of Unknown if there was an answer

	// Epoch is the epoch that was read, the one that a change led to, the one a
	// message was stored at, or the current one of an EpochMismatch.
	Epoch int64 `json:"epoch,omitempty"`
	// Seq is that of the row, lastSeq of a page; 0: the answer does not tell, as
	// that of a commit over HTTP.
	Seq int64 `json:"seq,omitempty"`
	// MessageID is the id that a message was given; "": not told.
	MessageID string `json:"messageId,omitempty"`
	// Rows are a page of the log, as answered.
	Rows []Row `json:"rows,omitempty"`
}

// Row is one row of a page of the log.
type Row struct {
	ID      string            `json:"id"`
	Kind    conversation.Kind `json:"kind"`
	Sender  string            `json:"sender"`
	Epoch   int64             `json:"epoch"`
	Seq     int64             `json:"seq"`
	Payload string            `json:"payload"` // as Input.Payload
}

// Refusal returns the output of a request that was answered with an error:
// Refused, Failed or Unknown, whichever the code means. current is the epoch
// that an EpochMismatch tells, and 0 with any other code.
func Refusal(code conversation.Code, current int64) Output {
	return Output{Outcome: outcomeOf(code), Code: code, Epoch: current}
}

// Lost returns the output of a request that was not answered: the connection
// broke, the client gave up, or what came was no answer of the service.
func Lost() Output { return Output{Outcome: Unknown} }

func outcomeOf(code conversation.Code) Outcome {
	switch code {
	case "", conversation.OutcomeUnknown:
		return Unknown
	case conversation.NotMember, conversation.NotAuthorized, conversation.ConvoNotFound, conversation.LastMember,
		conversation.EpochMismatch, conversation.AlreadyMember, conversation.TargetNotMember, conversation.IdempotencyConflict:
		return Refused
	}
	return Failed
}

// Convo is how a conversation was when the first operation was made: without a
// log, or one that is in Rows.
type Convo struct {
	ID      string   `json:"id"`
	Creator string   `json:"creator"`
	Members []string `json:"members"` // the creator included, if a member
	Epoch   int64    `json:"epoch,omitempty"`
	Rows    []Row    `json:"rows,omitempty"` // all rows so far, from seq 1
}

// Tenure is one node serving one conversation from memory under one fence: not
// merely holding it, but ready to answer. From and To enclose only what is
// certain: From is an instant at or after its beginning, To one at or before its
// end. A look that took a while, and is all that is known, has its end as From
// and its beginning as To.
type Tenure struct {
	Convo   string        `json:"convo"`
	Node    string        `json:"node"`
	Session string        `json:"session,omitempty"` // where it is known
	Fence   int64         `json:"fence"`
	From    time.Duration `json:"from"`
	To      time.Duration `json:"to"`
}

// History is what was recorded in one run.
type History struct {
	Convos  []Convo
	Ops     []Op
	Tenures []Tenure
}
