package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
)

// Actors is what delivery asks of the actors in this process.
type Actors interface {
	Do(ctx context.Context, r *conversation.Request) (conversation.Result, error)
	Epoch(convo, caller string) (epoch int64, member, ok bool)
	Load(ctx context.Context, convo string) error
	Has(convo string) bool
	Release(ctx context.Context, convo string) error
	ReleaseAll(ctx context.Context, which func(convo string) bool) error
	ReleaseSome(ctx context.Context, convos []string) error
	Each(f func(convo string))
}

// Store is what delivery asks of the database.
type Store interface {
	Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error)
	Epoch(ctx context.Context, convo, caller string) (int64, error)
	Want(ctx context.Context, holderSession, convo string) error
}

// Config is what a Service needs. All but Registerer and what may be nil are
// required.
type Config struct {
	Store  Store
	Policy conversation.Policy
	Flags  Flags
	// Session returns the id of this node's session, "" while there is none.
	Session func() string
	// Trusted reports whether memory that was loaded under that session may be
	// believed: otherwise the database has not been heard of for a while. nil: always.
	Trusted func() bool
	// Renewed reports whether another session was seen to renew after since;
	// nil takes every session for a living one.
	Renewed func(session string, since time.Time) bool
	Logger  *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
	// Cluster leads to other nodes; nil for a node that knows of none.
	Cluster Cluster
	// Peers asks them; nil with Cluster.
	Peers Peers
	// Trail returns the request id and the W3C traceparent of the request that
	// ctx belongs to; nil where there are none.
	Trail func(ctx context.Context) (requestID, traceparent string)
	// TracerProvider makes a span of every attempt at a request; nil: there are
	// none.
	TracerProvider trace.TracerProvider
	// Actors are this process's actors. They ask Keeps, which is why they are
	// made after the service: see [Service.Use].
	Actors Actors
}

// Service delivers changes to conversations, wherever they are served. All
// methods may be called at once from any goroutine.
type Service struct {
	cfg     Config
	log     *slog.Logger
	flags   atomic.Pointer[Flags]
	apart   apart
	hints   hints
	metrics *serviceMetrics
	tracer  trace.Tracer // nil: there are no spans
}

// New returns a service. Before its first request, Use gives it the actors.
func New(cfg Config) *Service {
	if cfg.Cluster == nil {
		cfg.Cluster = alone{}
	}
	if cfg.Trusted == nil {
		cfg.Trusted = func() bool { return true }
	}
	if cfg.Renewed == nil {
		cfg.Renewed = func(string, time.Time) bool { return true }
	}
	s := &Service{cfg: cfg, log: cfg.Logger.With("component", "delivery")}
	s.flags.Store(&cfg.Flags)
	s.metrics = newServiceMetrics(cfg.Registerer)
	if cfg.TracerProvider != nil {
		s.tracer = cfg.TracerProvider.Tracer("catbird/delivery")
	}
	return s
}

// Use sets the actors. It is for the one who puts the parts together: actors
// ask the service whether to stay in memory, and the service asks the actors.
func (s *Service) Use(a Actors) { s.cfg.Actors = a }

// Keeps reports whether an actor of convo stays in memory once it is idle.
func (s *Service) Keeps(convo string) bool { return s.keeps(convo) }

// Let takes what others want of this node (rule 18): it lets go of those
// conversations and serves them directly for a minute.
func (s *Service) Let(ctx context.Context, convos []string) {
	for _, convo := range convos { // all at once: letting go of one may take a while
		s.apart.add(convo)
		s.metrics.wants.WithLabelValues("granted").Inc()
	}
	for _, convo := range convos {
		s.log.Info("another server wants a conversation: letting go of it", "convo", convo)
		if err := s.cfg.Actors.Release(ctx, convo); err != nil {
			s.log.Warn("conversation not let go of", "convo", convo, "error", err)
		}
	}
}

// Do runs r to its end: through the conversation's actor or directly. It asks
// again while the conversation is on the move, until ctx ends.
//
// Errors are *conversation.Error for what a client is to be told, among them
// OutcomeUnknown when contact was lost while the change was being stored, or
// the cause of ctx when nothing was stored.
func (s *Service) Do(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	d := dispatch{s: s, r: *r, pause: firstPause}
	res, err := d.run(ctx)
	if err == nil && s.log.Enabled(ctx, slog.LevelDebug) {
		s.say(ctx, slog.LevelDebug, done(r.Command.Op(), res),
			slog.String("convo", r.Convo), slog.Int64("epoch", res.Epoch), slog.Int64("seq", res.Seq))
	}
	return res, err
}

func done(op conversation.Op, res conversation.Result) string {
	switch op {
	case conversation.OpAddMembers:
		return fmt.Sprintf("Members added, new epoch: %d", res.Epoch)
	case conversation.OpLeave:
		return fmt.Sprintf("Member left, new epoch: %d", res.Epoch)
	case conversation.OpCommit:
		return fmt.Sprintf("Commit stored, new epoch: %d", res.Epoch)
	default:
		return fmt.Sprintf("Message stored, seq: %d", res.Seq)
	}
}

// Note logs and counts which path an operation takes that does not run through
// Do: reads of the log.
func (s *Service) Note(ctx context.Context, op conversation.Op, convo string) {
	s.note(ctx, op, convo, s.keeps(convo))
}

func (s *Service) note(ctx context.Context, op conversation.Op, convo string, actors bool) {
	s.metrics.count(op, actors)
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	path := "Using legacy database approach for "
	if actors {
		path = "Using actor system for "
	}
	s.say(ctx, slog.LevelInfo, path+string(op), slog.String("convo", convo))
}
