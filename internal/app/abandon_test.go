package app_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"catbird/internal/app"
	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/persistence"
)

// onStore starts a node on a store that it shares with others.
func onStore(t *testing.T, store app.Store, name string) *app.App {
	t.Helper()
	n, err := app.New(t.Context(), app.Options{
		Config: apptest.Config(apptest.Actors(true), func(c *config.Config) { c.Cluster.NodeName = name }),
		Logger: apptest.Logger(t), Store: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Errorf("stopping %s: %v", name, err)
		}
	})
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Ready():
	case <-time.After(apptest.Patience):
		t.Fatalf("%s was not ready within %v", name, apptest.Patience)
	}
	return n
}

// An abandoned node leaves behind what a killed one does: a session that the
// others end once it has stood still for its TTL, and not before.
func TestAbandonedNodeSaysNothing(t *testing.T) {
	apptest.Databases(t, func(t *testing.T, where apptest.Change) {
		cfg := apptest.Config(where)
		store, err := app.OpenStore(t.Context(), &cfg, apptest.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		dead, other := onStore(t, store, "dead"), onStore(t, store, "other")
		c := apptest.Client(t, nil, "http://"+dead.Addr())
		group := apptest.NewGroup(t, c, 2)
		send := client.SendMessage{ConvoID: group.ID, Ciphertext: []byte("x")}
		if _, err := c.As(group.Members[0]).SendMessage(t.Context(), send); err != nil {
			t.Fatal(err)
		}
		before := holder(t, store, group.ID)

		began := time.Now()
		dead.Abandon()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("abandoning took %v", took)
		}
		var lost *client.ConnectionError
		if _, err := c.As(group.Members[0]).SendMessage(t.Context(), send); !errors.As(err, &lost) {
			t.Errorf("an abandoned node answers: %v", err)
		}
		if live, err := store.LiveSessions(t.Context()); err != nil || len(live) != 2 {
			t.Errorf("sessions right after: %v, %v; want both", live, err)
		}
		if h := holder(t, store, group.ID); h != before {
			t.Errorf("the conversation is held by %+v right after, and was by %+v", h, before)
		}

		others := apptest.Client(t, nil, "http://"+other.Addr())
		apptest.Await(t, "the other node to serve the conversation", func() bool {
			_, err := others.As(group.Members[0]).SendMessage(t.Context(), send)
			return err == nil
		})
		if took := time.Since(began); took < cfg.Cluster.LeaseTTL/2 {
			t.Errorf("taken over after %v, while the session could still be alive", took)
		}
		if h := holder(t, store, group.ID); h.Session == before.Session || h.Fence <= before.Fence {
			t.Errorf("held by %+v now, and by %+v before", h, before)
		}
	})
}

func holder(t *testing.T, store persistence.Store, convo string) persistence.Holder {
	t.Helper()
	h, held, err := store.Holder(t.Context(), convo)
	if err != nil || !held {
		t.Fatalf("holder of %s: %v, %v", convo, held, err)
	}
	return h
}
