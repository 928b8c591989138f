package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
)

// ReplayConfig is what a ReplayGuard needs.
type ReplayConfig struct {
	// Redis is shared by the nodes; nil on a node alone.
	Redis *Redis
	// Label keeps apart clusters that share one Redis.
	Label string
	// Max is how many ids the memory of this node holds at least; 0 means
	// 250,000 (some 30 MB when full). The oldest are forgotten beyond it.
	Max int
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

const defaultReplayMax = 250_000

// ReplayGuard lets each id of a token be used once: once in the cluster through
// Redis, and once a node while Redis is out of reach. It may be used from any
// goroutine.
type ReplayGuard struct {
	cfg     ReplayConfig
	now     func() time.Time
	metrics replayMetrics

	// Two generations of ids with the time that they may be used again at: when
	// young is full it becomes old, and what was old is forgotten.
	mu         sync.Mutex
	young, old map[replayID]time.Time
	youngUntil time.Time // when nothing in young counts any more
}

type replayID [16]byte

type replayMetrics struct {
	uses      *prometheus.CounterVec
	forgotten prometheus.Counter
}

// NewReplayGuard returns a guard that has seen nothing.
func NewReplayGuard(cfg ReplayConfig) *ReplayGuard {
	if cfg.Max <= 0 {
		cfg.Max = defaultReplayMax
	}
	f := promauto.With(cfg.Registerer)
	g := &ReplayGuard{
		cfg: cfg, now: time.Now, young: map[replayID]time.Time{},
		metrics: replayMetrics{
			uses: f.NewCounterVec(prometheus.CounterOpts{
				Name: "replay_checks_total", Help: "Token ids checked, by outcome; local: fresh as far as this node alone knows.",
			}, []string{"outcome"}),
			forgotten: f.NewCounter(prometheus.CounterOpts{
				Name: "replay_forgotten_total", Help: "Token ids that this node's memory had to forget before their time.",
			}),
		},
	}
	for _, outcome := range []string{"fresh", "replay", "local"} {
		g.metrics.uses.WithLabelValues(outcome)
	}
	return g
}

// Use notes jti and reports whether it is fresh: not used within its ttl
// before, which is counted from the first use. It asks Redis, within the call's
// time-out, and where Redis cannot say, this node's own memory decides. The
// error is not nil only if ctx ended first.
func (g *ReplayGuard) Use(ctx context.Context, jti string, ttl time.Duration) (fresh bool, err error) {
	sum := sha256.Sum256([]byte(jti)) // its length is the client's choice
	id := replayID(sum[:16])
	if !g.note(id, ttl) {
		g.metrics.uses.WithLabelValues("replay").Inc()
		return false, nil
	}
	outcome := "local"
	if g.cfg.Redis != nil {
		fresh, err := g.share(ctx, id, ttl)
		switch {
		case err == nil && fresh:
			outcome = "fresh"
		case err == nil:
			g.metrics.uses.WithLabelValues("replay").Inc()
			return false, nil
		case ctx.Err() != nil:
			return false, err
		}
	}
	g.metrics.uses.WithLabelValues(outcome).Inc()
	return true, nil
}

// share notes id in Redis and reports whether it was new there.
func (g *ReplayGuard) share(ctx context.Context, id replayID, ttl time.Duration) (fresh bool, err error) {
	key := g.cfg.Label + ":jti:" + hex.EncodeToString(id[:])
	err = g.cfg.Redis.call(ctx, "replay", func(ctx context.Context, c redis.UniversalClient) error {
		var err error
		fresh, err = c.SetNX(ctx, key, 1, ttl).Result()
		return err
	})
	return fresh, err
}

// note remembers id for ttl and reports whether it was unknown.
func (g *ReplayGuard) note(id replayID, ttl time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for _, generation := range []map[replayID]time.Time{g.young, g.old} {
		if until, seen := generation[id]; seen && now.Before(until) {
			return false
		}
	}
	switch {
	case !now.Before(g.youngUntil):
		clear(g.young) // all of it has had its time
	case len(g.young) >= g.cfg.Max:
		g.turnLocked(now)
	}
	until := now.Add(ttl)
	g.young[id] = until
	if until.After(g.youngUntil) {
		g.youngUntil = until
	}
	return true
}

// turnLocked makes young old and forgets what was old.
func (g *ReplayGuard) turnLocked(now time.Time) {
	for _, until := range g.old {
		if now.Before(until) {
			g.metrics.forgotten.Inc()
		}
	}
	g.old, g.young = g.young, make(map[replayID]time.Time)
}
