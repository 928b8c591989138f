package persistence

import (
	"encoding/json"
	"time"

	"catbird/conversation"
)

// Session is one life of a node in the database. Its id is never used again.
type Session struct {
	ID      string
	Node    string
	Address string // of the node's internal port, host:port; "" where there is none
	TTL     time.Duration
	// Counter rises with every renewal. Nobody compares clocks: a session whose
	// counter stands still for its TTL may be ended.
	Counter int64
}

// Holder is who holds a conversation's claim.
type Holder struct {
	Session string
	Node    string
	Address string
	Fence   int64
}

// Claim is a hold on one conversation.
type Claim struct {
	Convo string
	Fence int64
}

// ClaimOutcome says how claiming one conversation went.
type ClaimOutcome uint8

// The outcomes of a claim.
const (
	ClaimGranted  ClaimOutcome = iota + 1
	ClaimHeld                  // another live session holds it: see Holder
	ClaimNotFound              // there is no such conversation
)

// Claimed is what claiming one conversation gave. State, Fence and Unfolded
// are set with ClaimGranted, Holder with ClaimHeld.
type Claimed struct {
	Convo    string
	Outcome  ClaimOutcome
	State    conversation.State
	Fence    int64
	Unfolded bool // there are messages that unread counts do not hold yet
	Holder   Holder
}

// AppendOutcome says how appending one unit went.
type AppendOutcome uint8

// The outcomes of an append.
const (
	// Appended: the unit is stored.
	Appended AppendOutcome = iota + 1
	// Conflict: the conversation is not at the unit's base, or one of the
	// unit's ids is there already. Nothing was stored.
	Conflict
	// KeyPackageGone: a key package that the unit uses is gone. Nothing was
	// stored.
	KeyPackageGone
	// Failed: the database refused this unit for a reason of its own (it ran
	// alone after an unexpected error). Nothing was stored.
	Failed
)

// Ref asks for what an earlier request left behind: by its id, and by its key
// where Key is not "".
type Ref struct {
	ID       string
	Caller   string
	Endpoint conversation.Op
	Key      string
}

// RefOf returns the Ref of r, whose Command must be set.
func RefOf(r *conversation.Request) Ref {
	return Ref{ID: r.ID, Caller: r.Caller, Endpoint: r.Command.Op(), Key: r.Key}
}

// Message is a row of the log as readers get it.
type Message struct {
	ID         string
	Sender     string // "" where the row says nobody
	Kind       conversation.Kind
	Epoch, Seq int64
	Ciphertext []byte
	CreatedAt  time.Time
	EmbedType  string
	EmbedURI   string
}

// MessagesQuery asks for a page of a conversation's log.
type MessagesQuery struct {
	Convo, Caller string
	Limit         int
	// SinceSeq and SinceID, at most one of them set, start the page after a
	// message; with neither it is the newest page.
	SinceSeq *int64
	SinceID  string
}

// MessagesPage is a page of the log, oldest first.
type MessagesPage struct {
	Messages []Message
	// LastSeq is the newest of the conversation that the caller may see.
	LastSeq int64
	// More says that the log goes on after the page.
	More bool
	// Unread says that the caller has unread messages up to LastSeq, or counts
	// that are not folded: ResetUnread is due.
	Unread bool
}

// CommitsQuery asks for commits by epoch, both ends included; To nil means up
// to the current one.
type CommitsQuery struct {
	Convo, Caller string
	From          int64
	To            *int64
	Limit         int // rows
	MaxBytes      int // of payload, one row at least
}

// CommitsPage is what CommitsQuery found, in epoch order. More says that there
// are others within the asked range.
type CommitsPage struct {
	Commits []Message
	More    bool
}

// ConvoView is a conversation as its members see it.
type ConvoView struct {
	ID, GroupID   string
	Creator       string
	Members       []MemberView
	Epoch         int64
	CipherSuite   string
	CreatedAt     time.Time
	LastMessageAt time.Time // zero: none
	Unread        int64
	Name          string
	Description   string
}

// MemberView is one active member.
type MemberView struct {
	DID      string
	JoinedAt time.Time
}

// ConvosQuery asks for a page of the caller's active conversations, last
// activity first. Cursor is opaque, as the page before gave it.
type ConvosQuery struct {
	Caller string
	Limit  int
	Cursor string
}

// ConvosPage is a page of conversations; Cursor is "" on the last one.
type ConvosPage struct {
	Convos []ConvoView
	Cursor string
}

// WelcomeView is a member's newest welcome.
type WelcomeView struct {
	Data       []byte
	Epoch, Seq int64
}

// KeyPackage is a published key package.
type KeyPackage struct {
	DID         string
	CipherSuite string
	Data        []byte
	Hash        []byte // SHA-256 of Data
	Expires     time.Time
}

// KeyPackagesQuery asks for key packages of DIDs; CipherSuite "" means any.
type KeyPackagesQuery struct {
	DIDs        []string
	CipherSuite string
	PerDID      int // at most, per DID and cipher suite
	MaxBytes    int
}

// CreateRequest is a conversation to be.
type CreateRequest struct {
	Request  *conversation.Request // ID, Convo, Caller, Key, Digest; its Command is nil
	Creation conversation.Creation
	Unit     *conversation.Unit
	// Response is stored with the request's record, to be told again.
	Response []byte
}

// Overview is what an operator sees of one conversation.
type Overview struct {
	ID        string           `json:"id"`
	Epoch     int64            `json:"epoch"`
	Seq       int64            `json:"seq"`
	Creator   string           `json:"creator"`
	CreatedAt time.Time        `json:"createdAt"`
	Members   []OverviewMember `json:"members"`
	ByEpoch   []EpochSummary   `json:"messagesByEpoch"`
}

// OverviewMember is a member, active or not, in an Overview.
type OverviewMember struct {
	DID      string     `json:"did"`
	JoinedAt time.Time  `json:"joinedAt"`
	LeftAt   *time.Time `json:"leftAt,omitempty"`
	Unread   int64      `json:"unread"`
}

// EpochSummary counts the rows of one epoch.
type EpochSummary struct {
	Epoch    int64     `json:"epoch"`
	Commits  int64     `json:"commits"`
	Messages int64     `json:"messages"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// Integrity counts what should not be, with up to 10 examples each.
type Integrity struct {
	// DuplicateEpochs: an epoch with more than one commit row (I1).
	DuplicateEpochs Finding `json:"duplicateEpochs"`
	// MissingEpochs: an epoch without a commit row between others (I1).
	MissingEpochs Finding `json:"missingEpochs"`
	// SequenceGaps: a seq that is missing between others, or there twice, or a
	// row without one (I2).
	SequenceGaps Finding `json:"sequenceGaps"`
	// EpochMismatches: a conversation whose current epoch or seq is not that of
	// its log.
	EpochMismatches Finding `json:"epochMismatches"`
}

// Clean reports whether nothing was found.
func (i Integrity) Clean() bool {
	return i.DuplicateEpochs.Count+i.MissingEpochs.Count+i.SequenceGaps.Count+i.EpochMismatches.Count == 0
}

// Finding is one kind of damage.
type Finding struct {
	Count    int64     `json:"count"`
	Examples []Example `json:"examples"`
}

// Example is one damaged place.
type Example struct {
	Convo  string `json:"convoId"`
	Epoch  *int64 `json:"epoch,omitempty"`
	Seq    *int64 `json:"seq,omitempty"`
	Detail string `json:"detail"`
}

// MarshalJSON writes no examples as an empty list.
func (f Finding) MarshalJSON() ([]byte, error) {
	type plain Finding
	if f.Examples == nil {
		f.Examples = []Example{}
	}
	return json.Marshal(plain(f))
}

// Retention is how long housekeeping keeps what.
type Retention struct {
	// Commits are kept this long after they were made; 0 keeps all.
	// Application messages carry their own end.
	Commits time.Duration
	// Requests are how long the record of a request with an idempotency key is
	// kept (25 hours: a bit more than clients are promised).
	Requests time.Duration
	// Welcomes are kept this long after they were consumed.
	Welcomes time.Duration
	// Sessions are kept this long after they ended.
	Sessions time.Duration
}

// Removed counts what one round of housekeeping deleted.
type Removed struct {
	Messages, Commits, KeyPackages, Welcomes, Requests, Sessions, Wants int64
	Folded                                                              int64
	// More says that a batch was full: there is more to do.
	More bool
	// Busy says that another node was at it and nothing was done.
	Busy bool
}

// PoolStats are the connections of a store.
type PoolStats struct {
	Active, Idle, Max int
	// Waits counts how often somebody had to wait for a connection.
	Waits int64
}
