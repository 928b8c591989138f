package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
	"catbird/internal/auth"
	"catbird/persistence"
)

// Delivery changes conversations, wherever their actor lives. Its methods block
// until there is an answer or ctx is done, and may be called from any number of
// goroutines at once. They return an *[conversation.Error] for what a client is
// to be told, OutcomeUnknown included.
type Delivery interface {
	// Do carries out r.
	Do(ctx context.Context, r *conversation.Request) (conversation.Result, error)
	// Epoch returns the epoch that convo is at, for a member of it.
	Epoch(ctx context.Context, convo, caller string) (int64, error)
}

// Store is what the API reads and writes without regard to where a
// conversation lives; see [persistence.Store] for the methods' contracts.
type Store interface {
	Messages(ctx context.Context, q persistence.MessagesQuery) (persistence.MessagesPage, error)
	ResetUnread(ctx context.Context, convo, caller string, seq int64) error
	Commits(ctx context.Context, q persistence.CommitsQuery) (persistence.CommitsPage, error)
	Convos(ctx context.Context, q persistence.ConvosQuery) (persistence.ConvosPage, error)
	Welcome(ctx context.Context, convo, caller string) (persistence.WelcomeView, error)
	ConfirmWelcome(ctx context.Context, convo, caller string, success bool) error
	Create(ctx context.Context, c persistence.CreateRequest) (response []byte, repeated bool, err error)
	PublishKeyPackage(ctx context.Context, r *conversation.Request, k persistence.KeyPackage, max int) error
	FindKeyPackages(ctx context.Context, q persistence.KeyPackagesQuery) ([]persistence.KeyPackage, error)
	Lookup(ctx context.Context, convos []string, refs []persistence.Ref) ([]*conversation.Earlier, error)
}

// Verifier says who is asking. Verify returns an *[conversation.Error] for a
// token that does not allow a call of the method nsid.
type Verifier interface {
	Verify(ctx context.Context, token, nsid string) (caller string, err error)
}

// Config is what a Router needs. Delivery, Store and Verifier must be set.
type Config struct {
	Delivery Delivery
	Store    Store
	Verifier Verifier
	// Policy is applied to new conversations; the zero value is
	// [conversation.DefaultPolicy].
	Policy conversation.Policy

	// RequestTimeout is how long a request may take after its body has come in,
	// and how long its body may take; 0: 30 s.
	RequestTimeout time.Duration
	// MaxInFlight is how many requests may be in work at once (0: 2,048), and
	// MaxInFlightBytes how many bytes of bodies and answers they may hold
	// together (0: 512 MiB, at least 64 MiB). One more is told Overloaded.
	MaxInFlight      int
	MaxInFlightBytes int64
	// RateLimit is how many requests per second one account may make, RateBurst
	// how many of them at once (0: twice the rate); 0 is no limit.
	RateLimit float64
	RateBurst int

	// Draining says that clients are to leave: answers ask them to close the
	// connection. Nil: never.
	Draining func() bool
	// Reading is called before getMessages reads a conversation from the store,
	// which no Delivery sees. Nil: nobody is told.
	Reading func(ctx context.Context, op conversation.Op, convo string)

	// TracerProvider makes a span of every request; nil: there are none.
	TracerProvider trace.TracerProvider

	Clock      func() time.Time      // nil: time.Now
	Registerer prometheus.Registerer // nil: figures go nowhere
	Logger     *slog.Logger          // nil: slog.Default()
}

const (
	defaultTimeout      = 30 * time.Second
	defaultInFlight     = 2048
	defaultInFlightSize = 512 << 20
	minInFlightSize     = 64 << 20
)

// Router is the clients' API. Its handler is safe for use by several goroutines
// at once.
type Router struct {
	config   Config
	engine   *gin.Engine
	inFlight inFlight
	limiter  *auth.Limiter // nil: no limit
	metrics  *metrics
	ids      requestIDs
	tracer   trace.Tracer // nil: there are no spans
	log      *slog.Logger
}

// New returns a Router for c. It fails when c lacks a part or is impossible.
func New(c Config) (*Router, error) {
	if c.Delivery == nil || c.Store == nil || c.Verifier == nil {
		return nil, errors.New("the API needs a Delivery, a Store and a Verifier")
	}
	if c.MaxInFlightBytes != 0 && c.MaxInFlightBytes < minInFlightSize {
		return nil, fmt.Errorf("MaxInFlightBytes is %d, less than %d: no two large requests would fit", c.MaxInFlightBytes, minInFlightSize)
	}
	c.setDefaults()
	rt := &Router{
		config:   c,
		inFlight: inFlight{maxRequests: int64(c.MaxInFlight), maxBytes: c.MaxInFlightBytes},
		limiter:  auth.NewLimiter(c.RateLimit, c.RateBurst, c.Clock),
		ids:      newRequestIDs(),
		log:      c.Logger.With("component", "router"),
	}
	if c.TracerProvider != nil {
		rt.tracer = c.TracerProvider.Tracer("catbird/router")
	}
	table := endpoints()
	rt.metrics = newMetrics(c.Registerer, table, &rt.inFlight)
	gin.SetMode(gin.ReleaseMode)
	rt.engine = gin.New()
	rt.engine.HandleMethodNotAllowed = true
	rt.engine.RedirectTrailingSlash = false
	rt.engine.ForwardedByClientIP = false
	for i := range table {
		e := &table[i]
		rt.engine.Handle(e.method, "/xrpc/"+e.nsid(), rt.handler(e))
	}
	rt.engine.NoRoute(rt.handler(&unknownMethod))
	rt.engine.NoMethod(rt.handler(&wrongVerb))
	return rt, nil
}

func (c *Config) setDefaults() {
	if c.Policy == (conversation.Policy{}) {
		c.Policy = conversation.DefaultPolicy()
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = defaultTimeout
	}
	if c.MaxInFlight <= 0 {
		c.MaxInFlight = defaultInFlight
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = defaultInFlightSize
	}
	if c.Draining == nil {
		c.Draining = func() bool { return false }
	}
	if c.Reading == nil {
		c.Reading = func(context.Context, conversation.Op, string) {}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

// Handler returns the API and what was mounted beside it.
func (rt *Router) Handler() http.Handler { return rt.engine }

// Mount serves path with h, beside the API and without its token, bounds and
// figures: for /health and /metrics. Call it before the handler is in use.
func (rt *Router) Mount(method, path string, h http.Handler) {
	rt.engine.Handle(method, path, func(g *gin.Context) {
		rt.askToClose(g.Writer.Header())
		h.ServeHTTP(g.Writer, g.Request)
	})
}

// askToClose tells the client to take its next request elsewhere.
func (rt *Router) askToClose(h http.Header) {
	if rt.config.Draining() {
		h["Connection"] = connectionClose
	}
}

// now is the time of a change: in UTC, to the microsecond, which is what
// databases keep.
func (rt *Router) now() time.Time { return rt.config.Clock().UTC().Truncate(time.Microsecond) }
