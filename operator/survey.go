package operator

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// surveyTimeout bounds the look at all other nodes.
	surveyTimeout = time.Second
	// surveyAtOnce is how many are asked at once.
	surveyAtOnce = 64
)

// survey returns the cluster as this node knows it, with what the others say of
// themselves within surveyTimeout. Callers at the same time share one look, so
// that many who watch do not multiply it.
func (a *API) survey(ctx context.Context) ClusterView {
	v, _, _ := a.surveys.Do("", func() (any, error) { // never fails
		// It is for others too: one who loses patience must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), surveyTimeout)
		defer cancel()
		return a.look(ctx), nil
	})
	return v.(ClusterView)
}

func (a *API) look(ctx context.Context) ClusterView {
	v := a.cfg.Cluster.Roster()
	if v.Members == nil {
		v.Members = []Member{}
	}
	var asked sync.WaitGroup
	slots := make(chan struct{}, surveyAtOnce)
	for i := range v.Members {
		m := &v.Members[i]
		if m.Name == v.Node {
			asked.Go(func() { m.add(a.cfg.Cluster.Status(ctx)) })
			continue
		}
		asked.Go(func() {
			select {
			case slots <- struct{}{}:
				a.ask(ctx, m)
				<-slots
			case <-ctx.Done():
			}
		})
	}
	asked.Wait()
	return v
}

// ask lets a member tell what only it knows.
func (a *API) ask(ctx context.Context, m *Member) {
	s, err := a.cfg.Cluster.Ask(ctx, m.Address)
	if err == nil && s.Name != m.Name {
		err = fmt.Errorf("node %q answers there", s.Name)
	}
	if err != nil {
		a.log.Debug("node does not tell its status", "node", m.Name, "address", m.Address, "error", err)
		return
	}
	m.add(s)
}

// add fills in what only the node itself knows.
func (m *Member) add(s Status) {
	m.ActiveActors, m.RingVersion, m.Checks = &s.ActiveActors, &s.RingVersion, &s.Checks
}

// owner puts together what ring, lease and database say of one conversation.
func (a *API) owner(ctx context.Context, convo string) (Ownership, error) {
	o := Ownership{Convo: convo}
	claim, held, err := a.cfg.Store.Holder(ctx, convo)
	if err != nil {
		return o, fmt.Errorf("looking up who claims the conversation: %w", err)
	}
	if held {
		o.Claim = &Hold{Node: claim.Node, Session: claim.Session, Fence: claim.Fence}
	}
	o.Partition, o.ShouldOwn = a.cfg.Cluster.Place(convo)
	if o.Lease, err = a.cfg.Cluster.Lease(ctx, convo); err != nil {
		a.log.Debug("lease not found out", "convo", convo, "error", err)
		o.Lease, o.LeaseUnknown = nil, true
	}
	return o, nil
}
