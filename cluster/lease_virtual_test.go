package cluster

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// memoryRedis is a Redis without sockets, whose keys expire in virtual time.
type memoryRedis struct {
	*miniredis.Miniredis
	refuses atomic.Bool // takes no connections and ends those there are
	deaf    atomic.Bool // does what it is told, and its replies get lost
	late    atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

// expiryStep is how exact the expiry of keys is.
const expiryStep = 10 * time.Millisecond

// withRedis runs f in virtual time with a lease in a Redis of its own.
func withRedis(t *testing.T, f func(t *testing.T, m *memoryRedis, r *Redis, l *RedisLease)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memoryRedis{Miniredis: miniredis.NewMiniRedis()}
		conn, err := m.Miniredis.Dial() // this starts it
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		ctx, cancel := context.WithCancel(t.Context())
		m.Server().SetPreHook(func(*server.Peer, string, ...string) bool {
			sleep(ctx, time.Duration(m.late.Swap(0)))
			return false
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			for sleep(ctx, expiryStep) {
				m.FastForward(expiryStep)
			}
		})
		r, err := NewRedis(RedisConfig{URL: "redis://memory", Logger: quiet, dial: m.dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			cancel()
			wg.Wait()
			m.Close()
		})
		f(t, m, r, NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"}))
	})
}

func (m *memoryRedis) dial(context.Context, string, string) (net.Conn, error) {
	if m.refuses.Load() {
		return nil, syscall.ECONNREFUSED
	}
	conn, err := m.Miniredis.Dial()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, conn)
	return unheard{conn, m}, nil
}

// refuse makes it take no connections, and ends those there are, or take them
// again.
func (m *memoryRedis) refuse(yes bool) {
	m.refuses.Store(yes)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
}

// delayNext has the next command run only after d.
func (m *memoryRedis) delayNext(d time.Duration) { m.late.Store(int64(d)) }

// unheard loses what comes while Redis is deaf.
type unheard struct {
	net.Conn
	redis *memoryRedis
}

func (u unheard) Read(b []byte) (int, error) {
	for {
		n, err := u.Conn.Read(b)
		if err != nil || !u.redis.deaf.Load() {
			return n, err
		}
	}
}

// lost does call, which must fail after took because Redis does not answer.
func lost(t *testing.T, took time.Duration, call func() error) {
	t.Helper()
	began := time.Now()
	if err := call(); !errors.Is(err, ErrRedisDown) {
		t.Errorf("want redis down, got %v", err)
	}
	if passed := time.Since(began); passed != took {
		t.Errorf("it took %v, want %v", passed, took)
	}
}

// loadScripts has the server know the scripts: its first answer would be that it
// does not.
func loadScripts(t *testing.T, l *RedisLease, a Entry) {
	t.Helper()
	acquire(t, l, "loaded", a, "", Acquired{a, true})
	setFence(t, l, "loaded", a, 1, true)
	if err := l.Release(t.Context(), a.Session, []string{"loaded"}); err != nil {
		t.Fatal(err)
	}
}

// An entry counts exactly as long as its session was last renewed for, and is
// taken over from then on, not before.
func TestVirtualLeaseIsTakenFromADeadSessionOnly(t *testing.T) {
	withRedis(t, func(t *testing.T, _ *memoryRedis, _ *Redis, l *RedisLease) {
		a, b := holderOf("a"), holderOf("b")
		renew(t, l, a, ttl)
		renew(t, l, b, time.Hour)
		acquire(t, l, "x", a, "", Acquired{a, true})
		a = setFence(t, l, "x", a, 3, true)

		pass(ttl - time.Second)
		renew(t, l, a, ttl)
		pass(ttl - 2*expiryStep)
		find(t, l, "x", Found{a, true})
		acquire(t, l, "x", b, "", Acquired{a, false})
		pass(3 * expiryStep)
		find(t, l, "x", Found{a, false})
		acquire(t, l, "x", b, "", Acquired{a, false}) // it must say whom it found gone
		b.Fence = a.Fence                             // which is never lost
		acquire(t, l, "x", b, a.Session, Acquired{b, true})

		setFence(t, l, "x", a, 3, false)
		setFence(t, l, "x", b, 2, false)
		b = setFence(t, l, "x", b, 4, true)
		acquire(t, l, "x", a, "", Acquired{b, false})
		find(t, l, "x", Found{b, true})
	})
}

// Holdings renew often enough, and no longer than the database took the session.
func TestVirtualSessionIsRenewedWhileTheDatabaseTakesIt(t *testing.T) {
	withRedis(t, func(t *testing.T, m *memoryRedis, _ *Redis, l *RedisLease) {
		var cut atomic.Pointer[time.Time] // from the database
		a := holderOf("a")
		h := NewHoldings(HoldingsConfig{
			Lease: l, Node: a.Node, Address: func() string { return a.Address }, TTL: ttl,
			Session: func() string { return a.Session },
			Renewed: func() time.Duration {
				if at := cut.Load(); at != nil {
					return time.Since(*at)
				}
				return 0
			},
			Held:   func(func(string, string, int64) bool) {},
			Logger: quiet,
		})
		h.Start()
		t.Cleanup(func() {
			if err := h.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
		key := l.sessionKey(a.Session)
		pass(time.Second)
		for range 600 {
			pass(500 * time.Millisecond)
			if left := m.TTL(key); left < ttl/2 {
				t.Fatalf("the session has %v left", left)
			}
		}
		now := time.Now()
		cut.Store(&now)
		pass(ttl - ttl/3 - time.Second)
		if !m.Exists(key) {
			t.Error("it lapsed before its time")
		}
		pass(ttl/3 + time.Second + 2*expiryStep)
		if m.Exists(key) {
			t.Errorf("it outlives what the database took by %v", m.TTL(key))
		}
	})
}

// Whoever does not hear the answer asks again, and nothing is done twice.
func TestVirtualLostRepliesAreRepeated(t *testing.T) {
	withRedis(t, func(t *testing.T, m *memoryRedis, r *Redis, l *RedisLease) {
		a, b := holderOf("a"), holderOf("b")
		renew(t, l, a, ttl)
		loadScripts(t, l, a)
		unheard := func(call func() error) {
			t.Helper()
			m.deaf.Store(true)
			lost(t, defaultCallTimeout, call)
			m.deaf.Store(false)
			if !r.Up() {
				t.Fatal("one lost reply is no outage")
			}
		}
		unheard(func() error { _, _, err := l.Acquire(t.Context(), "x", a, ""); return err })
		find(t, l, "x", Found{a, true}) // it was done
		acquire(t, l, "x", b, "", Acquired{a, false})
		acquire(t, l, "x", a, "", Acquired{a, true})
		a5 := a
		a5.Fence = 5
		unheard(func() error { _, err := l.SetFence(t.Context(), "x", a5); return err })
		find(t, l, "x", Found{a5, true})
		setFence(t, l, "x", a, 5, true)
		unheard(func() error { return l.Release(t.Context(), a.Session, []string{"x"}) })
		find(t, l, "x", Found{})
		acquire(t, l, "x", b, "", Acquired{b, true})
		if err := l.Release(t.Context(), a.Session, []string{"x"}); err != nil {
			t.Error(err)
		}
		find(t, l, "x", Found{b, false}) // b has not made its session known
	})
}

// What runs after its sender has given up finds that others went on.
func TestVirtualLateCommandsDoNoHarm(t *testing.T) {
	withRedis(t, func(t *testing.T, m *memoryRedis, _ *Redis, l *RedisLease) {
		a, b := holderOf("a"), holderOf("b")
		renew(t, l, a, ttl)
		renew(t, l, b, time.Hour)
		loadScripts(t, l, a)
		acquire(t, l, "x", a, "", Acquired{a, true})
		setFence(t, l, "x", a, 1, true)
		a2 := a
		a2.Fence = 2
		for name, call := range map[string]func() error{
			"fence":   func() error { _, err := l.SetFence(t.Context(), "x", a2); return err },
			"release": func() error { return l.Release(t.Context(), a.Session, []string{"x"}) },
			"acquire": func() error { _, _, err := l.Acquire(t.Context(), "x", a, ""); return err },
		} {
			m.delayNext(time.Minute)
			lost(t, defaultCallTimeout, call)
			current, live, err := l.Find(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if current.Session != b.Session { // the first time round
				if !live {
					t.Error("it lapsed early")
				}
				pass(ttl)
				b.Fence = current.Fence
				acquire(t, l, "x", b, a.Session, Acquired{b, true})
			}
			b = setFence(t, l, "x", b, b.Fence+3, true)
			pass(2 * time.Minute)
			if e, live, err := l.Find(t.Context(), "x"); err != nil || !live || e != b {
				t.Errorf("after a late %s: %+v, live %v, %v; want %+v", name, e, live, err, b)
			}
		}
	})
}

// Without Redis two calls wait, the others do not; and it is used again within
// about a second of its return.
func TestVirtualRedisAwayAndBack(t *testing.T) {
	for name, away := range map[string]struct {
		set  func(m *memoryRedis, yes bool)
		wait time.Duration
	}{
		"silent":  {func(m *memoryRedis, yes bool) { m.deaf.Store(yes) }, defaultCallTimeout},
		"refused": {(*memoryRedis).refuse, 0},
	} {
		t.Run(name, func(t *testing.T) {
			withRedis(t, func(t *testing.T, m *memoryRedis, r *Redis, l *RedisLease) {
				a := holderOf("a")
				renew(t, l, a, time.Hour)
				acquire(t, l, "x", a, "", Acquired{a, true})
				look := func() error { _, _, err := l.Find(t.Context(), "x"); return err }
				away.set(m, true)
				for range tripAfter {
					lost(t, away.wait, look)
				}
				if r.Up() {
					t.Fatal("it counts as up")
				}
				for range 100 {
					lost(t, 0, look)
				}
				pass(time.Minute)
				lost(t, 0, look)

				changes, cancel := r.Subscribe()
				defer cancel()
				away.set(m, false)
				select {
				case <-changes:
				case <-time.After(lastProbe + 2*defaultCallTimeout):
					t.Fatal("its return is not noticed")
				}
				find(t, l, "x", Found{a, true})
			})
		})
	}
}

// What Redis forgot may be anybody's, but a session that was forgotten comes
// back with its next renewal, and a fence that is known stands.
func TestVirtualRedisForgets(t *testing.T) {
	withRedis(t, func(t *testing.T, m *memoryRedis, _ *Redis, l *RedisLease) {
		a, b := holderOf("a"), holderOf("b")
		renew(t, l, a, ttl)
		acquire(t, l, "x", a, "", Acquired{a, true})
		a = setFence(t, l, "x", a, 7, true)
		m.FlushAll()
		find(t, l, "x", Found{})
		acquire(t, l, "x", b, "", Acquired{b, true}) // the database will refuse b's claim
		renew(t, l, a, ttl)
		if err := l.SetFences(t.Context(), a, []Fenced{{"x", 7}}); err != nil {
			t.Fatal(err)
		}
		find(t, l, "x", Found{a, true})
		setFence(t, l, "x", b, 6, false)
		setFence(t, l, "x", b, 7, false)
		find(t, l, "x", Found{a, true})
	})
}
