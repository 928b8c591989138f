package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Prefix is what the names of all endpoints begin with.
const Prefix = "blue.catbird.mls."

// Defaults of [Config].
const (
	DefaultAttempts       = 6
	DefaultWait           = 50 * time.Millisecond
	DefaultMaxWait        = 10 * time.Second
	DefaultAttemptTimeout = 30 * time.Second
)

// Config says whom a [Client] talks to, and how.
type Config struct {
	// BaseURLs are the nodes, such as http://127.0.0.1:8080; at least one. A
	// request goes to the next one in turn, its repetitions to those after it.
	BaseURLs []string
	// Token gives the bearer token of every attempt. Required.
	Token TokenSource
	// HTTP makes the requests; nil: a client of this Client's own, see
	// [NewTransport]. Redirects are never followed, whatever it says.
	HTTP *http.Client
	// Attempts is how often a request is made at most; 0: DefaultAttempts,
	// 1: never repeated.
	Attempts int
	// Wait is the first pause before a repetition that the server did not time
	// itself; it doubles up to MaxWait. 0: DefaultWait.
	Wait time.Duration
	// MaxWait bounds every pause. A Retry-After beyond it is not waited for: the
	// refusal is returned. 0: DefaultMaxWait.
	MaxWait time.Duration
	// AttemptTimeout bounds one attempt, so that a frozen node costs no more
	// than that. 0: DefaultAttemptTimeout, negative: only the context bounds it.
	AttemptTimeout time.Duration
	// Observe, if set, is told of every attempt when it has ended. It is called
	// from the goroutine that made the request and must be safe for several at
	// once.
	Observe func(Observation)
}

// TokenSource returns a bearer token for did that is good for one call of the
// endpoint nsid. Servers take a token once unless told otherwise, so it should
// return a new one each time. It may be called by several goroutines at once.
type TokenSource func(did, nsid string) (string, error)

// Observation is what became of one attempt of a request.
type Observation struct {
	Endpoint string // without Prefix
	Node     string // the base URL
	Attempt  int    // 1 for the first
	Status   int    // 0: no answer
	Duration time.Duration
	Err      error // nil: success
}

// Client talks to the nodes of one cluster. It is safe for use by several
// goroutines at once and starts none of its own.
type Client struct {
	cfg  Config
	http *http.Client
	own  *http.Transport // nil where the caller gave an http.Client
	next atomic.Uint32
}

// New checks cfg and returns a Client. It makes no request.
func New(cfg Config) (*Client, error) {
	if len(cfg.BaseURLs) == 0 {
		return nil, errors.New("client: no base URL")
	}
	if cfg.Token == nil {
		return nil, errors.New("client: no token source")
	}
	urls := make([]string, len(cfg.BaseURLs))
	for i, s := range cfg.BaseURLs {
		u, err := baseURL(s)
		if err != nil {
			return nil, fmt.Errorf("client: base URL %d: %w", i+1, err)
		}
		urls[i] = u
	}
	cfg.BaseURLs = urls
	cfg.Attempts = or(cfg.Attempts, DefaultAttempts)
	cfg.Wait = or(cfg.Wait, DefaultWait)
	cfg.MaxWait = or(cfg.MaxWait, DefaultMaxWait)
	cfg.AttemptTimeout = or(cfg.AttemptTimeout, DefaultAttemptTimeout)

	c := &Client{cfg: cfg}
	var base http.Client
	if cfg.HTTP != nil {
		base = *cfg.HTTP
	} else {
		c.own = NewTransport()
		base.Transport = c.own
	}
	// A redirect would take the token along to wherever it leads.
	base.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &base
	return c, nil
}

// NewTransport returns a transport fit for many requests to few nodes: it keeps
// up to 256 idle connections to each and compresses nothing, as ciphertext does
// not compress.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
		DisableCompression:  true,
	}
}

// Close closes connections that are idle, if they are the Client's own. The
// Client stays usable.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// As returns the API as did calls it.
func (c *Client) As(did string) *Caller { return &Caller{c: c, did: did} }

// Caller is the API as one DID calls it. It is safe for use by several
// goroutines at once.
type Caller struct {
	c   *Client
	did string
}

// DID returns whose calls these are.
func (a *Caller) DID() string { return a.did }

// baseURL returns s without a trailing slash. Its errors do not repeat s, which
// may hold a password.
func baseURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("does not parse")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return "", errors.New("must begin with http:// or https:// and name a host")
	case u.User != nil:
		return "", errors.New("must not hold a user name")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("must not have a query or a fragment")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
