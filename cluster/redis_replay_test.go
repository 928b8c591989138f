package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func use(t *testing.T, g *ReplayGuard, jti string, want bool) {
	t.Helper()
	fresh, err := g.Use(context.Background(), jti, time.Minute)
	if err != nil || fresh != want {
		t.Fatalf("%s is fresh: %v, %v; want %v", jti, fresh, err, want)
	}
}

func TestReplayAcrossNodes(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	one, two := NewReplayGuard(ReplayConfig{Redis: r, Label: "l"}), NewReplayGuard(ReplayConfig{Redis: r, Label: "l"})
	use(t, one, "a", true)
	use(t, one, "a", false)
	use(t, two, "a", false)
	use(t, two, "b", true)
	use(t, one, "b", false)
	long := strings.Repeat("x", 1<<20)
	use(t, one, long, true)
	use(t, two, long, false)
	use(t, NewReplayGuard(ReplayConfig{Redis: r, Label: "other"}), "a", true)
	for _, key := range server.Keys() {
		if len(key) > 50 {
			t.Errorf("a key of %d bytes", len(key))
		}
	}
	server.FastForward(time.Minute)
	use(t, two, "a", false) // its own memory goes by its own clock, and is stricter
	use(t, NewReplayGuard(ReplayConfig{Redis: r, Label: "l"}), "a", true)
}

// While Redis is out of reach an id is used once a node, also one that was used
// before that.
func TestReplayWithoutRedis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	one, two := NewReplayGuard(ReplayConfig{Redis: r, Label: "l"}), NewReplayGuard(ReplayConfig{Redis: r, Label: "l"})
	use(t, one, "a", true)
	server.Close()
	use(t, one, "a", false)
	use(t, one, "b", true)
	use(t, one, "b", false)
	use(t, two, "a", true)
	if testutil.ToFloat64(one.metrics.uses.WithLabelValues("local")) != 1 {
		t.Error("checks without Redis are not counted")
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	awaitUp(t, r)
	use(t, one, "b", false)
	use(t, two, "c", true)
}

func TestReplayCallerGivesUp(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	g := NewReplayGuard(ReplayConfig{Redis: newRedis(t, "redis://"+server.Addr()), Label: "l"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if fresh, err := g.Use(ctx, "a", time.Minute); fresh || !errors.Is(err, context.Canceled) {
		t.Errorf("fresh %v, %v", fresh, err)
	}
	use(t, g, "a", false) // it may have been noted
}

func TestReplayMemoryForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := NewReplayGuard(ReplayConfig{})
		use(t, g, "a", true)
		time.Sleep(time.Minute - time.Nanosecond)
		use(t, g, "a", false)
		use(t, g, "b", true)
		time.Sleep(time.Nanosecond)
		use(t, g, "a", true)
		use(t, g, "b", false)
	})
}

func TestReplayMemoryIsBounded(t *testing.T) {
	t.Parallel()
	g := NewReplayGuard(ReplayConfig{Max: 100})
	for i := range 1000 {
		use(t, g, fmt.Sprint(i), true)
		use(t, g, fmt.Sprint(i), false)
		if n := len(g.young) + len(g.old); n > 200 {
			t.Fatalf("%d ids are held", n)
		}
	}
	use(t, g, "905", false)
	use(t, g, "0", true)
	if testutil.ToFloat64(g.metrics.forgotten) != 900 {
		t.Errorf("%v forgotten", testutil.ToFloat64(g.metrics.forgotten))
	}
}

func TestReplayAtOnce(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	guards := []*ReplayGuard{
		NewReplayGuard(ReplayConfig{Redis: r, Label: "l"}), NewReplayGuard(ReplayConfig{Redis: r, Label: "l"}),
	}
	var fresh atomic.Int32
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			ok, err := guards[i%2].Use(context.Background(), "a", time.Minute)
			if err != nil {
				t.Error(err)
			}
			if ok {
				fresh.Add(1)
			}
		})
	}
	wg.Wait()
	if fresh.Load() != 1 {
		t.Errorf("used %d times", fresh.Load())
	}
}
