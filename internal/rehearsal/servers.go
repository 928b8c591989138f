package rehearsal

import (
	"context"
	"errors"
	"sync"

	"catbird/internal/fleet"
)

// launch is what is started in a pod.
type launch struct {
	pod, image string
	variables  map[string]string
}

// processes are what runs in the pods. start is called from any goroutine, for each
// pod one call after another's process has ended.
type processes interface {
	// start starts one, and does not wait for it to work. With an error there is none.
	start(ctx context.Context, l launch) (process, error)
}

// process is one life of a container. Its methods may be called from any goroutine.
type process interface {
	host() string // where it is asked, host:port; "" as long as that is not known
	done() <-chan struct{}
	exitCode() int // after done
	// stop tells it to stop and waits for its end. It kills one that runs when
	// ctx ends. An exit code other than 0 is a *[fleet.ExitError].
	stop(ctx context.Context) error
}

// servers are processes of the server.
type servers struct {
	fleet    *fleet.Fleet
	programs map[string]string // by image; the fleet's own for those that are not there
	env      []string          // what is of this machine, and wins

	mu    sync.Mutex
	first *fleet.Node
}

// start lets the first process of all be ready before another one is started: the
// others are told where it is, which in a cluster they look up when they need it.
func (s *servers) start(ctx context.Context, l launch) (process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != nil {
		select {
		case <-s.first.Ready():
		case <-s.first.Done():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	n, err := s.fleet.Begin(fleet.Launch{Name: l.pod, Program: s.programs[l.image], Env: append(here(l.variables), s.env...)})
	if err != nil {
		return nil, err
	}
	if s.first == nil {
		s.first = n
	}
	return &server{s.fleet, n}, nil
}

type server struct {
	fleet *fleet.Fleet
	node  *fleet.Node
}

func (s *server) host() string          { return s.node.Clients() }
func (s *server) done() <-chan struct{} { return s.node.Done() }

func (s *server) exitCode() int {
	_, _ = s.fleet.Kill(s.node.Name) // it has ended: its name is free for the next
	return s.node.ExitCode()
}

func (s *server) stop(ctx context.Context) error {
	_, err := s.fleet.Stop(ctx, s.node.Name)
	var exit *fleet.ExitError
	if err == nil || errors.As(err, &exit) || ctx.Err() != nil {
		return err
	}
	select {
	case <-s.node.Done(): // before it could be told
		if code := s.exitCode(); code != 0 {
			return &fleet.ExitError{Name: s.node.Name, Code: code}
		}
		return nil
	default:
		return err
	}
}
