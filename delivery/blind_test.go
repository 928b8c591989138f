package delivery_test

import (
	"testing"
	"testing/synctest"
	"time"

	"catbird/internal/memstore"
)

// A node that its database has lost sight of serves nothing and keeps nobody
// waiting, although the ring names it: the others find in the database who
// holds the conversation, and take it once that node's session is over.
func TestOwnerWithoutItsDatabase(t *testing.T) {
	for name, fate := range map[string]memstore.Fault{
		"refused": {Fate: memstore.Refused},
		"silent":  {Fate: memstore.RunsLater, Before: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, b := w.node("a", setup{flags: on}), w.node("b", setup{flags: on})
				w.setOwner(convo, "b")
				a.do(request(convo, alice, send(0)))
				session := b.keeper.Current().ID()
				w.store.SetFaults(func(c memstore.Call) memstore.Fault {
					if c.Session == session && c.Op != memstore.EndStalled || c.Op == memstore.Append && w.holder(convo) != "a" {
						return fate
					}
					return memstore.Fault{}
				})
				pass(ttl * 4 / 5) // b's memory has lapsed, its session is not over
				begin := time.Now()
				a.do(request(convo, alice, send(0)))
				if took := time.Since(begin); took > ttl/5+time.Second {
					t.Errorf("took %v", took)
				}
				if w.holder(convo) != "a" {
					t.Errorf("held by %q", w.holder(convo))
				}
				if epoch, err := a.svc.Epoch(t.Context(), convo, alice); err != nil || epoch != 0 {
					t.Errorf("epoch %d, %v", epoch, err)
				}
			})
		})
	}
}
