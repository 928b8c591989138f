package dev

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"catbird/internal/client"
)

const (
	crowdSize    = 30 // conversations
	crowdMembers = 3  // of each
	crowdSenders = 3  // at once
	crowdPause   = 15 * time.Millisecond
	crowdBytes   = 256 // of a message
	crowdSuite   = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"

	// How a request is repeated: for longer than it takes until a killed node's
	// session has lapsed.
	attempts       = 30
	attemptTimeout = 15 * time.Second
	firstWait      = 25 * time.Millisecond
	longestWait    = 2 * time.Second // a Retry-After beyond it is not waited for

	// checksAtOnce bounds what is asked at the same time of all conversations.
	checksAtOnce = 4
)

// Meter counts the attempts of clients' requests. Its methods may be called
// from any goroutine.
type Meter struct {
	requests, failed atomic.Int64
	slowest          atomic.Int64 // nanoseconds
	why              atomic.Pointer[error]
}

// Observe counts an attempt, see client.Config. One fails when the service did
// not answer, or said that it could not serve: a refusal is an answer.
func (m *Meter) Observe(o client.Observation) {
	m.requests.Add(1)
	if o.Err != nil && (o.Status == 0 || o.Status >= http.StatusInternalServerError) {
		m.failed.Add(1)
		m.why.Store(&o.Err)
	}
	for d := int64(o.Duration); ; {
		old := m.slowest.Load()
		if d <= old || m.slowest.CompareAndSwap(old, d) {
			return
		}
	}
}

// crowd are people in small conversations who send messages all the while, so
// that every node has something to hold and to hand over.
type crowd struct {
	client *client.Client
	convos []*chat

	acked  atomic.Int64 // messages
	failed atomic.Int64 // those that failed for good
	last   atomic.Pointer[error]
}

type chat struct {
	id      string
	members []string
	acked   atomic.Int64
}

func newCrowd(transport http.RoundTripper, token client.TokenSource, observe func(client.Observation)) (*crowd, error) {
	c, err := client.New(client.Config{
		BaseURLs: []string{"http://cluster"}, HTTP: &http.Client{Transport: transport}, Token: token,
		Attempts: attempts, AttemptTimeout: attemptTimeout, Wait: firstWait, MaxWait: longestWait, Observe: observe,
	})
	if err != nil {
		return nil, err
	}
	return &crowd{client: c}, nil
}

// gather creates the conversations.
func (c *crowd) gather(ctx context.Context) error {
	for range crowdSize {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		one := &chat{id: hex.EncodeToString(id[:])}
		for i := range crowdMembers {
			one.members = append(one.members, fmt.Sprintf("did:plc:bystander%s%d", one.id[:8], i))
		}
		c.convos = append(c.convos, one)
	}
	return c.each(func(one *chat) error {
		_, err := c.client.As(one.members[0]).CreateConvo(ctx, client.CreateConvo{
			GroupID: one.id, CipherSuite: crowdSuite, InitialMembers: one.members[1:], IdempotencyKey: "create",
		})
		return err
	})
}

// each calls f for all conversations, some at the same time.
func (c *crowd) each(f func(*chat) error) error {
	errs := make([]error, len(c.convos))
	places := make(chan struct{}, checksAtOnce)
	var wg sync.WaitGroup
	for i, one := range c.convos {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			errs[i] = f(one)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// talk sends messages until stop is closed, and finishes what it has begun; the
// end of ctx breaks it off.
func (c *crowd) talk(ctx context.Context, stop <-chan struct{}) {
	var wg sync.WaitGroup
	for i := range crowdSenders {
		wg.Go(func() {
			t := time.NewTicker(crowdPause)
			defer t.Stop()
			for n := i; ; n += crowdSenders {
				select {
				case <-t.C:
				case <-stop:
					return
				case <-ctx.Done():
					return
				}
				one := c.convos[n%len(c.convos)]
				_ = c.send(ctx, one, one.members[n%crowdMembers]) // it is counted
			}
		})
	}
	wg.Wait()
}

func (c *crowd) send(ctx context.Context, one *chat, by string) error {
	text := make([]byte, crowdBytes)
	_, _ = rand.Read(text) // never fails
	_, err := c.client.As(by).SendMessage(ctx, client.SendMessage{ConvoID: one.id, Ciphertext: text, IdempotencyKey: rand.Text()})
	if err != nil {
		if ctx.Err() == nil {
			c.failed.Add(1)
			c.last.Store(&err)
		}
		return err
	}
	one.acked.Add(1)
	c.acked.Add(1)
	return nil
}

// check looks whether every message that was acknowledged is there, once. It is
// called while nobody sends.
func (c *crowd) check(ctx context.Context) error {
	return c.each(func(one *chat) error {
		page, err := c.client.As(one.members[0]).GetMessages(ctx, client.GetMessages{ConvoID: one.id, Limit: 1})
		if err != nil {
			return err
		}
		if acked := one.acked.Load(); page.LastSeq != acked && c.failed.Load() == 0 {
			return fmt.Errorf("conversation %s has %d messages, and %d were acknowledged", one.id, page.LastSeq, acked)
		}
		return nil
	})
}

// ids returns the conversations' ids.
func (c *crowd) ids() []string {
	ids := make([]string, len(c.convos))
	for i, one := range c.convos {
		ids[i] = one.id
	}
	return ids
}

// served sends a message to each of convos that is of the crowd and returns when
// all were acknowledged.
func (c *crowd) served(ctx context.Context, convos []string) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.convos))
	for i, one := range c.convos {
		if slices.Contains(convos, one.id) {
			wg.Go(func() { errs[i] = c.send(ctx, one, one.members[0]) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}
