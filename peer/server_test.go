package peer

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/conversation"
)

// A planned restart under load: whatever the node has received is answered, and
// whatever it has not is known to be so.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	const workers = 50
	for range 3 {
		var j journal
		n := startNode(t, j.handler(), nil)
		c := newTestClient(t, nil)
		var answered, refused atomic.Int64
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				for i := 0; ; i++ {
					id := strconv.Itoa(worker) + "-" + strconv.Itoa(i)
					size := 100
					if i%20 == 0 {
						size = 2 * bulkSize
					}
					_, err := c.Ask(testContext(t), n.address, sendOf(id, size))
					switch {
					case err == nil:
						answered.Add(1)
						continue
					case !errors.Is(err, ErrUnreachable):
						t.Errorf("change %s: %v", id, err)
					case j.has(id):
						t.Errorf("change %s was served, the asker was told %v", id, err)
					}
					refused.Add(1)
					return
				}
			})
		}
		for answered.Load() < 500 {
			if _, err := c.Ask(testContext(t), n.address, epochOf("1")); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.server.Stop(testContext(t)); err != nil {
			t.Errorf("stopping: %v", err)
		}
		wg.Wait()
		if refused.Load() != workers {
			t.Errorf("%d of %d were refused in the end", refused.Load(), workers)
		}
	}
}

func TestStopDeliversWhatIsUnderWay(t *testing.T) {
	const under = 200
	begun, gate := make(chan struct{}, under), make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		begun <- struct{}{}
		<-gate
		return served(q)
	}}, nil)
	c := newTestClient(t, nil)
	results := make(chan error, under)
	for i := range under {
		go func() {
			a, err := c.Ask(testContext(t), n.address, sendOf(strconv.Itoa(i), 1))
			if err == nil && !a.Draining {
				err = errors.New("the answer does not say that the node is draining")
			}
			results <- err
		}()
	}
	for range under {
		<-begun
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.server.Stop(testContext(t)) }()
	for { // until the node takes no more
		_, err := c.Ask(testContext(t), n.address, epochOf("1"))
		if errors.Is(err, ErrUnreachable) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("stopped with questions under way: %v", err)
	default:
	}
	close(gate)
	for range under {
		if err := <-results; err != nil {
			t.Errorf("question under way: %v", err)
		}
	}
	if err := <-stopped; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if err := n.server.Stop(testContext(t)); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestStopCutsOffWhenItsTimeIsUp(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		close(begun)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return served(q)
	}}, nil)
	c := newTestClient(t, nil)
	result := make(chan error, 1)
	go func() {
		_, err := c.Ask(testContext(t), n.address, sendOf("1", 1))
		result <- err
	}()
	<-begun
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Millisecond)
	defer cancel()
	if err := n.server.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopping: %v", err)
	}
	if err := <-ended; !errors.Is(err, errStopping) {
		t.Errorf("the handler's context ended for %v", err)
	}
	if err := <-result; !errors.Is(err, ErrLost) {
		t.Errorf("question under way: %v", err)
	}
}

func TestDrainingIsSaid(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	c := newTestClient(t, nil)
	for _, draining := range []bool{false, true, false} {
		n.server.SetDraining(draining)
		for _, q := range []Question{epochOf("1"), sendOf("1", 1)} {
			a, err := c.Ask(testContext(t), n.address, q)
			if err != nil || a.Draining != draining || a.Status != Served {
				t.Errorf("draining %v: got %+v, %v", draining, a, err)
			}
		}
	}
}

func TestHandlerThatPanics(t *testing.T) {
	n := startNode(t, &fakeHandler{
		serve: func(context.Context, Question) Answer { panic("a fault") },
		tryEpoch: func(convo, _ string) (int64, bool, error) {
			if convo == "slow" {
				return 0, false, nil
			}
			panic("a fault")
		},
	}, nil)
	c := newTestClient(t, nil)
	for _, tt := range []struct {
		q    Question
		want conversation.Code
	}{
		{sendOf("1", 1), conversation.OutcomeUnknown}, // it may have been stored
		{epochOf("fast"), conversation.InternalServerError},
		{epochOf("slow"), conversation.InternalServerError},
	} {
		a, err := c.Ask(testContext(t), n.address, tt.q)
		if err != nil || a.Status != Refused || a.Refusal.Code != tt.want {
			t.Errorf("got %+v, %v; want %s", a, err, tt.want)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for _, a := range []Answer{{}, {Status: 99}, {Status: Refused}} {
		n := startNode(t, &fakeHandler{serve: func(context.Context, Question) Answer { return a }}, nil)
		c := newTestClient(t, nil)
		got, err := c.Ask(testContext(t), n.address, sendOf("1", 1))
		if err != nil || got.Status != Refused || got.Refusal.Code != conversation.InternalServerError {
			t.Errorf("%+v became %+v, %v", a, got, err)
		}
	}
}

func TestNodeIsBoundedInBytes(t *testing.T) {
	begun, gate := make(chan struct{}, 8), make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		begun <- struct{}{}
		<-gate
		return served(q)
	}}, func(cfg *ServerConfig) { cfg.MaxBytes = 300_000 })
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.PingInterval = 5 * time.Second })
	results := make(chan error, 1)
	go func() {
		_, err := c.Ask(testContext(t), n.address, sendOf("first", 290_000))
		results <- err
	}()
	<-begun
	// Small ones in one lane, large ones in the other, those that fit into one
	// record and those that do not.
	for _, size := range []int{12_000, 50_000, 200_000} {
		began := time.Now()
		if _, err := c.Ask(testContext(t), n.address, sendOf("second", size)); !errors.Is(err, ErrBusy) {
			t.Errorf("%d bytes more: %v", size, err)
		}
		if took := time.Since(began); took >= c.cfg.PingInterval {
			t.Errorf("%d bytes more: told so after %v, by a ping", size, took)
		}
	}
	close(gate)
	if err := <-results; err != nil {
		t.Errorf("the first: %v", err)
	}
	for range 3 { // nothing stays reserved
		if _, err := c.Ask(testContext(t), n.address, sendOf("third", 290_000)); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
	}
	if left := n.server.bytes.Load(); left != 0 {
		t.Errorf("%d bytes stay reserved", left)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	n := startNode(t, &fakeHandler{}, func(cfg *ServerConfig) { cfg.MaxStreams = 1 })
	first, second := newTestClient(t, nil), newTestClient(t, nil)
	if _, err := first.Ask(testContext(t), n.address, epochOf("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Ask(testContext(t), n.address, epochOf("1")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a second stream: %v", err)
	}
	if _, err := first.Ask(testContext(t), n.address, epochOf("1")); err != nil {
		t.Errorf("the first one, again: %v", err)
	}
}

// wire is a client's end of a stream for tests that speak it themselves.
type wire struct {
	t *testing.T
	s *session
}

func openWire(t *testing.T, address string) wire {
	t.Helper()
	s, err := newTestClient(t, nil).connect(testContext(t), address, purposeSmall)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return wire{t, s}
}

func (w wire) send(fill func(*outbox)) {
	w.t.Helper()
	var o outbox
	fill(&o)
	if err := w.s.writer.flush(&o); err != nil {
		w.t.Fatal(err)
	}
}

func (w wire) expect(kind frameKind, id uint64) frame {
	w.t.Helper()
	f, err := w.s.frames.next()
	if err != nil || f.kind != kind || f.id != id {
		w.t.Fatalf("got frame %+v, %v; want kind %d, id %d", f, err, kind, id)
	}
	return f
}

// What a later version may say.
func TestUnknownFramesAreSteppedOver(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	w := openWire(t, n.address)
	w.send(func(o *outbox) {
		put(o, 33, 1, []byte("no question"))
		put(o, 33, 1, make([]byte, 3*maxRecord))
		put(o, questionBit|33, 2, []byte("a question"))
		put(o, questionBit|33, 3, make([]byte, 3*maxRecord))
		put(o, kindChange, 4, appendString(appendString(nil, fieldConvo, "1"), fieldSend+1, "a command"))
		o.add(kindPing, 5)
	})
	for id := uint64(2); id <= 4; id++ {
		a, err := decodeAnswer(w.expect(kindAnswer, id).body)
		if err != nil || a.Status != statusUnsupported {
			t.Errorf("question %d: got %+v, %v", id, a, err)
		}
	}
	w.expect(kindPong, 5)
	if left := n.server.bytes.Load(); left != 0 {
		t.Errorf("%d bytes stay reserved", left)
	}
}

func TestClientThatExceedsItsWindow(t *testing.T) {
	gate := make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		<-gate
		return served(q)
	}}, func(cfg *ServerConfig) { cfg.MaxInFlight = 2 })
	w := openWire(t, n.address)
	q := sendOf("1", 1)
	w.send(func(o *outbox) {
		for id := range uint64(5) {
			put(o, kindChange, id, appendQuestion(nil, &q, time.Minute))
		}
	})
	if a, err := decodeAnswer(w.expect(kindAnswer, 4).body); err != nil || a.Status != statusBusy {
		t.Errorf("got %+v, %v", a, err)
	}
	close(gate)
	for range 4 {
		f, err := w.s.frames.next()
		if err != nil {
			t.Fatal(err)
		}
		if a, err := decodeAnswer(f.body); err != nil || a.Status != Served {
			t.Errorf("question %d: got %+v, %v", f.id, a, err)
		}
	}
}

func TestFinishIsAnsweredWithBye(t *testing.T) {
	gate := make(chan struct{})
	n := startNode(t, &fakeHandler{serve: func(_ context.Context, q Question) Answer {
		<-gate
		return served(q)
	}}, nil)
	w := openWire(t, n.address)
	q := sendOf("1", 1)
	w.send(func(o *outbox) {
		put(o, kindChange, 1, appendQuestion(nil, &q, time.Minute))
		o.add(kindFinish, 0)
		o.add(kindPing, 9) // still allowed
	})
	w.expect(kindPong, 9)
	close(gate)
	w.expect(kindAnswer, 1)
	w.expect(kindBye, 0)
}

func TestPeersThatBreakTheRules(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	n := startNode(t, &fakeHandler{serve: func(ctx context.Context, q Question) Answer {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return served(q)
	}}, nil)
	q, e := sendOf("1", 1), epochOf("1")
	change := appendQuestion(nil, &q, time.Minute)
	for name, fill := range map[string]func(*outbox){
		"an id twice": func(o *outbox) {
			put(o, kindChange, 1, change)
			put(o, kindChange, 1, change)
		},
		"a question after the last": func(o *outbox) {
			put(o, kindChange, 1, change)
			o.add(kindFinish, 0)
			put(o, kindChange, 2, change)
		},
		"a malformed change":      func(o *outbox) { put(o, kindChange, 1, []byte{0xff}) },
		"a malformed epoch query": func(o *outbox) { put(o, kindEpoch, 1, append(appendQuestion(nil, &e, 1), 0xff)) },
	} {
		w := openWire(t, n.address)
		w.send(fill)
		if f, err := w.s.frames.next(); err == nil {
			t.Errorf("%s: got frame %+v", name, f)
		}
	}
	n.cut()
	if left := n.server.bytes.Load(); left != 0 {
		t.Errorf("%d bytes stay reserved", left)
	}
}

func TestLargeQuestionThatNeverArrives(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	w := openWire(t, n.address)
	var o outbox
	put(&o, kindChange, 1, make([]byte, 10*maxRecord))
	var half outbox
	half.plain = o.plain[:5*maxRecord]
	half.cuts = o.cuts[:5]
	w.send(func(o *outbox) { o.add(kindPing, 7) })
	w.expect(kindPong, 7)
	if err := w.s.writer.flush(&half); err != nil {
		t.Fatal(err)
	}
	for n.server.bytes.Load() == 0 { // until the node has begun to read it
		runtime.Gosched()
	}
	w.s.close()
	n.cut() // waits for the stream
	if left := n.server.bytes.Load(); left != 0 {
		t.Errorf("%d bytes stay reserved", left)
	}
}

// A client that does not take its answers is not read from any more.
func TestClientThatDoesNotRead(t *testing.T) {
	var asked atomic.Int64
	n := startNode(t, &fakeHandler{tryEpoch: func(string, string) (int64, bool, error) {
		asked.Add(1)
		return 0, true, conversation.Refuse(conversation.Unavailable, "%s", string(make([]byte, maxMessageText)))
	}}, func(cfg *ServerConfig) { cfg.WriteTimeout = 200 * time.Millisecond })
	w := openWire(t, n.address)
	var err error
	for i := uint64(0); err == nil && i < 1<<20; i++ { // 2 GiB of answers
		var o outbox
		for range 100 {
			put(&o, kindEpoch, i, appendString(nil, fieldConvo, "1"))
		}
		err = w.s.writer.flush(&o)
	}
	if err == nil {
		t.Errorf("%d questions were read from a client that reads nothing", asked.Load())
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := startNode(t, &fakeHandler{}, func(cfg *ServerConfig) { cfg.Registerer = reg })
	c := newTestClient(t, func(cfg *ClientConfig) { cfg.Registerer = reg })
	for _, q := range []Question{epochOf("1"), epochOf("1"), sendOf("1", 1)} {
		if _, err := c.Ask(testContext(t), n.address, q); err != nil {
			t.Fatal(err)
		}
	}
	m := c.metrics.peer("b")
	got := []float64{
		testutil.ToFloat64(m.asks[0][outcomeServed]), testutil.ToFloat64(m.asks[1][outcomeServed]), testutil.ToFloat64(m.up),
		testutil.ToFloat64(n.server.metrics.questions[0][outcomeServed]), testutil.ToFloat64(n.server.metrics.questions[1][outcomeServed]),
		testutil.ToFloat64(n.server.metrics.streams), testutil.ToFloat64(n.server.metrics.inFlight),
	}
	if want := []float64{2, 1, 1, 2, 1, 1, 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if testutil.ToFloat64(m.sent) == 0 || testutil.ToFloat64(m.received) == 0 {
		t.Error("no bytes were counted")
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestPeerLabelsAreBounded(t *testing.T) {
	m := newClientMetrics(nil)
	for i := range maxPeerLabels + 50 {
		m.peer(strconv.Itoa(i))
	}
	if n := testutil.CollectAndCount(m.queued); n > maxPeerLabels+1 {
		t.Errorf("%d series", n)
	}
	if m.peer("one more") != m.peer("and another") {
		t.Error("what is beyond the bound has labels of its own")
	}
}

// The stream works behind what wraps the ResponseWriter, if that unwraps.
func TestBehindMiddleware(t *testing.T) {
	n := startNode(t, &fakeHandler{}, nil)
	wrapped := startNode(t, &fakeHandler{}, nil)
	wrapped.address = serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.server.ServeHTTP(unwrapper{w}, r)
	}))
	c := newTestClient(t, nil)
	if _, err := c.Ask(testContext(t), wrapped.address, epochOf("1")); err != nil {
		t.Error(err)
	}
}

type unwrapper struct{ http.ResponseWriter }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }
