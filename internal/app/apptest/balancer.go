package apptest

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Balancer spreads requests over the nodes that say they are ready, as a load
// balancer does: it looks at each every Every, and so lags behind by as much.
// It is an http.RoundTripper that repeats nothing.
type Balancer struct {
	Every time.Duration

	base  http.RoundTripper
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

// NewBalancer returns a balancer that looks until the test ends.
func NewBalancer(t testing.TB, every time.Duration) *Balancer {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	b := &Balancer{Every: every, base: transport, nodes: map[string]*target{}, stop: cancel}
	b.wg.Go(func() { b.watch(ctx, transport) })
	t.Cleanup(func() {
		cancel()
		b.wg.Wait()
		transport.CloseIdleConnections()
	})
	return b
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

func (b *Balancer) watch(ctx context.Context, rt http.RoundTripper) {
	tick := time.NewTicker(b.Every)
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
				ready := looksReady(ctx, rt, t.host)
				b.mu.Lock()
				t.ready = ready
				b.mu.Unlock()
			})
		}
		wg.Wait()
	}
}

func looksReady(ctx context.Context, rt http.RoundTripper, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/health/ready", nil)
	if err != nil {
		return false
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// RoundTrip sends the request to the next node that is ready.
func (b *Balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	b.mu.Lock()
	hosts := make([]string, 0, len(b.nodes))
	for _, t := range b.nodes {
		if t.ready {
			hosts = append(hosts, t.host)
		}
	}
	b.mu.Unlock()
	if len(hosts) == 0 {
		return nil, errors.New("no node is ready")
	}
	r := req.Clone(req.Context())
	r.URL.Host = hosts[b.next.Add(1)%uint64(len(hosts))]
	r.Host = r.URL.Host
	return b.base.RoundTrip(r)
}
