package replay_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"catbird/internal/app"
	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/replay"
	"catbird/testdata/transcripts"
)

// TestReplayOnANode replays the recorded groups on a whole node with the
// embedded database, through actors and without them, and reads them back after
// a restart.
func TestReplayOnANode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		actors bool
		groups []*transcripts.Transcript
	}{
		{"actors", true, transcripts.All()},
		{"direct", false, []*transcripts.Transcript{transcripts.Small()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := replay.Config{Token: client.HS256([]byte(secret), ""), Groups: tt.groups}
			onNode(t, dir, tt.actors, func(url string) {
				cfg.BaseURLs = []string{url}
				s, err := replay.Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if len(s.Groups) != len(tt.groups) || s.Requests.Repeated != 0 {
					t.Errorf("%d groups, %d requests were repeated", len(s.Groups), s.Requests.Repeated)
				}
			})
			onNode(t, dir, !tt.actors, func(url string) {
				cfg.BaseURLs, cfg.Groups = []string{url}, []*transcripts.Transcript{transcripts.Small()}
				if _, err := replay.Run(t.Context(), cfg); !errors.Is(err, replay.ErrExists) {
					t.Errorf("a second replay: %v", err)
				}
				cfg.VerifyOnly = true
				if _, err := replay.Run(t.Context(), cfg); err != nil {
					t.Errorf("after a restart: %v", err)
				}
			})
		})
	}
}

const secret = "a secret for tests, thirty-two bytes and more"

// onNode runs a node over the database in dir for as long as use takes.
func onNode(t *testing.T, dir string, actors bool, use func(url string)) {
	t.Helper()
	cfg := config.Default()
	cfg.Server.Host, cfg.Server.Port = "127.0.0.1", 0
	cfg.Server.InternalHost, cfg.Server.InternalPort = "127.0.0.1", 0
	cfg.Database.DataDir = dir
	cfg.Cluster.NodeName = "node"
	cfg.Actors.Enable = config.Switch(actors)
	cfg.Policy.RemovePolicy = config.RemoveMember
	cfg.Auth.JWTSecret = secret
	node, err := app.New(t.Context(), app.Options{Config: cfg, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := node.Stop(ctx); err != nil {
			t.Errorf("stop the node: %v", err)
		}
	}()
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-node.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the node was not ready within 30 s")
	}
	use("http://" + node.Addr())
}
