package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// AloneConfig describes the one node of a cluster of one.
type AloneConfig struct {
	Name            string
	InternalAddress string
	Version         string
	ActorsEnabled   bool
	RolloutPercent  int
}

// Alone is the membership of a cluster of one.
type Alone struct {
	bell
	mu   sync.Mutex // orders changes of view
	view atomic.Pointer[Roster]
}

// NewAlone returns the membership of a node that has no others. It is joining
// until SetState says otherwise.
func NewAlone(cfg AloneConfig) *Alone {
	a := &Alone{}
	a.view.Store(newRoster(cfg.Name, []Member{{
		Name:            cfg.Name,
		Started:         lifeStart(time.Now()),
		State:           Joining,
		InternalAddress: cfg.InternalAddress,
		ActorsEnabled:   cfg.ActorsEnabled,
		RolloutPercent:  cfg.RolloutPercent,
		Version:         cfg.Version,
	}}))
	return a
}

// Start does nothing: there is nobody to tell.
func (a *Alone) Start(context.Context) error { return nil }

// View returns the newest picture.
func (a *Alone) View() *Roster { return a.view.Load() }

// SetState changes the node's state.
func (a *Alone) SetState(s MemberState) {
	a.change(func(m *Member) { m.State = s })
}

// SetActors changes the node's flag and percentage.
func (a *Alone) SetActors(enabled bool, rolloutPercent int) {
	a.change(func(m *Member) { m.ActorsEnabled, m.RolloutPercent = enabled, rolloutPercent })
}

func (a *Alone) change(f func(*Member)) {
	a.mu.Lock()
	old := a.view.Load()
	m := old.Self()
	f(&m)
	next := newRoster(old.self, []Member{m})
	a.view.Store(next)
	a.mu.Unlock()
	if !next.equal(old) {
		a.wakeAll()
	}
}

// Evicted returns a channel that is never closed: nobody else has the name.
func (a *Alone) Evicted() <-chan struct{} { return nil }

// Err returns nil.
func (a *Alone) Err() error { return nil }

// Leave does nothing: there is nobody to tell.
func (a *Alone) Leave(context.Context) error { return nil }

// Stop does nothing.
func (a *Alone) Stop(context.Context) error { return nil }
