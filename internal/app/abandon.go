package app

import (
	"context"
	"errors"
	"time"
)

// hushTimeout is how long an abandoned node waits for its gossip to end.
const hushTimeout = time.Second

// Abandon ends a node as the end of its process would, for tests and for
// showing it: the listeners and all connections close at once, its gossip falls
// silent, and its session is renewed no more. Nothing is handed over, released,
// ended or said to anybody; what others see is that it stands still. What the
// database was asked for before may still be done.
//
// It returns when what ran has ended, or within about a second. Stop does
// nothing afterwards. Not to be called while Start runs.
func (a *App) Abandon() {
	a.gone.Store(true)
	a.stops.muted.Store(true)
	a.state.Store(int32(Gone))
	a.clients.cut()
	a.internal.cut()
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("node is abandoned"))
	if a.fellows != nil {
		a.fellows.abandon(ended)
	}
	select {
	case <-a.ready:
		a.keeper.Abandon()
	default: // the session may be about to begin: endSession sees to it
	}
	a.actors.Abandon()
	_ = a.stops.unwind(ended) // an end without warning has no errors
}

// endSession is the last word of a node in its database, if it has one.
func (a *App) endSession(ctx context.Context) error {
	if a.gone.Load() {
		a.keeper.Abandon()
		return nil
	}
	return a.keeper.Stop(ctx)
}

// abandon breaks all that leads to the other nodes, with no word to them.
func (f *fellows) abandon(ended context.Context) {
	if f.server != nil {
		f.server.Abandon()
	}
	_ = f.client.Close(ended) // breaks its connections, as the context has ended
	_ = f.redis.Close()
	if f.members != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ended), hushTimeout)
		defer cancel()
		_ = f.members.Stop(ctx)
	}
}

// cut closes the listener and all its connections that are not streams.
func (s *server) cut() {
	if s == nil {
		return
	}
	s.closing.Store(true)
	_ = s.http.Close() // what is closed already need not be told
}
