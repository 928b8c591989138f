package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"catbird/internal/app"
	"catbird/internal/client"
	"catbird/internal/config"
)

const secret = "a secret of the benchmark alone"

// token returns a bearer token of did that outlives the run.
func token(did string) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": did, "exp": time.Now().Add(2 * time.Hour).Unix(),
	}).SignedString([]byte(secret))
}

// node is one server in this process.
type node struct {
	app *app.App
	api *client.Client
}

// startNode starts a node on databaseURL and waits until it is ready.
func startNode(ctx context.Context, databaseURL string, change func(*config.Config)) (*node, error) {
	cfg := config.Default()
	cfg.Server.Host, cfg.Server.Port, cfg.Server.InternalPort = "127.0.0.1", 0, 0
	cfg.Database.URL = config.Secret(databaseURL)
	cfg.Auth.JWTSecret = secret
	cfg.Auth.EnforceJTI = false
	cfg.Actors.Enable = true
	if change != nil {
		change(&cfg)
	}
	a, err := app.New(ctx, app.Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return nil, fmt.Errorf("building a node: %w", err)
	}
	if err := a.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting a node: %w", err)
	}
	n := &node{app: a}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case <-a.Ready():
	case <-wait.Done():
		return nil, fmt.Errorf("waiting for a node: %w", wait.Err())
	}
	n.api, err = client.New(client.Config{
		BaseURLs: []string{"http://" + a.Addr()},
		Token:    func(did, _ string) (string, error) { return token(did) },
	})
	return n, err
}

func (n *node) stop(ctx context.Context) error {
	n.api.Close()
	return n.app.Stop(ctx)
}

// actors turns the actors on or off.
func (n *node) actors(ctx context.Context, on bool) error {
	body, err := json.Marshal(map[string]any{"actorSystem": on, "rolloutPercent": 100})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+n.app.InternalAddr()+"/flags", bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("setting the flag: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("setting the flag: status %d", res.StatusCode)
	}
	return nil
}

// group is a conversation to send to.
type group struct {
	id      string
	members []string
	tokens  []string
}

// groups makes count conversations of size members each.
func (n *node) groups(ctx context.Context, prefix string, count, size int) ([]group, error) {
	all := make([]group, count)
	for i := range all {
		g := group{id: fmt.Sprintf("%x", fmt.Sprintf("%s-%05d", prefix, i))}
		for m := range size {
			did := fmt.Sprintf("did:plc:%s%05d%02daaaaaaaaaaaaaa", prefix, i, m)
			t, err := token(did)
			if err != nil {
				return nil, err
			}
			g.members, g.tokens = append(g.members, did), append(g.tokens, t)
		}
		all[i] = g
	}
	work := make(chan group)
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			var err error
			for g := range work {
				if err == nil {
					_, err = n.api.As(g.members[0]).CreateConvo(ctx, client.CreateConvo{
						GroupID: g.id, CipherSuite: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", InitialMembers: g.members[1:],
					})
				}
			}
			errs <- err
		}()
	}
	for _, g := range all {
		work <- g
	}
	close(work)
	var first error
	for range cap(errs) {
		if err := <-errs; err != nil && first == nil {
			first = fmt.Errorf("making conversations: %w", err)
		}
	}
	return all, first
}
