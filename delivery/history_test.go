package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/history"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// What clients see of a conversation is linearizable (I4), whatever goes wrong:
// several nodes with and without actors, on one database, lose sessions, links
// and replies, flags and owners change, and statements land long after everybody
// has given them up. Every history is held to the model of package history,
// together with the log as it is in the end, and the log to I1, I2 and 'exactly
// once'; of the nodes that would answer from memory there is one at a time (I5).

const (
	histories     = 100
	clients       = 8
	opsPerClient  = 80
	historyConvos = 2
)

var people = []string{alice, bob, carol, "did:plc:dave"}

func TestHistoriesAreLinearizable(t *testing.T) {
	n := uint64(histories)
	if testing.Short() {
		n /= 10
	}
	answered := 0
	for seed := range n {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			var got history.History
			synctest.Test(t, func(t *testing.T) { got = newRun(t, seed).run() })
			answered += check(t, got) // out of the bubble: it takes real time
		})
	}
	if all := int(n) * clients * opsPerClient; answered < all/2 {
		t.Errorf("only %d of %d requests were answered", answered, all)
	}
}

// run is one run.
type run struct {
	t     *testing.T
	w     *world
	nodes []*node
	seed  uint64
	clock atomic.Int64 // ticks with every look: the bubble's own stands still
	rec   *history.Recorder
	stop  chan struct{}

	mu  sync.Mutex // of what follows
	rnd *rand.Rand
	out bool   // the database is out of reach
	ill string // the session whose renewals fail
}

func newRun(t *testing.T, seed uint64) *run {
	h := &run{t: t, w: newWorld(t), seed: seed, stop: make(chan struct{}), rnd: rand.New(rand.NewPCG(seed, 0))}
	h.rec = history.NewRecorder(history.RecorderConfig{Clock: func() time.Duration { return time.Duration(h.clock.Add(1)) }})
	for i := range historyConvos {
		h.w.store.Seed(convoID(i), alice, bob)
		h.rec.Start(history.Convo{ID: convoID(i), Creator: alice, Members: []string{alice, bob}})
	}
	half := delivery.Flags{ActorSystem: true, RolloutPercent: 50}
	for i, f := range []delivery.Flags{on, []delivery.Flags{on, off, half}[seed%3]} {
		// In some runs the nodes know nothing of each other.
		h.nodes = append(h.nodes, h.w.node(string(rune('a'+i)), setup{flags: f, noNetwork: seed%4 == 3, quiet: true}))
	}
	return h
}

// run lets clients and misfortune loose, and returns what was seen.
func (h *run) run() history.History {
	h.w.store.SetFaults(h.fault)
	var troubled sync.WaitGroup
	troubled.Go(h.trouble)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() { h.client(c) })
	}
	wg.Wait()
	close(h.stop)
	troubled.Wait()
	h.w.store.SetFaults(nil)
	for _, n := range h.nodes {
		n.stop()
	}
	h.w.wg.Wait()
	h.w.store.Wait() // the last zombie has landed
	for i := range historyConvos {
		if err := h.w.store.Check(convoID(i)); err != nil {
			h.t.Error(err)
		}
		h.readLog(convoID(i))
	}
	if err := h.rec.Close(); err != nil {
		h.t.Error(err)
	}
	return h.rec.History()
}

// readLog records what the database holds when all is over.
func (h *run) readLog(convo string) {
	p := h.rec.Invoke(history.Op{Convo: convo, Client: clients, Kind: history.ReadLog})
	var rows []history.Row
	for _, r := range h.w.store.Log(convo) {
		rows = append(rows, history.Row{ID: r.ID, Kind: r.Kind, Sender: r.Sender, Epoch: r.Epoch, Seq: r.Seq, Payload: string(r.Ciphertext)})
	}
	p.Return(history.Output{Outcome: history.Succeeded, Seq: int64(len(rows)), Rows: rows})
}

// client makes one request after another, of random nodes.
func (h *run) client(id int) {
	rnd := rand.New(rand.NewPCG(h.seed, uint64(id+1)))
	var epoch [historyConvos]int64 // that it knows
	for range opsPerClient {
		i := rnd.IntN(historyConvos)
		op := history.Op{Client: id, Convo: convoID(i), Caller: people[[]int{0, 0, 0, 0, 1, 1, 2, 3}[rnd.IntN(8)]]}
		out := h.try(rnd, op, randomCommand(rnd, epoch[i]))
		epoch[i] = max(epoch[i], out.Epoch)
		h.look()
		<-time.After(time.Duration(rnd.IntN(100)) * time.Millisecond)
	}
}

// randomCommand returns a change, or nil: getEpoch. Each has bytes of its own,
// by which it is found in the log.
func randomCommand(rnd *rand.Rand, epoch int64) conversation.Command {
	who, bytes := people[rnd.IntN(len(people))], []byte(newID())
	switch rnd.IntN(20) {
	case 0, 1:
		return conversation.AddMembers{DIDs: []string{who}, Commit: bytes}
	case 2:
		return conversation.Leave{Target: who, Commit: bytes}
	case 3, 4, 5:
		return conversation.Commit{Commit: bytes}
	case 6, 7, 8, 9:
		return conversation.Send{Epoch: epoch + int64(rnd.IntN(12)/11), Ciphertext: bytes}
	default:
		return nil
	}
}

func (h *run) try(rnd *rand.Rand, op history.Op, c conversation.Command) history.Output {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+rnd.IntN(8000))*time.Millisecond)
	defer cancel()
	n := h.nodes[rnd.IntN(len(h.nodes))]
	op.Node = n.name
	op.Kind, op.Input = asked(c)
	var res conversation.Result
	var err error
	if c == nil {
		p := h.rec.Invoke(op)
		res.Epoch, err = n.svc.Epoch(ctx, op.Convo, op.Caller)
		return h.told(p, res, err)
	}
	r := request(op.Convo, op.Caller, c)
	if rnd.IntN(3) == 0 {
		r.Key = newID()
		op.Input.Key = r.Key
	}
	p := h.rec.Invoke(op)
	res, err = n.svc.Do(ctx, r)
	return h.told(p, res, err)
}

func asked(c conversation.Command) (history.Kind, history.Input) {
	switch c := c.(type) {
	case conversation.Send:
		return history.SendMessage, history.Input{Epoch: &c.Epoch, Payload: string(c.Ciphertext)}
	case conversation.Commit:
		return history.Commit, history.Input{Payload: string(c.Commit)}
	case conversation.AddMembers:
		return history.AddMembers, history.Input{DIDs: c.DIDs, Payload: string(c.Commit)}
	case conversation.Leave:
		return history.LeaveConvo, history.Input{DIDs: []string{c.Target}, Payload: string(c.Commit)}
	}
	return history.GetEpoch, history.Input{}
}

// told records an answer.
func (h *run) told(p *history.Pending, res conversation.Result, err error) history.Output {
	out := history.Output{Outcome: history.Succeeded, Epoch: res.Epoch, Seq: res.Seq}
	var e *conversation.Error
	switch {
	case err == nil:
	case errors.As(err, &e):
		out = history.Refusal(e.Code, e.Current)
		if !expected[e.Code] {
			h.t.Errorf("unexpected error %v", err)
		}
	default: // the client's time was up, and nothing was stored
		out = history.Refusal(conversation.Unavailable, 0)
	}
	p.Return(out)
	return out
}

// expected are the refusals that clients may get here.
var expected = map[conversation.Code]bool{
	conversation.NotMember: true, conversation.AlreadyMember: true, conversation.TargetNotMember: true, conversation.NotAuthorized: true,
	conversation.LastMember: true, conversation.EpochMismatch: true, conversation.OutcomeUnknown: true,
	conversation.Unavailable: true, conversation.MailboxFull: true, conversation.Overloaded: true,
}

// look notes which nodes would answer from memory.
func (h *run) look() {
	for _, n := range h.nodes {
		before := h.rec.Now()
		page, _ := n.reg.List(historyConvos, "")
		after := h.rec.Now()
		for _, i := range page {
			if i.Trusted {
				h.rec.Serving(history.Tenure{Convo: i.Convo, Node: n.name, Fence: i.Fence, From: after, To: before})
			}
		}
	}
}

// fault is what becomes of a statement.
func (h *run) fault(c memstore.Call) memstore.Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out || (c.Op == memstore.RenewSession && c.Session == h.ill) {
		return memstore.Fault{Fate: memstore.Refused}
	}
	ms := func(n int) time.Duration { return time.Duration(h.rnd.IntN(n)) * time.Millisecond }
	f := memstore.Fault{Before: ms(10), After: ms(10)}
	if h.rnd.IntN(4) == 0 { // long enough for others to see what this one has done
		f.After = ms(300)
	}
	switch h.rnd.IntN(60) {
	case 0:
		f.Fate = memstore.ReplyLost
	case 1:
		f.Fate = memstore.RequestLost
	case 2:
		f.Fate, f.Before = memstore.RunsLater, ms(10_000)
	case 3:
		f.Before = ms(8000) // longer than anybody waits
	case 4:
		f.Fate, f.Err = memstore.Refused, persistence.ErrUnavailable
	case 5:
		if c.Op == memstore.Append || c.Op == memstore.Claim || c.Op == memstore.Lookup {
			f.Fate = memstore.PanicsAfter
		}
	}
	return f
}

// trouble strikes again and again until the clients are done.
func (h *run) trouble() {
	for {
		h.mu.Lock()
		kind, pause := h.rnd.IntN(7), time.Duration(h.rnd.IntN(1500))*time.Millisecond
		n, other := h.nodes[h.rnd.IntN(len(h.nodes))], h.nodes[h.rnd.IntN(len(h.nodes))]
		id, l, flag := convoID(h.rnd.IntN(historyConvos)), link(h.rnd.IntN(5)), h.rnd.IntN(3)
		h.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		switch kind {
		case 0: // a short outage
			h.set(func() { h.out = true })
			h.wait(pause)
			h.set(func() { h.out = false })
		case 1: // a node cannot renew for longer than its ttl
			if s := n.keeper.Current(); s != nil {
				h.set(func() { h.ill = s.ID() })
				h.wait(ttl + 2*time.Second)
				h.set(func() { h.ill = "" })
			}
		case 2:
			_ = n.reg.Release(ctx, id)
		case 3:
			_ = n.svc.SetFlags(ctx, []delivery.Flags{on, off, {ActorSystem: true, RolloutPercent: 50}}[flag])
		case 4:
			h.w.setOwner(id, other.name)
		case 5:
			h.w.link(n.name, other.name, l)
		case 6:
			h.w.link(n.name, other.name, up)
		}
		cancel()
		if !h.wait(pause) {
			return
		}
	}
}

func (h *run) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// wait reports whether the run goes on.
func (h *run) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-h.stop:
		return false
	}
}

// check returns how many requests had an answer that says something.
func check(t *testing.T, h history.History) (answered int) {
	r, err := history.Check(t.Context(), h, history.CheckConfig{PerConvo: 20 * time.Second, Dir: t.ArtifactDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range r.Violations {
		t.Error(v)
	}
	for _, one := range r.Results {
		if one.Verdict == history.Undecided {
			t.Errorf("conversation %s: too many operations at once to tell", one.Convo)
		}
		answered += one.Ops
	}
	return answered
}
