package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/singleflight"

	"catbird/conversation"
	"catbird/persistence"
)

// Config is what the API needs. All but Secret are required.
type Config struct {
	Switchboard Switchboard
	Actors      Actors
	Store       Store
	Cluster     Cluster
	// Drain starts to make the node leave, without ending the process. It
	// returns at once and may be called any number of times.
	Drain func()
	// Secret is asked for as a bearer token; "" asks for none.
	Secret string
	Logger *slog.Logger
}

const (
	maxBody        = 64 << 10
	defaultActors  = 100
	maxActors      = 1000
	requestTimeout = 30 * time.Second
	// integrityTimeout is longer: it looks at every row that is asked for.
	integrityTimeout = 10 * time.Minute
	retryAfter       = "1"
)

// API serves the operators' requests. It is an http.Handler, safe for use by
// several goroutines at once.
type API struct {
	cfg    Config
	log    *slog.Logger
	mux    *http.ServeMux
	secret key
	status key // of GET /node alone
	// surveys lets callers at the same time share one look at the other nodes.
	surveys singleflight.Group
	// checking holds a token while somebody looks through the data: one at a
	// time, since it costs the database much.
	checking chan struct{}
}

// New returns the API.
func New(cfg Config) *API {
	a := &API{
		cfg: cfg, log: cfg.Logger.With("component", "operator"), mux: http.NewServeMux(),
		secret: keyOf(cfg.Secret), status: keyOf(StatusToken(cfg.Secret)), checking: make(chan struct{}, 1),
	}
	a.handle("GET /node", a.getNode)
	a.handle("GET /cluster", a.getCluster)
	a.handle("GET /cluster/owner", a.getOwner)
	a.handle("GET /flags", a.getFlags)
	a.handle("PUT /flags", a.putFlags)
	a.handle("GET /actors", a.getActors)
	a.handle("GET /integrity", a.getIntegrity)
	a.handle("GET /conversations/{convoId}", a.getConversation)
	a.handle("POST /drain", a.postDrain)
	a.handle("/", func(*http.Request) (int, any, error) {
		return 0, nil, &apiError{http.StatusNotFound, conversation.MethodNotFound, "there is no such method"}
	})
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			// What a stranger does not send is not waited for; net/http would.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
		}
		a.fail(w, r, &apiError{http.StatusUnauthorized, conversation.AuthenticationRequired, "the cluster's secret is required as a bearer token"})
		return
	}
	a.mux.ServeHTTP(w, r)
}

// handler returns a status and a body, or an error.
type handler func(r *http.Request) (status int, body any, err error)

func (a *API) handle(pattern string, h handler) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		status, body, err := h(r)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		a.write(w, status, body)
	})
}

func (a *API) getFlags(*http.Request) (int, any, error) {
	return http.StatusOK, a.cfg.Switchboard.Flags(), nil
}

func (a *API) putFlags(r *http.Request) (int, any, error) {
	var ask struct {
		ActorSystem    *bool `json:"actorSystem"`
		RolloutPercent *int  `json:"rolloutPercent"`
	}
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields() // a misspelt flag must not pass for a change
	if err := d.Decode(&ask); err != nil {
		return 0, nil, invalid("the body is not {actorSystem: bool, rolloutPercent: int}: %v", err)
	}
	old := a.cfg.Switchboard.Flags()
	f := old
	if ask.ActorSystem != nil {
		f.ActorSystem = *ask.ActorSystem
	}
	if ask.RolloutPercent != nil {
		f.RolloutPercent = *ask.RolloutPercent
	}
	if err := f.Check(); err != nil {
		return 0, nil, invalid("%v", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	if err := a.cfg.Switchboard.SetFlags(ctx, f); err != nil {
		return 0, nil, fmt.Errorf("setting flags: %w", err)
	}
	a.log.Info("flags set", "actor_system", f.ActorSystem, "rollout_percent", f.RolloutPercent,
		"was_actor_system", old.ActorSystem, "was_rollout_percent", old.RolloutPercent)
	return http.StatusOK, a.cfg.Switchboard.Flags(), nil
}

func (a *API) getActors(r *http.Request) (int, any, error) {
	limit := defaultActors
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxActors {
			return 0, nil, invalid("limit: must be 1 to %d", maxActors)
		}
		limit = n
	}
	page, next := a.cfg.Actors.List(limit, r.URL.Query().Get("cursor"))
	if page == nil {
		page = []Actor{}
	}
	return http.StatusOK, ActorsPage{Actors: page, Cursor: next}, nil
}

func (a *API) getIntegrity(r *http.Request) (int, any, error) {
	back, err := ParseSince(r.URL.Query().Get("since"))
	if err != nil {
		return 0, nil, invalid("since: %v", err)
	}
	select {
	case a.checking <- struct{}{}:
		defer func() { <-a.checking }()
	default:
		return 0, nil, &apiError{http.StatusServiceUnavailable, conversation.Overloaded, "another look through the data is running"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), integrityTimeout)
	defer cancel()
	found, err := a.cfg.Store.Integrity(ctx, Since(time.Now(), back))
	if err != nil {
		return 0, nil, fmt.Errorf("looking through the data: %w", err)
	}
	return http.StatusOK, found, nil
}

// Since returns the time that lies back before now, and the zero time, which
// means everything, for 0.
func Since(now time.Time, back time.Duration) time.Time {
	if back == 0 {
		return time.Time{}
	}
	return now.Add(-back).UTC()
}

func (a *API) getConversation(r *http.Request) (int, any, error) {
	id, err := conversation.ParseConvoID(r.PathValue("convoId"))
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	view, err := a.cfg.Store.Overview(ctx, id)
	if err != nil {
		return 0, nil, fmt.Errorf("looking up the conversation: %w", err)
	}
	return http.StatusOK, view, nil
}

func (a *API) postDrain(*http.Request) (int, any, error) {
	a.log.Info("asked to leave")
	a.cfg.Drain()
	return http.StatusAccepted, Drained{Draining: true}, nil
}

func (a *API) write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		a.log.Error("answer does not encode", "error", err)
		http.Error(w, `{"error":"InternalServerError","message":"the answer could not be written"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		a.log.Debug("answer not written", "error", err)
	}
}

// apiError is an error with its own status.
type apiError struct {
	status  int
	code    conversation.Code
	message string
}

func (e *apiError) Error() string { return string(e.code) + ": " + e.message }

func invalid(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, conversation.InvalidRequest, fmt.Sprintf(format, args...)}
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asAPIError(err)
	if e.status == http.StatusInternalServerError {
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	a.write(w, e.status, map[string]string{"error": string(e.code), "message": e.message})
}

func asAPIError(err error) *apiError {
	var own *apiError
	var refused *conversation.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &refused) && refused.Code == conversation.ConvoNotFound:
		return &apiError{http.StatusNotFound, refused.Code, refused.Message}
	case errors.As(err, &refused):
		return &apiError{http.StatusBadRequest, refused.Code, refused.Message}
	case errors.Is(err, persistence.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, conversation.Unavailable, "the database cannot be reached, or is too slow"}
	default:
		return &apiError{http.StatusInternalServerError, conversation.InternalServerError, "a fault of ours; see the node's log"}
	}
}
