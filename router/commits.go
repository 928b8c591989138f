package router

import (
	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

type commitInput struct {
	ConvoID        string      `json:"convoId" xrpc:"required"`
	Commit         wire.Base64 `json:"commit" xrpc:"required"`
	IdempotencyKey string      `json:"idempotencyKey"`
	ExpectedEpoch  *int64      `json:"expectedEpoch"`
}

// commit appends a commit that changes no members by itself.
func (rt *Router) commit(c *call, in *commitInput) (changed, error) {
	return rt.changeMembers(c, in.ConvoID, in.IdempotencyKey, conversation.Commit{
		Commit: in.Commit, Expected: in.ExpectedEpoch,
	})
}

type getCommitsInput struct {
	ConvoID   string `json:"convoId" xrpc:"required"`
	FromEpoch int64  `json:"fromEpoch" xrpc:"required"`
	ToEpoch   *int64 `json:"toEpoch"`
}

type getCommitsOutput struct {
	ConvoID string       `json:"convoId"`
	Commits []commitView `json:"commits"`
}

// getCommits returns the commits of a range of epochs, as many as one answer
// carries: the client goes on from the last one.
func (rt *Router) getCommits(c *call, in *getCommitsInput) (getCommitsOutput, error) {
	convo, err := c.about(in.ConvoID)
	if err != nil {
		return getCommitsOutput{}, err
	}
	switch {
	case in.FromEpoch < 0:
		return getCommitsOutput{}, conversation.Refuse(conversation.InvalidRequest, "fromEpoch: must not be negative")
	case in.ToEpoch != nil && *in.ToEpoch < in.FromEpoch:
		return getCommitsOutput{}, conversation.Refuse(conversation.InvalidEpochRange,
			"toEpoch: %d comes before %d", *in.ToEpoch, in.FromEpoch)
	}
	page, err := rt.config.Store.Commits(c.ctx, persistence.CommitsQuery{
		Convo: convo, Caller: c.caller, From: in.FromEpoch, To: in.ToEpoch,
		Limit: conversation.MaxCommits, MaxBytes: conversation.MaxAnswer,
	})
	if err != nil {
		return getCommitsOutput{}, err
	}
	if err := rt.inFlight.hold(c, sizeOf(page.Commits)); err != nil {
		return getCommitsOutput{}, err
	}
	return getCommitsOutput{ConvoID: convo, Commits: viewCommits(page.Commits)}, nil
}
