package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// redisServer starts a redis-server with arguments of its own, which ends with
// the test, and with the process in any case.
func redisServer(t *testing.T, port string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "redis.conf")
	lines := append([]string{"bind 127.0.0.1", "port " + port, "dir " + dir}, args...)
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := []string{config}
	if strings.Contains(strings.Join(args, " "), "sentinel") {
		server = append(server, "--sentinel")
	}
	c := exec.Command("redis-server", server...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatalf("this test needs redis-server: %v", err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // it was killed
	})
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, MaxRetries: -1})
	defer client.Close()
	await2(t, "redis-server to answer", func() bool {
		err := client.Ping(within(t)).Err()
		var reply redis.Error // it may ask for a password
		return err == nil || errors.As(err, &reply)
	})
}

// freePorts returns ports that nobody listens on.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only at the end, so that they differ
		_, ports[i], _ = net.SplitHostPort(l.Addr().String())
	}
	return ports
}

// redisClusterURL starts a cluster of two servers, with half of the slots
// each.
func redisClusterURL(t *testing.T) string {
	t.Helper()
	ports := freePorts(t, 4)
	servers, buses := ports[:2], ports[2:]
	var clients []*redis.Client
	for i, port := range servers {
		redisServer(t, port, "save \"\"", "appendonly no", "cluster-enabled yes", "cluster-port "+buses[i])
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port})
		t.Cleanup(func() { _ = client.Close() })
		clients = append(clients, client)
		first := i * 8192
		last := first + 8191
		do(t, client, "CLUSTER", "ADDSLOTSRANGE", first, last)
	}
	do(t, clients[0], "CLUSTER", "SET-CONFIG-EPOCH", 1)
	do(t, clients[1], "CLUSTER", "SET-CONFIG-EPOCH", 2)
	do(t, clients[0], "CLUSTER", "MEET", "127.0.0.1", servers[1], buses[1])
	for _, client := range clients {
		await2(t, "the cluster to be well", func() bool {
			info, err := client.ClusterInfo(within(t)).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384")
		})
	}
	return fmt.Sprintf("redis+cluster://127.0.0.1:%s,127.0.0.1:%s", servers[0], servers[1])
}

func do(t *testing.T, client *redis.Client, args ...any) {
	t.Helper()
	if err := client.Do(context.Background(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}
