package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/actor"
	"catbird/cluster"
	"catbird/delivery"
	"catbird/internal/config"
	"catbird/internal/obs"
)

// Options are what a node is made of. Logger is required; Config is completed
// and checked.
type Options struct {
	Config config.Config
	Logger *slog.Logger
	// Version is shown to operators; "" takes the build's.
	Version string
	// Store is an open store that several nodes of one process share; nil: the
	// node opens the one that Config names, for itself. Stop does not close it.
	Store Store
	// Listen opens the two listeners; nil takes net.ListenConfig's.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
}

// App is one node. All methods may be called from any goroutine.
type App struct {
	cfg     config.Config
	log     *slog.Logger
	version string
	listen  func(ctx context.Context, network, address string) (net.Listener, error)

	registry *prometheus.Registry
	traces   *obs.Traces
	store    Store
	keeper   *cluster.Keeper
	actors   *actor.Registry
	delivery *delivery.Service
	house    *housekeeper
	fellows  *fellows // nil for a node alone
	probe    *probe
	api      http.Handler // the clients' API
	admin    http.Handler // the operators' API
	metrics  http.Handler

	stops    *stack
	state    atomic.Int32
	joined   atomic.Bool   // the database holds what this version needs
	ready    chan struct{} // closed when the node is ready for the first time
	leaving  sync.Once
	gone     atomic.Bool // abandoned
	failed   chan error  // what ends Run besides its context; room for all who may say so
	clients  *server
	internal *server
}

// State is where a node is in its life; see the package's comment.
type State int32

// The states of a node, in their order.
const (
	Joining State = iota
	Ready
	Leaving
	Gone
)

// String returns the state's name as operators see it.
func (s State) String() string {
	switch s {
	case Joining:
		return "joining"
	case Ready:
		return "ready"
	case Leaving:
		return "leaving"
	default:
		return "gone"
	}
}

// New builds a node. It opens the store, which for the embedded database takes
// its files' lock, but needs no database that answers. Stop undoes it, also
// without Start.
func New(ctx context.Context, opts Options) (*App, error) {
	cfg := opts.Config
	if err := cfg.Complete(); err != nil {
		return nil, err
	}
	check := cfg.Check
	if opts.Store != nil {
		check = cfg.CheckShared
	}
	if err := check(); err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, log: opts.Logger.With("component", "app"), version: opts.Version, listen: opts.Listen, store: opts.Store,
		stops: newStack(opts.Logger.With("component", "app")),
		ready: make(chan struct{}), failed: make(chan error, 3),
	}
	if a.version == "" {
		a.version = obs.Version()
	}
	if a.listen == nil {
		a.listen = (&net.ListenConfig{}).Listen
	}
	if err := a.build(ctx, opts.Logger); err != nil {
		return nil, errors.Join(err, a.stops.unwind(ctx))
	}
	return a, nil
}

// Start opens both ports and begins to join: it migrates the database and
// begins a session, in the background and for as long as it takes. An error
// means that nothing runs.
func (a *App) Start(ctx context.Context) error {
	if err := a.start(ctx); err != nil {
		return errors.Join(err, a.Stop(ctx))
	}
	a.log.Info("node started", "version", a.version, "node", a.cfg.Cluster.NodeName,
		"clients", a.Addr(), "internal", a.InternalAddr(), "embedded", a.cfg.Embedded(),
		"actor_system", bool(a.cfg.Actors.Enable), "rollout_percent", a.cfg.Actors.RolloutPercent)
	if a.cfg.Cluster.Secret == "" && !loopback(a.cfg.Server.InternalHost) {
		a.log.Warn("the operator API on the internal port asks nobody for a secret: set CLUSTER_SECRET or keep the port closed")
	}
	return nil
}

func (a *App) start(ctx context.Context) error {
	life, end := context.WithCancelCause(context.Background())
	var work sync.WaitGroup
	a.stops.push("background work", 0, func(ctx context.Context) error {
		end(errors.New("node is stopping"))
		return waitFor(ctx, &work)
	})
	var err error
	if a.internal, err = a.open(ctx, "internal", "INTERNAL_PORT", a.cfg.Server.InternalHost, a.cfg.Server.InternalPort, a.adminBounds(), a.admin); err != nil {
		return err
	}
	if a.fellows != nil {
		if err := a.meet(); err != nil {
			return err
		}
	}
	a.internal.serve(func(err error) { a.failed <- err })
	if a.clients, err = a.open(ctx, "client", "SERVER_PORT", a.cfg.Server.Host, a.cfg.Server.Port, a.clientBounds(), http.HandlerFunc(a.serveClient)); err != nil {
		return err
	}
	a.clients.serve(func(err error) { a.failed <- err })
	if err := a.registerConnections(); err != nil {
		return err
	}
	a.stops.push("announcement", 0, a.depart)
	work.Go(func() {
		if a.join(life, &work) {
			a.house.run(life)
		}
	})
	return nil
}

// meet makes this node known by the address of its internal port.
func (a *App) meet() error {
	f := a.fellows
	if err := f.meet(a.internal.ln.Addr(), a.delivery, a.delivery.Flags()); err != nil {
		return err
	}
	a.keeper.SetAddress(f.address)
	a.internal.handler = f.mount(a.internal.handler)
	a.stops.push("streams of other nodes", a.cfg.Drain.Timeout/3, f.server.Stop)
	return nil
}

// open listens, and says how that and serving are undone.
func (a *App) open(ctx context.Context, name, variable, host string, port int, b bounds, h http.Handler) (*server, error) {
	ln, err := a.listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("%s: listening on the %s port: %w", variable, name, err)
	}
	s := newServer(name, ln, h, b, a.log)
	a.stops.push(name+" port", a.cfg.Drain.Timeout*2/3, s.shutdown)
	return s, nil
}

// Leave begins to leave, without stopping: the node is not ready any more,
// tells clients to reconnect elsewhere, and lets go of what it holds. It
// returns at once and may be called any number of times.
func (a *App) Leave() {
	a.leaving.Do(func() {
		a.state.Store(int32(Leaving))
		if a.fellows != nil {
			a.fellows.leave()
		}
		a.log.Info("leaving", "delay", a.cfg.Drain.Delay)
	})
}

// depart is the first step of a stop: leave, and go on serving as before while
// load balancers still send clients here.
func (a *App) depart(ctx context.Context) error {
	if a.gone.Load() {
		return nil
	}
	a.Leave()
	t := time.NewTimer(a.cfg.Drain.Delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done(): // the delay is a courtesy
	}
	if a.fellows != nil {
		a.awaitHandoff(ctx)
	}
	return nil
}

// awaitHandoff waits until the others have taken what this node held, or for a
// third of DRAIN_TIMEOUT: what is left is released with the actors.
func (a *App) awaitHandoff(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Drain.Timeout/3)
	defer cancel()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for a.actors.Active() > 0 && a.fellows.othersReady() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// Stop leaves, then stops everything, last started first. DRAIN_DELAY and
// DRAIN_TIMEOUT bound it, and ctx. A second call waits for the first.
func (a *App) Stop(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Drain.Delay+a.cfg.Drain.Timeout)
	defer cancel()
	err := a.stops.unwind(ctx)
	a.state.Store(int32(Gone))
	if err != nil {
		return err
	}
	a.log.Info("node stopped", "took", time.Since(began))
	return nil
}

// Run starts the node, serves until ctx ends or a listener fails, and stops.
func (a *App) Run(ctx context.Context) error {
	if err := a.Start(ctx); err != nil {
		return err
	}
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-a.failed:
		a.log.Error("node cannot go on", "error", failure)
	}
	return errors.Join(failure, a.Stop(context.WithoutCancel(ctx)))
}

// Addr returns the address of the clients' port, "" before Start.
func (a *App) Addr() string { return a.clients.addr() }

// InternalAddr returns the address of the internal port, "" before Start.
func (a *App) InternalAddr() string { return a.internal.addr() }

// Ready is closed when the node is ready for the first time.
func (a *App) Ready() <-chan struct{} { return a.ready }

// State returns where the node is in its life.
func (a *App) State() State { return State(a.state.Load()) }

// loopback reports whether only this machine reaches host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func waitFor(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
