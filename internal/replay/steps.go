package replay

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"catbird/conversation"
	"catbird/internal/client"
	"catbird/testdata/transcripts"
)

// step takes one recorded step and checks what the service says to it.
func (g *group) step(ctx context.Context, i int, s transcripts.Step) error {
	if g.cfg.BeforeStep != nil {
		err := g.cfg.BeforeStep(ctx, Step{
			Group: g.t.Name, ConvoID: g.t.GroupID, Index: i, Total: len(g.t.Steps), Op: s.Op, By: s.By,
		})
		if err != nil {
			return fmt.Errorf("before it: %w", err)
		}
	}
	switch s.Op {
	case transcripts.CreateConvo:
		return g.createConvo(ctx, i, s)
	case transcripts.AddMembers:
		return g.addMembers(ctx, i, s)
	case transcripts.LeaveConvo:
		return g.leaveConvo(ctx, i, s)
	case transcripts.SendMessage:
		return g.sendMessage(ctx, i, s)
	default:
		return fmt.Errorf("unknown operation %q", s.Op)
	}
}

func (g *group) createConvo(ctx context.Context, i int, s transcripts.Step) error {
	in := client.CreateConvo{GroupID: g.t.GroupID, CipherSuite: g.t.CipherSuite, IdempotencyKey: g.key("step", i)}
	if s.EpochAfter != 0 {
		in.CurrentEpoch = &s.EpochAfter
	}
	convo, err := g.as(s.By).CreateConvo(ctx, in)
	if client.NameOf(err) == conversation.ConvoAlreadyExists {
		return ErrExists
	}
	if err != nil {
		return err
	}
	c := g.check(s.By).at("createConvo")
	g.checkConvo(c, convo, s.EpochAfter, []string{s.By})
	same(c, "unreadCount", convo.UnreadCount, 0)
	return c.err()
}

func (g *group) addMembers(ctx context.Context, i int, s transcripts.Step) error {
	if err := g.fetchKeyPackages(ctx, s); err != nil {
		return err
	}
	hashes := make([]client.KeyPackageHash, len(s.KeyPackageHashes))
	for j, k := range s.KeyPackageHashes {
		hashes[j] = client.KeyPackageHash{DID: k.DID, Hash: k.Hash}
	}
	out, err := g.as(s.By).AddMembers(ctx, client.AddMembers{
		ConvoID: g.t.GroupID, DIDs: s.DIDs, Commit: s.Commit, Welcome: s.Welcome, KeyPackageHashes: hashes,
		IdempotencyKey: g.key("step", i), ExpectedEpoch: &s.EpochBefore,
	})
	if err != nil {
		return err
	}
	if err := g.checkChanged(ctx, s, out); err != nil || len(s.Welcome) == 0 {
		return err
	}
	var eg errgroup.Group
	eg.SetLimit(atOnce)
	for j, did := range s.DIDs {
		eg.Go(func() error { return g.join(ctx, did, i, j == 0) })
	}
	return eg.Wait()
}

// fetchKeyPackages does what whoever adds others does first: fetch their key
// packages. Those that were recorded as used must be among them.
func (g *group) fetchKeyPackages(ctx context.Context, s transcripts.Step) error {
	if len(s.KeyPackageHashes) == 0 {
		return nil
	}
	got, err := g.as(s.By).GetKeyPackages(ctx, s.DIDs, g.t.CipherSuite)
	if err != nil {
		return fmt.Errorf("fetch key packages: %w", err)
	}
	c := g.check(s.By).at("getKeyPackages")
	c.sameSet("missing", got.Missing, nil)
	for _, want := range s.KeyPackageHashes {
		found := false
		for _, k := range got.KeyPackages {
			if k.DID == want.DID && k.Hash == want.Hash {
				found = true
				c.sameBytes("keyPackage of "+k.DID, k.KeyPackage, g.keyPackage(k.Hash))
				same(c, "cipherSuite of "+k.DID, k.CipherSuite, g.t.CipherSuite)
			}
		}
		if !found {
			c.differs("keyPackages", "without that of "+want.DID, want.Hash)
		}
	}
	return c.err()
}

func (g *group) keyPackage(hash string) []byte {
	for _, p := range g.t.People {
		for _, k := range p.KeyPackages {
			if k.SHA256 == hash {
				return k.Data
			}
		}
	}
	return nil
}

// join is what somebody who was added does: fetch the welcome, again if joining
// by it has failed, and confirm it.
func (g *group) join(ctx context.Context, did string, step int, failsFirst bool) error {
	s := g.t.Steps[step]
	c := g.check(did).at("getWelcome after step %d", step)
	for _, success := range []bool{false, true} {
		if !success && !failsFirst {
			continue
		}
		w, err := g.as(did).GetWelcome(ctx, g.t.GroupID)
		if err != nil {
			return fmt.Errorf("%s fetches the welcome: %w", did, err)
		}
		same(c, "convoId", w.ConvoID, g.t.GroupID)
		c.sameBytes("welcome", w.Welcome, s.Welcome)
		same(c, "epoch", w.Epoch, s.EpochAfter)
		same(c, "seq", w.Seq, g.seqOf(step))
		in := client.ConfirmWelcome{ConvoID: g.t.GroupID, Success: success}
		if !success {
			in.ErrorDetails = "replay: fails once, to see the welcome available again"
		}
		confirmed, err := g.as(did).ConfirmWelcome(ctx, in)
		if err != nil {
			return fmt.Errorf("%s confirms the welcome: %w", did, err)
		}
		same(c, "confirmed", confirmed, true)
	}
	return c.err()
}

func (g *group) leaveConvo(ctx context.Context, i int, s transcripts.Step) error {
	out, err := g.as(s.By).LeaveConvo(ctx, client.LeaveConvo{
		ConvoID: g.t.GroupID, TargetDID: s.TargetDID, Commit: s.Commit,
		IdempotencyKey: g.key("step", i), ExpectedEpoch: &s.EpochBefore,
	})
	if client.NameOf(err) == conversation.NotAuthorized {
		return fmt.Errorf("%w (the recorded groups need REMOVE_POLICY=member)", err)
	}
	if err != nil {
		return err
	}
	return g.checkChanged(ctx, s, out)
}

// checkChanged checks the answer to a change, and that the epoch it led to is
// what readers see from then on, whichever node they ask.
func (g *group) checkChanged(ctx context.Context, s transcripts.Step, out client.Changed) error {
	c := g.check(s.By).at("%s", s.Op)
	same(c, "success", out.Success, true)
	same(c, "newEpoch", out.NewEpoch, s.EpochAfter)
	if leaver(s) == s.By && s.Op == transcripts.LeaveConvo {
		return c.err() // not a member any more
	}
	epoch, err := g.as(s.By).GetEpoch(ctx, g.t.GroupID)
	if err != nil {
		return fmt.Errorf("read the epoch: %w", err)
	}
	same(c.at("getEpoch"), "currentEpoch", epoch, s.EpochAfter)
	return c.err()
}

func (g *group) sendMessage(ctx context.Context, i int, s transcripts.Step) error {
	in := client.SendMessage{ConvoID: g.t.GroupID, Ciphertext: s.Ciphertext, Epoch: s.Epoch, SenderDID: s.By}
	if i%2 == 0 { // a client's own id of a message makes its repetition harmless too
		in.MsgID = g.key("step", i)
	} else {
		in.IdempotencyKey = g.key("step", i)
	}
	out, err := g.as(s.By).SendMessage(ctx, in)
	if err != nil {
		return err
	}
	c := g.check(s.By).at("sendMessage")
	same(c, "epoch", out.Epoch, s.Epoch)
	same(c, "seq", out.Seq, g.seqOf(i))
	if out.MessageID == "" {
		c.differs("messageId", "empty", "an id")
	}
	g.sent[g.seqOf(i)] = out
	return c.err()
}

// seqOf returns the number of the row that a step made, 0 for none.
func (g *group) seqOf(step int) int64 {
	for _, r := range g.h.rows {
		if r.step == step {
			return r.seq
		}
	}
	return 0
}

func (g *group) checkConvo(c *checker, got client.Convo, epoch int64, members []string) {
	same(c, "id", got.ID, g.t.GroupID)
	same(c, "groupId", got.GroupID, g.t.GroupID)
	same(c, "creator", got.Creator, g.h.creator)
	same(c, "epoch", got.Epoch, epoch)
	same(c, "cipherSuite", got.CipherSuite, g.t.CipherSuite)
	var dids []string
	for _, m := range got.Members {
		dids = append(dids, m.DID)
		if m.JoinedAt.IsZero() || m.JoinedAt.Before(got.CreatedAt) {
			c.differs("joinedAt of "+m.DID, show(m.JoinedAt), "not before the conversation was created")
		}
	}
	c.sameSet("members", dids, members)
}
