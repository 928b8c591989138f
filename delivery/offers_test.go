package delivery_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"catbird/delivery"
	"catbird/peer"
)

// offers is the way to the others, and when something was offered on it.
type offers struct {
	delivery.Peers
	mu sync.Mutex
	at []time.Time
}

func (o *offers) Ask(ctx context.Context, address string, q peer.Question) (peer.Answer, error) {
	if len(q.Offer) > 0 {
		o.mu.Lock()
		o.at = append(o.at, time.Now())
		o.mu.Unlock()
	}
	return o.Peers.Ask(ctx, address, q)
}

// A taker mostly hears of a change a moment later than the giver, so that what it
// does not accept is offered again at once; and one that does not accept for long
// is not hammered: it is asked less and less often, up to once a second.
func TestOffersThatAreNotAcceptedBecomeRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var o offers
		a := w.node("a", setup{flags: on, service: func(c *delivery.Config) { o.Peers = c.Peers; c.Peers = &o }})
		w.node("b", setup{flags: on})
		if err := a.reg.Load(t.Context(), convo); err != nil {
			t.Fatal(err)
		}
		w.setOwner(convo, "b")
		w.setOwner("b>"+convo, "a")
		ctx, cancel := context.WithCancel(t.Context())
		w.wg.Go(func() { a.svc.Handoff(ctx, make(chan struct{}), 1) })
		pass(10 * time.Second)
		cancel()
		w.wg.Wait()
		if len(o.at) < 10 || len(o.at) > 20 {
			t.Fatalf("offered %d times in ten seconds", len(o.at))
		}
		last := time.Duration(0)
		for i := range o.at[1:] {
			gap := o.at[i+1].Sub(o.at[i])
			if i == 0 && gap > 100*time.Millisecond {
				t.Errorf("offered again only after %v", gap)
			}
			if gap < last || gap > time.Second {
				t.Errorf("offer %d comes %v after the one before it, which came after %v", i+2, gap, last)
			}
			last = gap
		}
	})
}
