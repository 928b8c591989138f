package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"catbird/internal/client"
)

// ErrStopped says that the run was stopped before the load began.
var ErrStopped = errors.New("stopped before the load began")

// do does the operation o.Op on c and enters in o what became of it. Who adds or
// removes members may do the other of both, or send a message, where there is
// nobody to add or remove.
func (e *Engine) do(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	switch o.Op {
	case AddMembers:
		if !e.doAdd(ctx, rng, c, o) && !e.doLeave(ctx, rng, c, o) {
			e.doSend(ctx, rng, c, o)
		}
	case LeaveConvo:
		if !e.doLeave(ctx, rng, c, o) && !e.doAdd(ctx, rng, c, o) {
			e.doSend(ctx, rng, c, o)
		}
	case Commit:
		e.doCommit(ctx, rng, c, o)
	case GetEpoch:
		e.doGetEpoch(ctx, rng, c, o)
	case GetMessages:
		e.doGetMessages(ctx, rng, c, o)
	case GetCommits:
		e.doGetCommits(ctx, rng, c, o)
	case GetConvos:
		e.doGetConvos(ctx, rng, c, o)
	default:
		e.doSend(ctx, rng, c, o)
	}
}

// change is a change on its way.
type change struct {
	c      *convo
	serial uint32
	built  int64
	before mark
	// rowless: in an MLS group who leaves without a commit leaves no row.
	rowless bool
}

func (e *Engine) begin(c *convo, o *Operation, by string) change {
	o.DID = by
	ch := change{c: c, built: c.builtOn()}
	ch.serial, ch.before = c.books.begin(o.Op, by, ch.built)
	return ch
}

func (ch *change) identity() identity { return identity{ch.c.index, ch.serial} }

// key is the idempotency key, the same for all repetitions of the change.
func (e *Engine) key(ch *change) string {
	return fmt.Sprintf("load-%s-%d-%d", e.runID(), ch.c.index, ch.serial)
}

// commit returns the bytes of the change's commit and, of MLS, the epoch that it
// says it was made for.
func (e *Engine) commit(ch *change) (b []byte, expected *int64) {
	if e.cfg.Payload == MLS {
		expected = &ch.built
	}
	return e.payloads.commit(ch.c.group, ch.identity(), ch.built), expected
}

// settle enters how the change ended.
func (e *Engine) settle(ch *change, o *Operation, r receipt, err error) {
	o.Err = err
	if err == nil {
		o.Epoch, o.Seq = r.epoch, r.seq
		ch.c.moved(r.epoch)
		ch.c.books.acknowledge(ch.serial, ch.before, r, ch.rowless)
		return
	}
	if client.OutcomeUnknown(err) {
		ch.c.books.doubt(ch.serial)
		return
	}
	ch.c.books.refuse(ch.serial, NameError(err).Name)
	var refusal *client.Error
	if conflict(err) && errors.As(err, &refusal) {
		o.Epoch = refusal.CurrentEpoch
		ch.c.books.read(o.Op, ch.before, mark{epoch: refusal.CurrentEpoch, seq: ch.before.seq})
		ch.c.corrected(ch.built, refusal.CurrentEpoch)
	}
}

func (e *Engine) doSend(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	o.Op = SendMessage
	ch := e.begin(c, o, m.did)
	out, err := e.client.As(m.did).SendMessage(ctx, client.SendMessage{
		ConvoID: c.id, Ciphertext: e.payloads.message(c.group, ch.identity(), ch.built), Epoch: ch.built, IdempotencyKey: e.key(&ch),
	})
	e.settle(&ch, o, receipt{id: out.MessageID, seq: out.Seq, epoch: out.Epoch}, err)
}

func (e *Engine) doCommit(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) {
	m := c.borrow(rng)
	defer c.giveBack(m)
	ch := e.begin(c, o, m.did)
	commit, expected := e.commit(&ch)
	out, err := e.client.As(m.did).Commit(ctx, client.MakeCommit{
		ConvoID: c.id, Commit: commit, ExpectedEpoch: expected, IdempotencyKey: e.key(&ch),
	})
	e.settle(&ch, o, receipt{epoch: out.NewEpoch}, err)
}

// doAdd adds somebody, where there is room and somebody to add.
func (e *Engine) doAdd(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) bool {
	did, ok := c.takeNewcomer(e.most())
	if !ok {
		return false
	}
	m := c.borrow(rng)
	defer c.giveBack(m)
	e.add(ctx, c, m, []string{did}, o)
	return true
}

// add adds dids, who are in no list, as m.
func (e *Engine) add(ctx context.Context, c *convo, m *member, dids []string, o *Operation) {
	o.Op = AddMembers
	ch := e.begin(c, o, m.did)
	commit, expected := e.commit(&ch)
	out, err := e.client.As(m.did).AddMembers(ctx, client.AddMembers{
		ConvoID: c.id, DIDs: dids, Commit: commit, Welcome: e.payloads.welcome, ExpectedEpoch: expected, IdempotencyKey: e.key(&ch),
	})
	e.settle(&ch, o, receipt{epoch: out.NewEpoch}, err)
	for _, did := range dids {
		switch {
		case err == nil:
			c.join(did)
		case !client.OutcomeUnknown(err): // else nobody knows where they are
			c.leave(did)
		}
	}
}

// doLeave takes somebody out, where enough are left: they leave by themselves,
// or the creator removes them.
func (e *Engine) doLeave(ctx context.Context, rng *rand.Rand, c *convo, o *Operation) bool {
	leaver := c.takeLeaver(rng, e.least())
	if leaver == nil {
		return false
	}
	creator := c.borrowCreator()
	defer c.giveBack(creator)
	o.Op = LeaveConvo
	in, by := client.LeaveConvo{ConvoID: c.id}, leaver.did
	alone := rng.IntN(2) == 0
	if !alone {
		in.TargetDID, by = leaver.did, creator.did
	}
	ch := e.begin(c, o, by)
	in.IdempotencyKey = e.key(&ch)
	// MLS lets nobody commit their own removal.
	if ch.rowless = alone && e.cfg.Payload == MLS; !ch.rowless {
		in.Commit, in.ExpectedEpoch = e.commit(&ch)
	}
	out, err := e.client.As(by).LeaveConvo(ctx, in)
	e.settle(&ch, o, receipt{epoch: out.NewEpoch}, err)
	switch {
	case err == nil:
		c.leave(leaver.did)
	case !client.OutcomeUnknown(err):
		c.join(leaver.did)
	}
	return true
}
