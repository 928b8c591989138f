package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ClientConfig is what a Client needs. Secret, Self and Logger are required;
// zero limits stand for their defaults.
type ClientConfig struct {
	Secret  []byte // the cluster's
	Self    string // this node's name, at most 255 bytes
	Version string // of this software, for logs at the other side; at most 255 bytes
	Logger  *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer

	// DialTimeout bounds connecting and the handshake. Default 1 s.
	DialTimeout time.Duration
	// PingInterval is how long a peer that owes answers may be silent before it
	// is sent a ping, and how often that is looked at. Default 250 ms.
	PingInterval time.Duration
	// PingTimeout is how long it may then stay silent before it counts as dead.
	// Default 1 s.
	PingTimeout time.Duration
	// IdleTimeout is after how long without questions a connection is closed.
	// Default 90 s.
	IdleTimeout time.Duration
	// MaxQueued and MaxQueuedBytes bound the questions that wait to be written
	// to one connection. Defaults 4,096 and 64 MiB.
	MaxQueued      int
	MaxQueuedBytes int
	// MaxInFlight bounds the questions of one connection that wait for their
	// answer; the peer may ask for fewer. More wait in the queue. Default 4,096.
	MaxInFlight int
	// MaxPeers bounds the peers that are remembered at once. Default 4,096.
	MaxPeers int
	// Dial connects to host:port; nil uses TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

func (cfg ClientConfig) withDefaults() ClientConfig {
	setDefault(&cfg.DialTimeout, time.Second)
	setDefault(&cfg.PingInterval, 250*time.Millisecond)
	setDefault(&cfg.PingTimeout, time.Second)
	setDefault(&cfg.IdleTimeout, 90*time.Second)
	setDefault(&cfg.MaxQueued, 4096)
	setDefault(&cfg.MaxQueuedBytes, 64<<20)
	setDefault(&cfg.MaxInFlight, 4096)
	setDefault(&cfg.MaxPeers, 4096)
	if cfg.Dial == nil {
		dialer := &net.Dialer{KeepAlive: 15 * time.Second}
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	return cfg
}

func setDefault[T int | time.Duration](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

func validate(self, version string, logger *slog.Logger) error {
	switch {
	case self == "" || len(self) > maxName:
		return fmt.Errorf("peer: Self must be 1 to %d bytes", maxName)
	case len(version) > maxName:
		return fmt.Errorf("peer: Version must be at most %d bytes", maxName)
	case logger == nil:
		return errors.New("peer: Logger is required")
	default:
		return nil
	}
}

// Client asks other nodes. It is safe for use by several goroutines at once.
// Close ends it.
type Client struct {
	cfg     ClientConfig
	secret  secret
	log     *slog.Logger
	metrics *clientMetrics
	plain   *http.Transport
	calls   calls

	ctx    context.Context // ends when Close gives up on what is under way
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // goroutines
	asks   sync.WaitGroup // calls of Ask

	mu      sync.RWMutex
	closed  bool
	remotes map[string]*remote // by address
}

// NewClient returns a client without connections. It fails only where the
// configuration cannot be used.
func NewClient(cfg ClientConfig) (*Client, error) {
	if err := validate(cfg.Self, cfg.Version, cfg.Logger); err != nil {
		return nil, err
	}
	s, err := newSecret(cfg.Secret)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.Secret = nil
	c := &Client{
		cfg:     cfg,
		secret:  s,
		log:     cfg.Logger.With("component", "peer"),
		metrics: newClientMetrics(cfg.Registerer),
		remotes: map[string]*remote{},
	}
	c.plain = &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return cfg.Dial(ctx, address)
		},
		MaxIdleConnsPerHost: plainSlots, IdleConnTimeout: cfg.IdleTimeout,
		MaxResponseHeaderBytes: handshakeLimit, DisableCompression: true,
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.wg.Go(c.watch)
	return c, nil
}

// Ask sends q to the node whose internal port is at address (host:port) and
// waits for its answer, at most until ctx ends; when it ends earlier, the peer
// is told so. The errors are those of this package, wrapped; a context's error
// comes with one of them. Ask opens a connection where there is none, and fails
// at once while the peer is known to refuse them.
func (c *Client) Ask(ctx context.Context, address string, q Question) (Answer, error) {
	began := time.Now()
	r, err := c.enter(address)
	if err != nil {
		return Answer{}, fmt.Errorf("asking %s: %w", address, err)
	}
	defer c.leave(r)
	a, err := c.ask(ctx, r, &q)
	r.observe(&q, a.Status, err, time.Since(began))
	if err != nil {
		return Answer{}, fmt.Errorf("asking %s: %w", address, err)
	}
	return a, nil
}

func (c *Client) ask(ctx context.Context, r *remote, q *Question) (Answer, error) {
	if ctx.Err() != nil {
		return Answer{}, fail(ErrUnreachable, context.Cause(ctx))
	}
	if q.Change != nil && commandField(q.Change.Command) == 0 {
		return Answer{}, fail(ErrUnsupported, fmt.Errorf("command %T", q.Change.Command))
	}
	size := questionSize(q)
	if size > maxQuestion {
		return Answer{}, fail(ErrUnsupported, fmt.Errorf("question of %d bytes, at most %d can be sent", size, maxQuestion))
	}
	l := &r.small
	if size > bulkSize {
		l = &r.bulk
	}
	a, err := l.ask(ctx, q, size)
	if errors.Is(err, errNoStream) {
		return c.askPlain(ctx, r, q, size)
	}
	return a, err
}

// enter returns the remote at address, counted as in use until leave.
func (c *Client) enter(address string) (*remote, error) {
	c.mu.RLock()
	r := c.remotes[address]
	if r != nil && !c.closed {
		c.asks.Add(1)
		r.asks.Add(1)
		c.mu.RUnlock()
		return r, nil
	}
	c.mu.RUnlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fail(ErrUnreachable, ErrClosed)
	}
	r = c.remotes[address]
	if r == nil {
		if len(c.remotes) >= c.cfg.MaxPeers {
			return nil, fail(ErrBusy, fmt.Errorf("%d peers are known already", len(c.remotes)))
		}
		r = newRemote(c, address)
		c.remotes[address] = r
	}
	c.asks.Add(1)
	r.asks.Add(1)
	return r, nil
}

func (c *Client) leave(r *remote) {
	r.asks.Add(-1)
	c.asks.Done()
}

// watch looks at all connections every PingInterval.
func (c *Client) watch() {
	ticker := time.NewTicker(c.cfg.PingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
		for _, r := range c.all() {
			if r.tick() {
				c.forget(r)
			}
		}
	}
}

func (c *Client) all() []*remote {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*remote, 0, len(c.remotes))
	for _, r := range c.remotes {
		out = append(out, r)
	}
	return out
}

// forget drops a remote that has not been used for long, unless it is in use
// again.
func (c *Client) forget(r *remote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.quiet() {
		delete(c.remotes, r.address)
	}
}

// Close ends the client: new questions are refused, those under way may end
// until ctx does, the rest fails with ErrClosed. It returns when all
// goroutines have ended; the error is that of ctx where it cut something off.
// It may be called twice.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()

	done := make(chan struct{})
	go func() {
		c.asks.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("closing peer client: %w", context.Cause(ctx))
	}
	c.cancel(ErrClosed)
	for _, r := range c.all() {
		r.close()
	}
	c.plain.CloseIdleConnections()
	<-done
	c.wg.Wait()
	return err
}
