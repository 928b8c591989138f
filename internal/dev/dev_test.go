package dev

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"catbird/internal/client"
	"catbird/internal/config"
	"catbird/internal/replay"
)

const (
	secret = "a secret for tests that is long enough"
	ttl    = 2 * time.Second
)

func settings(t *testing.T) config.Config {
	c := config.Default()
	c.Server.Host, c.Server.Port, c.Server.InternalPort = "127.0.0.1", 0, 0
	c.Database.DataDir = t.TempDir()
	c.Cluster.Secret, c.Cluster.LeaseTTL = secret, ttl
	c.Auth.JWTSecret = secret
	c.Actors.Enable = true
	c.Drain.Delay, c.Drain.Timeout = 500*time.Millisecond, 20*time.Second
	return c
}

// start starts a cluster that ends with the test, in order.
func start(t *testing.T, nodes int) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), Config{Nodes: nodes, Node: settings(t), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// lines collects what a tour says.
type lines struct {
	mu   sync.Mutex
	said []string
}

func (l *lines) say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.said, "\n")
}

// What a tour finds is what a cluster promises: a node that stops in order costs
// no client a request, and one that is killed is replaced once its session has
// lapsed, and not before.
func TestTour(t *testing.T) {
	c := start(t, 3)
	var said lines
	tour, err := NewTour(t.Context(), TourConfig{
		Cluster: c, Token: client.HS256([]byte(secret), ""), Groups: []string{"00", "01"}, Say: said.say,
	})
	if err != nil {
		t.Fatal(err)
	}
	tour.Begin()
	events, err := tour.Run(t.Context())
	if err != nil {
		t.Fatalf("%v; it said:\n%s", err, &said)
	}
	if len(events) != 2 || events[0].What != "stopped" || events[1].What != "killed" || events[0].Node == events[1].Node {
		t.Fatalf("did %+v", events)
	}
	for _, e := range events {
		taken := 0
		for name, n := range e.To {
			if name == e.Node {
				t.Errorf("%d conversations stayed with %s, which was %s", n, name, e.What)
			}
			taken += n
		}
		// A busy machine may stop the node before it holds much, and what nobody
		// asks for again need not have been taken.
		if e.Held == 0 || (taken == 0 && e.Held > 3) || taken > e.Held || e.Requests == 0 || e.Failed != 0 || e.Share == 0 || e.Regained != e.Share {
			t.Errorf("not as it should: %+v", e)
		}
	}
	if stopped := events[0]; stopped.Repeated != 0 || stopped.Why != nil {
		t.Errorf("%d requests had to be repeated while a node stopped in order: %v", stopped.Repeated, stopped.Why)
	}
	if killed := events[1]; killed.Took < ttl/2 || killed.Repeated == 0 {
		t.Errorf("a node that was killed was missed by nobody: %+v", killed)
	}
	if err := c.Integrity(t.Context()); err != nil {
		t.Error(err)
	}
	var table bytes.Buffer
	if err := PrintEvents(&table, events); err != nil || strings.Count(table.String(), "\n") != 3 {
		t.Errorf("printed %q, %v", table.String(), err)
	}
	for _, want := range []string{"as by SIGTERM", "is killed", "is back", "none failed, none had to be repeated", "stored, each once"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("did not say %q:\n%s", want, &said)
		}
	}
}

// A replay leads a tour: nothing is done to a node before it is well under way,
// and its end waits for the tour's.
func TestReplayLeadsTheTour(t *testing.T) {
	tour := &Tour{
		cfg:   TourConfig{Groups: []string{"lead", "other"}},
		begin: make(chan struct{}), done: make(chan struct{}), moved: make(chan struct{}),
	}
	step := func(ctx context.Context, group string, i int) error {
		return tour.BeforeStep(ctx, replay.Step{ConvoID: group, Index: i, Total: 100})
	}
	begun := func() bool {
		select {
		case <-tour.begin:
			return true
		default:
			return false
		}
	}
	if err := step(t.Context(), "lead", 24); err != nil || begun() {
		t.Errorf("begun after 24 of 100 steps, %v", err)
	}
	if err := step(t.Context(), "other", 20); err != nil {
		t.Errorf("who is behind: %v", err)
	}
	if err := step(t.Context(), "lead", 25); err != nil || !begun() {
		t.Errorf("not begun after 25 of 100 steps, %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := step(ended, "lead", 90); !errors.Is(err, context.Canceled) {
		t.Errorf("the one that leads did not wait for the tour's end: %v", err)
	}
	if err := step(ended, "other", 95); !errors.Is(err, context.Canceled) {
		t.Errorf("another did not wait for the one that leads: %v", err)
	}
	close(tour.done)
	for _, group := range []string{"lead", "other"} {
		if err := step(t.Context(), group, 99); err != nil {
			t.Errorf("%s after the tour: %v", group, err)
		}
	}
}

// A killed node answers nothing; a stopped and a killed one both come back where
// they were, and a second time is nothing.
func TestNodesComeBackWhereTheyWere(t *testing.T) {
	c := start(t, 2)
	n := c.Nodes()[1]
	url, admin := n.URL(), n.OperatorURL()
	transport := &http.Transport{DisableKeepAlives: true}
	client := http.Client{Transport: transport}
	for name, end := range map[string]func(){
		"killed": n.Kill,
		"stopped": func() {
			if err := n.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		end()
		end()
		if n.Running() {
			t.Errorf("%s and runs", name)
		}
		if res, err := client.Get(url + "/health/live"); err == nil {
			res.Body.Close()
			t.Errorf("%s and answers", name)
		}
		if err := n.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := c.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n.URL() != url || n.OperatorURL() != admin {
			t.Errorf("%s and back at %s and %s, was at %s and %s", name, n.URL(), n.OperatorURL(), url, admin)
		}
	}
}

func TestStartFails(t *testing.T) {
	for _, nodes := range []int{0, MaxNodes + 1} {
		if _, err := Start(t.Context(), Config{Nodes: nodes, Node: settings(t)}); err == nil {
			t.Errorf("a cluster of %d nodes", nodes)
		}
	}
	bad := settings(t)
	bad.Cluster.LeaseTTL = time.Millisecond
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]func() (*Cluster, error){
		"bad settings": func() (*Cluster, error) {
			return Start(t.Context(), Config{Nodes: 2, Node: bad, Logger: slog.New(slog.DiscardHandler)})
		},
		"interrupted": func() (*Cluster, error) {
			return Start(ended, Config{Nodes: 2, Node: settings(t), Logger: slog.New(slog.DiscardHandler)})
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: started", name)
		}
	}
	if _, err := NewTour(t.Context(), TourConfig{Cluster: start(t, 1)}); err == nil {
		t.Error("a tour of a node alone")
	}
}
