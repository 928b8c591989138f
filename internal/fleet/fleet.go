package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultPatience is the default of [Config.Patience].
const DefaultPatience = time.Minute

// Config says what all nodes of a fleet have in common.
type Config struct {
	// Program is the server, as [Build] returns it.
	Program string
	// Env are settings of all nodes, "NAME=value" each. Of this process's own
	// environment a node gets PATH and HOME alone.
	Env []string
	// Logs is a folder that keeps what each node says, in files of its name to
	// which every life of the node is added; "": nowhere.
	Logs string
	// Patience is how long a node may take to be ready, and to end once it is
	// told to; 0: DefaultPatience.
	Patience time.Duration
}

// Fleet is a cluster of server processes. Its methods may be called from any
// goroutine, for each node one after another.
type Fleet struct {
	cfg Config

	mu    sync.Mutex
	nodes map[string]*Node
}

// Launch says how one node is unlike the others.
type Launch struct {
	Name string
	// Program is another one than [Config.Program]: another version; "": that one.
	Program string
	Env     []string // later values win
	// In runs f, where the process is started, on a thread of its own: in
	// another network, for example. nil: as f is.
	In func(f func() error) error
}

// ErrNotRunning says that there is no node of that name.
var ErrNotRunning = errors.New("the node is not running")

// Build builds the server into the folder dir and returns the program.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "catbird-server")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "catbird/cmd/catbird-server")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the server: %w\n%s", err, out)
	}
	return program, nil
}

// New returns a fleet without nodes.
func New(cfg Config) *Fleet {
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	return &Fleet{cfg: cfg, nodes: map[string]*Node{}}
}

// Start starts a node, lets it join those that run, and waits until it says
// that it is ready. One that is not ready in time, or when ctx ends, is killed.
func (f *Fleet) Start(ctx context.Context, l Launch) (*Node, error) {
	n, err := f.begin(l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Patience)
	defer cancel()
	select {
	case <-n.ready:
	case <-n.done:
		return nil, fmt.Errorf("node %s ended before it was ready: %s", l.Name, n.lastWords())
	case <-ctx.Done():
		n.kill()
		return nil, fmt.Errorf("node %s is not ready: %w; it said last: %s", l.Name, ctx.Err(), n.lastWords())
	}
	f.add(n)
	return n, nil
}

// Begin starts a node as [Fleet.Start] does, and does not wait for it. One that
// ends by itself is there until it is stopped or killed all the same.
func (f *Fleet) Begin(l Launch) (*Node, error) {
	n, err := f.begin(l)
	if err != nil {
		return nil, err
	}
	f.add(n)
	return n, nil
}

func (f *Fleet) begin(l Launch) (*Node, error) {
	if _, err := f.Node(l.Name); err == nil {
		return nil, fmt.Errorf("node %s runs already", l.Name)
	}
	n, err := f.launch(l)
	if err != nil {
		return nil, fmt.Errorf("starting node %s: %w", l.Name, err)
	}
	return n, nil
}

func (f *Fleet) add(n *Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[n.Name] = n
}

func (f *Fleet) launch(l Launch) (*Node, error) {
	cmd := exec.Command(cmp.Or(l.Program, f.cfg.Program), "serve")
	cmd.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, f.cfg.Env, []string{"NODE_NAME=" + l.Name})
	if join := f.gossip(); len(join) > 0 {
		cmd.Env = append(cmd.Env, "GOSSIP_JOIN="+strings.Join(join, ","))
	}
	cmd.Env = append(cmd.Env, l.Env...)
	dieWithParent(cmd)
	out, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	keep, err := f.keep(l.Name)
	if err != nil {
		return nil, err
	}
	n := newNode(l.Name, cmd)
	started := make(chan error, 1)
	go func() {
		in := l.In
		if in == nil {
			in = here
		}
		// The kernel ends the process with the thread that started it, so this
		// thread stays until the process is gone.
		err := in(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				<-n.done
			}
			return nil
		})
		if err != nil {
			started <- err
		}
	}()
	if err := <-started; err != nil {
		if keep != nil {
			keep.Close()
		}
		return nil, err
	}
	go n.follow(out, keep)
	return n, nil
}

func here(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// keep opens the file that keeps what the node says, nil for none.
func (f *Fleet) keep(name string) (*os.File, error) {
	if f.cfg.Logs == "" {
		return nil, nil
	}
	file, err := os.OpenFile(filepath.Join(f.cfg.Logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keeping its log: %w", err)
	}
	return file, nil
}

func (f *Fleet) gossip() (addrs []string) {
	for _, n := range f.Nodes() {
		if a := n.Gossip(); a != "" {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// Node returns the node of that name, or [ErrNotRunning]. One that was told to
// stop runs until it has ended.
func (f *Fleet) Node(name string) (*Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("%s: %w", name, ErrNotRunning)
}

// Nodes returns the nodes that run, by name.
func (f *Fleet) Nodes() []*Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*Node, 0, len(f.nodes))
	for _, n := range f.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *Node) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Stop stops a node as an operator does and waits for its end. An exit code
// other than 0 is an *[ExitError]. One that does not end in time is killed.
func (f *Fleet) Stop(ctx context.Context, name string) (*Node, error) {
	n, err := f.Node(name)
	if err != nil {
		return nil, err
	}
	if err := n.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Patience)
	defer cancel()
	select {
	case <-n.done:
	case <-ctx.Done():
		n.kill()
		err = fmt.Errorf("node %s does not end: %w", name, ctx.Err())
	}
	f.remove(name)
	if code := n.ExitCode(); err == nil && code != 0 {
		err = &ExitError{Name: name, Code: code}
	}
	return n, err
}

// Kill ends a node as a crash does and waits until it is gone.
func (f *Fleet) Kill(name string) (*Node, error) {
	n, err := f.Node(name)
	if err != nil {
		return nil, err
	}
	n.kill()
	f.remove(name)
	return n, nil
}

func (f *Fleet) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.nodes, name)
}

// Close stops all nodes at once, and kills those that do not stop.
func (f *Fleet) Close(ctx context.Context) error {
	nodes := f.Nodes()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			_ = n.Signal(syscall.SIGCONT) // it may be frozen
			_, errs[i] = f.Stop(ctx, n.Name)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ExitError says that a node that was told to stop ended with an exit code
// other than 0; -1 for a signal.
type ExitError struct {
	Name string
	Code int
}

// Error names node and code.
func (e *ExitError) Error() string { return fmt.Sprintf("node %s exited with %d", e.Name, e.Code) }
