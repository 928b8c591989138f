package peer

import (
	"bytes"
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"catbird/conversation"
)

func TestAnswers(t *testing.T) {
	answers := map[string]Answer{
		"served":       served(sendOf("served", 1)),
		"refused":      {Status: Refused, Refusal: &conversation.Error{Code: conversation.EpochMismatch, Message: "m", Expected: 3, Current: 5}},
		"not mine":     {Status: NotMine, Holder: Holder{Node: "c", Address: "10.0.0.3:8081", Session: "s", Fence: 9}},
		"nobody knows": {Status: NotMine},
		"moving":       {Status: Moving, Draining: true},
	}
	n := startNode(t, &fakeHandler{
		serve:    func(_ context.Context, q Question) Answer { return answers[q.Subject()] },
		tryEpoch: func(string, string) (int64, bool, error) { return 0, false, nil },
	}, nil)
	c := newTestClient(t, nil)
	for name, want := range answers {
		change := sendOf(name, 10)
		change.Change.Convo = name
		for _, q := range []Question{change, epochOf(name)} {
			got, err := c.Ask(testContext(t), n.address, q)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
			}
		}
	}
}

func TestQuestionArrivesWhole(t *testing.T) {
	expected := int64(0)
	big := bytes.Repeat([]byte("catbird "), (conversation.MaxMessage-8)/8)
	commands := []conversation.Command{
		conversation.AddMembers{
			DIDs: []string{"did:plc:bob", "did:web:carol.example"}, Commit: big, Welcome: big,
			KeyPackages: []conversation.KeyPackageRef{{DID: "did:plc:bob", Hash: bytes.Repeat([]byte{9}, 32)}}, Expected: &expected,
		},
		conversation.Leave{Target: "did:plc:bob"},
		conversation.Commit{Commit: []byte{1}, Expected: &expected},
		conversation.Send{Ciphertext: big, Epoch: 3, ClientID: "c", EmbedType: "t", EmbedURI: "u"},
		conversation.Send{Ciphertext: big[:70_000]},
	}
	got := make(chan Question, 1)
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		got <- q
		return served(q)
	}}, nil)
	c := newTestClient(t, nil)
	for _, command := range commands {
		q := Question{
			MustServe: true, RequestID: "r", Traceparent: "t",
			Change: &conversation.Request{
				ID: "id", Convo: "00aa", Caller: "did:plc:alice", Key: "key", Digest: []byte{1}, Retry: true, Command: command,
			},
		}
		if _, err := c.Ask(testContext(t), n.address, q); err != nil {
			t.Fatalf("%T: %v", command, err)
		}
		if g := <-got; !reflect.DeepEqual(g, q) {
			t.Errorf("%T of %d bytes: arrived otherwise", command, command.Size())
		}
	}
}

// An epoch query that is traced goes the way that makes a span, however fast the
// other would be.
func TestRecordedEpochQueryIsServed(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
	asked := make(chan Question, 1)
	n := startNode(t, &fakeHandler{
		serve: func(_ context.Context, q Question) Answer {
			asked <- q
			return Answer{Status: Served, Epoch: 8}
		},
		tryEpoch: func(string, string) (int64, bool, error) { return 7, true, nil },
	}, nil)
	c := newTestClient(t, nil)
	for traceparent, want := range map[string]int64{
		"": 7, trace + "00": 7, trace + "02": 7, trace + "01": 8, trace + "03": 8, trace + "ff": 8, trace + "1": 7, "1": 7,
	} {
		q := epochOf("00aa")
		q.RequestID, q.Traceparent = "r", traceparent
		a, err := c.Ask(testContext(t), n.address, q)
		if err != nil || a.Epoch != want {
			t.Errorf("%q is answered with %+v, %v, want epoch %d", traceparent, a, err, want)
		}
		if want != 8 {
			continue
		}
		if got := <-asked; !reflect.DeepEqual(got, q) {
			t.Errorf("arrived as %+v", got)
		}
	}
}

func TestEpochFastPath(t *testing.T) {
	n := startNode(t, &fakeHandler{
		serve: func(context.Context, Question) Answer { panic("must not be asked") },
		tryEpoch: func(convo, caller string) (int64, bool, error) {
			switch caller {
			case "did:plc:alice":
				return 42, true, nil
			case "did:plc:mallory":
				return 0, true, conversation.Refuse(conversation.NotMember, "no")
			default:
				return 0, true, errors.New("the handler is broken")
			}
		},
	}, nil)
	c := newTestClient(t, nil)
	ask := func(caller string) Answer {
		a, err := c.Ask(testContext(t), n.address, Question{Convo: "00aa", Caller: caller})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask("did:plc:alice"); a.Status != Served || a.Epoch != 42 {
		t.Errorf("a member: got %+v", a)
	}
	if a := ask("did:plc:mallory"); a.Status != Refused || a.Refusal.Code != conversation.NotMember {
		t.Errorf("no member: got %+v", a)
	}
	if a := ask("did:plc:bob"); a.Status != Refused || a.Refusal.Code != conversation.InternalServerError {
		t.Errorf("a failure: got %+v", a)
	}
}

func TestThousandsAtOnce(t *testing.T) {
	n := startNode(t, &fakeHandler{
		serve: func(_ context.Context, q Question) Answer {
			a := served(q)
			a.Result.Seq = int64(len(q.Change.Command.(conversation.Send).Ciphertext))
			return a
		},
		tryEpoch: func(convo, _ string) (int64, bool, error) {
			epoch, err := strconv.ParseInt(convo, 10, 64)
			return epoch, true, err
		},
	}, nil)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxInFlight = 300 })
	var wg sync.WaitGroup
	for i := range 3000 {
		wg.Go(func() {
			a, err := c.Ask(testContext(t), n.address, epochOf(strconv.Itoa(i)))
			if err != nil || a.Epoch != int64(i) {
				t.Errorf("epoch query %d: got %+v, %v", i, a, err)
			}
			size := i
			if i%100 == 0 {
				size = 100 * i // some in the other lane
			}
			a, err = c.Ask(testContext(t), n.address, sendOf(strconv.Itoa(i), size))
			if err != nil || a.Result.ID != strconv.Itoa(i) || a.Result.Seq != int64(size) {
				t.Errorf("change %d: got %+v, %v", i, a, err)
			}
		})
	}
	wg.Wait()
}

func TestWindowOfTheServerIsKept(t *testing.T) {
	const window = 2
	var now, most atomic.Int64
	gate := make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		most.Store(max(most.Load(), now.Add(1)))
		<-gate
		now.Add(-1)
		return served(q)
	}}, func(cfg *ServerConfig) { cfg.MaxInFlight = window })
	c := newTestClient(t, nil)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := c.Ask(testContext(t), n.address, sendOf(strconv.Itoa(i), 1)); err != nil {
				t.Errorf("question %d: %v", i, err)
			}
		})
	}
	for range 10 {
		gate <- struct{}{}
	}
	wg.Wait()
	if m := most.Load(); m > window {
		t.Errorf("%d questions at once, the window is %d", m, window)
	}
}

func TestGivingUp(t *testing.T) {
	begun, ended := make(chan string, 8), make(chan error, 8)
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		begun <- q.Change.ID
		if q.Change.ID == "quick" {
			return served(q)
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return served(q)
	}}, nil)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxInFlight = 1 })

	ctx, cancel := context.WithCancel(testContext(t))
	first := make(chan error, 1)
	go func() {
		_, err := c.Ask(ctx, n.address, sendOf("slow", 1))
		first <- err
	}()
	<-begun

	waiting, give := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer give()
	_, err := c.Ask(waiting, n.address, sendOf("waiting", 1))
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("given up while it waited for its turn: %v", err)
	}
	cancel()
	if err := <-first; !errors.Is(err, ErrLost) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up while it was served: %v", err)
	}
	<-ended // the node heard of it
	if _, err := c.Ask(testContext(t), n.address, sendOf("quick", 1)); err != nil {
		t.Errorf("after that: %v", err)
	}
	if id := <-begun; id != "quick" {
		t.Errorf("the node was asked %q", id)
	}
	if _, err := c.Ask(ctx, n.address, sendOf("late", 1)); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestDeadlineTravels(t *testing.T) {
	left := make(chan time.Duration, 1)
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		<-ctx.Done()
		return Answer{Status: Moving}
	}}, func(cfg *ServerConfig) { cfg.MaxWait = 300 * time.Millisecond })
	c := newTestClient(t, nil)

	ctx, cancel := context.WithTimeout(testContext(t), 50*time.Millisecond)
	defer cancel()
	_, err := c.Ask(ctx, n.address, sendOf("1", 1))
	if err != nil && !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if l := <-left; l <= 0 || l > 50*time.Millisecond {
		t.Errorf("of 50 ms, %v were left at the node", l)
	}
	if _, err := c.Ask(context.Background(), n.address, sendOf("2", 1)); err != nil {
		t.Errorf("without a deadline: %v", err)
	}
	if l := <-left; l <= 50*time.Millisecond || l > 300*time.Millisecond {
		t.Errorf("without a deadline, %v were left at the node", l)
	}
}

// blockedDial returns a Dial that blocks until release is called.
func blockedDial() (dial func(context.Context, string) (net.Conn, error), release func()) {
	gate := make(chan struct{})
	return func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case <-gate:
			return nil, errors.New("refused, at last")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, func() { close(gate) }
}

func TestQueueIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*ClientConfig)
		size int
		fit  int
	}{
		{"in number", func(cfg *ClientConfig) { cfg.MaxQueued = 5 }, 10, 5},
		{"in bytes", func(cfg *ClientConfig) { cfg.MaxQueuedBytes = 5000 }, 1100, 3},
		{"but for one large question", func(cfg *ClientConfig) { cfg.MaxQueuedBytes = 5000 }, 9000, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dial, release := blockedDial()
			c := newTestClient(t, func(cfg *ClientConfig) {
				cfg.Dial, cfg.DialTimeout = dial, time.Minute
				tt.edit(cfg)
			})
			const tried = 12
			results := make(chan error, tried)
			for i := range tried {
				go func() {
					_, err := c.Ask(testContext(t), "10.0.0.1:1", sendOf(strconv.Itoa(i), tt.size))
					results <- err
				}()
			}
			for range tried - tt.fit {
				if err := <-results; !errors.Is(err, ErrBusy) {
					t.Errorf("above the bound: %v", err)
				}
			}
			release()
			for range tt.fit {
				if err := <-results; !errors.Is(err, ErrUnreachable) {
					t.Errorf("within the bound: %v", err)
				}
			}
		})
	}
}

func TestPeersAreBounded(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxPeers = 1 })
	if _, err := c.Ask(testContext(t), n.address, epochOf("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ask(testContext(t), "127.0.0.1:1", epochOf("1")); !errors.Is(err, ErrBusy) {
		t.Errorf("a second peer: %v", err)
	}
	if _, err := c.Ask(testContext(t), n.address, epochOf("1")); err != nil {
		t.Errorf("the first one, again: %v", err)
	}
}

func TestWhatCannotBeSent(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, nil)
	huge := sendOf("huge", maxQuestion)
	none := sendOf("none", 1)
	none.Change.Command = nil
	for name, q := range map[string]Question{"too large": huge, "no command": none} {
		if _, err := c.Ask(testContext(t), n.address, q); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClose(t *testing.T) {
	begun, gate := make(chan struct{}), make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		begun <- struct{}{}
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return served(q)
	}}, nil)
	start := func(c *Client) chan error {
		result := make(chan error, 1)
		go func() {
			_, err := c.Ask(testContext(t), n.address, sendOf("1", 1))
			result <- err
		}()
		<-begun
		return result
	}

	t.Run("waits for what is under way", func(t *testing.T) {
		c := newTestClient(t, nil)
		result := start(c)
		closed := make(chan error, 1)
		go func() { closed <- c.Close(testContext(t)) }()
		for { // until the client has begun to close
			_, err := c.Ask(testContext(t), n.address, epochOf("1"))
			if errors.Is(err, ErrClosed) && errors.Is(err, ErrUnreachable) {
				break
			}
		}
		gate <- struct{}{}
		if err := <-result; err != nil {
			t.Errorf("question under way: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	t.Run("cuts off when its time is up", func(t *testing.T) {
		c := newTestClient(t, nil)
		result := start(c)
		ctx, cancel := context.WithCancel(testContext(t))
		cancel()
		if err := c.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("closing: %v", err)
		}
		if err := <-result; !errors.Is(err, ErrLost) || !errors.Is(err, ErrClosed) {
			t.Errorf("question under way: %v", err)
		}
	})
}

func TestConfigurationsThatCannotBeUsed(t *testing.T) {
	good := ClientConfig{Secret: testSecret, Self: "a", Logger: discard()}
	for name, edit := range map[string]func(*ClientConfig){
		"no secret":    func(c *ClientConfig) { c.Secret = nil },
		"no name":      func(c *ClientConfig) { c.Self = "" },
		"long name":    func(c *ClientConfig) { c.Self = string(make([]byte, maxName+1)) },
		"long version": func(c *ClientConfig) { c.Version = string(make([]byte, maxName+1)) },
		"no logger":    func(c *ClientConfig) { c.Logger = nil },
	} {
		cfg := good
		edit(&cfg)
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("client: %s: accepted", name)
		}
		server := ServerConfig{Handler: &fakeHandler{}, Secret: cfg.Secret, Self: cfg.Self, Version: cfg.Version, Logger: cfg.Logger}
		if _, err := NewServer(server); err == nil {
			t.Errorf("server: %s: accepted", name)
		}
	}
	if _, err := NewServer(ServerConfig{Secret: testSecret, Self: "a", Logger: discard()}); err == nil {
		t.Error("server: no handler: accepted")
	}
}
