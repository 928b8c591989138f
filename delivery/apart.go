package delivery

import (
	"sync"
	"time"
)

// apart remembers conversations that are served directly for a while, because
// another server that cannot be asked wants them too (rule 18).
type apart struct {
	mu    sync.Mutex
	until map[string]time.Time
	// next is when the earliest entry ends at the soonest: before it nothing
	// needs to be swept.
	next time.Time
}

const (
	apartFor = time.Minute
	maxApart = 100_000 // beyond it, the oldest share is forgotten: only slower
)

func (a *apart) add(convo string) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil {
		a.until = map[string]time.Time{}
	}
	a.sweep(now)
	for other := range a.until {
		if len(a.until) < maxApart {
			break
		}
		delete(a.until, other)
	}
	a.until[convo] = now.Add(apartFor)
}

func (a *apart) has(convo string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.until) == 0 {
		return false
	}
	now := time.Now()
	a.sweep(now)
	return now.Before(a.until[convo])
}

func (a *apart) sweep(now time.Time) {
	if now.Before(a.next) {
		return
	}
	for convo, until := range a.until {
		if !now.Before(until) {
			delete(a.until, convo)
		}
	}
	a.next = now.Add(apartFor / 10)
}
