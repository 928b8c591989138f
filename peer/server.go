package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/conversation"
)

// ServerConfig is what a Server needs. Handler, Secret, Self and Logger are
// required; zero limits stand for their defaults.
type ServerConfig struct {
	Handler Handler
	Secret  []byte // the cluster's
	Self    string // this node's name, at most 255 bytes
	Version string // of this software, for logs at the other side; at most 255 bytes
	Logger  *slog.Logger
	// Registerer takes the metrics; nil keeps them private.
	Registerer prometheus.Registerer

	// HandshakeTimeout is how long a client may take to prove that its hello is
	// no copy. Default 5 s.
	HandshakeTimeout time.Duration
	// IdleTimeout is after how long without a byte from the client a stream is
	// closed; clients close theirs earlier. Default 5 min.
	IdleTimeout time.Duration
	// WriteTimeout bounds each write to a client. Default 10 s.
	WriteTimeout time.Duration
	// MaxWait bounds the time that a question may take, whatever the client
	// says. Default 60 s.
	MaxWait time.Duration
	// MaxStreams bounds the streams of all clients together. Default 8,192.
	MaxStreams int
	// MaxInFlight is how many questions of one stream may be under way at once;
	// clients are told so. Default 4,096.
	MaxInFlight int
	// MaxBytes bounds the questions under way of all clients together, in bytes;
	// above it they are told that this node is busy. Default 256 MiB.
	MaxBytes int
}

func (cfg ServerConfig) withDefaults() ServerConfig {
	setDefault(&cfg.HandshakeTimeout, 5*time.Second)
	setDefault(&cfg.IdleTimeout, 5*time.Minute)
	setDefault(&cfg.WriteTimeout, 10*time.Second)
	setDefault(&cfg.MaxWait, time.Minute)
	setDefault(&cfg.MaxStreams, 8192)
	setDefault(&cfg.MaxInFlight, 4096)
	setDefault(&cfg.MaxBytes, 256<<20)
	return cfg
}

// Server answers other nodes. It is an http.Handler to be mounted at [Prefix]
// on the internal port; what wraps the http.ResponseWriter on the way must have
// an Unwrap method, since streams take the connection over. All methods may be
// called from any goroutine. Stop ends it.
type Server struct {
	cfg     ServerConfig
	secret  secret
	log     *slog.Logger
	metrics *serverMetrics
	version uint64 // of the stream

	draining atomic.Bool
	bytes    atomic.Int64 // of questions under way
	warned   atomic.Int64 // second of the last warning about a handshake
	ctx      context.Context
	cancel   context.CancelCauseFunc
	pool     *pool
	wg       sync.WaitGroup // streams and plain requests

	mu       sync.Mutex
	stopping bool
	streams  map[*serverStream]struct{}
	seen     helloGuard
	sessions plainSessions
}

// NewServer returns a server that answers at once. It fails only where the
// configuration cannot be used.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := validate(cfg.Self, cfg.Version, cfg.Logger); err != nil {
		return nil, err
	}
	if cfg.Handler == nil {
		return nil, errors.New("peer: Handler is required")
	}
	secret, err := newSecret(cfg.Secret)
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	cfg.Secret = nil
	s := &Server{
		cfg:     cfg,
		secret:  secret,
		log:     cfg.Logger.With("component", "peer"),
		metrics: newServerMetrics(cfg.Registerer),
		version: streamVersion,
		pool:    newPool(),
		streams: map[*serverStream]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s, nil
}

// SetDraining sets what answers say of this node in their Draining.
func (s *Server) SetDraining(draining bool) { s.draining.Store(draining) }

// Stop takes no more streams and tells the clients of those there are to ask
// elsewhere. Whatever they have sent before they heard it is served, and the
// answers are delivered, until ctx ends; then the rest is cut off, and its
// Serve's contexts end. Stop returns when all goroutines have ended; the error
// is that of ctx where it cut something off. It may be called twice. An
// http.Server's Shutdown does not wait for streams, so Stop comes before it.
func (s *Server) Stop(ctx context.Context) error {
	s.draining.Store(true)
	s.mu.Lock()
	s.stopping = true
	for st := range s.streams {
		st.goAway()
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("stopping peer server: %w", context.Cause(ctx))
	}
	s.cancel(errStopping)
	<-done
	s.pool.stop()
	return err
}

// Abandon stops as the end of the process would: the streams break, with no word
// to their clients, and the contexts of what is served end. It returns when all
// goroutines have ended. Stop does nothing afterwards.
func (s *Server) Abandon() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel(errStopping)
	s.wg.Wait()
	s.pool.stop()
}

// ServeHTTP serves the internal paths below [Prefix]. Who does not know the
// cluster's secret gets 401 for each of them.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && r.URL.Path == askPath {
		s.serveAsk(w, r)
		return
	}
	h, raw, ok := s.authenticate(w, r)
	if !ok {
		return
	}
	switch r.Method + " " + r.URL.Path {
	case http.MethodGet + " " + streamPath:
		s.serveStream(w, r, h, raw)
	case http.MethodPost + " " + helloPath:
		s.serveHello(w, h, raw)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// authenticate reads the client's hello, or answers 401.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (h hello, raw []byte, ok bool) {
	h, raw, err := s.secret.readOffer(r.Header.Get("Authorization"))
	reason := refusedSecret
	if err == nil && !s.first(h.key) {
		reason, err = refusedReplay, errUnauthorized
	}
	if err != nil {
		s.metrics.refused[reason].Inc()
		if now := time.Now().Unix(); s.warned.Swap(now) != now { // anybody can make us say this
			s.log.Warn("refused a peer's handshake", "remote", r.RemoteAddr, "reason", reason)
		}
		unauthorized(w, r)
		return hello{}, nil, false
	}
	return h, raw, true
}

func (s *Server) first(key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.first(string(key))
}

func unauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", authScheme)
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
		// What a stranger does not send is not waited for; net/http would.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
	}
	w.WriteHeader(http.StatusUnauthorized)
}

// refuse answers an authenticated client.
func (s *Server) refuse(w http.ResponseWriter, status int, reason string) {
	s.metrics.refused[reason].Inc()
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
}

func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, client hello, raw []byte) {
	version := commonVersion(client.versions, s.version)
	if version == 0 || r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), upgradeName) {
		w.Header().Set("Upgrade", upgradeName)
		s.refuse(w, http.StatusUpgradeRequired, refusedVersion)
		return
	}
	header, k, err := s.secret.answer(s.hello(version), client, raw)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, refusedVersion)
		return
	}
	st := newServerStream(s, client)
	if status, reason := s.admit(st); status != 0 {
		s.refuse(w, status, reason)
		return
	}
	defer s.leave(st)
	if err := st.hijack(w, header, k); err != nil {
		s.log.Warn("cannot take over a peer's connection", "peer", client.node, "error", err)
		return
	}
	st.run()
}

func (s *Server) hello(version uint64) hello {
	return hello{
		versions: []uint64{version}, node: s.cfg.Self, software: s.cfg.Version, window: uint64(s.cfg.MaxInFlight),
	}
}

// admit registers a stream, or returns the status to refuse it with.
func (s *Server) admit(st *serverStream) (status int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return http.StatusServiceUnavailable, refusedStop
	case len(s.streams) >= s.cfg.MaxStreams:
		return http.StatusServiceUnavailable, refusedFull
	}
	s.streams[st] = struct{}{}
	s.wg.Add(1)
	s.metrics.streams.Inc()
	return 0, ""
}

func (s *Server) leave(st *serverStream) {
	st.cancel(nil)
	s.mu.Lock()
	delete(s.streams, st)
	s.mu.Unlock()
	s.metrics.streams.Dec()
	s.wg.Done()
}

// reserve takes n bytes of what questions under way may take; release gives
// them back.
func (s *Server) reserve(n int) bool {
	if s.bytes.Add(int64(n)) > int64(s.cfg.MaxBytes) {
		s.release(n)
		return false
	}
	return true
}

func (s *Server) release(n int) { s.bytes.Add(-int64(n)) }

// finish makes an answer fit to be sent.
func (s *Server) finish(convo string, change bool, a *Answer) {
	if a.Status < Served || a.Status > statusUnsupported || a.Status == Refused && a.Refusal == nil {
		s.log.Error("handler gave no proper answer", "convo", convo, "status", uint8(a.Status))
		*a = internalError()
	}
	a.Draining = a.Draining || s.draining.Load()
	s.metrics.served(change, a.Status)
}

// serve calls the handler.
func (s *Server) serve(ctx context.Context, q *Question) (a Answer) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", "convo", q.Subject(), "request_id", q.RequestID, "panic", p, "stack", string(debug.Stack()))
			a = internalError()
			if q.Change != nil { // it may have been done
				a.Refusal = conversation.Refuse(conversation.OutcomeUnknown, "contact with the owner was lost while the change was being stored")
			}
		}
	}()
	return s.cfg.Handler.Serve(ctx, *q)
}

// tryEpoch calls the handler; ok is false where the question must wait.
func (s *Server) tryEpoch(convo, caller string) (a Answer, ok bool) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("handler panicked", "convo", convo, "panic", p, "stack", string(debug.Stack()))
			a, ok = internalError(), true
		}
	}()
	epoch, ok, err := s.cfg.Handler.TryEpoch(convo, caller)
	if !ok {
		return Answer{}, false
	}
	if err == nil {
		return Answer{Status: Served, Epoch: epoch}, true
	}
	var refusal *conversation.Error
	if !errors.As(err, &refusal) {
		s.log.Error("handler failed", "convo", convo, "error", err)
		return internalError(), true
	}
	return Answer{Status: Refused, Refusal: refusal}, true
}

func internalError() Answer {
	return Answer{Status: Refused, Refusal: conversation.Refuse(conversation.InternalServerError, "an internal error occurred")}
}
