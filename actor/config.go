package actor

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/conversation"
	"catbird/persistence"
)

// Store is what actors ask of the database, see persistence.Store.
type Store interface {
	Claim(ctx context.Context, session string, ids []string) ([]persistence.Claimed, error)
	Release(ctx context.Context, session string, claims []persistence.Claim) error
	Append(ctx context.Context, units []*conversation.Unit) ([]persistence.AppendOutcome, error)
	Lookup(ctx context.Context, convos []string, refs []persistence.Ref) ([]*conversation.Earlier, error)
	Fold(ctx context.Context, convos []string) error
}

// Lease is the copy of the claim that other nodes look at first. Nothing that
// must hold rests on it: where it is out of reach or wrong, the claim in the
// database decides.
type Lease interface {
	// Take takes the lease of a conversation that this node is about to claim,
	// or returns who holds it, alive. An error means that nobody can tell.
	Take(ctx context.Context, convo, session string) (holder *persistence.Holder, err error)
	// Claimed writes the fence of a granted claim into the lease. It must not
	// block.
	Claimed(convo, session string, fence int64)
	// Freed gives leases back, after their claims. It must not block.
	Freed(session string, convos []string)
}

type noLease struct{}

func (noLease) Take(context.Context, string, string) (*persistence.Holder, error) { return nil, nil }
func (noLease) Claimed(string, string, int64)                                     {}
func (noLease) Freed(string, []string)                                            {}

// Config is what a Registry needs. Store, Sessions and Logger are required;
// zero numbers take the defaults.
type Config struct {
	Store    Store
	Sessions Sessions
	Policy   conversation.Policy
	Logger   *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer

	// Traced says that requests may belong to spans, which are told what becomes
	// of them here. Otherwise nobody looks for one.
	Traced bool

	// Lease keeps other nodes away from the database while this one serves a
	// conversation; nil for a node that has none to keep away.
	Lease Lease

	// Keep says whether an actor that comes to rest stays in memory. nil keeps
	// all.
	Keep func(convo string) bool

	MaxActors    int           // default 100,000
	MailboxSize  int           // letters, default 1,024
	MailboxBytes int           // default 64 MiB
	NodeLetters  int           // in all mailboxes and at work, default 65,536
	NodeBytes    int           // the same in bytes, default 256 MiB
	IdleTimeout  time.Duration // default 1 h
	// StoreTimeout bounds each call of the store; default 5 s.
	StoreTimeout time.Duration
	// FoldEvery is how late unread counts may reach the members' rows; default
	// 1 s.
	FoldEvery time.Duration
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxActors, 100_000)
	def(&c.MailboxSize, 1024)
	def(&c.MailboxBytes, 64<<20)
	def(&c.NodeLetters, 1<<16)
	def(&c.NodeBytes, 256<<20)
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	defTime(&c.IdleTimeout, time.Hour)
	defTime(&c.StoreTimeout, 5*time.Second)
	defTime(&c.FoldEvery, time.Second)
	if c.Policy == (conversation.Policy{}) {
		c.Policy = conversation.DefaultPolicy()
	}
	if c.Lease == nil {
		c.Lease = noLease{}
	}
	if c.Keep == nil {
		c.Keep = func(string) bool { return true }
	}
	return c
}

// Bounds of a transaction (rule 22), and of what is loaded or let go at once.
const (
	maxRows     = 1024
	maxBytes    = 4 << 20
	largeUnit   = 1 << 20 // bytes from which a unit goes through the writer for large ones
	claimBatch  = 256
	lookupBatch = 512
	freeBatch   = 1000
	foldBatch   = 64
)

// Errors that the asker decides on, beside *conversation.Error,
// persistence.ErrUnavailable, persistence.ErrOutcomeUnknown and
// *persistence.HeldError (which, as ErrMoving, may come with ErrOutcomeUnknown
// joined to it).
var (
	// ErrMoving: the conversation is being let go of, or the session it was to be
	// loaded under has just ended; ask again in a moment.
	ErrMoving = errors.New("conversation is moving")
	// ErrClosed: the registry has stopped.
	ErrClosed = errors.New("actor registry has stopped")

	errGone        = errors.New("actor is gone")
	errMailboxFull = errors.New("mailbox is full")
)
