package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Bounds that keep slow or silent clients from holding on to a connection.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	answerTimeout  = 3 * time.Minute

	adminConnections = 1024
	adminTimeout     = 15 * time.Minute

	// linger is how long kept-alive connections are still answered after the
	// last new one was accepted, at most: a request that is on its way when an
	// idle connection is closed is lost.
	linger = time.Second
)

// server is one listener and what is served on it.
type server struct {
	name string
	log  *slog.Logger
	http *http.Server
	// handler is what is served. It may be replaced before serve.
	handler http.Handler
	ln      *gate
	raw     net.Listener  // what ln limits
	open    atomic.Int64  // connections
	none    chan struct{} // holds a token when open has fallen to 0
	done    chan error    // Serve's result, once

	closing atomic.Bool // accepting is to end
}

// bounds are those of one listener.
type bounds struct {
	connections int           // open at once; of more, those without a request give way
	read        time.Duration // for a request, its body and what is done with it
	write       time.Duration // from the request's headers to the end of the answer
}

// newServer returns a server on ln. Nothing is served before serve.
func newServer(name string, ln net.Listener, h http.Handler, b bounds, log *slog.Logger) *server {
	s := &server{name: name, log: log, handler: h, ln: newGate(ln, b.connections), raw: ln, none: make(chan struct{}, 1), done: make(chan error, 1)}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serveHTTP), ConnContext: withGated, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ReadTimeout: b.read, WriteTimeout: b.write,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState: s.track,
	}
	return s
}

// serveHTTP serves a request on a connection that does not give way meanwhile,
// and nothing on one that has: nobody would hear the answer.
func (s *server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(gatedKey{}).(*gated); ok && !c.serving() {
		panic(http.ErrAbortHandler) // net/http's own way to end a connection
	}
	if len(r.TransferEncoding) > 0 {
		// It may have had a Content-Length too, which net/http keeps to itself. A
		// proxy that went by that one would take what follows for another request
		// than we do (RFC 9112 section 6.1).
		w.Header()["Connection"] = []string{"close"}
	}
	s.handler.ServeHTTP(w, r)
}

func (s *server) track(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateIdle:
		if c, ok := c.(*gated); ok {
			c.idle()
		}
	case http.StateClosed, http.StateHijacked:
		if s.open.Add(-1) == 0 {
			select {
			case s.none <- struct{}{}:
			default:
			}
		}
	}
}

// serve accepts connections in a goroutine of its own, which shutdown waits
// for. failed is called if accepting ends by itself.
func (s *server) serve(failed func(error)) {
	go func() {
		err := s.http.Serve(s.ln)
		if errors.Is(err, http.ErrServerClosed) || s.closing.Load() {
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("serving the %s port: %w", s.name, err)
			failed(err)
		}
		s.done <- err
	}()
}

// shutdown stops accepting, answers what comes in on open connections for a
// moment more, waits for the open requests, and breaks off those that are not
// done when ctx ends.
func (s *server) shutdown(ctx context.Context) error {
	s.closing.Store(true)
	quench(ctx, s.raw)
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.log.Warn("listener not closed", "listener", s.name, "error", err)
	}
	served := <-s.done
	s.awaitConnections(ctx)
	if err := s.http.Shutdown(ctx); err != nil {
		n := s.open.Load()
		return errors.Join(served, fmt.Errorf("%d connections broken off: %w", n, err), s.http.Close())
	}
	return served
}

// awaitConnections waits until clients have closed their connections, as they
// were told to with every answer, but no longer than linger.
func (s *server) awaitConnections(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	for s.open.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-s.none:
		}
	}
}

func (s *server) addr() string {
	if s == nil {
		return ""
	}
	return s.ln.Addr().String()
}

// clientBounds leave a request its time twice, for its body and for the work,
// and a slow client some to read a large answer.
func (a *App) clientBounds() bounds {
	work := 2*a.cfg.Limits.RequestTimeout + headerTimeout
	return bounds{connections: a.cfg.Limits.MaxConnections, read: work, write: work + answerTimeout}
}

// adminBounds leave room for a look through all the data.
func (a *App) adminBounds() bounds {
	return bounds{connections: adminConnections, read: adminTimeout, write: adminTimeout}
}
