package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"catbird/conversation"
)

// ErrNoKey says that a DID has no key that tokens are signed with: there is no
// such DID, its document has none or cannot be read, or it must not be looked
// up.
var ErrNoKey = errors.New("no signing key")

var errClosed = errors.New("resolver is closed")

// The DID methods of the AT Protocol.
const (
	methodPLC = "plc"
	methodWeb = "web"
)

// ResolverConfig is what a DIDResolver needs to know. The zero value is useful.
type ResolverConfig struct {
	// PLCURL is the directory of did:plc; "": https://plc.directory.
	PLCURL string
	// Transport fetches documents; nil is one that connects to public addresses
	// only. Another one gives up that protection.
	Transport http.RoundTripper

	// CacheSize is how many keys are remembered; 0: 50,000. A quarter as many
	// DIDs without one are remembered beside, so that they crowd out no key.
	CacheSize int
	// TTL is how long a key is used before its document is looked at again; 0:
	// 10 minutes. While that fails, the key is used for up to six times as long.
	TTL time.Duration
	// NegativeTTL is how long it is remembered that there is no key; 0: 30 s.
	NegativeTTL time.Duration
	// RefreshInterval is how soon after a look at a document another one may be
	// forced by a signature that does not match; 0: 30 s.
	RefreshInterval time.Duration
	// Timeout bounds one look at a document; 0: 5 s.
	Timeout time.Duration
	// Concurrency is how many documents may be on their way, per DID method, so
	// that slow hosts of some hold up no others; 0: 32.
	Concurrency int

	Clock      func() time.Time      // nil: time.Now
	Registerer prometheus.Registerer // nil: figures go nowhere
	Logger     *slog.Logger          // nil: slog.Default()
}

// How long keys are used while their document cannot be fetched, in TTLs, and
// how long such a failure keeps the next try away.
const (
	staleTTLs  = 6
	failureTTL = 3 * time.Second
)

// Forced looks at documents, all DIDs together.
const (
	refreshRate  = 20 // per second
	refreshBurst = 50
)

// DIDResolver looks up keys in DID documents, remembers them, and asks for each
// document once at a time, however many want it. It is safe for use by several
// goroutines at once. Close it.
type DIDResolver struct {
	config    ResolverConfig
	directory identity.BaseDirectory
	forced    *rate.Limiter
	metrics   *resolverMetrics
	log       *slog.Logger

	life context.Context // ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup // of the flights

	mu      sync.Mutex
	closed  bool
	keys    *simplelru.LRU[string, known]
	absent  *simplelru.LRU[string, known] // those with err set
	flights map[string]*flight
	flying  map[string]int // by method
}

var _ Resolver = (*DIDResolver)(nil)

// known is what the last look at a document gave.
type known struct {
	key   atcrypto.PublicKey
	err   error     // set where key is nil
	at    time.Time // of the look that found key, or failed
	until time.Time // when it is due to look again
}

// flight is a look at a document that is under way.
type flight struct {
	done chan struct{} // closed when known is set
	known
}

// NewResolver returns a DIDResolver.
func NewResolver(c ResolverConfig) *DIDResolver {
	c = c.withDefaults()
	r := &DIDResolver{
		config:  c,
		forced:  rate.NewLimiter(refreshRate, refreshBurst),
		metrics: newResolverMetrics(c.Registerer),
		log:     c.Logger.With("component", "auth"),
		keys:    newLRU[string, known](c.CacheSize),
		absent:  newLRU[string, known](c.CacheSize / 4),
		flights: map[string]*flight{},
		flying:  map[string]int{},
	}
	r.life, r.end = context.WithCancel(context.Background())
	r.directory = identity.BaseDirectory{
		PLCURL:                 c.PLCURL,
		SkipHandleVerification: true,
		UserAgent:              "catbird",
		HTTPClient: http.Client{
			Transport:     documentTransport{c.Transport},
			Timeout:       c.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return r
}

func (c ResolverConfig) withDefaults() ResolverConfig {
	setDefault(&c.CacheSize, 50_000)
	setDefault(&c.TTL, 10*time.Minute)
	setDefault(&c.NegativeTTL, 30*time.Second)
	setDefault(&c.RefreshInterval, 30*time.Second)
	setDefault(&c.Timeout, 5*time.Second)
	setDefault(&c.Concurrency, 32)
	if c.Transport == nil {
		c.Transport = publicTransport()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Close ends all looks that are under way and waits for them. Later calls of
// Key fail. It may be called twice.
func (r *DIDResolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
	r.directory.HTTPClient.CloseIdleConnections()
}

// Key implements [Resolver]. Beside ErrNoKey it returns Overloaded when too
// many documents are on their way.
func (r *DIDResolver) Key(ctx context.Context, did string) (atcrypto.PublicKey, error) {
	return r.get(ctx, did, func(k known, now time.Time) bool { return now.Before(k.until) })
}

// Refresh implements [Resolver].
func (r *DIDResolver) Refresh(ctx context.Context, did string) (atcrypto.PublicKey, error) {
	return r.get(ctx, did, func(k known, now time.Time) bool {
		return now.Sub(k.at) < r.config.RefreshInterval || !r.forced.AllowN(now, 1)
	})
}

// get returns what is known of did if that is good enough, and else what a look
// at its document gives.
func (r *DIDResolver) get(ctx context.Context, did string, enough func(known, time.Time) bool) (atcrypto.PublicKey, error) {
	parsed, err := syntax.ParseDID(did)
	if err != nil || !resolvable(parsed) {
		return nil, fmt.Errorf("%q is none of did:plc and did:web: %w", did, ErrNoKey)
	}
	r.mu.Lock()
	k, ok := r.keys.Get(did)
	if !ok {
		k, ok = r.absent.Get(did)
	}
	if ok && enough(k, r.config.Clock()) {
		r.mu.Unlock()
		r.metrics.hits.Inc()
		return k.key, k.err
	}
	f, err := r.flyLocked(parsed, k)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-f.done:
		return f.key, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// plcLength is how long the part of a did:plc after its method is, in the
// characters of base32.
const plcLength = 24

// resolvable reports whether did is of a method that is looked up, and may be
// one at all: anybody can make up DIDs, and each costs the directory a request.
func resolvable(did syntax.DID) bool {
	switch did.Method() {
	case methodWeb:
		return true
	case methodPLC:
		id := did.Identifier()
		return len(id) == plcLength && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
	default:
		return false
	}
}

// keepLocked remembers what a look gave.
func (r *DIDResolver) keepLocked(did string, k known) {
	if k.err != nil {
		r.keys.Remove(did)
		r.absent.Add(did, k)
		return
	}
	r.absent.Remove(did)
	r.keys.Add(did, k)
}

// flyLocked returns the look at did's document that is under way, or starts
// one. It does not end with those who wait for it: others may want it too.
func (r *DIDResolver) flyLocked(did syntax.DID, before known) (*flight, error) {
	if f, ok := r.flights[string(did)]; ok {
		return f, nil
	}
	method := did.Method()
	switch {
	case r.closed:
		return nil, errClosed
	case r.flying[method] >= r.config.Concurrency:
		return nil, conversation.Refuse(conversation.Overloaded, "too many issuers of tokens are being looked up")
	}
	f := &flight{done: make(chan struct{})}
	r.flights[string(did)] = f
	r.flying[method]++
	r.wg.Go(func() {
		f.known = r.look(did, before)
		r.mu.Lock()
		r.keepLocked(string(did), f.known)
		delete(r.flights, string(did))
		r.flying[method]--
		r.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

// look fetches did's document and returns what is to be remembered of it.
func (r *DIDResolver) look(did syntax.DID, before known) known {
	ctx, cancel := context.WithTimeout(r.life, r.config.Timeout)
	defer cancel()
	start := r.config.Clock()
	key, err := r.fetch(ctx, did)
	now := r.config.Clock()
	r.metrics.count(did.Method(), err, now.Sub(start))
	switch {
	case err == nil:
		return known{key: key, at: now, until: now.Add(r.config.TTL)}
	case errors.Is(err, ErrNoKey):
		return known{err: err, at: now, until: now.Add(r.config.NegativeTTL)}
	case before.key != nil && now.Sub(before.at) < staleTTLs*r.config.TTL:
		r.log.Warn("cannot look up a DID; its last key stays in use", "did", did, "error", err)
		before.until = now.Add(failureTTL)
		return before
	default:
		return known{err: err, at: now, until: now.Add(failureTTL)}
	}
}

// fetch returns the key in did's document. The document is whatever its host
// says; a panic in reading it is that document's fault.
func (r *DIDResolver) fetch(ctx context.Context, did syntax.DID) (key atcrypto.PublicKey, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("reading a DID document panicked", "did", did, "panic", p)
			key, err = nil, fmt.Errorf("document of %s cannot be read: %w", did, ErrNoKey)
		}
	}()
	doc, err := r.directory.ResolveDID(ctx, did)
	if err != nil {
		if final(err) {
			return nil, fmt.Errorf("resolve %s: %w: %w", did, ErrNoKey, err)
		}
		return nil, fmt.Errorf("resolve %s: %w", did, err)
	}
	ident := identity.ParseIdentity(doc)
	key, err = ident.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w: %w", did, ErrNoKey, err)
	}
	return key, nil
}

// final reports whether trying again would give the same.
func final(err error) bool {
	var syntaxError *json.SyntaxError
	var typeError *json.UnmarshalTypeError
	switch {
	case errors.Is(err, errNotPublic), errors.Is(err, errNotHTTPS), errors.Is(err, errTooLong):
		return true
	case errors.As(err, &syntaxError), errors.As(err, &typeError):
		return true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	default:
		return !errors.Is(err, identity.ErrDIDResolutionFailed)
	}
}
