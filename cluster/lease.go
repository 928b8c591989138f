package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Entry says who holds a conversation, as far as the lease knows. The zero
// value is nobody.
type Entry struct {
	Session string // counts only while the session's own key lives
	Node    string
	Address string // host:port of the node's internal API, "" where there is none
	// Fence is the highest that is known of any claim on the conversation. It
	// is that of Session's claim once SetFence was told.
	Fence int64
}

// Ask asks for one conversation. Gone is the session that was found gone, ""
// where nobody was found.
type Ask struct {
	Convo string
	Gone  string
}

// Acquired is what asking for a conversation gave: the entry as it is now, and
// whether it is the asker's.
type Acquired struct {
	Entry    Entry
	Acquired bool
}

// Found is what looking for a conversation gave. Live: the entry's session has
// not lapsed, so its node is to be asked.
type Found struct {
	Entry Entry
	Live  bool
}

// Fenced is a conversation and the fence of a claim on it.
type Fenced struct {
	Convo string
	Fence int64
}

// Lease is the copy of the claims that nodes find each other by (rule 21 of
// docs/architecture.md). [RedisLease] shares it between nodes, [LocalLease] is
// that of a cluster of one.
//
// Correctness does not rest on it: an entry may be missing, old or wrong, and
// the database decides. What it does promise: while an entry is there its
// fence never falls, and Acquire changes only an entry that is missing, the
// asker's own, or of the session that the asker found gone.
//
// Methods may be called from any goroutine. Those of RedisLease block for at
// most a bounded time, by [RedisConfig].CallTimeout, and return [ErrRedisDown]
// where Redis is lost; then the same may have been done or not. All may be
// repeated without harm.
type Lease interface {
	// RenewSession keeps session alive for ttl from now, or makes it known.
	// It is due every third of ttl and whenever Redis comes back.
	RenewSession(ctx context.Context, session, node, address string, ttl time.Duration) error
	// EndSession makes all entries of session count no longer.
	EndSession(ctx context.Context, session string) error

	// Acquire takes convo for mine, in one round trip: if there is no entry, if
	// it is mine's already, or if it names the session gone, "" for none. The
	// fence of the entry stays what it was; mine's is ignored. It returns the
	// entry as it is then.
	Acquire(ctx context.Context, convo string, mine Entry, gone string) (current Entry, acquired bool, err error)
	// AcquireAll is Acquire for many; the answers are in the order of asks.
	AcquireAll(ctx context.Context, mine Entry, asks []Ask) ([]Acquired, error)

	// SetFence writes what a claim in the database gave, also where the claim is
	// another's and the entry was found wrong. Only a higher fence overwrites
	// an entry; stored is also true when it was there already.
	SetFence(ctx context.Context, convo string, claim Entry) (stored bool, err error)
	// SetFences is SetFence for many claims of mine, whose own fence is ignored.
	SetFences(ctx context.Context, mine Entry, claims []Fenced) error

	// Find returns the entry of convo, the zero Entry where there is none, and
	// whether it counts.
	Find(ctx context.Context, convo string) (entry Entry, live bool, err error)
	// FindAll is Find for many, in two round trips; the answers are in the order
	// of convos.
	FindAll(ctx context.Context, convos []string) ([]Found, error)

	// Deny deletes the entry of convo if it still names session, whose node said
	// that it does not hold it.
	Deny(ctx context.Context, convo, session string) error
	// Release deletes the entries of convos that still name session.
	Release(ctx context.Context, session string, convos []string) error
	// Touch keeps the entries of convos that name session from expiring. What
	// is in use needs it once in a quarter of [LeaseEntryTTL].
	Touch(ctx context.Context, session string, convos []string) error

	// Up reports whether calls may be expected to succeed.
	Up() bool
}

// LeaseEntryTTL is how long the entry of a conversation is kept that nobody
// acquires, fences or touches. Losing one costs whoever looks for it a detour
// by the database.
const LeaseEntryTTL = 24 * time.Hour

var (
	_ Lease = (*RedisLease)(nil)
	_ Lease = (*LocalLease)(nil)
)

// check refuses what could not be read back.
func (e Entry) check() error {
	switch {
	case e.Session == "" || !plainText(e.Session):
		return errors.New("lease: session must be printable ASCII without spaces")
	case e.Node == "" || !plainText(e.Node) || !plainText(e.Address):
		return errors.New("lease: node and address must be printable ASCII without spaces")
	case e.Fence < 0:
		return fmt.Errorf("lease: fence %d is negative", e.Fence)
	}
	return nil
}

// noAddress stands for an empty address in an encoded entry.
const noAddress = "-"

// holder encodes who e is, without the fence.
func (e Entry) holder() string {
	address := e.Address
	if address == "" {
		address = noAddress
	}
	return e.Session + " " + e.Node + " " + address
}

// encode returns the entry as Redis holds it: fence, session, node, address.
func (e Entry) encode() string { return strconv.FormatInt(e.Fence, 10) + " " + e.holder() }

// decodeEntry reads what Redis holds; what makes no sense is as good as
// nothing.
func decodeEntry(text string) (Entry, bool) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 {
		return Entry{}, false
	}
	fence, err := strconv.ParseInt(parts[0], 10, 64)
	e := Entry{Session: parts[1], Node: parts[2], Address: parts[3], Fence: fence}
	if e.Address == noAddress {
		e.Address = ""
	}
	if err != nil || e.check() != nil {
		return Entry{}, false
	}
	return e, true
}
