package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"catbird/internal/testenv"
)

// leaseFixture is a lease under test whose time the test moves.
type leaseFixture struct {
	Lease
	pass func(d time.Duration)
	// garble puts something into an entry that no lease wrote; nil where
	// nobody else can.
	garble func(convo, text string)
}

// leaseFixtures start what a kind of lease needs, and give a fresh one for
// each test.
var leaseFixtures = map[string]func(t *testing.T) func(t *testing.T) leaseFixture{
	"local": func(*testing.T) func(*testing.T) leaseFixture {
		return func(*testing.T) leaseFixture {
			l, now := NewLocalLease(), time.Now()
			l.now = func() time.Time { return now }
			return leaseFixture{Lease: l, pass: func(d time.Duration) { now = now.Add(d) }}
		}
	},
	"miniredis": func(*testing.T) func(*testing.T) leaseFixture {
		return func(t *testing.T) leaseFixture {
			server := miniredis.RunT(t)
			l := NewRedisLease(RedisLeaseConfig{Redis: newRedis(t, "redis://"+server.Addr()), Label: "l"})
			return leaseFixture{Lease: l, pass: server.FastForward, garble: func(convo, text string) {
				if err := server.Set(l.convoKey(convo), text); err != nil {
					t.Fatal(err)
				}
			}}
		}
	},
	"redis": func(t *testing.T) func(*testing.T) leaseFixture {
		r := newRedis(t, testenv.Redis(t))
		return func(t *testing.T) leaseFixture { return realFixture(t, r) }
	},
	"cluster": func(t *testing.T) func(*testing.T) leaseFixture {
		r := newRedis(t, redisClusterURL(t))
		return func(t *testing.T) leaseFixture { return realFixture(t, r) }
	},
}

// realFixture moves time by shortening the lives of its keys.
func realFixture(t *testing.T, r *Redis) leaseFixture {
	label := "test-" + uuid.NewString()
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: label})
	used := map[string]bool{} // keys
	return leaseFixture{
		Lease: noting{l, used},
		pass: func(d time.Duration) {
			for key := range used {
				if left := r.client.PTTL(within(t), key).Val(); left > d {
					r.client.PExpire(within(t), key, left-d)
				} else if left > 0 {
					r.client.Del(within(t), key)
				}
			}
		},
		garble: func(convo, text string) {
			if err := r.client.Set(within(t), l.convoKey(convo), text, 0).Err(); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// noting notes the keys that a test uses.
type noting struct {
	*RedisLease
	used map[string]bool
}

func (n noting) RenewSession(ctx context.Context, session, node, address string, ttl time.Duration) error {
	n.used[n.sessionKey(session)] = true
	return n.RedisLease.RenewSession(ctx, session, node, address, ttl)
}

func (n noting) Acquire(ctx context.Context, convo string, mine Entry, gone string) (Entry, bool, error) {
	n.used[n.convoKey(convo)] = true
	return n.RedisLease.Acquire(ctx, convo, mine, gone)
}

func newRedis(t *testing.T, url string) *Redis {
	t.Helper()
	r, err := NewRedis(RedisConfig{URL: url, Logger: quiet, CallTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestLease(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, leaseFixture){
		"acquire":  testAcquire,
		"takeover": testTakeover,
		"fences":   testFences,
		"release":  testRelease,
		"expiry":   testExpiry,
		"many":     testMany,
		"refusals": testRefusals,
		"garbage":  testGarbage,
	}
	for kind, begin := range leaseFixtures {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fixture := begin(t)
			for name, test := range tests {
				t.Run(name, func(t *testing.T) { test(t, fixture(t)) })
			}
		})
	}
}

func holderOf(node string) Entry {
	return Entry{Session: "session-of-" + node, Node: node, Address: node + ":8081"}
}

func renew(t *testing.T, l Lease, e Entry, ttl time.Duration) {
	t.Helper()
	if err := l.RenewSession(within(t), e.Session, e.Node, e.Address, ttl); err != nil {
		t.Fatal(err)
	}
}

// acquire expects that asking for convo gives want.
func acquire(t *testing.T, l Lease, convo string, mine Entry, gone string, want Acquired) {
	t.Helper()
	e, ok, err := l.Acquire(within(t), convo, mine, gone)
	if err != nil || ok != want.Acquired || e != want.Entry {
		t.Fatalf("acquiring %s for %s gave %+v, %v, %v; want %+v", convo, mine.Node, e, ok, err, want)
	}
}

func find(t *testing.T, l Lease, convo string, want Found) {
	t.Helper()
	e, live, err := l.Find(within(t), convo)
	if err != nil || e != want.Entry || live != want.Live {
		t.Fatalf("%s is %+v, live %v, %v; want %+v", convo, e, live, err, want)
	}
}

func setFence(t *testing.T, l Lease, convo string, claim Entry, fence int64, want bool) Entry {
	t.Helper()
	claim.Fence = fence
	stored, err := l.SetFence(within(t), convo, claim)
	if err != nil || stored != want {
		t.Fatalf("fence %d of %s on %s: stored %v, %v", fence, claim.Node, convo, stored, err)
	}
	return claim
}

func testAcquire(t *testing.T, l leaseFixture) {
	a, b := holderOf("a"), Entry{Session: "sb", Node: "b"} // b has no address
	renew(t, l, a, time.Minute)
	if !l.Up() {
		t.Error("it is down")
	}
	find(t, l, "x", Found{})
	acquire(t, l, "x", a, "", Acquired{a, true})
	find(t, l, "x", Found{a, true})
	acquire(t, l, "x", a, "", Acquired{a, true}) // the reply was lost
	acquire(t, l, "x", b, "", Acquired{a, false})
	acquire(t, l, "x", b, "somebody else", Acquired{a, false})
	acquire(t, l, "y", b, "", Acquired{b, true})
	find(t, l, "y", Found{b, false}) // b's session is not known
	renew(t, l, b, time.Minute)
	find(t, l, "y", Found{b, true})
}

func testTakeover(t *testing.T, l leaseFixture) {
	a, b, c := holderOf("a"), holderOf("b"), holderOf("c")
	const ttl = 10 * time.Minute // a real server's time goes on beside the test's
	renew(t, l, a, ttl)
	acquire(t, l, "x", a, "", Acquired{a, true})
	a = setFence(t, l, "x", a, 7, true)
	l.pass(ttl / 2)
	renew(t, l, a, ttl)
	l.pass(ttl - time.Minute)
	find(t, l, "x", Found{a, true})
	l.pass(time.Minute)
	find(t, l, "x", Found{a, false})

	b7 := b
	b7.Fence = 7 // the fence stays
	acquire(t, l, "x", b, a.Session, Acquired{b7, true})
	acquire(t, l, "x", c, a.Session, Acquired{b7, false}) // came second
	setFence(t, l, "x", b, 8, true)

	renew(t, l, b, time.Minute)
	if err := l.EndSession(within(t), b.Session); err != nil {
		t.Fatal(err)
	}
	b.Fence = 8
	find(t, l, "x", Found{b, false})
}

func testFences(t *testing.T, l leaseFixture) {
	a, b := holderOf("a"), holderOf("b")
	acquire(t, l, "x", a, "", Acquired{a, true})
	a9 := setFence(t, l, "x", a, 9, true)
	setFence(t, l, "x", a, 9, true)  // the reply was lost
	setFence(t, l, "x", b, 9, false) // not higher
	setFence(t, l, "x", b, 8, false)
	find(t, l, "x", Found{a9, false})
	b10 := setFence(t, l, "x", b, 10, true) // longer, and smaller as a text
	find(t, l, "x", Found{b10, false})
	setFence(t, l, "x", a, 9, false)
	acquire(t, l, "x", b, "", Acquired{b10, true})
	const big = 1<<62 + 1 // no float64 tells it from its neighbours
	setFence(t, l, "x", a, big, true)
	setFence(t, l, "x", b, big-1, false)
	setFence(t, l, "x", b, big+1, true)
	setFence(t, l, "z", a, 3, true) // where nothing is
}

func testRelease(t *testing.T, l leaseFixture) {
	a, b := holderOf("a"), holderOf("b")
	for _, convo := range []string{"x", "y", "z"} {
		acquire(t, l, convo, a, "", Acquired{a, true})
	}
	acquire(t, l, "w", b, "", Acquired{b, true})
	ctx := within(t)
	if err := l.Deny(ctx, "x", b.Session); err != nil {
		t.Fatal(err)
	}
	find(t, l, "x", Found{a, false})
	if err := l.Deny(ctx, "x", a.Session); err != nil {
		t.Fatal(err)
	}
	find(t, l, "x", Found{})
	if err := l.Release(ctx, a.Session, []string{"x", "y", "w"}); err != nil {
		t.Fatal(err)
	}
	find(t, l, "y", Found{})
	find(t, l, "w", Found{b, false})
	find(t, l, "z", Found{a, false})
}

func testExpiry(t *testing.T, l leaseFixture) {
	a, b := holderOf("a"), holderOf("b")
	for _, convo := range []string{"kept", "touched", "fenced", "lost", "others"} {
		acquire(t, l, convo, a, "", Acquired{a, true})
	}
	l.pass(LeaseEntryTTL / 2)
	ctx := within(t)
	acquire(t, l, "kept", a, "", Acquired{a, true})
	setFence(t, l, "fenced", a, 0, true)
	if err := l.Touch(ctx, a.Session, []string{"touched", "nowhere"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Touch(ctx, b.Session, []string{"others"}); err != nil {
		t.Fatal(err)
	}
	l.pass(LeaseEntryTTL/2 + time.Second)
	for _, convo := range []string{"kept", "touched", "fenced"} {
		find(t, l, convo, Found{a, false})
	}
	for _, convo := range []string{"lost", "others", "nowhere"} {
		find(t, l, convo, Found{})
	}
}

// testMany does at once what the others do one by one, in several batches.
func testMany(t *testing.T, l leaseFixture) {
	ctx := within(t)
	a, b := holderOf("a"), holderOf("b")
	renew(t, l, a, time.Minute)
	convos := names("many-", 2*leaseBatch+3)
	acquire(t, l, convos[1], b, "", Acquired{b, true})
	acquire(t, l, convos[2], b, "", Acquired{b, true})
	asks := make([]Ask, len(convos))
	fences := make([]Fenced, len(convos))
	for i, convo := range convos {
		asks[i] = Ask{Convo: convo}
		fences[i] = Fenced{convo, int64(i)}
	}
	asks[2].Gone = b.Session
	all, err := l.AcquireAll(ctx, a, asks)
	if err != nil || len(all) != len(asks) {
		t.Fatalf("%d answers, %v", len(all), err)
	}
	for i, got := range all {
		if want := (Acquired{a, true}); i != 1 && got != want || i == 1 && got != (Acquired{b, false}) {
			t.Fatalf("%s: %+v", convos[i], got)
		}
	}
	if err := l.SetFences(ctx, a, fences); err != nil {
		t.Fatal(err)
	}
	found, err := l.FindAll(ctx, append(convos, "nowhere", convos[0]))
	if err != nil || len(found) != len(convos)+2 || found[len(convos)] != (Found{}) || found[0] != found[len(convos)+1] {
		t.Fatalf("%d found, %v", len(found), err)
	}
	for i, f := range found[:len(convos)] {
		a.Fence = int64(i)
		if want := (Found{a, true}); f != want {
			t.Fatalf("%s: %+v, want %+v", convos[i], f, want)
		}
	}
	if err := l.Release(ctx, a.Session, convos[1:]); err != nil {
		t.Fatal(err)
	}
	find(t, l, convos[len(convos)-1], Found{})
	a.Fence = 0
	find(t, l, convos[0], Found{a, true})
	for _, err := range []error{l.Release(ctx, a.Session, nil), l.SetFences(ctx, a, nil), l.Touch(ctx, a.Session, nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	if all, err := l.AcquireAll(ctx, a, nil); err != nil || len(all) != 0 {
		t.Errorf("asking for nothing: %v, %v", all, err)
	}
	if found, err := l.FindAll(ctx, nil); err != nil || len(found) != 0 {
		t.Errorf("looking for nothing: %v, %v", found, err)
	}
}

func testRefusals(t *testing.T, l leaseFixture) {
	ctx := within(t)
	for name, e := range map[string]Entry{
		"no session":     {Node: "a"},
		"no node":        {Session: "s"},
		"space":          {Session: "s 1", Node: "a"},
		"address":        {Session: "s", Node: "a", Address: "h:1\n"},
		"negative fence": {Session: "s", Node: "a", Fence: -1},
	} {
		if _, _, err := l.Acquire(ctx, "x", e, ""); err == nil {
			t.Errorf("%s: acquired", name)
		}
		if _, err := l.AcquireAll(ctx, e, []Ask{{Convo: "x"}}); err == nil {
			t.Errorf("%s: acquired with others", name)
		}
		if _, err := l.SetFence(ctx, "x", e); err == nil {
			t.Errorf("%s: fence set", name)
		}
		if e.Fence < 0 {
			continue
		}
		if err := l.RenewSession(ctx, e.Session, e.Node, e.Address, time.Second); err == nil {
			t.Errorf("%s: renewed", name)
		}
	}
	if err := l.SetFences(ctx, holderOf("a"), []Fenced{{"x", -1}}); err == nil {
		t.Error("negative fence set with others")
	}
	find(t, l, "x", Found{})
}

func testGarbage(t *testing.T, l leaseFixture) {
	if l.garble == nil {
		return // nobody else writes there
	}
	a := holderOf("a")
	for i, text := range []string{"", "x", "7", "7 s n", "-7 s n h:1", "7 s n h:1 more", "7  n h:1", "x s n h:1", "{}"} {
		convo := fmt.Sprintf("garbage-%d", i)
		l.garble(convo, text)
		find(t, l, convo, Found{})
		acquire(t, l, convo, a, "", Acquired{a, true})
		l.garble(convo, text)
		setFence(t, l, convo, a, 1, true)
	}
}

func TestLocalLeaseIsBounded(t *testing.T) {
	t.Parallel()
	l := NewLocalLease()
	l.max = 10
	a := holderOf("a")
	for _, convo := range names("x-", 30) {
		acquire(t, l, convo, a, "", Acquired{a, true})
		find(t, l, convo, Found{a, false})
	}
	if len(l.entries) != 10 {
		t.Errorf("%d entries", len(l.entries))
	}
	for i := range 5 {
		renew(t, l, holderOf(fmt.Sprint(i)), -time.Second)
	}
	if len(l.sessions) > 1 {
		t.Errorf("%d sessions that have lapsed", len(l.sessions))
	}
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom(nil, printable), 1, 20, 20)
		e := Entry{text.Draw(t, "session"), text.Draw(t, "node"), "", rapid.Int64Range(0, 1<<62).Draw(t, "fence")}
		if rapid.Bool().Draw(t, "has address") {
			e.Address = text.Draw(t, "host") + ":1"
		}
		if got, ok := decodeEntry(e.encode()); !ok || got != e {
			t.Fatalf("%+v came back as %+v", e, got)
		}
	})
}

// A server that has not got the scripts gets them, also in the middle of a
// batch.
func TestScriptsAreLoadedOnDemand(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
	a := holderOf("a")
	for range 2 {
		if err := r.client.ScriptFlush(within(t)).Err(); err != nil {
			t.Fatal(err)
		}
		acquire(t, l, "x", a, "", Acquired{a, true})
		if err := r.client.ScriptFlush(within(t)).Err(); err != nil {
			t.Fatal(err)
		}
		all, err := l.AcquireAll(within(t), a, []Ask{{Convo: "x"}, {Convo: "y"}})
		if err != nil || all[0] != (Acquired{a, true}) || all[1] != (Acquired{a, true}) {
			t.Fatalf("%+v, %v", all, err)
		}
	}
}

// Every command of a lease names one key, or a cluster could not run it.
func TestCommandsNameOneKey(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	r := newRedis(t, "redis://"+server.Addr())
	l := NewRedisLease(RedisLeaseConfig{Redis: r, Label: "l"})
	var seen []string
	r.client.AddHook(watchingHook(func(cmd redis.Cmder) {
		args := cmd.Args()
		keys := 0
		for _, arg := range args[1:] {
			if text, ok := arg.(string); ok && strings.HasPrefix(text, "l:") {
				keys++
			}
		}
		seen = append(seen, cmd.Name())
		if keys != 1 && cmd.Name() != "hello" && cmd.Name() != "pipeline" {
			t.Errorf("%s names %d keys", cmd.Name(), keys)
		}
	}))
	a, convos := holderOf("a"), []string{"x", "y"}
	renew(t, l, a, time.Minute)
	acquire(t, l, "x", a, "", Acquired{a, true})
	a = setFence(t, l, "x", a, 1, true)
	find(t, l, "x", Found{a, true})
	ctx := within(t)
	_, err1 := l.AcquireAll(ctx, a, []Ask{{Convo: "x"}, {Convo: "y"}})
	_, err2 := l.FindAll(ctx, convos)
	if err := errors.Join(
		err1, err2, l.SetFences(ctx, a, []Fenced{{"x", 2}, {"y", 2}}), l.Touch(ctx, a.Session, convos),
		l.Deny(ctx, "x", a.Session), l.Release(ctx, a.Session, convos), l.EndSession(ctx, a.Session),
	); err != nil {
		t.Fatal(err)
	}
	if len(seen) < 15 {
		t.Errorf("only %v were seen", seen)
	}
}

type watchingHook func(redis.Cmder)

func (watchingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h watchingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h(cmd)
		return next(ctx, cmd)
	}
}

func (h watchingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			h(cmd)
		}
		return next(ctx, cmds)
	}
}
