package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what the library calls, under its own locks and in its receive
// loop: nothing here blocks or calls the library back, and bytes are copied.
type delegate struct{ m *Members }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
)

// NodeMeta returns this node's metadata, which is always within the limit.
func (d delegate) NodeMeta(int) []byte { return slices.Clone(*d.m.meta.Load()) }

// NotifyMsg takes messages between two nodes: questions for a sign of life and
// their answers.
func (d delegate) NotifyMsg(b []byte) { d.m.hear(b) }

// GetBroadcasts, LocalState and MergeRemoteState are for data of one's own in
// gossip; there is none.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d delegate) LocalState(bool) []byte          { return nil }
func (d delegate) MergeRemoteState([]byte, bool)   {}

// NotifyJoin notes a node that appeared or came back.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.m.note(n) }

// NotifyUpdate notes new metadata of a node.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.m.note(n) }

// NotifyLeave notes that a node left or died.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.m.forget(n) }

// note takes over what a node says of itself; metadata that makes no sense
// changes nothing.
func (m *Members) note(n *memberlist.Node) {
	if n.Name == m.gossip {
		return
	}
	l, err := decodeLife(n.Meta)
	if err != nil {
		m.metrics.badMeta.Inc()
		m.log.Debug("metadata ignored", "gossip_name", n.Name, "address", n.Address(), "error", err)
		return
	}
	l.GossipAddress = n.Address()
	m.mu.Lock()
	m.lives[n.Name] = l
	delete(m.lost, l.GossipAddress)
	m.mu.Unlock()
	wake(m.dirty)
}

const (
	maxLost  = 64
	lostKept = 10 * time.Minute
)

// forget takes a node out. The address of one that did not say that it would
// leave is kept for a while: the network between may come back, and then
// somebody must ask.
func (m *Members) forget(n *memberlist.Node) {
	if n.Name == m.gossip {
		return
	}
	m.mu.Lock()
	if l, ok := m.lives[n.Name]; ok {
		delete(m.lives, n.Name)
		if l.State != Leaving && len(m.lost) < maxLost {
			m.lost[l.GossipAddress] = time.Now()
		}
	}
	m.mu.Unlock()
	wake(m.dirty)
}

// lostAddresses returns the addresses worth asking, and forgets old ones.
func (m *Members) lostAddresses(now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for address, since := range m.lost {
		if now.Sub(since) > lostKept {
			delete(m.lost, address)
			continue
		}
		out = append(out, address)
	}
	return out
}
