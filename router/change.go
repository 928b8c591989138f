package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/google/uuid"

	"catbird/conversation"
	"catbird/persistence"
)

// changed is the answer of what changes members or keys.
type changed struct {
	Success  bool  `json:"success"`
	NewEpoch int64 `json:"newEpoch"`
}

// newRequest returns a request of the caller with an id of its own. digest
// stands for its body and is asked for only where it matters: with a key.
func (c *call) newRequest(convo, key string, digest func() []byte) (*conversation.Request, error) {
	if utf8.RuneCountInString(key) > conversation.MaxIdempotencyKey {
		return nil, conversation.Refuse(conversation.InvalidRequest,
			"idempotencyKey: more than %d characters", conversation.MaxIdempotencyKey)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("mint the id of a change: %w", err)
	}
	r := &conversation.Request{ID: id.String(), Convo: convo, Caller: c.caller, Key: key}
	if key != "" {
		r.Digest = digest()
	}
	return r, nil
}

// change checks the form of a command on a conversation and has it carried out.
func (rt *Router) change(c *call, convoID, key string, command conversation.Command) (conversation.Result, error) {
	convo, err := c.about(convoID)
	if err != nil {
		return conversation.Result{}, err
	}
	if err := command.Validate(); err != nil {
		return conversation.Result{}, err
	}
	r, err := c.newRequest(convo, key, func() []byte { return conversation.DigestOf(command) })
	if err != nil {
		return conversation.Result{}, err
	}
	r.Command = command
	result, err := rt.config.Delivery.Do(c.ctx, r)
	if err != nil {
		return conversation.Result{}, rt.epochMismatch(c, convo, err)
	}
	return result, nil
}

// changeMembers is change for what answers with the new epoch.
func (rt *Router) changeMembers(c *call, convoID, key string, command conversation.Command) (changed, error) {
	result, err := rt.change(c, convoID, key, command)
	return changed{Success: err == nil, NewEpoch: result.Epoch}, err
}

// epochMismatch adds to an EpochMismatch the commits that the client has missed,
// so that it can rebase in one round trip. They end with the epoch at which it was
// refused: what the store has beside by now is of another instant, at which the
// caller may not even be a member any more. Other errors are returned as they are.
func (rt *Router) epochMismatch(c *call, convo string, err error) error {
	var told *conversation.Error
	if !errors.As(err, &told) || told.Code != conversation.EpochMismatch {
		return err
	}
	out := &missedError{refusal: told, missed: missed{CurrentEpoch: told.Current, Commits: []commitView{}}}
	if told.Expected >= told.Current || told.Expected == math.MaxInt64 {
		return out // the client is ahead: it has missed nothing
	}
	page, err := rt.missedCommits(c.ctx, convo, c.caller, told)
	if err == nil {
		err = rt.inFlight.hold(c, sizeOf(page.Commits))
	}
	if err != nil {
		rt.log.WarnContext(c.ctx, "cannot read the commits that a client has missed", "request_id", c.trail.id, "error", err)
		out.missed.More = true
		return out
	}
	out.missed.Commits = viewCommits(page.Commits)
	out.missed.More = page.More
	return out
}

// missedCommits reads the commits after the epoch that was expected, up to the one
// at which it was refused, as many as an answer that says no carries.
func (rt *Router) missedCommits(ctx context.Context, convo, caller string, told *conversation.Error) (persistence.CommitsPage, error) {
	page, err := rt.config.Store.Commits(ctx, persistence.CommitsQuery{
		Convo: convo, Caller: caller, From: told.Expected + 1, To: &told.Current,
		Limit: conversation.MaxMissedCommits, MaxBytes: conversation.MaxMissedBytes,
	})
	if err == nil && len(page.Commits) == 1 && len(page.Commits[0].Ciphertext) > conversation.MaxMissedBytes {
		page.Commits, page.More = nil, true // a store gives one commit at least
	}
	return page, err
}

// repeated answers r by what an earlier request with its key led to, and with
// refusal where there was none: a repeat gets its first answer whatever has
// changed since.
func (rt *Router) repeated(c *call, r *conversation.Request, op conversation.Op, refusal error) (conversation.Earlier, error) {
	if r.Key == "" {
		return conversation.Earlier{}, refusal
	}
	found, err := rt.config.Store.Lookup(c.ctx, []string{r.Convo}, []persistence.Ref{{Caller: r.Caller, Endpoint: op, Key: r.Key}})
	if err != nil {
		return conversation.Earlier{}, err
	}
	if found[0] == nil {
		return conversation.Earlier{}, refusal
	}
	_, err = conversation.Repeat(r, *found[0])
	return *found[0], err
}
