package dev

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redisTick is how often the keys of the Redis within the process grow older:
// by itself it lets no time pass.
const redisTick = 20 * time.Millisecond

// redisServer is a Redis within this process, on a port of the loopback that a
// password keeps to ourselves.
type redisServer struct {
	server *miniredis.Miniredis
	url    string
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

func startRedis() (*redisServer, error) {
	password := rand.Text()
	r := &redisServer{server: miniredis.NewMiniRedis()}
	r.server.RequireAuth(password)
	if err := r.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("starting a Redis: %w", err)
	}
	r.url = (&url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: r.server.Addr()}).String()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.wg.Go(func() { r.age(ctx) })
	return r, nil
}

// age lets time pass for the keys, until ctx ends.
func (r *redisServer) age(ctx context.Context) {
	t := time.NewTicker(redisTick)
	defer t.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		r.server.FastForward(now.Sub(last))
		last = now
	}
}

func (r *redisServer) close() {
	r.stop()
	r.wg.Wait()
	r.server.Close()
}
