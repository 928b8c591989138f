package rehearsal

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// errNobody fails requests while no pod is ready.
var errNobody = errors.New("no pod is ready")

// maxNews is how many changes of its endpoints may be on their way to a service.
const maxNews = 64

// service spreads requests over pods, as what stands before them does: it hears of
// each change a while after it has happened, and repeats nothing. It is an
// http.RoundTripper. Its methods may be called from any goroutine.
type service struct {
	base *http.Transport
	lag  time.Duration
	news chan news
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	hosts map[string]string // by pod
	next  int
}

// news is a pod that is to get requests at host from now on, or none if host is
// empty.
type news struct {
	due       time.Time
	pod, host string
}

func newService(lag time.Duration) *service {
	ctx, cancel := context.WithCancel(context.Background())
	s := &service{
		base: &http.Transport{MaxIdleConnsPerHost: 64}, lag: lag, news: make(chan news, maxNews),
		stop: cancel, done: make(chan struct{}), hosts: map[string]string{},
	}
	go s.hear(ctx)
	return s
}

func (s *service) close() {
	s.stop()
	<-s.done
	s.base.CloseIdleConnections()
}

// set says that pod is to get requests at host, and none if it is empty. The
// service acts on it when its lag has passed.
func (s *service) set(pod, host string) {
	select {
	case s.news <- news{time.Now().Add(s.lag), pod, host}:
	case <-s.done:
	}
}

func (s *service) hear(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case n := <-s.news:
			if !pause(ctx, time.Until(n.due)) {
				return
			}
			s.mu.Lock()
			if n.host == "" {
				delete(s.hosts, n.pod)
			} else {
				s.hosts[n.pod] = n.host
			}
			s.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// ready returns how many pods get requests.
func (s *service) ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.hosts)
}

func (s *service) pick() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hosts) == 0 {
		return ""
	}
	hosts := make([]string, 0, len(s.hosts))
	for _, host := range s.hosts {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts) // a map gives them in no order
	s.next++
	return hosts[s.next%len(hosts)]
}

// RoundTrip sends a request to the next pod.
func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	host := s.pick()
	if host == "" {
		return nil, errNobody
	}
	r := req.Clone(req.Context())
	r.URL.Host, r.Host = host, host
	return s.base.RoundTrip(r)
}
