package persistence

import (
	"context"
	"time"

	"catbird/conversation"
)

// Store is everything that Catbird asks of a database. Consumers declare the
// few methods that they need themselves; this whole is for those who implement
// it and for the one place that puts the parts together.
//
// All methods may be called at once from any number of goroutines and block
// until the database has answered or ctx is done. They return
// [ErrUnavailable], wrapped, when the database cannot be reached, and an
// *[conversation.Error] for what a client is to be told.
type Store interface {
	Sessions
	Claims
	Appends
	Reads
	KeyPackages
	Operations
}

// Sessions are the lives of nodes (rules 1 to 4 of docs/architecture.md).
type Sessions interface {
	// StartSession inserts s with counter 0.
	StartSession(ctx context.Context, s Session) error
	// RenewSession adds one to the counter of a session that has not ended, and
	// returns ErrSessionOver otherwise. It uses a connection kept for that.
	RenewSession(ctx context.Context, id string) error
	// LiveSessions returns every session that has not ended.
	LiveSessions(ctx context.Context) ([]Session, error)
	// EndStalled ends a session whose counter is still seen; ended says whether
	// this call did.
	EndStalled(ctx context.Context, id string, seen int64) (ended bool, err error)
	// EndSession ends one's own session, which frees whatever it still claims.
	EndSession(ctx context.Context, id string) error

	// Want asks the holder's session to let go of a conversation, where no
	// network leads to it.
	Want(ctx context.Context, holderSession, convo string) error
	// Wanted returns and deletes what others want of session.
	Wanted(ctx context.Context, session string) ([]string, error)
}

// Claims say which session serves a conversation from memory.
type Claims interface {
	// Claim claims each of ids for session and loads it: allowed where the
	// claim is null, over, or one's own. It raises the fence, also over one's
	// own claim. A session that is over gets ErrSessionOver. The answers are in
	// the order of ids, which must not repeat.
	Claim(ctx context.Context, session string, ids []string) ([]Claimed, error)
	// Release lets go of those of claims that session still holds with that
	// fence. The caller has dropped what it had in memory before.
	Release(ctx context.Context, session string, claims []Claim) error
}

// Appends change conversations.
type Appends interface {
	// Append stores each unit whose conversation is still at the unit's base,
	// all in one transaction; the outcomes are in the order of units, which
	// must be of different conversations. ErrOutcomeUnknown: some, all or none
	// may have been stored.
	Append(ctx context.Context, units []*conversation.Unit) ([]AppendOutcome, error)
	// Lookup returns what earlier requests left behind, nil where nothing was
	// found, in the order of refs. Refs of several conversations may be asked
	// for at once: convos[i] belongs to refs[i].
	Lookup(ctx context.Context, convos []string, refs []Ref) ([]*conversation.Earlier, error)
	// Direct changes a conversation in one transaction, without a claim: it
	// locks the row, looks r up (by key, and by id when r.Retry), loads the
	// state, decides and appends. own is the caller's session: a claim of its
	// own, or of another live session, stops it with a *HeldError.
	Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error)
	// Create stores a new conversation. A repeat (by key, or by id) gives what
	// the first call stored as its response and repeated = true. An id that is
	// taken is ConvoAlreadyExists.
	Create(ctx context.Context, c CreateRequest) (response []byte, repeated bool, err error)
	// Fold counts, in each of the conversations, the application messages that
	// unread counts do not hold yet.
	Fold(ctx context.Context, convos []string) error
	// ResetUnread makes what the caller has not read the messages after seq.
	ResetUnread(ctx context.Context, convo, caller string, seq int64) error
}

// Reads need no owner, no claim and no lock: each is one snapshot. A caller who
// is not a member gets NotMember, an id that exists nowhere ConvoNotFound; who
// has left may read the log up to the commit that took them out.
type Reads interface {
	Epoch(ctx context.Context, convo, caller string) (int64, error)
	Messages(ctx context.Context, q MessagesQuery) (MessagesPage, error)
	Commits(ctx context.Context, q CommitsQuery) (CommitsPage, error)
	Convos(ctx context.Context, q ConvosQuery) (ConvosPage, error)
	// Convo returns one conversation as its member sees it.
	Convo(ctx context.Context, convo, caller string) (ConvoView, error)
	// Welcome returns the caller's newest welcome that is not consumed and marks
	// it fetched; WelcomeNotFound otherwise.
	Welcome(ctx context.Context, convo, caller string) (WelcomeView, error)
	// ConfirmWelcome marks the newest welcome consumed, or available again.
	ConfirmWelcome(ctx context.Context, convo, caller string, success bool) error
}

// KeyPackages are what others need to add somebody.
type KeyPackages interface {
	// PublishKeyPackage stores a key package; the same bytes twice are one.
	// max unconsumed and unexpired ones of the DID and suite: TooManyKeyPackages.
	// With r.Key the request's record goes with it; a repeat changes nothing.
	PublishKeyPackage(ctx context.Context, r *conversation.Request, k KeyPackage, max int) error
	// FindKeyPackages returns unexpired and unconsumed ones, oldest first, by
	// DID in the order asked. More than MaxBytes in all: TooManyDids.
	FindKeyPackages(ctx context.Context, q KeyPackagesQuery) ([]KeyPackage, error)
}

// Operations are for operators and upkeep.
type Operations interface {
	// Ping checks that the database answers.
	Ping(ctx context.Context) error
	// Overview returns one conversation; ConvoNotFound if there is none.
	Overview(ctx context.Context, convo string) (Overview, error)
	// Holder returns whose live session claims a conversation; held is false
	// where there is none. ConvoNotFound if there is no such conversation.
	Holder(ctx context.Context, convo string) (h Holder, held bool, err error)
	// Integrity looks at what was written since then; the zero time means
	// everything.
	Integrity(ctx context.Context, since time.Time) (Integrity, error)
	// Housekeep deletes one small batch of each kind of what has ended, and
	// folds conversations that a crash left uncounted. One node at a time: the
	// others are told Busy.
	Housekeep(ctx context.Context, r Retention, batch int) (Removed, error)
	// Stats returns the state of the connections.
	Stats() PoolStats
	// Close ends all connections, after what runs on them.
	Close() error
}
