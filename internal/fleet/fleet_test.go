package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// This test program is the nodes, too: TEST_NODE says how one behaves.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(serve(os.Getenv("TEST_NODE")))
	}
	goleak.VerifyTestMain(m)
}

func serve(how string) int {
	if how == "broken" {
		say(`{"msg":"no such setting"}`)
		return 2
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	name := os.Getenv("NODE_NAME")
	say(`{"msg":"node started","clients":"%s:1","internal":"%s:2"}`, name, name)
	say(`{"msg":"gossip started","address":"%s:3","join":"%s"}`, name, os.Getenv("GOSSIP_JOIN"))
	if how == "deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	if how != "never ready" {
		say(`{"msg":"node ready"}`)
	}
	<-stop
	say(`{"time":"2026-01-02T03:04:05Z","msg":"leaving"}`)
	say("%s", strings.Repeat("x", 2*maxLine))
	say(`{"time":"2026-01-02T03:04:06Z","msg":"handed conversations over","moved":3}`)
	say(`{"time":"2026-01-02T03:04:07Z","msg":"handed conversations over","moved":4}`)
	if how == "fails" {
		return 1
	}
	return 0
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func newFleet(t *testing.T, cfg Config) *Fleet {
	t.Helper()
	var err error
	if cfg.Program, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	f := New(cfg)
	t.Cleanup(func() {
		for _, n := range f.Nodes() {
			if _, err := f.Kill(n.Name); err != nil {
				t.Error(err)
			}
		}
	})
	return f
}

func start(t *testing.T, f *Fleet, l Launch) *Node {
	t.Helper()
	n, err := f.Start(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func how(behaviour string) []string { return []string{"TEST_NODE=" + behaviour} }

func TestNodesJoinThoseThatRun(t *testing.T) {
	logs := t.TempDir()
	f := newFleet(t, Config{Logs: logs})
	a := start(t, f, Launch{Name: "a"})
	if a.Clients() != "a:1" || a.Internal() != "a:2" || a.Gossip() != "a:3" {
		t.Errorf("a listens at %s, %s and %s", a.Clients(), a.Internal(), a.Gossip())
	}
	start(t, f, Launch{Name: "b"})
	if log := read(t, logs, "b"); !strings.Contains(log, `"join":"a:3"`) {
		t.Errorf("b said:\n%s", log)
	}
	start(t, f, Launch{Name: "c"})
	if _, err := f.Start(t.Context(), Launch{Name: "b"}); err == nil {
		t.Error("a second node b was started")
	}
	names := ""
	for _, n := range f.Nodes() {
		names += n.Name
	}
	if names != "abc" {
		t.Errorf("nodes %s run", names)
	}
	if _, err := f.Kill("c"); err != nil {
		t.Fatal(err)
	}
	if log := read(t, logs, "c"); !strings.Contains(log, `"join":"a:3,b:3"`) {
		t.Errorf("c said:\n%s", log)
	}
	start(t, f, Launch{Name: "c"})
	if n := strings.Count(read(t, logs, "c"), "node ready"); n != 2 {
		t.Errorf("the log holds %d lives, want 2", n)
	}
}

func read(t *testing.T, logs, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(logs, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Begin waits for nothing, and who is begun may be of another program.
func TestBegunNodes(t *testing.T) {
	f := newFleet(t, Config{})
	if _, err := f.Begin(Launch{Name: "a", Program: t.TempDir() + "/none"}); err == nil {
		t.Error("a program that is not there was started")
	}
	n, err := f.Begin(Launch{Name: "a", Env: how("never ready")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(Launch{Name: "a"}); err == nil {
		t.Error("a second node a was begun")
	}
	select {
	case <-n.Ready():
		t.Error("it says that it is ready")
	default:
	}
	b, err := f.Begin(Launch{Name: "b", Env: how("broken")})
	if err != nil {
		t.Fatal(err)
	}
	<-b.Done()
	if code := b.ExitCode(); code != 2 {
		t.Errorf("it ended with %d", code)
	}
	if _, err := f.Kill("b"); err != nil {
		t.Error(err)
	}
	<-start(t, f, Launch{Name: "b"}).Ready()
}

func TestStop(t *testing.T) {
	f := newFleet(t, Config{})
	start(t, f, Launch{Name: "a"})
	n, err := f.Stop(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if h := n.Handed(); h.Moved != 7 || h.Took() != 2*time.Second {
		t.Errorf("handed over %+v, although a long line came between", h)
	}
	if _, err := f.Node("a"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a node that has ended: %v", err)
	}
	if _, err := f.Stop(t.Context(), "a"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopping it again: %v", err)
	}
	start(t, f, Launch{Name: "b", Env: how("fails")})
	var exit *ExitError
	if _, err := f.Stop(t.Context(), "b"); !errors.As(err, &exit) || exit.Code != 1 || exit.Name != "b" {
		t.Errorf("stopping one that fails: %v", err)
	}
}

func TestNodesThatDoNotDoAsTheyShould(t *testing.T) {
	f := newFleet(t, Config{Patience: 2 * time.Second})
	if _, err := f.Start(t.Context(), Launch{Name: "a", Env: how("broken")}); err == nil || !strings.Contains(err.Error(), "no such setting") {
		t.Errorf("a node that ends at once: %v, want what it said", err)
	}
	if _, err := f.Start(t.Context(), Launch{Name: "b", Env: how("never ready")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that is never ready: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Start(ctx, Launch{Name: "b", Env: how("never ready")}); !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was called off: %v", err)
	}
	n := start(t, f, Launch{Name: "c", Env: how("deaf")})
	if _, err := f.Stop(t.Context(), "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that does not stop: %v", err)
	}
	select {
	case <-n.Done():
	default:
		t.Error("it was not killed")
	}
	if left := f.Nodes(); len(left) != 0 {
		t.Errorf("%d nodes run", len(left))
	}
}

func TestCloseStopsFrozenNodesToo(t *testing.T) {
	f := newFleet(t, Config{})
	start(t, f, Launch{Name: "a"})
	b := start(t, f, Launch{Name: "b"})
	if err := b.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := f.Nodes(); len(left) != 0 {
		t.Errorf("%d nodes run", len(left))
	}
}

// In says where a process is started, and sees it through.
func TestNodesStartElsewhere(t *testing.T) {
	f := newFleet(t, Config{})
	entered, left := make(chan struct{}), make(chan struct{})
	start(t, f, Launch{Name: "a", In: func(f func() error) error {
		close(entered)
		defer close(left)
		return here(f)
	}})
	<-entered
	select {
	case <-left:
		t.Error("the thread was left while the process runs")
	default:
	}
	if _, err := f.Stop(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	<-left
	nowhere := errors.New("there is no such place")
	if _, err := f.Start(t.Context(), Launch{Name: "b", In: func(func() error) error { return nowhere }}); !errors.Is(err, nowhere) {
		t.Errorf("starting nowhere: %v", err)
	}
}
