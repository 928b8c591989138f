package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"catbird/conversation"
	"catbird/delivery"
	"catbird/internal/memstore"
	"catbird/persistence"
)

// What clients see of a conversation is linearizable (I4), whatever goes wrong:
// several nodes with and without actors, on one database, lose sessions, links
// and replies, flags and owners change, and statements land long after everybody
// has given them up. Every history is held to a model of one conversation that
// does one thing after another, and the log to I1, I2 and 'exactly once'.

const (
	histories     = 100
	clients       = 8
	opsPerClient  = 80
	historyConvos = 2
)

var people = []string{alice, bob, carol, "did:plc:dave"}

// sequential is the model's state.
type sequential struct {
	epoch, seq int64
	members    uint8 // bits by people
}

type input struct {
	convo, caller int
	command       conversation.Command // nil: getEpoch
}

type output struct {
	code       conversation.Code // "": success
	epoch, seq int64             // of a success; current epoch of an EpochMismatch
}

// step is the model: is out what in gives in state s, and which state comes
// after?
func step(s sequential, in input, out output) (bool, sequential) {
	me := uint8(1) << in.caller
	if s.members&me == 0 {
		return out.code == conversation.NotMember, s
	}
	next := s
	switch c := in.command.(type) {
	case nil:
		return out.code == "" && out.epoch == s.epoch, s
	case conversation.Send:
		if c.Epoch != s.epoch {
			return out == output{code: conversation.EpochMismatch, epoch: s.epoch}, s
		}
		next.seq++
	case conversation.Commit:
		next.epoch, next.seq = s.epoch+1, s.seq+1
	case conversation.AddMembers:
		who := uint8(1) << slices.Index(people, c.DIDs[0])
		if s.members&who != 0 {
			return out.code == conversation.AlreadyMember, s
		}
		next = sequential{s.epoch + 1, s.seq + 1, s.members | who}
	case conversation.Leave:
		who := uint8(1) << slices.Index(people, c.Target)
		switch {
		case s.members&who == 0:
			return out.code == conversation.TargetNotMember, s
		case who != me && in.caller != 0: // alice is the creator
			return out.code == conversation.NotAuthorized, s
		case s.members == who:
			return out.code == conversation.LastMember, s
		}
		next = sequential{s.epoch + 1, s.seq + 1, s.members &^ who}
	}
	return out == output{epoch: next.epoch, seq: next.seq}, next
}

var model = porcupine.Model{
	Init: func() any { return sequential{members: 0b11} },
	Step: func(state, in, out any) (bool, any) {
		ok, next := step(state.(sequential), in.(input), out.(output))
		return ok, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%T%+v -> %+v", in.(input).command, in, out) },
}

// attempt is one request of a client.
type attempt struct {
	in     input
	req    *conversation.Request // nil: getEpoch
	client int
	call   int64
	ret    int64
	res    conversation.Result
	err    error
}

func TestHistoriesAreLinearizable(t *testing.T) {
	n := uint64(histories)
	if testing.Short() {
		n /= 10
	}
	answered := 0
	for seed := range n {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			var all []attempt
			var h *history
			synctest.Test(t, func(t *testing.T) {
				h = newHistory(t, seed)
				all = h.run()
			})
			answered += h.check(t, all) // out of the bubble: it takes real time
		})
	}
	if all := int(n) * clients * opsPerClient; answered < all/2 {
		t.Errorf("only %d of %d requests were answered", answered, all)
	}
}

// history is one run.
type history struct {
	t     *testing.T
	w     *world
	nodes []*node
	seed  uint64
	clock atomic.Int64
	stop  chan struct{}

	mu  sync.Mutex // of what follows
	rnd *rand.Rand
	out bool   // the database is out of reach
	ill string // the session whose renewals fail
	all []attempt
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, w: newWorld(t), seed: seed, stop: make(chan struct{}), rnd: rand.New(rand.NewPCG(seed, 0))}
	for i := range historyConvos {
		h.w.store.Seed(convoID(i), alice, bob)
	}
	half := delivery.Flags{ActorSystem: true, RolloutPercent: 50}
	for i, f := range []delivery.Flags{on, []delivery.Flags{on, off, half}[seed%3]} {
		// In some runs the nodes know nothing of each other.
		h.nodes = append(h.nodes, h.w.node(string(rune('a'+i)), setup{flags: f, noNetwork: seed%4 == 3, quiet: true}))
	}
	return h
}

// run lets clients and misfortune loose, and returns what the clients saw.
func (h *history) run() []attempt {
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
	}
	return h.all
}

// client makes one request after another, of random nodes.
func (h *history) client(id int) {
	rnd := rand.New(rand.NewPCG(h.seed, uint64(id+1)))
	var epoch [historyConvos]int64 // that it knows
	for range opsPerClient {
		a := attempt{client: id, in: input{convo: rnd.IntN(historyConvos), caller: []int{0, 0, 0, 0, 1, 1, 2, 3}[rnd.IntN(8)]}}
		a.in.command = randomCommand(rnd, epoch[a.in.convo])
		h.try(rnd, &a)
		if a.err == nil {
			epoch[a.in.convo] = max(epoch[a.in.convo], a.res.Epoch)
		}
		var e *conversation.Error
		if errors.As(a.err, &e) && e.Code == conversation.EpochMismatch {
			epoch[a.in.convo] = max(epoch[a.in.convo], e.Current)
		}
		h.mu.Lock()
		h.all = append(h.all, a)
		h.mu.Unlock()
		<-time.After(time.Duration(rnd.IntN(100)) * time.Millisecond)
	}
}

func randomCommand(rnd *rand.Rand, epoch int64) conversation.Command {
	who := people[rnd.IntN(len(people))]
	switch rnd.IntN(20) {
	case 0, 1:
		return add(who)
	case 2:
		return conversation.Leave{Target: who}
	case 3, 4, 5:
		return commit()
	case 6, 7, 8, 9:
		return conversation.Send{Epoch: epoch + int64(rnd.IntN(12)/11), Ciphertext: []byte("x")}
	default:
		return nil
	}
}

func (h *history) try(rnd *rand.Rand, a *attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(50+rnd.IntN(8000))*time.Millisecond)
	defer cancel()
	n, id, caller := h.nodes[rnd.IntN(len(h.nodes))], convoID(a.in.convo), people[a.in.caller]
	a.call = h.clock.Add(1)
	if a.in.command == nil {
		a.res.Epoch, a.err = n.svc.Epoch(ctx, id, caller)
	} else {
		a.req = request(id, caller, a.in.command)
		if rnd.IntN(3) == 0 {
			a.req.Key = newID()
		}
		a.res, a.err = n.svc.Do(ctx, a.req)
	}
	a.ret = h.clock.Add(1)
}

// fault is what becomes of a statement.
func (h *history) fault(c memstore.Call) memstore.Fault {
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
func (h *history) trouble() {
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

func (h *history) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// wait reports whether the run goes on.
func (h *history) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-h.stop:
		return false
	}
}

// resolve says what came of an attempt: its output, whether that came in time,
// and whether it happened at all. What a client does not know, the database
// does.
func (h *history) resolve(t *testing.T, a attempt) (out output, known, happened bool) {
	if a.req == nil {
		if code := conversation.CodeOf(a.err); a.err != nil && code != conversation.NotMember {
			return output{}, true, false
		} else {
			return output{code: code, epoch: a.res.Epoch}, true, true
		}
	}
	stored := h.w.store.Count(a.req.Convo, a.req.ID)
	var e *conversation.Error
	switch {
	case a.err == nil:
		if stored != 1 {
			t.Errorf("acknowledged, and stored %d times: %+v", stored, a)
		}
		return output{epoch: a.res.Epoch, seq: a.res.Seq}, true, true
	case conversation.CodeOf(a.err) == conversation.OutcomeUnknown:
		got, err := h.w.store.Lookup(context.Background(), []string{a.req.Convo}, []persistence.Ref{persistence.RefOf(a.req)})
		if err != nil || got[0] == nil {
			return output{}, false, false
		}
		return output{epoch: got[0].Result.Epoch, seq: got[0].Result.Seq}, false, true
	}
	if stored != 0 {
		t.Errorf("refused with %v, and stored: %+v", a.err, a)
	}
	if !errors.As(a.err, &e) {
		return output{}, true, false // the client's time was up
	}
	switch e.Code {
	case conversation.NotMember, conversation.AlreadyMember, conversation.TargetNotMember, conversation.NotAuthorized, conversation.LastMember:
		return output{code: e.Code}, true, true
	case conversation.EpochMismatch:
		return output{code: e.Code, epoch: e.Current}, true, true
	case conversation.Unavailable, conversation.MailboxFull, conversation.Overloaded:
		return output{}, true, false
	}
	t.Errorf("unexpected error %v", a.err)
	return output{}, true, false
}

// check returns how many attempts had an answer.
func (h *history) check(t *testing.T, all []attempt) (answered int) {
	for i := range historyConvos {
		var ops []porcupine.Operation
		for _, a := range all {
			if a.in.convo != i {
				continue
			}
			out, known, happened := h.resolve(t, a)
			if !happened {
				continue
			}
			op := porcupine.Operation{ClientId: a.client, Input: a.in, Output: out, Call: a.call, Return: a.ret}
			if !known {
				op.Return = 1 << 62
			}
			ops = append(ops, op)
		}
		result, info := porcupine.CheckOperationsVerbose(model, ops, 20*time.Second)
		switch result {
		case porcupine.Illegal:
			t.Errorf("conversation %d: not linearizable: %s", i, picture(t, info))
		case porcupine.Unknown:
			t.Errorf("conversation %d: too many operations at once to tell", i)
		}
		answered += len(ops)
	}
	return answered
}

// picture draws a history that is not linearizable.
func picture(t *testing.T, info porcupine.LinearizationInfo) string {
	path := t.ArtifactDir() + "/history.html"
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		return err.Error()
	}
	return path
}
