package memstore

import (
	"fmt"
	"slices"

	"catbird/conversation"
)

// State returns what the database holds of a conversation.
func (s *Store) State(convo string) conversation.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.convos[convo].state
}

// Holder returns the session whose claim a conversation's row names, live or
// over, "" for none, and the fence.
func (s *Store) Holder(convo string) (session string, fence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.convos[convo]
	return c.session, c.fence
}

// Sessions returns the ids of the sessions that have not ended.
func (s *Store) Sessions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, one := range s.sessions {
		if !one.ended {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Log returns the rows of a conversation as they were stored.
func (s *Store) Log(convo string) []conversation.Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.convos[convo].rows)
}

// Count returns how often the change with an id was stored.
func (s *Store) Count(convo, id string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.convos[convo].order {
		if one == id {
			n++
		}
	}
	return n
}

// Unread returns a member's unread count as its row says it, without what is not
// folded.
func (s *Store) Unread(convo, did string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.convos[convo].members[did]; m != nil {
		return m.unread
	}
	return 0
}

// Check holds a conversation to its invariants: one commit row for each epoch
// from 1 on (I1), seq without gap or repeat (I2), no change stored twice, and a
// row that agrees with its log.
func (s *Store) Check(convo string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.convos[convo]
	var epoch, seq int64
	for _, r := range c.rows {
		if seq++; r.Seq != seq {
			return fmt.Errorf("%s: row %s has seq %d, want %d", convo, r.ID, r.Seq, seq)
		}
		if r.Kind == conversation.KindCommit {
			epoch++
		}
		if r.Epoch != epoch {
			return fmt.Errorf("%s: row %s, a %s at seq %d, has epoch %d, want %d", convo, r.ID, r.Kind, r.Seq, r.Epoch, epoch)
		}
	}
	if c.state.Epoch != epoch || c.state.Seq != seq {
		return fmt.Errorf("%s: the row says epoch %d, seq %d, the log %d, %d", convo, c.state.Epoch, c.state.Seq, epoch, seq)
	}
	seen := map[string]bool{}
	for _, id := range c.order {
		if seen[id] {
			return fmt.Errorf("%s: change %s was stored twice", convo, id)
		}
		seen[id] = true
	}
	return nil
}
