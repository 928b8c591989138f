package router

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"catbird/conversation"
)

// call is one request on its way through the API. It belongs to the goroutine
// that serves the request.
type call struct {
	ctx      context.Context // below trail; ends with the request's deadline, or with the client
	cancel   context.CancelFunc
	endpoint *endpoint
	request  *http.Request
	writer   gin.ResponseWriter
	trail    trail  // holds the request's id
	convo    string // the conversation that the request is about, once it is known
	caller   string // "" before the token is verified
	start    time.Time
	bodyRead bool  // the body has been waited for
	changing bool  // the endpoint may be changing something by now
	held     int64 // bytes, of the router's bound
	status   int   // of the answer; 499 when the client had gone
	err      error // what was answered with an error
	name     conversation.Code
}

// handler serves e.
func (rt *Router) handler(e *endpoint) gin.HandlerFunc {
	figures := rt.metrics.of(e.op)
	return func(g *gin.Context) {
		c := &call{endpoint: e, request: g.Request, writer: g.Writer, start: rt.config.Clock()}
		rt.startTrail(c)
		h := g.Writer.Header()
		h[headerRequestID] = []string{c.trail.id}
		rt.askToClose(h)
		defer rt.finish(c, figures)
		c.startTime(rt.config.RequestTimeout)
		defer func() { c.cancel() }()
		if !rt.inFlight.enter() {
			rt.refuse(c, conversation.Refuse(conversation.Overloaded, "too many requests are in work"))
			return
		}
		defer rt.inFlight.leave(c)
		out, err := rt.serve(c)
		if err != nil {
			rt.refuse(c, err)
			return
		}
		rt.answer(c, out)
	}
}

// startTime gives the call so much time from now on.
func (c *call) startTime(limit time.Duration) {
	if c.cancel != nil {
		c.cancel()
	}
	c.ctx, c.cancel = context.WithTimeout(&c.trail, limit)
}

// serve carries out the call. The order is the API's: the token first, then the
// form of the input, then the rest.
func (rt *Router) serve(c *call) (any, error) {
	if c.endpoint.name == "" {
		return c.endpoint.serve(rt, c)
	}
	token, err := bearer(c.request.Header)
	if err != nil {
		return nil, err
	}
	if c.caller, err = rt.config.Verifier.Verify(c.ctx, token, c.endpoint.nsid()); err != nil {
		return nil, err
	}
	if err := rt.limitRate(c); err != nil {
		return nil, err
	}
	return c.endpoint.serve(rt, c)
}

// bearer returns the token of a request, "" for none.
func bearer(h http.Header) (string, error) {
	values := h["Authorization"]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", conversation.Refuse(conversation.InvalidToken, "the request has several Authorization headers")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", conversation.Refuse(conversation.AuthenticationRequired, "the request needs a bearer token")
	}
	return strings.TrimSpace(token), nil
}

// finish answers for a panic and says what became of the call.
func (rt *Router) finish(c *call, figures *figures) {
	defer c.endSpan()
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler {
			panic(p) // the server's own way to drop a connection
		}
		rt.log.Error("request panicked", "request_id", c.trail.id, "op", c.endpoint.op, "panic", p, "stack", string(debug.Stack()))
		rt.refuse(c, errPanic)
	}
	took := rt.config.Clock().Sub(c.start)
	figures.observe(c.status, took)
	if rt.log.Enabled(c.request.Context(), slog.LevelInfo) {
		rt.logCall(c, took)
	}
}

const maxLoggedPath = 256

func (rt *Router) logCall(c *call, took time.Duration) {
	path := c.request.URL.Path
	if len(path) > maxLoggedPath {
		path = path[:maxLoggedPath]
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("method", c.request.Method), slog.String("path", path), slog.Int("status", c.status),
		slog.Float64("request_duration", took.Seconds()), slog.String("request_id", c.trail.id),
		slog.String("op", string(c.endpoint.op)), slog.String("did", c.caller))
	if c.err != nil {
		attrs = append(attrs, slog.String("error", string(c.name)))
		if c.status >= 500 {
			attrs = append(attrs, slog.String("cause", c.err.Error()))
		}
	}
	if id := c.traceID(); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	rt.log.LogAttrs(c.request.Context(), slog.LevelInfo, "request", attrs...)
}
