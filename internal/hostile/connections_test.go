package hostile

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"catbird/internal/app"
	"catbird/internal/app/apptest"
	"catbird/internal/config"
)

// childVariable makes the test's binary a node, on the data in the folder that
// it names, until it is told to stop.
const childVariable = "CATBIRD_HOSTILE_DATA"

// childConnections is how many connections the child holds at once.
const childConnections = 2000

func runChild() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := apptest.Config(apptest.SQLite(os.Getenv(childVariable)), apptest.Actors(true), func(c *config.Config) {
		c.Limits.MaxConnections = childConnections
	})
	a, err := app.New(ctx, app.Options{Config: cfg, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = a.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-a.Ready()
	fmt.Println(a.Addr())
	<-ctx.Done()
	if err := a.Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startChild starts a node in a process of its own and returns the address of
// its clients' port.
func startChild(t *testing.T) (address string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	if _, err := fmt.Fscanln(out, &address); err != nil {
		t.Fatalf("the node does not tell its address: %v", err)
	}
	return address
}

// gauge reads a figure without labels from a node's metrics.
func gauge(t *testing.T, address, name string) float64 {
	t.Helper()
	status, _, body := apptest.Get(t, "http://"+address+"/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if status != 200 || m == nil {
		t.Fatalf("/metrics answers %d and tells no %s", status, name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Ten thousand connections that say nothing, half a header, or nothing more
// after a first request: others are served meanwhile, in the same process, and
// the node holds no more of them than it was told to.
func TestTenThousandIdleConnections(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a process does not tell how many files it holds here")
	}
	const flood = 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := min(flood, int(min(limit.Cur, 1<<20))-500) // Go has raised it as far as it may
	if n < 2*childConnections {
		t.Fatalf("RLIMIT_NOFILE is %d, too little to ask more of a node than it may hold: raise it (ulimit -n %d)", limit.Cur, flood+500)
	}
	if n < flood {
		t.Logf("only %d connections: RLIMIT_NOFILE is %d", n, limit.Cur)
	}
	address := startChild(t)
	first := "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
	says := []string{"", "G", "POST /xrpc/blue.catbird.mls.commit HTTP/1.1\r\nHost: x\r\nX-Never-En", first}
	memory := gauge(t, address, "process_resident_memory_bytes")
	files := gauge(t, address, "process_open_fds")
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for i := range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
		_, _ = io.WriteString(c, says[i%len(says)]) // it may have given way already
		if i%2000 == 1999 {
			begin := time.Now()
			if status, _, body := apptest.Get(t, "http://"+address+"/health/ready"); status != 200 {
				t.Fatalf("with %d idle connections another is answered %d %s", i+1, status, body)
			}
			t.Logf("with %d connections, another was answered after %v", i+1, time.Since(begin))
		}
	}
	c := apptest.Client(t, nil, "http://"+address)
	g := apptest.NewGroup(t, c, 2)
	if log := apptest.ReadLog(t, c, g.ID, g.Members[1]); len(log) != 0 {
		t.Errorf("a new conversation holds %d messages", len(log))
	}
	held := gauge(t, address, "process_open_fds") - files
	// Beside the connections: some files of the database and of the runtime.
	if held > childConnections+50 {
		t.Errorf("the node holds %.0f files more than before, for at most %d connections", held, childConnections)
	}
	grown := gauge(t, address, "process_resident_memory_bytes") - memory
	t.Logf("%d connections: %.0f files and %.0f MiB more than before", n, held, grown/(1<<20))
	if grown > 768<<20 {
		t.Errorf("the node has grown by %.0f MiB", grown/(1<<20))
	}
}
