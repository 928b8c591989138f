package delivery

import (
	"context"
	"sync"

	"catbird/peer"
	"catbird/persistence"
)

// Cluster says which node should serve a conversation.
type Cluster interface {
	// Owner returns the node that the ring names; self says that it is this
	// one. ok is false while the ring is empty, or when the node it names does
	// not serve the conversation by actors.
	Owner(convo string) (owner persistence.Holder, self, ok bool)
	// Leaving reports whether this node is about to leave: it loads nothing
	// more.
	Leaving() bool
	// Deny takes the lease of convo out of the way if it still names session: its
	// node says that it does not hold the conversation.
	Deny(convo, session string)
}

// Peers asks other nodes.
type Peers interface {
	// Ask asks the node at address, see peer.Client.
	Ask(ctx context.Context, address string, q peer.Question) (peer.Answer, error)
}

// alone is the cluster of a node that knows of no other.
type alone struct{}

func (alone) Owner(string) (persistence.Holder, bool, bool) { return persistence.Holder{}, true, true }
func (alone) Leaving() bool                                 { return false }
func (alone) Deny(string, string)                           {}

// ownerElsewhere returns the other node that is to be asked first: the one that
// served the conversation last although the ring names another, or the one that
// the ring names.
func (s *Service) ownerElsewhere(convo string) (persistence.Holder, bool) {
	if h, ok := s.hints.get(convo); ok {
		return h, true
	}
	owner, self, ok := s.cfg.Cluster.Owner(convo)
	return owner, ok && !self
}

// hints remember who served a conversation that the ring gives to another. What
// is wrong in them costs a detour and is then forgotten.
type hints struct {
	mu    sync.Mutex
	nodes map[string]persistence.Holder
}

const maxHints = 100_000

func (h *hints) add(convo string, holder persistence.Holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nodes == nil || len(h.nodes) >= maxHints {
		h.nodes = map[string]persistence.Holder{} // rare, and only costs detours
	}
	h.nodes[convo] = holder
}

func (h *hints) get(convo string) (persistence.Holder, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.nodes) == 0 {
		return persistence.Holder{}, false
	}
	holder, ok := h.nodes[convo]
	return holder, ok
}

func (h *hints) forget(convo string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.nodes, convo)
}
