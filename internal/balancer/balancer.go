// Package balancer is a load balancer within a process: it spreads requests over
// the nodes that say they are ready, for tests and for showing a cluster.
//
// It knows the readiness probe and nothing else of a node.
package balancer

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// probeTimeout bounds one look at a node.
const probeTimeout = time.Second

// errNobody fails requests while no node is ready.
var errNobody = errors.New("no node is ready")

// Balancer spreads requests over the nodes that say they are ready, as a load
// balancer does: it looks at each now and then, and so lags behind by as much.
// It is an http.RoundTripper that repeats nothing. All methods may be called
// from any goroutine. Close ends it.
type Balancer struct {
	base  *http.Transport
	mu    sync.Mutex
	nodes map[string]*target
	next  atomic.Uint64
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

type target struct {
	host  string
	ready bool
}

// New returns a balancer that looks at each node every so often.
func New(every time.Duration) *Balancer {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Balancer{base: &http.Transport{MaxIdleConnsPerHost: 64}, nodes: map[string]*target{}, stop: cancel}
	b.wg.Go(func() { b.watch(ctx, every) })
	return b
}

// Close ends the looking and closes idle connections.
func (b *Balancer) Close() {
	b.stop()
	b.wg.Wait()
	b.base.CloseIdleConnections()
}

// Set makes name a node at host (host:port). It gets requests once it is found
// ready.
func (b *Balancer) Set(name, host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[name] = &target{host: host}
}

// Remove forgets a node.
func (b *Balancer) Remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, name)
}

// Ready returns how many nodes get requests.
func (b *Balancer) Ready() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.nodes {
		if t.ready {
			n++
		}
	}
	return n
}

func (b *Balancer) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.mu.Lock()
		all := make([]*target, 0, len(b.nodes))
		for _, t := range b.nodes {
			all = append(all, t)
		}
		b.mu.Unlock()
		var wg sync.WaitGroup
		for _, t := range all {
			wg.Go(func() {
				ready := b.looksReady(ctx, t.host)
				b.mu.Lock()
				t.ready = ready
				b.mu.Unlock()
			})
		}
		wg.Wait()
	}
}

func (b *Balancer) looksReady(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/health/ready", nil)
	if err != nil {
		return false
	}
	res, err := b.base.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Next returns the host of the next node that is ready, "" if none is.
func (b *Balancer) Next() string {
	b.mu.Lock()
	hosts := make([]string, 0, len(b.nodes))
	for _, t := range b.nodes {
		if t.ready {
			hosts = append(hosts, t.host)
		}
	}
	b.mu.Unlock()
	slices.Sort(hosts) // a map gives them in no order
	if len(hosts) == 0 {
		return ""
	}
	return hosts[b.next.Add(1)%uint64(len(hosts))]
}

// RoundTrip sends the request to the next node that is ready.
func (b *Balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	host := b.Next()
	if host == "" {
		return nil, errNobody
	}
	r := req.Clone(req.Context())
	r.URL.Host, r.Host = host, host
	return b.base.RoundTrip(r)
}
