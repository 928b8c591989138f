package peer

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
)

// journal notes which changes a handler has seen.
type journal struct{ seen sync.Map }

func (j *journal) handler() *fakeHandler {
	return &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		j.seen.Store(q.Change.ID, true)
		return served(q)
	}}
}

func (j *journal) has(id string) bool {
	_, ok := j.seen.Load(id)
	return ok
}

// The error tells the truth, whatever happens to the connection: a change that
// came back as unreachable or busy was never seen by the handler.
func TestUnreachableMeansNotReceived(t *testing.T) {
	var j journal
	n := startNode(t, j.handler(), nil)
	p := startProxy(t, n.address)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxInFlight, cfg.MaxQueued = 16, 64 })

	var certain, lost, answered atomic.Int64
	ctx, stop := context.WithCancel(testContext(t))
	var refused sync.Map
	var askers, breaker sync.WaitGroup
	for worker := range 50 {
		askers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := strconv.Itoa(worker) + "-" + strconv.Itoa(i)
				size := 200
				if i%50 == 0 {
					size = 2 * bulkSize
				}
				attempt, cancel := context.WithTimeout(context.Background(), time.Duration(1+rand.IntN(100))*time.Millisecond)
				_, err := c.Ask(attempt, p.address(), sendOf(id, size))
				if err != nil {
					<-attempt.Done() // rather than ask in a tight loop
				}
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
					if !j.has(id) {
						t.Errorf("change %s: answered, but never served", id)
					}
				case errors.Is(err, ErrUnreachable), errors.Is(err, ErrBusy):
					certain.Add(1)
					refused.Store(id, err)
				case errors.Is(err, ErrLost):
					lost.Add(1)
				default:
					t.Errorf("change %s: untyped error %v", id, err)
				}
			}
		})
	}
	breaker.Go(func() { // break the connections again and again, each time after some answers
		for range 30 {
			for next := answered.Load() + 50; answered.Load() < next && ctx.Err() == nil; {
				if _, err := c.Ask(ctx, p.address(), epochOf("1")); err != nil && ctx.Err() != nil {
					return
				}
			}
			p.cut()
		}
		stop()
	})
	breaker.Wait()
	askers.Wait()
	n.cut() // and with it, all handlers have ended
	refused.Range(func(id, err any) bool {
		if j.has(id.(string)) {
			t.Errorf("change %v was served, the asker was told %v", id, err)
		}
		return true
	})
	if certain.Load() == 0 || lost.Load() == 0 || answered.Load() == 0 {
		t.Errorf("not all was tried: %d certain, %d lost, %d answered", certain.Load(), lost.Load(), answered.Load())
	}
}

func TestNodeKilledWhileItServes(t *testing.T) {
	begun := make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		begun <- struct{}{}
		<-ctx.Done()
		return served(q)
	}}, nil)
	c := newTestClient(t, nil)
	result := make(chan error, 1)
	go func() {
		_, err := c.Ask(testContext(t), n.address, sendOf("1", 1))
		result <- err
	}()
	<-begun
	n.cut()
	if err := <-result; !errors.Is(err, ErrLost) {
		t.Errorf("the change under way: %v", err)
	}
	for range 3 { // the first finds out, the others are told at once
		if _, err := c.Ask(testContext(t), n.address, sendOf("2", 1)); !errors.Is(err, ErrUnreachable) {
			t.Errorf("the next change: %v", err)
		}
	}
}

// What waits for its turn when the connection ends was never sent, so it takes
// the next connection, or fails at once where there is none.
func TestWaitingQuestionsSurviveTheConnection(t *testing.T) {
	begun, gate := make(chan struct{}, 8), make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		begun <- struct{}{}
		if q.Change.ID == "waiting" {
			return served(q)
		}
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return served(q)
	}}, nil)
	p := startProxy(t, n.address)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxInFlight = 1 })
	ask := func(id string) chan error {
		result := make(chan error, 1)
		go func() {
			_, err := c.Ask(testContext(t), p.address(), sendOf(id, 1))
			result <- err
		}()
		return result
	}
	both := func() (first, waiting chan error) {
		first = ask("first")
		<-begun
		waiting = ask("waiting")
		lane := &c.all()[0].small
		for n := 0; n == 0; runtime.Gosched() { // until it waits
			lane.mu.Lock()
			n = len(lane.queue)
			lane.mu.Unlock()
		}
		return first, waiting
	}

	if _, err := c.Ask(testContext(t), p.address(), epochOf("1")); err != nil {
		t.Fatal(err) // the connection has proved itself: it is worth another
	}
	first, waiting := both()
	p.cut()
	if err := <-first; !errors.Is(err, ErrLost) {
		t.Errorf("cut off, under way: %v", err)
	}
	if err := <-waiting; err != nil {
		t.Fatalf("cut off, waiting: %v", err)
	}
	<-begun

	first, waiting = both()
	stopped := make(chan error, 1)
	go func() { stopped <- n.server.Stop(testContext(t)) }()
	if err := <-waiting; !errors.Is(err, ErrUnreachable) {
		t.Errorf("node stopping, waiting: %v", err)
	}
	close(gate)
	if err := <-first; err != nil {
		t.Errorf("node stopping, under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestFrozenPeer(t *testing.T) {
	var j journal
	n := startNode(t, j.handler(), nil)
	p := startProxy(t, n.address)
	c := newTestClient(t, func(cfg *ClientConfig) {
		cfg.PingInterval, cfg.PingTimeout, cfg.DialTimeout = 20*time.Millisecond, 100*time.Millisecond, 200*time.Millisecond
	})
	if _, err := c.Ask(testContext(t), p.address(), sendOf("before", 1)); err != nil {
		t.Fatal(err)
	}
	p.freeze()
	if _, err := c.Ask(testContext(t), p.address(), sendOf("frozen", 1)); !errors.Is(err, ErrLost) || !errors.Is(err, errSilent) {
		t.Errorf("asked over a connection that froze: %v", err)
	}
	if _, err := c.Ask(testContext(t), p.address(), sendOf("nobody", 1)); !errors.Is(err, ErrUnreachable) {
		t.Errorf("asked a peer that does not react: %v", err)
	}
	p.thaw()
	for { // until the client tries again
		_, err := c.Ask(testContext(t), p.address(), sendOf("after", 1))
		if err == nil {
			break
		}
		if !errors.Is(err, ErrUnreachable) {
			t.Fatalf("after it has thawed: %v", err)
		}
	}
	if j.has("nobody") {
		t.Error("a change that was unreachable was served")
	}
}

// A large question that gets stuck does not hold up small ones, and arrives
// whole in the end.
func TestLargeDoesNotBlockSmall(t *testing.T) {
	sums := make(chan [sha256.Size]byte, 1)
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		if q.Change.ID == "large" {
			sums <- sha256.Sum256(q.Change.Command.(conversation.Send).Ciphertext)
		}
		return served(q)
	}}, nil)
	p := startProxy(t, n.address)
	p.limit = 1 << 20
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.PingTimeout = time.Minute })

	large := sendOf("large", conversation.MaxMessage)
	body := large.Change.Command.(conversation.Send).Ciphertext
	for i := range body {
		body[i] = byte(i * i >> 8)
	}
	result := make(chan error, 1)
	go func() {
		_, err := c.Ask(testContext(t), p.address(), large)
		result <- err
	}()
	<-p.stuck
	for i := range 100 {
		if _, err := c.Ask(testContext(t), p.address(), sendOf(strconv.Itoa(i), 100)); err != nil {
			t.Fatalf("small question %d: %v", i, err)
		}
	}
	select {
	case err := <-result:
		t.Fatalf("the large question was not stuck: %v", err)
	default:
	}
	p.thaw()
	if err := <-result; err != nil {
		t.Fatalf("the large question: %v", err)
	}
	if got := <-sums; got != sha256.Sum256(body) {
		t.Error("the large question arrived otherwise")
	}
}

func TestLargeAndSmallMixed(t *testing.T) {
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		a := served(q)
		a.Result.Seq = int64(len(q.Change.Command.(conversation.Send).Ciphertext))
		return a
	}}, nil)
	c := newTestClient(t, nil)
	var wg sync.WaitGroup
	for i := range 150 {
		size := []int{0, 1000, maxRecord - 100, maxRecord, bulkSize, 300_000, 1 << 20}[i%7]
		wg.Go(func() {
			a, err := c.Ask(testContext(t), n.address, sendOf(strconv.Itoa(i), size))
			if err != nil || a.Result.Seq != int64(size) {
				t.Errorf("change of %d bytes: got %+v, %v", size, a, err)
			}
		})
	}
	wg.Wait()
}

func TestRefusedConnectionFailsFast(t *testing.T) {
	var dials atomic.Int64
	c := newTestClient(t, func(cfg *ClientConfig) {
		cfg.Dial = func(context.Context, string) (net.Conn, error) {
			dials.Add(1)
			return nil, errors.New("connection refused")
		}
	})
	began := time.Now()
	const tried = 1000
	for i := range tried {
		if _, err := c.Ask(testContext(t), "10.0.0.1:1", sendOf(strconv.Itoa(i), 1)); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
	}
	// One attempt at once, and from then on one each half of a growing pause, 25
	// ms at first.
	if most := 2 + int64(time.Since(began)/(firstBackoff/2)); dials.Load() > most {
		t.Errorf("%d attempts to connect for %d questions, at most %d expected", dials.Load(), tried, most)
	}
}
