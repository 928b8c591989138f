package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"catbird/internal/testenv"
)

// badWeather is a lease in a Redis that the test may stop and freeze.
func badWeather(t *testing.T, timeout time.Duration) (*testenv.Server, *Redis, *RedisLease) {
	t.Helper()
	server, err := testenv.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	r, err := NewRedis(RedisConfig{URL: server.URL(), Logger: quiet, CallTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, r, NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
}

// downWithoutDelay loses Redis by two calls and checks that after them no call
// takes time.
func downWithoutDelay(t *testing.T, r *Redis, l *RedisLease) {
	t.Helper()
	ctx := within(t)
	for r.Up() {
		if _, _, err := l.Acquire(ctx, "x", holderOf("a"), ""); !errors.Is(err, ErrRedisDown) {
			t.Fatalf("without Redis: %v", err)
		}
	}
	began := time.Now()
	for range 1000 {
		if _, _, err := l.Find(ctx, "x"); !errors.Is(err, ErrRedisDown) {
			t.Fatalf("while Redis is down: %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("1000 calls took %v while Redis was known to be down", took)
	}
	if testutil.ToFloat64(r.metrics.up) != 0 || testutil.ToFloat64(r.metrics.refused) == 0 || l.Up() {
		t.Error("it is not shown to be down")
	}
}

// awaitUp waits until Redis counts as reachable again, by itself.
func awaitUp(t *testing.T, r *Redis) {
	t.Helper()
	changes, cancel := r.Subscribe()
	defer cancel()
	for !r.Up() {
		select {
		case <-changes:
		case <-within(t).Done():
			t.Fatal("Redis is not noticed to be back")
		}
	}
}

func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	server, r, l := badWeather(t, time.Second)
	a := holderOf("a")
	renew(t, l, a, time.Minute)
	acquire(t, l, "x", a, "", Acquired{a, true})
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range 100 { // more than there are connections
		wg.Go(func() {
			if _, _, err := l.Find(within(t), "x"); !errors.Is(err, ErrRedisDown) {
				t.Errorf("of a frozen server: %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("100 calls at once took %v", took)
	}
	downWithoutDelay(t, r, l)
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	awaitUp(t, r)
	find(t, l, "x", Found{a, true})
}

func TestRedisKilledAndEmptied(t *testing.T) {
	t.Parallel()
	server, r, l := badWeather(t, 10*time.Second)
	a, b := holderOf("a"), holderOf("b")
	renew(t, l, a, time.Minute)
	acquire(t, l, "x", a, "", Acquired{a, true})
	a5 := setFence(t, l, "x", a, 5, true)
	server.Kill()
	downWithoutDelay(t, r, l)
	if err := l.RenewSession(within(t), a.Session, a.Node, a.Address, time.Minute); !errors.Is(err, ErrRedisDown) {
		t.Errorf("renewal: %v", err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	awaitUp(t, r)

	// Redis has come back empty, scripts included.
	find(t, l, "x", Found{})
	acquire(t, l, "x", b, "", Acquired{b, true}) // who then asks the database, and hears of a
	setFence(t, l, "x", a5, 5, true)
	renew(t, l, a, time.Minute)
	find(t, l, "x", Found{a5, true})

	if err := r.client.FlushAll(within(t)).Err(); err != nil {
		t.Fatal(err)
	}
	find(t, l, "x", Found{})
	if err := l.SetFences(within(t), a, []Fenced{{"x", 5}}); err != nil {
		t.Fatal(err)
	}
	find(t, l, "x", Found{a5, false})
	renew(t, l, a, time.Minute)
	find(t, l, "x", Found{a5, true})
}

// A call whose reply is lost has happened, and may be repeated.
func TestLostReply(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	proxy := testenv.NewProxy(t, server.Addr())
	r := newRedis(t, "redis://"+proxy.Addr())
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
	a := holderOf("a")
	acquire(t, l, "warm-up", a, "", Acquired{a, true})
	proxy.LoseReply("l:convo:x")
	if _, _, err := l.Acquire(within(t), "x", a, ""); !errors.Is(err, ErrRedisDown) {
		t.Fatalf("the reply came: %v", err)
	}
	if !r.Up() {
		t.Error("one failure counts as an outage")
	}
	if !server.Exists("l:convo:x") {
		t.Fatal("the call did not happen")
	}
	acquire(t, l, "x", a, "", Acquired{a, true})
	find(t, l, "x", Found{a, false})
}

func TestWhatCountsAsAnOutage(t *testing.T) {
	t.Parallel()
	given := func(t *testing.T) context.Context { return within(t) }
	over := func(*testing.T) context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}
	for name, test := range map[string]struct {
		reply string
		ctx   func(*testing.T) context.Context
		down  bool
	}{
		"loading":         {"LOADING Redis is loading the dataset in memory", given, true},
		"read only":       {"READONLY You can't write against a read only replica.", given, true},
		"no password":     {"NOAUTH Authentication required.", given, true},
		"too many":        {"ERR max number of clients reached", given, true},
		"some complaint":  {"WRONGTYPE Operation against a key", given, false},
		"caller gives up": {"", over, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := miniredis.RunT(t)
			r := newRedis(t, "redis://"+server.Addr())
			if err := r.Ping(within(t)); err != nil {
				t.Fatal(err)
			}
			server.SetError(test.reply)
			ctx := test.ctx(t)
			for range tripAfter {
				err := r.call(ctx, "find", func(ctx context.Context, c redis.UniversalClient) error {
					return c.Get(ctx, "x").Err()
				})
				if err == nil || errors.Is(err, ErrRedisDown) != test.down {
					t.Errorf("the error is %v", err)
				}
			}
			if r.Up() == test.down {
				t.Errorf("up: %v", r.Up())
			}
			server.SetError("")
			awaitUp(t, r)
		})
	}
}

// A renewal goes out whatever the circuit says, and closes it.
func TestRenewalClosesTheCircuit(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
	if l.SinceRenewal() != 0 {
		t.Error("renewed before the first time")
	}
	r.down.Store(true) // without a probe
	renew(t, l, holderOf("a"), time.Minute)
	if !r.Up() || l.SinceRenewal() <= 0 {
		t.Errorf("up %v, renewed %v ago", r.Up(), l.SinceRenewal())
	}
}

func TestRedisCloseEndsTheProbe(t *testing.T) {
	t.Parallel()
	r, err := NewRedis(RedisConfig{URL: "redis://127.0.0.1:1", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for range tripAfter {
		if err := r.Ping(within(t)); !errors.Is(err, ErrRedisDown) {
			t.Errorf("ping: %v", err)
		}
	}
	if r.Up() {
		t.Error("up")
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.Ping(within(t)); err == nil {
		t.Error("answered after Close")
	}
}

func TestRedisThroughSentinel(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 2)
	redisServer(t, ports[0], "save \"\"", "appendonly no", "requirepass p@ss")
	redisServer(t, ports[1], "sentinel monitor mine 127.0.0.1 "+ports[0]+" 1", "sentinel auth-pass mine p@ss")
	r := newRedis(t, "redis-sentinel://:p%40ss@127.0.0.1:"+ports[1]+"/mine")
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
	await2(t, "the sentinel to know the master", func() bool { return r.Ping(within(t)) == nil })
	a := holderOf("a")
	acquire(t, l, "x", a, "", Acquired{a, true})
}

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		url, addrs, master, user, password string
		db                                 int
		tls, cluster                       bool
	}{
		{url: "redis://h", addrs: "h:6379"},
		{url: "redis://h:1/2", addrs: "h:1", db: 2},
		{url: "redis://[::1]:1/0", addrs: "[::1]:1"},
		{url: "redis://u:p%2Fw@h:1", addrs: "h:1", user: "u", password: "p/w"},
		{url: "rediss://:a@b@h?db=3", addrs: "h:6379", password: "a@b", db: 3, tls: true},
		{url: "redis://a:1,b?addr=c:3", addrs: "a:1 b:6379 c:3"},
		{url: "redis+cluster://u@a,b", addrs: "a:6379 b:6379", user: "u", cluster: true},
		{url: "rediss-cluster://a", addrs: "a:6379", cluster: true, tls: true},
		{url: "redis-sentinel://a,b:2/mine", addrs: "a:26379 b:2", master: "mine"},
		{url: "rediss+sentinel://:p@a/mine/4", addrs: "a:26379", master: "mine", password: "p", db: 4, tls: true},
		{url: "redis://a:26379?master_name=mine&addr=b:26379&sentinel_password=q", addrs: "a:26379 b:26379", master: "mine"},
		{url: "unix:///run/redis.sock?db=1", addrs: "/run/redis.sock", db: 1},
	} {
		o, err := parseRedisURL(test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := strings.Join(o.Addrs, " "); got != test.addrs || o.MasterName != test.master || o.Username != test.user ||
			o.Password != test.password || o.DB != test.db || (o.TLSConfig != nil) != test.tls || o.IsClusterMode != test.cluster {
			t.Errorf("%s: %+v", test.url, o)
		}
		if strings.Contains(test.url, "sentinel_password") && o.SentinelPassword != "q" {
			t.Errorf("%s: the sentinels' password is missing", test.url)
		}
	}
	for _, bad := range []string{
		"", "h:6379", "http://h", "redis://", "redis://h:x", "redis://h/x", "redis://h/1/2", "redis://h?what=1", "redis://h?db=x",
		"redis://:secret%zz@h", "redis://:secret@h:port", "redis://:secret@h?%zz", "redis-sentinel://:secret@h", "redis+cluster://h/1",
		"redis://a,b/1", "unix://", "redis://h?addr=x:y",
	} {
		_, err := NewRedis(RedisConfig{URL: bad, Logger: quiet})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
