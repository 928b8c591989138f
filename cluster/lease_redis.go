package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// leaseBatch is how many keys one round trip works on.
const leaseBatch = 256

// RedisLeaseConfig is what a RedisLease needs. Redis and Label are required.
type RedisLeaseConfig struct {
	Redis *Redis
	// Label keeps apart clusters that share one Redis: keys begin with it.
	Label string
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
}

// RedisLease is a [Lease] in Redis. Renewal costs one command a session,
// however many conversations it holds: {label}:session:{id} lives as long as
// the session, {label}:convo:{id} names who holds the conversation.
type RedisLease struct {
	redis   *Redis
	label   string
	metrics *leaseMetrics
	renewed atomic.Int64 // Unix nanoseconds
}

// NewRedisLease returns a lease in cfg.Redis, which stays the caller's to
// close.
func NewRedisLease(cfg RedisLeaseConfig) *RedisLease {
	l := &RedisLease{redis: cfg.Redis, label: cfg.Label}
	l.metrics = newLeaseMetrics(cfg.Registerer, l.SinceRenewal)
	return l
}

func (l *RedisLease) sessionKey(id string) string  { return l.label + ":session:" + id }
func (l *RedisLease) convoKey(convo string) string { return l.label + ":convo:" + convo }

// Up reports whether Redis counts as reachable.
func (l *RedisLease) Up() bool { return l.redis.Up() }

// SinceRenewal returns how long ago a session was last renewed, 0 before the
// first time.
func (l *RedisLease) SinceRenewal() time.Duration {
	at := l.renewed.Load()
	if at == 0 {
		return 0
	}
	return time.Since(time.Unix(0, at))
}

// RenewSession keeps session alive for ttl. It also tries while Redis counts
// as down, since nobody waits for it but the renewal itself.
func (l *RedisLease) RenewSession(ctx context.Context, session, node, address string, ttl time.Duration) error {
	e := Entry{Session: session, Node: node, Address: address}
	if err := e.check(); err != nil {
		return err
	}
	sent := time.Now()
	err := l.redis.try(ctx, "renew", func(ctx context.Context, c redis.UniversalClient) error {
		return c.Set(ctx, l.sessionKey(session), e.holder(), ttl).Err()
	})
	if err == nil {
		l.renewed.Store(sent.UnixNano())
	}
	return err
}

// EndSession makes session's entries count no longer.
func (l *RedisLease) EndSession(ctx context.Context, session string) error {
	return l.redis.call(ctx, "end", func(ctx context.Context, c redis.UniversalClient) error {
		return c.Del(ctx, l.sessionKey(session)).Err()
	})
}

// Acquire takes convo if it may be taken.
func (l *RedisLease) Acquire(ctx context.Context, convo string, mine Entry, gone string) (Entry, bool, error) {
	if err := mine.check(); err != nil {
		return Entry{}, false, err
	}
	var reply any
	err := l.redis.call(ctx, "acquire", func(ctx context.Context, c redis.UniversalClient) (err error) {
		reply, err = runScript(ctx, c, acquireScript, l.acquireCall(mine, Ask{Convo: convo, Gone: gone}))
		return err
	})
	var a Acquired
	if err == nil {
		a, err = readAcquired(reply)
	}
	l.metrics.acquired(err, a)
	return a.Entry, a.Acquired, err
}

// AcquireAll is Acquire for many.
func (l *RedisLease) AcquireAll(ctx context.Context, mine Entry, asks []Ask) ([]Acquired, error) {
	if err := mine.check(); err != nil {
		return nil, err
	}
	calls := make([]scriptCall, len(asks))
	for i, ask := range asks {
		calls[i] = l.acquireCall(mine, ask)
	}
	all := make([]Acquired, 0, len(asks))
	err := l.batches(ctx, "acquire", acquireScript, calls, func(reply any) error {
		a, err := readAcquired(reply)
		all = append(all, a)
		return err
	})
	l.metrics.acquired(err, all...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (l *RedisLease) acquireCall(mine Entry, ask Ask) scriptCall {
	return scriptCall{l.convoKey(ask.Convo), []any{mine.Session, ask.Gone, mine.holder(), LeaseEntryTTL.Milliseconds()}}
}

var errOddReply = errors.New("lease: redis answered something else")

func readAcquired(reply any) (Acquired, error) {
	parts, ok := reply.([]any)
	if !ok || len(parts) != 2 {
		return Acquired{}, errOddReply
	}
	granted, ok1 := parts[0].(int64)
	text, ok2 := parts[1].(string)
	entry, ok3 := decodeEntry(text)
	if !ok1 || !ok2 || !ok3 {
		return Acquired{}, errOddReply
	}
	return Acquired{Entry: entry, Acquired: granted == 1}, nil
}

// SetFence writes what a claim gave.
func (l *RedisLease) SetFence(ctx context.Context, convo string, claim Entry) (bool, error) {
	if err := claim.check(); err != nil {
		return false, err
	}
	stored := false
	err := l.redis.call(ctx, "fence", func(ctx context.Context, c redis.UniversalClient) error {
		reply, err := runScript(ctx, c, fenceScript, l.fenceCall(convo, claim))
		stored = reply == int64(1)
		return err
	})
	if err == nil && !stored {
		l.metrics.losses.Inc()
	}
	return stored, err
}

// SetFences writes many claims of mine.
func (l *RedisLease) SetFences(ctx context.Context, mine Entry, claims []Fenced) error {
	calls := make([]scriptCall, len(claims))
	for i, c := range claims {
		mine.Fence = c.Fence
		if err := mine.check(); err != nil {
			return err
		}
		calls[i] = l.fenceCall(c.Convo, mine)
	}
	return l.batches(ctx, "fence", fenceScript, calls, func(reply any) error {
		if reply != int64(1) {
			l.metrics.losses.Inc()
		}
		return nil
	})
}

func (l *RedisLease) fenceCall(convo string, e Entry) scriptCall {
	return scriptCall{l.convoKey(convo), []any{strconv.FormatInt(e.Fence, 10), e.holder(), LeaseEntryTTL.Milliseconds()}}
}

// Find returns the entry of convo and whether it counts: one round trip where
// there is none, else two, since the two keys may lie on different servers.
func (l *RedisLease) Find(ctx context.Context, convo string) (Entry, bool, error) {
	found, err := l.FindAll(ctx, []string{convo})
	if err != nil {
		return Entry{}, false, err
	}
	return found[0].Entry, found[0].Live, nil
}

// FindAll is Find for many.
func (l *RedisLease) FindAll(ctx context.Context, convos []string) ([]Found, error) {
	found := make([]Found, len(convos))
	var sessions []string
	keys := make([]string, len(convos))
	for i, convo := range convos {
		keys[i] = l.convoKey(convo)
	}
	texts, err := l.getAll(ctx, "find", keys)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		if e, ok := decodeEntry(text); ok {
			found[i].Entry = e
			sessions = append(sessions, e.Session)
		}
	}
	slices.Sort(sessions)
	sessions = slices.Compact(sessions)
	keys = keys[:0]
	for _, s := range sessions {
		keys = append(keys, l.sessionKey(s))
	}
	if texts, err = l.getAll(ctx, "alive", keys); err != nil {
		return nil, err
	}
	for i := range found {
		if at, ok := slices.BinarySearch(sessions, found[i].Entry.Session); ok {
			found[i].Live = texts[at] != ""
		}
	}
	return found, nil
}

// getAll returns the values of keys, "" for those that are not there.
func (l *RedisLease) getAll(ctx context.Context, op string, keys []string) ([]string, error) {
	values := make([]string, 0, len(keys))
	for chunk := range slices.Chunk(keys, leaseBatch) {
		cmds := make([]*redis.StringCmd, len(chunk))
		err := l.redis.call(ctx, op, func(ctx context.Context, c redis.UniversalClient) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
				for i, key := range chunk {
					cmds[i] = p.Get(ctx, key)
				}
				return nil
			})
			if errors.Is(err, redis.Nil) { // the first error may hide another
				err = firstError(cmds)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, cmd := range cmds {
			values = append(values, cmd.Val())
		}
	}
	return values, nil
}

func firstError(cmds []*redis.StringCmd) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// Deny deletes the entry of convo if it names session.
func (l *RedisLease) Deny(ctx context.Context, convo, session string) error {
	return l.Release(ctx, session, []string{convo})
}

// Release deletes the entries of convos that name session.
func (l *RedisLease) Release(ctx context.Context, session string, convos []string) error {
	calls := make([]scriptCall, len(convos))
	for i, convo := range convos {
		calls[i] = scriptCall{l.convoKey(convo), []any{session}}
	}
	return l.batches(ctx, "release", releaseScript, calls, func(any) error { return nil })
}

// Touch keeps the entries of convos that name session.
func (l *RedisLease) Touch(ctx context.Context, session string, convos []string) error {
	calls := make([]scriptCall, len(convos))
	for i, convo := range convos {
		calls[i] = scriptCall{l.convoKey(convo), []any{session, LeaseEntryTTL.Milliseconds()}}
	}
	return l.batches(ctx, "touch", touchScript, calls, func(any) error { return nil })
}

// batches runs script for calls, leaseBatch to a round trip, and gives each
// reply to read. After an error the rest is left undone.
func (l *RedisLease) batches(ctx context.Context, op string, script *redis.Script, calls []scriptCall, read func(any) error) error {
	for chunk := range slices.Chunk(calls, leaseBatch) {
		var replies []any
		err := l.redis.call(ctx, op, func(ctx context.Context, c redis.UniversalClient) (err error) {
			replies, err = runScripts(ctx, c, script, chunk)
			return err
		})
		for _, reply := range replies {
			err = errors.Join(err, read(reply))
		}
		if err != nil {
			return fmt.Errorf("lease of %d conversations: %w", len(calls), err)
		}
	}
	return nil
}
