package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"catbird/conversation"
	"catbird/internal/ctl"
	"catbird/operator"
)

// places returns who should own each of convos and who holds it, as a node that
// runs says. A conversation that does not exist is left out.
func (t *Tour) places(ctx context.Context, convos []string) (map[string]operator.Ownership, error) {
	running := t.cfg.Cluster.running()
	if len(running) == 0 {
		return nil, errNoNode
	}
	ask := running[0].operator()
	out := make(map[string]operator.Ownership, len(convos))
	var mu sync.Mutex
	var failure error
	var wg sync.WaitGroup
	places := make(chan struct{}, checksAtOnce)
	for _, convo := range convos {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			o, err := ask.Owner(ctx, convo)
			var refusal *ctl.Error
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				out[convo] = o
			case errors.As(err, &refusal) && refusal.Code == string(conversation.ConvoNotFound):
			default:
				failure = fmt.Errorf("asking who holds a conversation: %w", err)
			}
		})
	}
	wg.Wait()
	return out, failure
}

// holders returns the node that holds each of convos by the database's word;
// those that nobody holds are left out.
func (t *Tour) holders(ctx context.Context, convos []string) (map[string]string, error) {
	places, err := t.places(ctx, convos)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for convo, o := range places {
		if o.Claim != nil {
			out[convo] = o.Claim.Node
		}
	}
	return out, nil
}

// all are the conversations that the tour looks at.
func (t *Tour) all() []string { return slices.Concat(t.cfg.Groups, t.crowd.ids()) }

// heldBy returns the conversations that n holds.
func (t *Tour) heldBy(ctx context.Context, n *Node) (held []string, err error) {
	holders, err := t.holders(ctx, t.all())
	for convo, name := range holders {
		if name == n.Name() {
			held = append(held, convo)
		}
	}
	return held, err
}

// takenBy returns how many of convos each node holds.
func (t *Tour) takenBy(ctx context.Context, convos []string) (map[string]int, error) {
	holders, err := t.holders(ctx, convos)
	taken := map[string]int{}
	for _, name := range holders {
		taken[name]++
	}
	return taken, err
}

// share returns how many conversations n should own, and how many of those it
// holds. Of the groups only those count that somebody holds: nobody may be asking
// for the others.
func (t *Tour) share(ctx context.Context, n *Node) (share, held int, err error) {
	places, err := t.places(ctx, t.all())
	for convo, o := range places {
		if o.ShouldOwn != n.Name() || o.Claim == nil && slices.Contains(t.cfg.Groups, convo) {
			continue
		}
		share++
		if o.Claim != nil && o.Claim.Node == n.Name() {
			held++
		}
	}
	return share, held, err
}
