package auth

import (
	"hash/maphash"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const defaultLimiterSize = 1 << 17

// Limiter bounds how often each caller may ask: a bucket of tokens each, which
// fills at a constant rate. It holds the buckets of those who asked last; one
// that is dropped to make room has been filling for longest. It is safe for use
// by several goroutines at once.
type Limiter struct {
	rate   float64 // tokens per second
	burst  float64
	clock  func() time.Time
	seed   maphash.Seed
	shards [shards]struct {
		sync.Mutex
		buckets *simplelru.LRU[string, bucket]
	}
}

type bucket struct {
	tokens float64
	at     time.Time
}

// Quota is what a caller has left.
type Quota struct {
	OK        bool
	Limit     int           // requests at once
	Remaining int           // requests that may follow at once
	Reset     time.Duration // until all of Limit may be used again
	Retry     time.Duration // until the next one may be made; 0 when OK
}

// NewLimiter returns a Limiter of rate requests per second, and up to burst of
// them at once (0: twice the rate, 1 at least). A rate of 0 or less returns nil,
// which limits nothing. A nil clock is time.Now.
func NewLimiter(rate float64, burst int, clock func() time.Time) *Limiter {
	return newLimiter(rate, burst, defaultLimiterSize, clock)
}

func newLimiter(rate float64, burst, size int, clock func() time.Time) *Limiter {
	if rate <= 0 {
		return nil
	}
	if burst <= 0 {
		burst = int(max(1, math.Ceil(2*rate)))
	}
	if clock == nil {
		clock = time.Now
	}
	l := &Limiter{rate: rate, burst: float64(burst), clock: clock, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].buckets = newLRU[string, bucket](size / shards)
	}
	return l
}

// Take takes one request out of the caller's bucket. All devices of an account
// share one: a caller could name any number of them.
func (l *Limiter) Take(caller string) Quota {
	did, _, _ := strings.Cut(caller, "#")
	now := l.clock()
	s := &l.shards[maphash.String(l.seed, did)%shards]
	s.Lock()
	defer s.Unlock()
	b, known := s.buckets.Get(did)
	if !known {
		b = bucket{tokens: l.burst, at: now}
	}
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.tokens, b.at = min(l.burst, b.tokens+passed*l.rate), now
	}
	q := Quota{OK: b.tokens >= 1, Limit: int(l.burst)}
	if q.OK {
		b.tokens--
	} else {
		q.Retry = l.until(1 - b.tokens)
	}
	s.buckets.Add(did, b)
	q.Remaining = int(b.tokens)
	q.Reset = l.until(l.burst - b.tokens)
	return q
}

// until is how long tokens take to come in.
func (l *Limiter) until(tokens float64) time.Duration {
	return time.Duration(tokens / l.rate * float64(time.Second))
}
