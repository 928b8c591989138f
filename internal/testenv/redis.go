package testenv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Redis returns the URL of a Redis that this test may use. Others use it too:
// keys must be unlike theirs, and nothing may be flushed. A test that wants a
// Redis to itself starts one with [StartRedis].
func Redis(t testing.TB) string {
	t.Helper()
	if url := os.Getenv("TEST_REDIS_URL"); url != "" {
		return url
	}
	s, err := sharedRedis()
	if err != nil {
		t.Fatalf("this test needs Redis: %v", err)
	}
	return s.URL()
}

// sharedRedis is the one server of this process; it ends with the process.
var sharedRedis = sync.OnceValues(StartRedis)

// StartRedis starts a Redis server of the caller's own on a free port of the
// loopback and waits until it answers. It keeps nothing on disk: after Stop or
// Kill it starts empty. The caller closes it.
func StartRedis() (*Server, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("set TEST_REDIS_URL, or install the server (apt-get install redis-server)")
	}
	dir, err := workdir("redis", nil)
	if err != nil {
		return nil, err
	}
	host, port, err := freeAddress()
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	s := &Server{
		name: "Redis", dir: dir, url: "redis://" + net.JoinHostPort(host, port) + "/0",
		program: []string{program, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", dir},
		stopBy:  "TERM",
		killBy:  syscall.SIGKILL,
		ready:   answersRedis,
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func answersRedis(ctx context.Context, url string) error {
	address := strings.TrimSuffix(strings.TrimPrefix(url, "redis://"), "/0")
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "+PONG") {
		return fmt.Errorf("answered %q", line)
	}
	return nil
}
