package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrRedisDown: Redis does not answer, or cannot serve. What was asked for may
// have happened nevertheless.
var ErrRedisDown = errors.New("redis is out of reach")

// RedisConfig is what Redis needs. URL and Logger are required.
type RedisConfig struct {
	// URL says where Redis is: one server, sentinels or a cluster.
	//
	//	redis://[user:password@]host[:port][/db]
	//	redis-sentinel://[user:password@]host,host/master[/db]
	//	redis+cluster://[user:password@]host,host
	//	unix:///path/to/socket
	//
	// rediss instead of redis uses TLS.
	URL string
	// CallTimeout bounds each call, a batch of 256 included; 0 means 300 ms.
	CallTimeout time.Duration
	// PoolSize bounds the connections, to each server of a cluster; 0 means 16.
	PoolSize int

	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer

	// dial opens connections, for tests in virtual time; nil means sockets.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultCallTimeout = 300 * time.Millisecond
	defaultPoolSize    = 16
	// tripAfter failures in a row Redis counts as down. One alone may be a
	// connection that somebody cut.
	tripAfter  = 2
	firstProbe = 100 * time.Millisecond
	lastProbe  = time.Second
)

// silence keeps the library from writing to standard error, past every log
// format and level. It has one logger for the process; what it says there comes
// back as an error of the call as well.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

// Printf does nothing.
func (silent) Printf(context.Context, string, ...any) {}

// Redis is a connection to Redis that does not slow anybody down when Redis is
// gone: each call is bounded, nothing is retried, and after two failures in a
// row further calls fail at once with [ErrRedisDown], until a probe in the
// background, within about a second of Redis' return, is answered.
//
// All methods may be called from any goroutine.
type Redis struct {
	bell
	client  redis.UniversalClient
	timeout time.Duration
	log     *slog.Logger
	metrics *redisMetrics

	down atomic.Bool
	run  context.Context // of the probe
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	failures int // in a row
	closed   bool
}

// NewRedis reads the URL and returns a connection that is made when it is first
// used. Close ends it.
func NewRedis(cfg RedisConfig) (*Redis, error) {
	o, err := parseRedisURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	r := &Redis{timeout: cfg.CallTimeout, log: cfg.Logger.With("component", "cluster")}
	if r.timeout <= 0 {
		r.timeout = defaultCallTimeout
	}
	silence()
	bound(o, r.timeout, cfg.PoolSize)
	if cfg.dial != nil {
		o.Dialer = cfg.dial
	}
	r.client = redis.NewUniversalClient(o)
	r.run, r.stop = context.WithCancel(context.Background())
	r.metrics = newRedisMetrics(cfg.Registerer)
	return r, nil
}

// bound sets limits where the library would wait or retry.
func bound(o *redis.UniversalOptions, timeout time.Duration, pool int) {
	if pool <= 0 {
		pool = defaultPoolSize
	}
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MaxActiveConns, o.PipelinePoolSize = pool, pool, -1
	o.ConnMaxIdleTime = 5 * time.Minute
	o.FailingTimeoutSeconds = 1
	// Neither is used here, and servers that do not know them answer errors.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// Up reports whether Redis counts as reachable. Subscribe tells of changes.
func (r *Redis) Up() bool { return !r.down.Load() }

// Ping asks Redis for a sign of life, also while it counts as down.
func (r *Redis) Ping(ctx context.Context) error {
	return r.try(ctx, "ping", func(ctx context.Context, c redis.UniversalClient) error {
		return c.Ping(ctx).Err()
	})
}

// Close ends all connections and the probe. It may be called twice.
func (r *Redis) Close() error {
	r.mu.Lock()
	was := r.closed
	r.closed = true
	r.mu.Unlock()
	if was {
		return nil
	}
	r.stop()
	r.wg.Wait()
	if err := r.client.Close(); err != nil {
		return fmt.Errorf("closing redis: %w", err)
	}
	return nil
}

type redisCall = func(ctx context.Context, c redis.UniversalClient) error

// call runs f within the call's budget, unless Redis counts as down.
func (r *Redis) call(ctx context.Context, op string, f redisCall) error {
	if r.down.Load() {
		r.metrics.refused.Inc()
		return fmt.Errorf("redis %s: %w", op, ErrRedisDown)
	}
	return r.try(ctx, op, f)
}

// try runs f within the call's budget in any case.
func (r *Redis) try(ctx context.Context, op string, f redisCall) error {
	budget, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	began := time.Now()
	err := f(budget, r.client)
	r.metrics.seconds.WithLabelValues(op).Observe(time.Since(began).Seconds())
	if err == nil {
		r.succeeded()
		return nil
	}
	if ctx.Err() != nil { // the caller gave up, which says nothing of Redis
		return fmt.Errorf("redis %s: %w", op, context.Cause(ctx))
	}
	r.metrics.errors.WithLabelValues(op).Inc()
	if serves(err) {
		r.succeeded()
		return fmt.Errorf("redis %s: %w", op, err)
	}
	r.failed(err)
	return fmt.Errorf("redis %s: %w: %w", op, ErrRedisDown, err)
}

// cannotServe begins the answers of a server that is there and of no use.
var cannotServe = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
	"BUSY", "NOAUTH", "WRONGPASS", "max number of clients",
}

// serves reports whether err is a complaint of a server that serves otherwise.
func serves(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	for _, prefix := range cannotServe {
		if redis.HasErrorPrefix(reply, prefix) {
			return false
		}
	}
	return true
}

func (r *Redis) succeeded() {
	r.mu.Lock()
	r.failures = 0
	back := r.down.Swap(false)
	r.mu.Unlock()
	if back {
		r.metrics.up.Set(1)
		r.log.Info("redis is back")
		r.wakeAll()
	}
}

func (r *Redis) failed(err error) {
	r.mu.Lock()
	r.failures++
	trip := r.failures >= tripAfter && !r.closed && !r.down.Load()
	if trip {
		r.down.Store(true)
		r.wg.Go(r.probe)
	}
	r.mu.Unlock()
	if trip {
		r.metrics.up.Set(0)
		r.metrics.outages.Inc()
		r.log.Warn("redis is out of reach, going on without", "error", err)
		r.wakeAll()
	}
}

// probe asks until Redis is back.
func (r *Redis) probe() {
	for wait := firstProbe; sleep(r.run, wait); wait = min(2*wait, lastProbe) {
		if r.Up() || r.Ping(r.run) == nil {
			return
		}
	}
}
