package app_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
)

// variant is a way to run a node: what must hold, must hold in each.
type variant struct {
	name string
	// change sets the node up.
	change apptest.Change
	// meanwhile, if set, runs while the test does, until ctx ends.
	meanwhile func(ctx context.Context, t *testing.T, n *apptest.Node)
}

var variants = []variant{
	{"actors on", apptest.Actors(true), nil},
	{"actors off", apptest.Actors(false), nil},
	{"the flag changing", apptest.Actors(false), flipFlags},
}

// everywhere runs f on a node of each variant on each database.
func everywhere(t *testing.T, f func(t *testing.T, n *apptest.Node)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			apptest.Databases(t, func(t *testing.T, where apptest.Change) {
				n := apptest.Start(t, where, v.change)
				if v.meanwhile != nil {
					ctx, cancel := context.WithCancel(t.Context())
					var wg sync.WaitGroup
					wg.Go(func() { v.meanwhile(ctx, t, n) })
					defer wg.Wait()
					defer cancel()
				}
				f(t, n)
			})
		})
	}
}

// flipFlags changes the flags again and again, percentages included.
func flipFlags(ctx context.Context, t *testing.T, n *apptest.Node) {
	op := n.Operator(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		on, percent := i%3 != 0, []int{100, 50, 0, 100}[i%4]
		if _, err := op.SetFlags(ctx, &on, &percent); err != nil && ctx.Err() == nil {
			t.Errorf("setting flags: %v", err)
			return
		}
	}
}

const many = 60

// Concurrent changes each get their own next epoch, concurrent messages their
// own next seq.
func TestConcurrentChangesAreNumbered(t *testing.T) {
	everywhere(t, func(t *testing.T, n *apptest.Node) {
		c := apptest.Client(t, nil, n.URL)
		g := apptest.NewGroup(t, c, 3)
		books := apptest.NewLedger()
		epochs := together(many, func(i int) int64 {
			out, err := books.Add(t.Context(), c, g, g.Members[i%3], apptest.DID("x"+g.ID[:6], i))
			if err != nil {
				t.Errorf("adding a member: %v", err)
			}
			return out.NewEpoch
		})
		if want := upTo(many); !slices.Equal(epochs, want) {
			t.Errorf("epochs of %d concurrent addMembers: %v", many, epochs)
		}
		seqs := together(many, func(i int) int64 {
			out, err := books.Send(t.Context(), c, g, g.Members[i%3], many)
			if err != nil {
				t.Errorf("sending a message: %v", err)
			}
			return out.Seq - many
		})
		if want := upTo(many); !slices.Equal(seqs, want) {
			t.Errorf("seqs of %d concurrent sendMessage beyond %d: %v", many, many, seqs)
		}
		books.Verify(t, c, g)
		if epoch, err := c.As(g.Members[2]).GetEpoch(t.Context(), g.ID); err != nil || epoch != many {
			t.Errorf("epoch %d (%v), want %d", epoch, err, many)
		}
	})
}

// Of many who built on one epoch, one comes through; the others hear of it.
func TestConcurrentChangesOnOneEpoch(t *testing.T) {
	everywhere(t, func(t *testing.T, n *apptest.Node) {
		c := apptest.Client(t, nil, n.URL)
		g := apptest.NewGroup(t, c, 2)
		zero := int64(0)
		codes := together(20, func(i int) conversation.Code {
			_, err := c.As(g.Members[i%2]).Commit(t.Context(), client.MakeCommit{
				ConvoID: g.ID, Commit: []byte{1, byte(i)}, ExpectedEpoch: &zero,
			})
			if err != nil && client.NameOf(err) == "" {
				t.Errorf("committing: %v", err)
			}
			return client.NameOf(err)
		})
		want := append([]conversation.Code{""}, slices.Repeat([]conversation.Code{conversation.EpochMismatch}, 19)...)
		if !slices.Equal(codes, want) {
			t.Errorf("20 commits on epoch 0 were answered with %v", codes)
		}
		if log := apptest.ReadLog(t, c, g.ID, g.Members[0]); len(log) != 1 {
			t.Errorf("%d rows are stored, want 1", len(log))
		}
	})
}

// Every message counts once for every member but its sender, whoever reads
// meanwhile.
func TestUnreadCountsAreExact(t *testing.T) {
	everywhere(t, func(t *testing.T, n *apptest.Node) {
		c := apptest.Client(t, nil, n.URL)
		g := apptest.NewGroup(t, c, 4)
		reader, never := g.Members[2], g.Members[3]
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var read int64 // the newest that the reader was told of
		wg.Go(func() {
			for ctx.Err() == nil {
				page, err := c.As(reader).GetMessages(t.Context(), client.GetMessages{ConvoID: g.ID, Limit: 5})
				if err != nil {
					t.Errorf("reading: %v", err)
					return
				}
				read = max(read, page.LastSeq)
			}
		})
		together(many, func(i int) int64 {
			out, err := c.As(g.Members[i%3]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}})
			if err != nil {
				t.Errorf("sending a message: %v", err)
			}
			return out.Seq
		})
		stop()
		wg.Wait()
		log := apptest.ReadLog(t, c, g.ID, g.Members[0])
		unread := func(did string, after int64) (n int64) {
			for _, m := range log {
				if m.Seq > after && m.Sender != did {
					n++
				}
			}
			return n
		}
		for did, want := range map[string]int64{reader: unread(reader, read), never: many, g.Members[1]: unread(g.Members[1], 0)} {
			apptest.Await(t, "the unread count of "+did, func() bool { return apptest.Unread(t, c, g.ID, did) == want })
		}
		// One more makes it one more: nothing was on its way still.
		if _, err := c.As(g.Members[0]).SendMessage(t.Context(), client.SendMessage{ConvoID: g.ID, Ciphertext: []byte{1}}); err != nil {
			t.Fatal(err)
		}
		apptest.Await(t, "one more unread message", func() bool { return apptest.Unread(t, c, g.ID, never) == many+1 })
	})
}

// together runs f n times at once and returns the results in order.
func together[T int64 | conversation.Code](n int, f func(i int) T) []T {
	out := make([]T, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = f(i) })
	}
	wg.Wait()
	slices.Sort(out)
	return out
}

func upTo(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i + 1)
	}
	return out
}
