package auth

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
)

func TestMemoryReplay(t *testing.T) {
	t.Parallel()
	now := newClock()
	m := NewMemoryReplay(0, now.Now)
	use := func(jti string, ttl time.Duration, want bool) {
		t.Helper()
		fresh, err := m.Use(t.Context(), jti, ttl)
		if err != nil || fresh != want {
			t.Errorf("%s: got %v, %v; want %v", jti, fresh, err, want)
		}
	}
	use("a", time.Minute, true)
	use("b", time.Hour, true)
	use("a", time.Minute, false)
	now.Add(time.Minute)
	use("a", time.Minute, false) // for its time at least
	now.Add(2 * replayStep)
	use("a", time.Minute, true)
	use("b", time.Hour, false)
	now.Add(2 * time.Hour)
	for i := range 1000 {
		use(fmt.Sprint("c", i), time.Minute, true)
	}
	held := 0
	for i := range m.shards {
		held += len(m.shards[i].used)
	}
	if held != 1000 {
		t.Errorf("%d tokens are held after the others have ended, want 1000", held)
	}
}

func TestMemoryReplayIsBoundedAndForgetsNothing(t *testing.T) {
	t.Parallel()
	now := newClock()
	m := NewMemoryReplay(10*shards, now.Now)
	accepted := []string{}
	for i := range 100 * shards {
		jti := fmt.Sprint(i)
		fresh, err := m.Use(t.Context(), jti, time.Minute)
		if fresh && err == nil {
			accepted = append(accepted, jti)
		} else {
			wantCode(t, err, conversation.Overloaded)
		}
	}
	if len(accepted) != 10*shards {
		t.Errorf("%d tokens accepted, want %d", len(accepted), 10*shards)
	}
	for _, jti := range accepted {
		if fresh, err := m.Use(t.Context(), jti, time.Minute); fresh || err != nil {
			t.Errorf("%s: got %v, %v a second time", jti, fresh, err)
		}
	}
	now.Add(time.Hour)
	if fresh, err := m.Use(t.Context(), "later", time.Minute); !fresh || err != nil {
		t.Errorf("got %v, %v after the others have ended", fresh, err)
	}
}

func TestMemoryReplayLetsOneOfManyIn(t *testing.T) {
	t.Parallel()
	m := NewMemoryReplay(0, nil)
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if fresh, err := m.Use(t.Context(), "same", time.Minute); fresh && err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of them were the first", won.Load())
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	now := newClock()
	l := NewLimiter(2, 3, now.Now)
	for i, want := range []Quota{
		{OK: true, Limit: 3, Remaining: 2, Reset: 500 * time.Millisecond},
		{OK: true, Limit: 3, Remaining: 1, Reset: time.Second},
		{OK: true, Limit: 3, Remaining: 0, Reset: 1500 * time.Millisecond},
		{OK: false, Limit: 3, Remaining: 0, Reset: 1500 * time.Millisecond, Retry: 500 * time.Millisecond},
	} {
		caller := alice
		if i%2 == 1 {
			caller += "#phone" // of the same account
		}
		if got := l.Take(caller); got != want {
			t.Errorf("request %d: got %+v, want %+v", i, got, want)
		}
	}
	if !l.Take(bob).OK {
		t.Error("one caller used up the rate of another")
	}
	now.Add(500 * time.Millisecond)
	if !l.Take(alice).OK || l.Take(alice).OK {
		t.Error("half a second at 2 per second does not give one request")
	}
	now.Add(time.Hour)
	if q := l.Take(alice); q.Remaining != 2 {
		t.Errorf("%d remain after an hour, want the burst less one", q.Remaining)
	}
}

func TestLimiterHoldsBoundedBuckets(t *testing.T) {
	t.Parallel()
	const size = 10 * shards
	l := newLimiter(1, 1, size, newClock().Now)
	for i := range 10 * size {
		l.Take(fmt.Sprint("did:plc:", i))
	}
	held := 0
	for i := range l.shards {
		held += l.shards[i].buckets.Len()
	}
	if held > size {
		t.Errorf("%d buckets held, want %d at most", held, size)
	}
}

func TestLimiterDefaults(t *testing.T) {
	t.Parallel()
	if NewLimiter(0, 5, nil) != nil {
		t.Error("a rate of 0 limits")
	}
	for rate, want := range map[float64]int{0.1: 1, 1: 2, 2.5: 5} {
		if got := NewLimiter(rate, 0, nil).Take(alice).Limit; got != want {
			t.Errorf("rate %v: burst %d, want %d", rate, got, want)
		}
	}
}
