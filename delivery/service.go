package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/actor"
	"catbird/conversation"
	"catbird/persistence"
)

// Actors is what delivery asks of the actors in this process.
type Actors interface {
	Do(ctx context.Context, r *conversation.Request) (conversation.Result, error)
	Epoch(convo, caller string) (epoch int64, member, ok bool)
	Load(ctx context.Context, convo string) error
	Release(ctx context.Context, convo string) error
	ReleaseAll(ctx context.Context, which func(convo string) bool) error
}

// Store is what delivery asks of the database.
type Store interface {
	Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error)
	Epoch(ctx context.Context, convo, caller string) (int64, error)
	Want(ctx context.Context, holderSession, convo string) error
}

// Config is what a Service needs. All but Registerer are required.
type Config struct {
	Store  Store
	Policy conversation.Policy
	Flags  Flags
	// Session returns the id of this node's session, "" while there is none.
	Session func() string
	Logger  *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer
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
	metrics *serviceMetrics
}

// New returns a service. Before its first request, Use gives it the actors.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, log: cfg.Logger.With("component", "delivery")}
	s.flags.Store(&cfg.Flags)
	s.metrics = newServiceMetrics(cfg.Registerer)
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
	for _, convo := range convos {
		s.apart.add(convo)
		s.metrics.wants.WithLabelValues("granted").Inc()
		s.log.Info("another server wants a conversation: letting go of it", "convo", convo)
		if err := s.cfg.Actors.Release(ctx, convo); err != nil {
			s.log.Warn("conversation not let go of", "convo", convo, "error", err)
		}
	}
}

// The pauses between attempts for one request.
const (
	firstPause = 2 * time.Millisecond
	maxPause   = 100 * time.Millisecond
	// unknownRetries is how often a change is asked for again after contact was
	// lost, to find out what became of it.
	unknownRetries = 2
)

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
		s.log.Debug(done(r.Command.Op(), res), "convo", r.Convo, "epoch", res.Epoch, "seq", res.Seq)
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

// dispatch is one request on its way.
type dispatch struct {
	s        *Service
	r        conversation.Request
	pause    time.Duration
	unknown  bool // an attempt may have been stored
	unknowns int
	moving   bool // the conversation was on the move
}

func (d *dispatch) run(ctx context.Context) (conversation.Result, error) {
	for {
		res, err := d.attempt(ctx)
		again, err := d.judge(ctx, err)
		if !again {
			return res, err
		}
		if !d.wait(ctx) {
			return conversation.Result{}, d.gaveUp(ctx)
		}
	}
}

// attempt tries once.
func (d *dispatch) attempt(ctx context.Context) (conversation.Result, error) {
	s := d.s
	if s.keeps(d.r.Convo) {
		s.note(d.r.Command.Op(), d.r.Convo, true)
		return s.throughActor(ctx, &d.r)
	}
	s.note(d.r.Command.Op(), d.r.Convo, false)
	own := s.cfg.Session()
	env := conversation.Env{Now: time.Now().UTC().Truncate(time.Microsecond), Policy: s.cfg.Policy}
	res, err := s.cfg.Store.Direct(ctx, own, &d.r, env)
	var held *persistence.HeldError
	if errors.As(err, &held) && own != "" && held.Holder.Session == own {
		return s.throughActor(ctx, &d.r) // one's own claim (rule 14)
	}
	return res, err
}

func (s *Service) throughActor(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.Debug("Sending "+title(r.Command.Op())+" message to actor", "convo", r.Convo)
	}
	return s.cfg.Actors.Do(ctx, r)
}

func title(op conversation.Op) string {
	switch op {
	case conversation.OpAddMembers:
		return "AddMembers"
	case conversation.OpLeave:
		return "LeaveConvo"
	case conversation.OpCommit:
		return "Commit"
	default:
		return "SendMessage"
	}
}

// judge says whether to try again after err, and otherwise what to tell.
func (d *dispatch) judge(ctx context.Context, err error) (again bool, tell error) {
	if err == nil {
		return false, nil
	}
	if errors.Is(err, persistence.ErrOutcomeUnknown) {
		d.unknown, d.r.Retry = true, true
		d.s.metrics.unknown.Inc()
		var held *persistence.HeldError
		if ctx.Err() != nil || (d.unknowns >= unknownRetries && !errors.As(err, &held)) {
			return false, outcomeUnknown()
		}
		d.unknowns++
	}
	var held *persistence.HeldError
	var refusal *conversation.Error
	switch {
	case errors.As(err, &held):
		return true, d.ask(ctx, held.Holder)
	case errors.Is(err, actor.ErrMoving):
		d.moving = true
		return true, nil
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		return true, nil
	case errors.Is(err, actor.ErrClosed):
		return false, d.doubt(conversation.Refuse(conversation.Draining, "this server is stopping"))
	case errors.Is(err, persistence.ErrUnavailable):
		d.s.log.Warn("database unavailable", "error", err)
		return false, d.doubt(conversation.Refuse(conversation.Unavailable, "the database cannot be reached"))
	case errors.As(err, &refusal):
		if refusal.Code == conversation.MailboxFull && d.moving {
			return true, nil // rule 20
		}
		return false, d.doubt(refusal)
	case ctx.Err() != nil:
		return false, d.doubt(context.Cause(ctx))
	default:
		return false, d.doubt(err)
	}
}

// ask asks another server's session, which no network leads to, to let go.
func (d *dispatch) ask(ctx context.Context, h persistence.Holder) error {
	s := d.s
	s.apart.add(d.r.Convo)
	s.metrics.wants.WithLabelValues("asked").Inc()
	if err := s.cfg.Store.Want(ctx, h.Session, d.r.Convo); err != nil {
		s.log.Warn("holder not asked to let go", "convo", d.r.Convo, "holder", h.Node, "error", err)
	}
	return nil
}

// doubt is what may be told after an attempt whose outcome is unknown: only a
// refusal that can never turn (rule 19).
func (d *dispatch) doubt(err error) error {
	if !d.unknown {
		return err
	}
	var refusal *conversation.Error
	if errors.As(err, &refusal) && refusal.Final() {
		return err
	}
	return outcomeUnknown()
}

func outcomeUnknown() error {
	return conversation.Refuse(conversation.OutcomeUnknown, "contact was lost while the change was being stored; the same request with the same idempotencyKey tells what became of it")
}

func (d *dispatch) gaveUp(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return d.doubt(context.Cause(ctx))
	}
	return d.doubt(conversation.Refuse(conversation.Unavailable, "the conversation is on the move between servers; try again"))
}

// wait waits a little longer each time and reports whether there is time left.
func (d *dispatch) wait(ctx context.Context) bool {
	t := time.NewTimer(d.pause)
	defer t.Stop()
	d.pause = min(2*d.pause, maxPause)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Epoch returns the current epoch to a member: from memory where an actor
// serves the conversation here, else from the database.
func (s *Service) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	if !s.keeps(convo) {
		s.note(conversation.OpGetEpoch, convo, false)
		return s.cfg.Store.Epoch(ctx, convo, caller)
	}
	s.note(conversation.OpGetEpoch, convo, true)
	epoch, member, ok := s.cfg.Actors.Epoch(convo, caller)
	if !ok {
		if err := s.cfg.Actors.Load(ctx, convo); err == nil {
			epoch, member, ok = s.cfg.Actors.Epoch(convo, caller)
		}
	}
	switch {
	case !ok: // silent, lapsed, held elsewhere: the database can always tell
		return s.cfg.Store.Epoch(ctx, convo, caller)
	case !member:
		return 0, conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
	default:
		return epoch, nil
	}
}

// Note logs and counts which path an operation takes that does not run through
// Do: reads of the log.
func (s *Service) Note(op conversation.Op, convo string) { s.note(op, convo, s.keeps(convo)) }

func (s *Service) note(op conversation.Op, convo string, actors bool) {
	s.metrics.count(op, actors)
	if !s.log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	if actors {
		s.log.Info("Using actor system for "+string(op), "convo", convo)
	} else {
		s.log.Info("Using legacy database approach for "+string(op), "convo", convo)
	}
}
