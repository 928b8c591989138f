package replay

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"catbird/internal/client"
)

// A node that dies leaves its conversations to others only after its session
// has lapsed, which is seconds; a replay outlives that.
const (
	attempts       = 30
	attemptTimeout = 15 * time.Second
)

// Run replays the groups, reads everything back, and prints how it went to
// cfg.Out. It blocks until all groups have ended or ctx is done; the Summary
// says how far it came either way.
//
// What differs from the recording is a *[Mismatch], one or several of them
// joined, up to 20 a group. Errors of single requests are those of package
// client. A group that exists already is [ErrExists]. One group's failure does
// not end another's.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Summary{}, err
	}
	st := newStats()
	observe := st.observe
	if cfg.Observe != nil {
		observe = func(o client.Observation) {
			st.observe(o)
			cfg.Observe(o)
		}
	}
	c, err := client.New(client.Config{
		BaseURLs: cfg.BaseURLs, Token: cfg.Token, HTTP: cfg.HTTP, Attempts: attempts, AttemptTimeout: attemptTimeout, Observe: observe,
	})
	if err != nil {
		return Summary{}, fmt.Errorf("replay: %w", err)
	}
	defer c.Close()

	began := time.Now()
	p := newProgress(&cfg)
	run := rand.Text()[:16]
	groups := make([]*group, len(cfg.Groups))
	for i, t := range cfg.Groups {
		groups[i] = &group{
			cfg: &cfg, t: t, h: historyOf(t), client: c, run: run, progress: p, sent: make(map[int64]client.Sent),
		}
		p.add(t.Name, groups[i].work())
	}
	errs := make([]error, len(groups), len(groups)+1)
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g.do(ctx) })
	}
	wg.Wait()
	errs = append(errs, p.end())

	var s Summary
	for _, g := range groups {
		s.Groups = append(s.Groups, g.summary())
	}
	s.Endpoints, s.Requests = st.summary()
	s.Elapsed = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return s, err
	}
	return s, s.Print(cfg.Out)
}
