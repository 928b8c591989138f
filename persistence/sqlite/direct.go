package sqlite

import (
	"context"

	"catbird/conversation"
	"catbird/persistence"
)

// Direct changes a conversation in one transaction, without a claim.
func (s *Store) Direct(ctx context.Context, own string, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	var res conversation.Result
	err := s.write(ctx, "direct "+string(r.Command.Op()), func(c *conn) (err error) {
		res, err = direct(c, r, env)
		return err
	})
	if err != nil {
		return conversation.Result{}, err
	}
	return res, nil
}

// direct does not ask whose a live claim is: one's own, too, has a memory
// behind it that a write past it would leave stale.
func direct(c *conn, r *conversation.Request, env conversation.Env) (conversation.Result, error) {
	l, found, err := load(c, r.Convo)
	if err != nil {
		return conversation.Result{}, err
	}
	if l.holder.Session != "" {
		return conversation.Result{}, &persistence.HeldError{Holder: l.holder}
	}
	// The id is looked up for first attempts too: that costs nothing here.
	e, err := lookup(c, r.Convo, persistence.RefOf(r))
	if err != nil {
		return conversation.Result{}, err
	}
	if e != nil {
		return conversation.Repeat(r, *e)
	}
	if !found {
		return conversation.Result{}, noSuchConvo()
	}
	if l.state.Members, err = activeMembers(c, r.Convo); err != nil {
		return conversation.Result{}, err
	}
	change, next, err := conversation.Decide(env, l.state, r)
	if err != nil {
		return conversation.Result{}, err
	}
	u := conversation.NewUnit(r.Convo, l.state, l.fence)
	u.Add(change, next)
	return change.Result, directUnit(c, u)
}

// directUnit writes a unit, counts what is unread at once, and leaves the
// conversation unclaimed under the next fence: what was built on an older one
// is void.
func directUnit(c *conn, u *conversation.Unit) error {
	if free, err := keyPackagesFree(c, u.KeyPackages); err != nil {
		return err
	} else if !free {
		return keyPackageGone()
	}
	if err := apply(c, u); err != nil {
		return err
	}
	_, err := c.exec(`UPDATE conversations SET catbird_claim = NULL, catbird_fence = catbird_fence + 1 WHERE id = ?1`, u.Convo)
	if err != nil {
		return err
	}
	_, err = fold(c, u.Convo)
	return err
}

func noSuchConvo() error {
	return conversation.Refuse(conversation.ConvoNotFound, "there is no such conversation")
}

func notMember() error {
	return conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
}

func keyPackageGone() error {
	return conversation.Refuse(conversation.KeyPackageNotFound, "a key package that is named is used up, expired, or not that member's")
}
