package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"catbird/conversation"
	"catbird/persistence"
)

// Store is a database in memory. All methods may be called at once from any
// goroutine.
type Store struct {
	mu       sync.Mutex
	sessions map[string]*session
	wants    map[string]map[string]bool // session → conversations
	convos   map[string]*convo
	packages map[packageKey]bool // true: not used up
	calls    map[Op]int
	poison   map[string]bool
	forgets  bool
	onCommit func(convo string, s conversation.State)

	faults  atomic.Pointer[func(Call) Fault]
	running sync.WaitGroup
}

type session struct {
	persistence.Session
	ended bool
}

type packageKey struct{ did, hash string }

// New returns an empty store.
func New() *Store {
	s := &Store{
		sessions: map[string]*session{}, wants: map[string]map[string]bool{}, convos: map[string]*convo{},
		packages: map[packageKey]bool{}, calls: map[Op]int{}, poison: map[string]bool{},
	}
	s.SetFaults(nil)
	return s
}

// Forgetful lets the store keep no rows, ids and records from now on: for
// measuring, where they would only fill the memory.
func (s *Store) Forgetful() { s.forgets = true }

// Poison lets the database refuse every unit that holds the change with this id,
// for a reason of its own.
func (s *Store) Poison(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison[id] = true
}

// OnCommit lets f be called with every change of a conversation at the instant
// it is stored, before anybody is told. f must not call the store.
func (s *Store) OnCommit(f func(convo string, s conversation.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onCommit = f
}

// live returns a session that has not ended.
func (s *Store) live(id string) *session {
	if one := s.sessions[id]; one != nil && !one.ended {
		return one
	}
	return nil
}

// StartSession inserts a session with counter 0.
func (s *Store) StartSession(ctx context.Context, n persistence.Session) error {
	_, err := exec(ctx, s, Call{Op: StartSession, Session: n.ID}, func() (struct{}, error) {
		if s.sessions[n.ID] != nil {
			return struct{}{}, fmt.Errorf("session %s exists", n.ID)
		}
		n.Counter = 0
		s.sessions[n.ID] = &session{Session: n}
		return struct{}{}, nil
	})
	return err
}

// RenewSession adds one to the counter of a session that has not ended.
func (s *Store) RenewSession(ctx context.Context, id string) error {
	_, err := exec(ctx, s, Call{Op: RenewSession, Session: id}, func() (struct{}, error) {
		one := s.live(id)
		if one == nil {
			return struct{}{}, persistence.ErrSessionOver
		}
		one.Counter++
		return struct{}{}, nil
	})
	return err
}

// LiveSessions returns every session that has not ended, by id.
func (s *Store) LiveSessions(ctx context.Context) ([]persistence.Session, error) {
	return exec(ctx, s, Call{Op: LiveSessions}, func() ([]persistence.Session, error) {
		var out []persistence.Session
		for _, one := range s.sessions {
			if !one.ended {
				out = append(out, one.Session)
			}
		}
		slices.SortFunc(out, func(a, b persistence.Session) int {
			if a.ID < b.ID {
				return -1
			}
			return 1
		})
		return out, nil
	})
}

// EndStalled ends a session whose counter is still seen.
func (s *Store) EndStalled(ctx context.Context, id string, seen int64) (ended bool, err error) {
	return exec(ctx, s, Call{Op: EndStalled, Session: id}, func() (bool, error) {
		one := s.live(id)
		if one == nil || one.Counter != seen {
			return false, nil
		}
		one.ended = true
		return true, nil
	})
}

// EndSession ends a session.
func (s *Store) EndSession(ctx context.Context, id string) error {
	_, err := exec(ctx, s, Call{Op: EndSession, Session: id}, func() (struct{}, error) {
		if one := s.live(id); one != nil {
			one.ended = true
		}
		return struct{}{}, nil
	})
	return err
}

// Want asks a session to let go of a conversation.
func (s *Store) Want(ctx context.Context, holder, convo string) error {
	_, err := exec(ctx, s, Call{Op: Want, Session: holder, Convos: []string{convo}}, func() (struct{}, error) {
		if s.wants[holder] == nil {
			s.wants[holder] = map[string]bool{}
		}
		s.wants[holder][convo] = true
		return struct{}{}, nil
	})
	return err
}

// Wanted returns and deletes what others want of a session.
func (s *Store) Wanted(ctx context.Context, session string) ([]string, error) {
	return exec(ctx, s, Call{Op: Wanted, Session: session}, func() ([]string, error) {
		var out []string
		for convo := range s.wants[session] {
			out = append(out, convo)
		}
		delete(s.wants, session)
		slices.Sort(out)
		return out, nil
	})
}

var _ interface {
	persistence.Sessions
	persistence.Claims
	persistence.Appends
} = (*Store)(nil)
