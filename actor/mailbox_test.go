package actor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/internal/memstore"
	"catbird/persistence"
)

func TestFullMailboxIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MailboxSize = 4 })
		release := h.held()
		calls := h.start(sends(5, 0)...) // one at work, four in the mailbox
		begin := time.Now()
		_, err := h.reg.Do(t.Context(), sends(1, 0)[0])
		refused(t, err, conversation.MailboxFull)
		if took := time.Since(begin); took != 0 {
			t.Errorf("refusing took %v", took)
		}
		release()
		h.all(calls)
		h.once(calls)
		h.do(sends(1, 0)[0]) // there is room again
	})
}

// Rule 24: in bytes as well as in number. What is too big for any mailbox still
// gets through when it is alone.
func TestMailboxIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MailboxBytes = 10_000 })
		release := h.held()
		big := func() *conversation.Request { return request(convo, alice, send(0, strings.Repeat("x", 9_000))) }
		calls := h.start(sends(1, 0)[0], big())
		_, err := h.reg.Do(t.Context(), big())
		refused(t, err, conversation.MailboxFull)
		release()
		h.all(calls)
		h.do(request(convo, alice, send(0, strings.Repeat("x", 20_000))))
	})
}

// Rule 24: not the mailboxes alone, the node is bounded too.
func TestNodeIsBounded(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"in letters": func(c *Config) { c.NodeLetters = 3 },
		"in bytes":   func(c *Config) { c.NodeBytes = 3 * conversation.Send{Ciphertext: []byte("message 0")}.Size() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, change)
				h.store.Seed("beef", alice)
				release := h.held()
				calls := h.start(sends(3, 0)...)
				_, err := h.reg.Do(t.Context(), request("beef", alice, send(0, "message 0")))
				refused(t, err, conversation.Overloaded)
				release()
				h.all(calls)
				h.do(request("beef", alice, send(0, "message 0")))
			})
		})
	}
}

// However a letter ends, it does not count any more.
func TestNodeLoadReturnsToZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MailboxSize = 2 })
		release := h.held()
		calls := h.start(sends(2, 0)...)
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := h.startWith(ctx, sends(1, 0)...)
		full := h.start(sends(1, 0)...)
		cancel()
		synctest.Wait()
		if !gaveUp[0].done.Load() || !full[0].done.Load() {
			t.Fatal("one still waits")
		}
		release()
		h.all(calls)
		_, err := h.reg.Do(t.Context(), request("0000", alice, send(0, "x")))
		refused(t, err, conversation.ConvoNotFound)
		synctest.Wait()
		if n, b, q := h.reg.load.letters.Load(), h.reg.load.bytes.Load(), h.reg.queued.Load(); n != 0 || b != 0 || q != 0 {
			t.Errorf("%d letters, %d bytes, %d queued are left", n, b, q)
		}
	})
}

// Who gives up before anything has begun can be sure that nothing was stored.
func TestGivingUpBeforeItBeganStoresNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		calls := h.start(sends(1, 0)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		late := h.startWith(ctx, sends(3, 0)...)
		pass(time.Second)
		for _, c := range late {
			if !c.done.Load() || !errors.Is(c.err, context.DeadlineExceeded) || errors.Is(c.err, persistence.ErrOutcomeUnknown) {
				t.Errorf("done %v, error %v; want the deadline, and certainly not stored", c.done.Load(), c.err)
			}
		}
		release()
		h.all(calls)
		h.do(sends(1, 0)[0])
		h.never(late)
	})
}

func TestGivingUpAtWorkIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		calls := h.startWith(ctx, sends(1, 0)...)
		pass(time.Second)
		if err := calls[0].err; !errors.Is(err, persistence.ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want an unknown outcome by the deadline", err)
		}
		release()
		synctest.Wait()
		h.once(calls)
	})
}

func TestAlreadyCancelledIsNotBegun(t *testing.T) {
	h := newHouse(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := sends(1, 0)[0]
	if _, err := h.reg.Do(ctx, r); !errors.Is(err, context.Canceled) || errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.Errorf("error %v, want cancelled", err)
	}
	h.do(sends(1, 0)[0])
	if n := h.store.Count(convo, r.ID); n != 0 {
		t.Errorf("stored %d times", n)
	}
}

// Whose sender is about to give up is not begun with either.
func TestLetterOfACancelledSenderDoesNotBegin(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var n nodeLoad
	l := newLetter(ctx, sends(1, 0)[0])
	if !n.enter(l) {
		t.Fatal("no room on an idle node")
	}
	cancel()
	if l.begin() || n.letters.Load() != 0 || n.bytes.Load() != 0 {
		t.Errorf("begun, or %d letters are left", n.letters.Load())
	}
}

// Group commit: whatever queued up while the last append ran is the next one.
func TestEverythingThatWaitsIsOneAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		release := h.held()
		calls := h.start(sends(101, 0)...)
		release()
		h.all(calls)
		h.once(calls)
		for i, c := range calls {
			if c.res.Seq != int64(i+1) || c.res.ID != c.req.ID {
				t.Errorf("request %d got %+v", i, c.res)
			}
		}
		if n := h.store.Calls(memstore.Append); n != 2 {
			t.Errorf("%d appends, want 2", n)
		}
	})
}

// Group commit over actors: many units go into one transaction.
func TestManyActorsShareATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.FailAlways(memstore.Append, memstore.Fault{Hold: hold})
		var rs []*conversation.Request
		for i := range 50 {
			id := convoID(i)
			h.store.Seed(id, alice)
			rs = append(rs, request(id, alice, send(0, "x")))
		}
		calls := h.start(rs...)
		close(hold)
		h.all(calls)
		h.once(calls)
		if n := h.store.Calls(memstore.Append); n != 3 { // two writers with one each, and then all others
			t.Errorf("%d transactions for 50 conversations, want 3", n)
		}
		if n := h.store.Calls(memstore.Claim); n > 50 {
			t.Errorf("%d claims", n)
		}
	})
}

// Loading many conversations at once takes few claims.
func TestManyLoadsShareAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.FailAlways(memstore.Claim, memstore.Fault{Hold: hold})
		var rs []*conversation.Request
		for i := range 50 {
			h.store.Seed(convoID(i), alice)
			rs = append(rs, request(convoID(i), alice, send(0, "x")))
		}
		calls := h.start(rs...)
		close(hold)
		h.all(calls)
		if n := h.store.Calls(memstore.Claim); n != 3 {
			t.Errorf("%d claims, want 3", n)
		}
	})
}

// Rule 22: a transaction is cut at 1,024 rows or 4 MiB, one unit at least.
func TestTransactionsAreCut(t *testing.T) {
	var fifty []string
	for i := range 50 {
		fifty = append(fifty, did32(i))
	}
	tests := []struct {
		name    string
		command conversation.Command
		most    int // units in a transaction
	}{
		{"bytes", send(0, strings.Repeat("x", 900<<10)), 4},
		{"rows", conversation.AddMembers{DIDs: fifty, Welcome: []byte("w")}, 10}, // 101 rows each
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, nil)
				hold := make(chan struct{})
				sizes := make(chan int, 1000)
				var waiting []*conversation.Request
				for i := range 30 {
					h.store.Seed(convoID(i), alice)
					h.do(request(convoID(i), alice, send(0, "x")))
					waiting = append(waiting, request(convoID(i), alice, tt.command))
				}
				h.store.SetFaults(func(c memstore.Call) memstore.Fault {
					if c.Op != memstore.Append {
						return memstore.Fault{}
					}
					sizes <- len(c.Convos)
					return memstore.Fault{Hold: hold}
				})
				h.store.Seed("beef", alice)
				calls := h.start(sends(1, 0)[0], request("beef", alice, send(0, "x"))) // both writers are busy
				calls = append(calls, h.start(waiting...)...)
				close(hold)
				h.all(calls)
				h.once(calls)
				close(sizes)
				most := 0
				for n := range sizes {
					most = max(most, n)
				}
				if most != tt.most {
					t.Errorf("%d units in the largest transaction, want %d", most, tt.most)
				}
			})
		})
	}
}

// Rule 22: one conversation's batch is cut at 1,024 rows too.
func TestBatchIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(c *Config) { c.MailboxSize = 5000 })
		release := h.held()
		calls := h.start(sends(2100, 0)...)
		release()
		h.all(calls)
		if n := h.store.Calls(memstore.Append); n != 4 { // 1, 1,024, 1,024, 51
			t.Errorf("%d appends, want 4", n)
		}
	})
}

// Rule 22: large units go through a writer of their own, and small ones do not
// wait for them.
func TestLargeUnitsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		hold := make(chan struct{})
		h.store.SetFaults(func(c memstore.Call) memstore.Fault {
			if c.Op == memstore.Append && strings.HasPrefix(c.Convos[0], "1a") {
				return memstore.Fault{Hold: hold}
			}
			return memstore.Fault{}
		})
		var large []*conversation.Request
		for _, id := range []string{"1a00", "1a01", "1a02"} {
			h.store.Seed(id, alice)
			large = append(large, request(id, alice, send(0, strings.Repeat("x", 2<<20))))
		}
		calls := h.start(large...)
		for range 10 {
			h.do(sends(1, 0)[0])
		}
		for _, c := range calls {
			if c.done.Load() {
				t.Error("a large unit was not held up")
			}
		}
		close(hold)
		h.all(calls)
	})
}
