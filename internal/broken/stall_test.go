//go:build broken

package broken_test

import (
	"sync"
	"time"

	"catbird/internal/memstore"
)

// endingTakes is how long the statement that ends a session is on its way:
// longer than the pause between two attempts to renew.
const endingTakes = time.Second

// stall keeps a session from renewing until somebody sets out to end it, lets it
// renew once, before that arrives, and never again.
type stall struct {
	session string
	ending  chan struct{} // closed when somebody sets out to end it

	mu    sync.Mutex
	state int // 0: may not renew, 1: may once, 2: has
}

func (s *stall) fault(c memstore.Call) memstore.Fault {
	if c.Session != s.session {
		return memstore.Fault{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.Op {
	case memstore.RenewSession:
		if s.state == 1 {
			s.state = 2
			return memstore.Fault{}
		}
		return memstore.Fault{Fate: memstore.RequestLost}
	case memstore.EndStalled, memstore.EndSession:
		if s.state == 0 {
			s.state = 1
			close(s.ending)
			return memstore.Fault{Before: endingTakes}
		}
	}
	return memstore.Fault{}
}
