package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"catbird/internal/balancer"
	"catbird/internal/client"
	"catbird/internal/fleet"
)

// testbed is a cluster of server processes on one PostgreSQL and one Redis, and
// the load balancer before it.
type testbed struct {
	*fleet.Fleet
	balancer *balancer.Balancer
	dir      string // of the program
	names    []string
	database string
}

// balancerLag is how often the balancer looks at each node.
const balancerLag = 100 * time.Millisecond

// startTestbed builds the server and starts names one after another.
func startTestbed(ctx context.Context, databaseURL, redisURL string, lease time.Duration, logLevel string, names ...string) (*testbed, error) {
	dir, err := os.MkdirTemp("", "catbird-bench-")
	if err != nil {
		return nil, err
	}
	program, err := fleet.Build(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := &testbed{
		Fleet: fleet.New(fleet.Config{Program: program, Env: []string{
			"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "CLUSTER_SECRET=" + secret,
			"JWT_SECRET=" + secret, "ENFORCE_JTI=false", "ENABLE_ACTOR_SYSTEM=true", "SERVER_HOST=127.0.0.1", "SERVER_PORT=0",
			"INTERNAL_PORT=0", "GOSSIP_HOST=127.0.0.1", "GOSSIP_PORT=0", "LEASE_TTL=" + lease.String(), "DRAIN_DELAY=500ms",
			"LOG_LEVEL=" + logLevel, "ACTOR_MAX=200000",
		}}),
		balancer: balancer.New(balancerLag), dir: dir, names: names, database: databaseURL,
	}
	for _, name := range names {
		if err := b.start(ctx, name); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// start starts a node, with settings of its own beside those of all, and waits
// until the balancer sends requests to it.
func (b *testbed) start(ctx context.Context, name string, env ...string) error {
	n, err := b.Start(ctx, fleet.Launch{Name: name, Env: env})
	if err != nil {
		return err
	}
	b.balancer.Set(name, n.Clients())
	ctx, cancel := context.WithTimeout(ctx, fleet.DefaultPatience)
	defer cancel()
	for b.balancer.Ready() < len(b.Nodes()) {
		select {
		case <-time.After(balancerLag / 4):
		case <-ctx.Done():
			return fmt.Errorf("node %s: %w", name, ctx.Err())
		}
	}
	return nil
}

// stop stops a node in order. It serves until it has ended, and is looked at.
func (b *testbed) stop(ctx context.Context, name string) (*fleet.Node, error) {
	n, err := b.Stop(ctx, name)
	b.balancer.Remove(name)
	return n, err
}

// kill ends a node as a crash does.
func (b *testbed) kill(name string) error {
	_, err := b.Kill(name)
	b.balancer.Remove(name)
	return err
}

func (b *testbed) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(len(b.names))*fleet.DefaultPatience)
	defer cancel()
	err := b.Close(ctx)
	b.balancer.Close()
	return errors.Join(err, os.RemoveAll(b.dir))
}

// pick returns the address of a node that is ready, "" if none is.
func (b *testbed) pick() string { return b.balancer.Next() }

// api returns a client of all nodes.
func (b *testbed) api() (*client.Client, error) {
	var urls []string
	for _, n := range b.Nodes() {
		urls = append(urls, "http://"+n.Clients())
	}
	return client.New(client.Config{BaseURLs: urls, Token: func(did, _ string) (string, error) { return token(did) }})
}

// event is one request of a watched load.
type event struct {
	at   time.Time // when it was answered
	took time.Duration
	err  string
}

// watched sends through the balancer, one request after another on each
// connection, until ctx ends, and keeps what became of each. A connection moves
// on when it is told to, as clients and balancers do.
func (b *testbed) watched(ctx context.Context, connections int, next func(buf *bytes.Buffer, connection, n int)) []event {
	parts := make([][]event, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() { parts[i] = b.follow(ctx, i, next) })
	}
	wg.Wait()
	var all []event
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func (b *testbed) follow(ctx context.Context, i int, next func(buf *bytes.Buffer, connection, n int)) (events []event) {
	var conn net.Conn
	var in *bufio.Reader
	var buf bytes.Buffer
	drop := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer drop()
	for n := 0; ctx.Err() == nil; n++ {
		buf.Reset()
		next(&buf, i, n)
		sent := time.Now()
		var err error
		if conn == nil {
			if conn, err = net.DialTimeout("tcp", b.pick(), time.Second); err == nil {
				in = bufio.NewReaderSize(conn, 64<<10)
			} else {
				conn = nil
			}
		}
		status, body, closing := 0, "", false
		if err == nil {
			conn.SetDeadline(sent.Add(20 * time.Second))
			if _, err = conn.Write(buf.Bytes()); err == nil {
				status, body, closing, err = readReply(in)
			}
		}
		e := event{at: time.Now(), took: time.Since(sent)}
		switch {
		case err != nil:
			e.err = err.Error()
		case status != http.StatusOK:
			e.err = fmt.Sprintf("%d %s", status, body)
		}
		events = append(events, e)
		if err != nil || closing {
			drop()
		}
		if err != nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return events
}
