package delivery

import (
	"sync"
	"sync/atomic"
	"time"
)

// apart remembers conversations that are served directly for a while, because
// another server that cannot be asked wants them too (rule 18).
type apart struct {
	some  atomic.Bool // there are entries: almost always there are none
	mu    sync.Mutex
	until map[string]time.Time
	// next is when the earliest entry ends at the soonest: before it nothing
	// needs to be swept.
	next time.Time
}

const (
	apartFor = time.Minute
	maxApart = 100_000 // beyond it, some are forgotten: they are asked for again
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
	a.some.Store(true)
}

func (a *apart) has(convo string) bool {
	if !a.some.Load() {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
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
	a.some.Store(len(a.until) > 0)
	a.next = now.Add(apartFor / 10)
}
