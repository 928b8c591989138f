package load_test

import (
	"testing"
	"time"

	"catbird/internal/app/apptest"
	"catbird/internal/client"
	"catbird/internal/load"
)

// config is a short load of a bit of everything.
func config(urls ...string) load.Config {
	return load.Config{
		BaseURLs: urls, Token: client.HS256([]byte(apptest.Secret), ""),
		Conversations: 6, Members: 4, Clients: 8, MessageBytes: 200, Seed: 1, Duration: 2 * time.Second,
		Mix: load.Mix{
			load.SendMessage: 10, load.Commit: 3, load.AddMembers: 3, load.LeaveConvo: 3,
			load.GetEpoch: 3, load.GetMessages: 3, load.GetCommits: 2, load.GetConvos: 2,
		},
	}
}

func TestLoadOnANode(t *testing.T) {
	for _, payload := range []load.Payload{load.Random, load.MLS} {
		t.Run(string(payload), func(t *testing.T) {
			n := apptest.Start(t, apptest.SQLite(t.TempDir()), apptest.Actors(true))
			cfg := config(n.URL)
			if cfg.Payload = payload; payload == load.MLS {
				cfg.MessageBytes = 0
			}
			r, err := load.Run(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !r.OK() {
				t.Errorf("verification: %+v", r.Verification)
			}
			t.Logf("%+v", r)
		})
	}
}
