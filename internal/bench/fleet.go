package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"catbird/internal/client"
)

// fleet is a cluster of server processes on one PostgreSQL and one Redis, and
// the load balancer before it: who asks for an address gets that of a node that
// was ready a moment ago.
type fleet struct {
	program string
	env     []string
	names   []string

	mu    sync.Mutex
	nodes map[string]*serverProcess
	ready atomic.Pointer[[]string]
	next  atomic.Uint64
	still atomic.Bool // nobody is looked at
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

type serverProcess struct {
	cmd                       *exec.Cmd
	clients, internal, gossip string
	done                      chan struct{}

	mu     sync.Mutex
	handed handover
}

// handover is what a node handed over once it was told to leave, by its own
// word: how many conversations, and when it began and had moved the last.
type handover struct {
	moved       int
	began, last time.Time
}

func (h handover) took() time.Duration { return h.last.Sub(h.began) }

const balancerLag = 100 * time.Millisecond

// startFleet builds the server and starts names one after another.
func startFleet(ctx context.Context, databaseURL, redisURL string, lease time.Duration, logLevel string, names ...string) (*fleet, error) {
	dir, err := os.MkdirTemp("", "catbird-bench-")
	if err != nil {
		return nil, err
	}
	f := &fleet{program: filepath.Join(dir, "catbird-server"), nodes: map[string]*serverProcess{}, names: names}
	build := exec.CommandContext(ctx, "go", "build", "-o", f.program, "./cmd/catbird-server")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the server: %w", err)
	}
	f.env = append(os.Environ(), "DATABASE_URL="+databaseURL, "REDIS_URL="+redisURL, "CLUSTER_SECRET="+secret,
		"JWT_SECRET="+secret, "ENFORCE_JTI=false", "ENABLE_ACTOR_SYSTEM=true", "SERVER_HOST=127.0.0.1", "SERVER_PORT=0",
		"INTERNAL_PORT=0", "GOSSIP_HOST=127.0.0.1", "GOSSIP_PORT=0", "LEASE_TTL="+lease.String(), "DRAIN_DELAY=500ms",
		"LOG_LEVEL="+logLevel, "ACTOR_MAX=200000")
	watch, cancel := context.WithCancel(ctx)
	f.stop = cancel
	f.ready.Store(&[]string{})
	f.wg.Go(func() { f.balance(watch) })
	for _, name := range names {
		if err := f.start(ctx, name); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	return f, nil
}

// start starts a node and waits until the balancer sends requests to it.
func (f *fleet) start(ctx context.Context, name string) error {
	p := &serverProcess{cmd: exec.Command(f.program, "serve"), done: make(chan struct{})}
	p.cmd.Env = append(f.env, "NODE_NAME="+name)
	f.mu.Lock()
	var join []string
	for _, other := range f.nodes {
		join = append(join, other.gossip)
	}
	f.mu.Unlock()
	if len(join) > 0 {
		p.cmd.Env = append(p.cmd.Env, "GOSSIP_JOIN="+strings.Join(join, ","))
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting node %s: %w", name, err)
	}
	ready := make(chan struct{})
	go p.follow(out, ready)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-ready:
	case <-p.done:
		return fmt.Errorf("node %s ended before it was ready", name)
	case <-ctx.Done():
		return fmt.Errorf("node %s: %w", name, ctx.Err())
	}
	f.mu.Lock()
	f.nodes[name] = p
	f.mu.Unlock()
	for !contains(*f.ready.Load(), p.clients) {
		select {
		case <-time.After(balancerLag / 4):
		case <-ctx.Done():
			return fmt.Errorf("node %s: %w", name, ctx.Err())
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (p *serverProcess) follow(r io.Reader, ready chan<- struct{}) {
	defer close(p.done)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			Message  string    `json:"msg"`
			Clients  string    `json:"clients"`
			Internal string    `json:"internal"`
			Address  string    `json:"address"`
			Time     time.Time `json:"time"`
			Moved    int       `json:"moved"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		switch l.Message {
		case "node started":
			p.clients, p.internal = l.Clients, l.Internal
		case "gossip started":
			p.gossip = l.Address
		case "handed conversations over":
			p.mu.Lock()
			p.handed.moved += l.Moved
			p.handed.last = l.Time
			p.mu.Unlock()
		case "leaving":
			p.mu.Lock()
			p.handed = handover{began: l.Time, last: l.Time}
			p.mu.Unlock()
		case "node ready":
			close(ready)
		}
	}
	_ = p.cmd.Wait()
}

// end sends a signal to a node and waits for its end.
func (f *fleet) end(name string, sig syscall.Signal) (*serverProcess, error) {
	f.mu.Lock()
	p := f.nodes[name]
	delete(f.nodes, name)
	if sig == syscall.SIGTERM {
		f.nodes[name] = p // it still serves
	}
	f.mu.Unlock()
	if err := p.cmd.Process.Signal(sig); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("node %s does not end", name)
	}
	f.mu.Lock()
	delete(f.nodes, name)
	f.mu.Unlock()
	return p, nil
}

func (f *fleet) close() error {
	var errs []error
	for _, name := range f.names {
		f.mu.Lock()
		_, there := f.nodes[name]
		f.mu.Unlock()
		if there {
			_, err := f.end(name, syscall.SIGTERM)
			errs = append(errs, err)
		}
	}
	f.stop()
	f.wg.Wait()
	return errors.Join(append(errs, os.RemoveAll(filepath.Dir(f.program)))...)
}

// balance looks at every node's readiness, again and again.
func (f *fleet) balance(ctx context.Context) {
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(balancerLag):
		}
		if f.still.Load() {
			continue
		}
		f.mu.Lock()
		var addrs []string
		for _, p := range f.nodes {
			addrs = append(addrs, p.clients)
		}
		f.mu.Unlock()
		ready := []string{}
		for _, a := range addrs {
			if res, err := c.Get("http://" + a + "/health/ready"); err == nil {
				res.Body.Close()
				if res.StatusCode == http.StatusOK {
					ready = append(ready, a)
				}
			}
		}
		f.ready.Store(&ready)
	}
}

// pick returns the address of a node that is ready.
func (f *fleet) pick() string {
	ready := *f.ready.Load()
	if len(ready) == 0 {
		return ""
	}
	return ready[f.next.Add(1)%uint64(len(ready))]
}

// api returns a client of all nodes.
func (f *fleet) api() (*client.Client, error) {
	var urls []string
	for _, a := range *f.ready.Load() {
		urls = append(urls, "http://"+a)
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
func (f *fleet) watched(ctx context.Context, connections int, next func(buf *bytes.Buffer, connection, n int)) []event {
	parts := make([][]event, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() { parts[i] = f.follow(ctx, i, next) })
	}
	wg.Wait()
	var all []event
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func (f *fleet) follow(ctx context.Context, i int, next func(buf *bytes.Buffer, connection, n int)) (events []event) {
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
			if conn, err = net.DialTimeout("tcp", f.pick(), time.Second); err == nil {
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
