package memstore

import (
	"context"
	"strings"

	"catbird/conversation"
	"catbird/internal/broken"
	"catbird/persistence"
)

// Claim claims each of ids for a session and loads it.
func (s *Store) Claim(ctx context.Context, session string, ids []string) ([]persistence.Claimed, error) {
	return exec(ctx, s, Call{Op: Claim, Session: session, Convos: ids}, func() ([]persistence.Claimed, error) {
		if s.live(session) == nil {
			return nil, persistence.ErrSessionOver
		}
		out := make([]persistence.Claimed, len(ids))
		for i, id := range ids {
			out[i] = s.claim(session, id)
		}
		return out, nil
	})
}

func (s *Store) claim(session, id string) persistence.Claimed {
	out := persistence.Claimed{Convo: id, Outcome: persistence.ClaimNotFound}
	c := s.convos[id]
	if c == nil {
		return out
	}
	if h, held := s.holder(c); held && h.Session != session {
		out.Outcome, out.Holder = persistence.ClaimHeld, h
		return out
	}
	if !broken.Is(broken.ReloadKeepsFence) || c.session != session {
		c.fence++
	}
	c.session = session
	out.Outcome, out.State, out.Fence = persistence.ClaimGranted, fresh(c.state), c.fence
	out.Unfolded = c.folded < c.state.Seq
	return out
}

// fresh returns a state that shares no memory with s, as one that came over the
// network.
func fresh(s conversation.State) conversation.State {
	s.Creator = strings.Clone(s.Creator)
	s.Members = conversation.NewMembers(s.Members.List()...)
	return s
}

// Release lets go of those of claims that session still holds with that fence.
func (s *Store) Release(ctx context.Context, session string, claims []persistence.Claim) error {
	call := Call{Op: Release, Session: session}
	for _, c := range claims {
		call.Convos = append(call.Convos, c.Convo)
	}
	_, err := exec(ctx, s, call, func() (struct{}, error) {
		for _, one := range claims {
			if c := s.convos[one.Convo]; c != nil && c.session == session && (c.fence == one.Fence || broken.Is(broken.ReleaseWithoutFence)) {
				c.session = ""
			}
		}
		return struct{}{}, nil
	})
	return err
}

// Append stores each unit whose conversation is still at the unit's base.
func (s *Store) Append(ctx context.Context, units []*conversation.Unit) ([]persistence.AppendOutcome, error) {
	call := Call{Op: Append}
	for _, u := range units {
		call.Convos = append(call.Convos, u.Convo)
	}
	return exec(ctx, s, call, func() ([]persistence.AppendOutcome, error) {
		out := make([]persistence.AppendOutcome, len(units))
		for i, u := range units {
			out[i] = s.append(u)
		}
		return out, nil
	})
}

func (s *Store) append(u *conversation.Unit) persistence.AppendOutcome {
	c := s.convos[u.Convo]
	if c == nil || c.version(u) != u.Base || c.used(u) {
		return persistence.Conflict
	}
	if !s.packagesFree(u.KeyPackages) {
		return persistence.KeyPackageGone
	}
	for _, id := range u.IDs {
		if s.poison[id] {
			return persistence.Failed
		}
	}
	s.apply(u.Convo, c, u, after(c.state, u))
	return persistence.Appended
}

// version is what u must have been built on.
func (c *convo) version(u *conversation.Unit) conversation.Version {
	v := conversation.Version{Epoch: c.state.Epoch, Seq: c.state.Seq, Fence: c.fence}
	if broken.Is(broken.AppendWithoutFence) {
		v.Fence = u.Base.Fence
	}
	return v
}

// after returns the state that u leads to, from what u says alone.
func after(s conversation.State, u *conversation.Unit) conversation.State {
	s.Epoch, s.Seq, s.MLS = u.Epoch, u.Seq, u.MLS
	for _, m := range u.Members {
		if m.Left {
			s.Members = s.Members.Without(m.DID)
		} else if m.Joined {
			s.Members = s.Members.With(m.DID)
		}
	}
	return s
}

func (s *Store) packagesFree(refs []conversation.KeyPackageRef) bool {
	for _, p := range refs {
		if !s.packages[packageKey{p.DID, string(p.Hash)}] {
			return false
		}
	}
	return true
}

// Lookup returns what earlier requests left behind.
func (s *Store) Lookup(ctx context.Context, convos []string, refs []persistence.Ref) ([]*conversation.Earlier, error) {
	return exec(ctx, s, Call{Op: Lookup, Convos: convos}, func() ([]*conversation.Earlier, error) {
		out := make([]*conversation.Earlier, len(refs))
		for i, ref := range refs {
			out[i] = s.convos[convos[i]].lookup(ref)
		}
		return out, nil
	})
}

// Direct changes a conversation without a claim, where no live session has one,
// and raises the fence: what was built on an older one is void.
func (s *Store) Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	return exec(ctx, s, Call{Op: Direct, Session: own, Convos: []string{r.Convo}}, func() (conversation.Result, error) {
		return s.direct(r, env)
	})
}

func (s *Store) direct(r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	c := s.convos[r.Convo]
	if c == nil {
		return conversation.Result{}, notFound()
	}
	if h, held := s.holder(c); held && !broken.Is(broken.DirectIgnoresClaim) {
		return conversation.Result{}, &persistence.HeldError{Holder: h}
	}
	if e := c.lookup(persistence.RefOf(r)); e != nil {
		return conversation.Repeat(r, *e)
	}
	change, next, err := conversation.Decide(env, c.state, r)
	if err != nil {
		return conversation.Result{}, err
	}
	if !s.packagesFree(change.KeyPackages) {
		return conversation.Result{}, conversation.Refuse(conversation.KeyPackageNotFound, "a key package that is named is gone")
	}
	u := conversation.NewUnit(r.Convo, c.state, c.fence)
	u.Add(change, next)
	c.session = ""
	c.fence++
	s.apply(r.Convo, c, u, next)
	c.fold()
	return change.Result, nil
}

// Create stores a new conversation.
func (s *Store) Create(ctx context.Context, q persistence.CreateRequest) (response []byte, repeated bool, err error) {
	type answer struct {
		response []byte
		repeated bool
	}
	r := q.Request
	a, err := exec(ctx, s, Call{Op: Create, Convos: []string{r.Convo}}, func() (answer, error) {
		ref := persistence.Ref{ID: r.ID, Caller: r.Caller, Endpoint: conversation.OpCreate, Key: r.Key}
		if e := s.convos[r.Convo].lookup(ref); e != nil {
			_, err := conversation.Repeat(r, *e)
			return answer{e.Response, true}, err
		}
		if s.convos[r.Convo] != nil {
			return answer{}, conversation.Refuse(conversation.ConvoAlreadyExists, "a conversation with this groupId exists")
		}
		if !s.packagesFree(q.Unit.KeyPackages) {
			return answer{}, conversation.Refuse(conversation.KeyPackageNotFound, "a key package that is named is gone")
		}
		s.create(q)
		return answer{q.Response, false}, nil
	})
	return a.response, a.repeated, err
}

func (s *Store) create(q persistence.CreateRequest) {
	u := *q.Unit
	u.Records = []conversation.Record{{
		ID: q.Request.ID, Caller: q.Request.Caller, Endpoint: conversation.OpCreate, Key: q.Request.Key, Digest: q.Request.Digest,
		Result: conversation.Result{ID: q.Request.ID, Epoch: u.Epoch, Seq: u.Seq, At: u.At}, Response: q.Response,
	}}
	c := s.insert(u.Convo, conversation.State{Creator: q.Creation.Creator})
	s.apply(u.Convo, c, &u, after(c.state, &u))
}

// Fold counts the application messages that unread counts do not hold yet.
func (s *Store) Fold(ctx context.Context, convos []string) error {
	_, err := exec(ctx, s, Call{Op: Fold, Convos: convos}, func() (struct{}, error) {
		for _, id := range convos {
			if c := s.convos[id]; c != nil {
				c.fold()
			}
		}
		return struct{}{}, nil
	})
	return err
}

// ResetUnread makes what the caller has not read the messages after seq.
func (s *Store) ResetUnread(ctx context.Context, convo, caller string, seq int64) error {
	_, err := exec(ctx, s, Call{Op: ResetUnread, Convos: []string{convo}}, func() (struct{}, error) {
		c := s.convos[convo]
		if c == nil || c.members[caller] == nil || !c.members[caller].active {
			return struct{}{}, nil
		}
		m := c.members[caller]
		seq := min(seq, c.state.Seq)
		m.unread = c.appsByOthers(caller, seq, m.counted)
		m.counted = max(m.counted, seq)
		return struct{}{}, nil
	})
	return err
}

// Epoch returns the current epoch to a member.
func (s *Store) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	return exec(ctx, s, Call{Op: Epoch, Convos: []string{convo}}, func() (int64, error) {
		c := s.convos[convo]
		if c == nil {
			return 0, notFound()
		}
		if !c.state.Members.Has(caller) {
			return 0, conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
		}
		return c.state.Epoch, nil
	})
}

func notFound() error {
	return conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation")
}
