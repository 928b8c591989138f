package cluster

import (
	"context"
	"sync"
	"time"
)

// maxLocalEntries bounds a LocalLease; beyond it, entries are forgotten.
const maxLocalEntries = 1 << 20

// LocalLease is the [Lease] of a cluster of one, in this process' memory: one
// node in several sessions, one after another. It blocks for nothing and never
// fails. It must be made by NewLocalLease.
type LocalLease struct {
	now func() time.Time
	max int

	mu       sync.Mutex
	sessions map[string]time.Time // until when they live
	entries  map[string]localEntry
}

type localEntry struct {
	Entry
	until time.Time
}

// NewLocalLease returns an empty lease.
func NewLocalLease() *LocalLease {
	return &LocalLease{
		now: time.Now, max: maxLocalEntries,
		sessions: map[string]time.Time{}, entries: map[string]localEntry{},
	}
}

// Up returns true.
func (l *LocalLease) Up() bool { return true }

// RenewSession keeps session alive for ttl.
func (l *LocalLease) RenewSession(_ context.Context, session, node, address string, ttl time.Duration) error {
	if err := (Entry{Session: session, Node: node, Address: address}).check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for id, until := range l.sessions {
		if !now.Before(until) {
			delete(l.sessions, id)
		}
	}
	l.sessions[session] = now.Add(ttl)
	return nil
}

// EndSession makes session's entries count no longer.
func (l *LocalLease) EndSession(_ context.Context, session string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, session)
	return nil
}

// Acquire takes convo if it may be taken.
func (l *LocalLease) Acquire(_ context.Context, convo string, mine Entry, gone string) (Entry, bool, error) {
	if err := mine.check(); err != nil {
		return Entry{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, there := l.entryLocked(convo)
	if there && old.Session != mine.Session && old.Session != gone {
		return old, false, nil
	}
	if there && old.Session == mine.Session {
		mine = old
	}
	mine.Fence = old.Fence
	l.storeLocked(convo, mine)
	return mine, true, nil
}

// AcquireAll is Acquire for many.
func (l *LocalLease) AcquireAll(ctx context.Context, mine Entry, asks []Ask) ([]Acquired, error) {
	all := make([]Acquired, len(asks))
	for i, ask := range asks {
		var err error
		if all[i].Entry, all[i].Acquired, err = l.Acquire(ctx, ask.Convo, mine, ask.Gone); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// SetFence writes what a claim gave.
func (l *LocalLease) SetFence(_ context.Context, convo string, claim Entry) (bool, error) {
	if err := claim.check(); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, there := l.entryLocked(convo); there && old != claim && old.Fence >= claim.Fence {
		return false, nil
	}
	l.storeLocked(convo, claim)
	return true, nil
}

// SetFences writes many claims of mine.
func (l *LocalLease) SetFences(ctx context.Context, mine Entry, claims []Fenced) error {
	for _, c := range claims {
		mine.Fence = c.Fence
		if _, err := l.SetFence(ctx, c.Convo, mine); err != nil {
			return err
		}
	}
	return nil
}

// Find returns the entry of convo and whether it counts.
func (l *LocalLease) Find(_ context.Context, convo string) (Entry, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, _ := l.entryLocked(convo)
	return e, l.now().Before(l.sessions[e.Session]), nil
}

// FindAll is Find for many.
func (l *LocalLease) FindAll(ctx context.Context, convos []string) ([]Found, error) {
	found := make([]Found, len(convos))
	for i, convo := range convos {
		var err error
		if found[i].Entry, found[i].Live, err = l.Find(ctx, convo); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Deny deletes the entry of convo if it names session.
func (l *LocalLease) Deny(ctx context.Context, convo, session string) error {
	return l.Release(ctx, session, []string{convo})
}

// Release deletes the entries of convos that name session.
func (l *LocalLease) Release(_ context.Context, session string, convos []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, convo := range convos {
		if l.entries[convo].Session == session {
			delete(l.entries, convo)
		}
	}
	return nil
}

// Touch keeps the entries of convos that name session.
func (l *LocalLease) Touch(_ context.Context, session string, convos []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, convo := range convos {
		if e, there := l.entryLocked(convo); there && e.Session == session {
			l.storeLocked(convo, e)
		}
	}
	return nil
}

func (l *LocalLease) entryLocked(convo string) (Entry, bool) {
	e, there := l.entries[convo]
	if !there || !l.now().Before(e.until) {
		return Entry{}, false
	}
	return e.Entry, true
}

func (l *LocalLease) storeLocked(convo string, e Entry) {
	if _, there := l.entries[convo]; !there && len(l.entries) >= l.max {
		for other := range l.entries { // any one will do
			delete(l.entries, other)
			break
		}
	}
	l.entries[convo] = localEntry{e, l.now().Add(LeaseEntryTTL)}
}
