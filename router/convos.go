package router

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"catbird/conversation"
	"catbird/persistence"
	"catbird/router/wire"
)

type metadataInput struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

type createConvoInput struct {
	GroupID          string         `json:"groupId" xrpc:"required"`
	CipherSuite      string         `json:"cipherSuite" xrpc:"required"`
	InitialMembers   []string       `json:"initialMembers"`
	Welcome          wire.Base64    `json:"welcomeMessage"`
	KeyPackageHashes []hashInput    `json:"keyPackageHashes"`
	Commit           wire.Base64    `json:"commit"`
	CurrentEpoch     int64          `json:"currentEpoch"`
	Metadata         *metadataInput `json:"metadata"`
	IdempotencyKey   string         `json:"idempotencyKey"`
}

// createConvo makes a conversation. Its answer is stored with it, to be given
// again to the same request.
func (rt *Router) createConvo(c *call, in *createConvoInput) (stored[convoView], error) {
	convo, err := conversation.ParseGroupID(in.GroupID)
	if err != nil {
		return stored[convoView]{}, err
	}
	c.convo = convo
	creation := in.creation(c.caller)
	if err := creation.Validate(convo); err != nil {
		return stored[convoView]{}, err
	}
	r, err := c.newRequest(convo, in.IdempotencyKey, func() []byte { return digestOf(creation) })
	if err != nil {
		return stored[convoView]{}, err
	}
	env := conversation.Env{Now: rt.now(), Policy: rt.config.Policy}
	state, unit, err := creation.Create(env, r)
	if err != nil { // the policy may have been another one, the first time
		earlier, err := rt.repeated(c, r, conversation.OpCreate, err)
		return stored[convoView]{json: earlier.Response}, err
	}
	var view bytes.Buffer
	if err := encode(&view, viewCreation(convo, creation, state, env)); err != nil {
		return stored[convoView]{}, err
	}
	response, _, err := rt.config.Store.Create(c.ctx, persistence.CreateRequest{
		Request: r, Creation: creation, Unit: unit, Response: view.Bytes(),
	})
	return stored[convoView]{json: response}, err
}

// creation returns what the input asks for. A creator who names themselves among
// the initial members is meant once.
func (in *createConvoInput) creation(creator string) conversation.Creation {
	out := conversation.Creation{
		Creator: creator, CipherSuite: in.CipherSuite,
		Initial: slices.DeleteFunc(in.InitialMembers, func(did string) bool { return did == creator }),
		Welcome: in.Welcome, KeyPackages: keyPackageRefs(in.KeyPackageHashes),
		Commit: in.Commit, Epoch: in.CurrentEpoch,
	}
	if in.Metadata != nil {
		out.Name, out.Description = in.Metadata.Name, in.Metadata.Description
	}
	return out
}

func viewCreation(convo string, creation conversation.Creation, s conversation.State, env conversation.Env) convoView {
	v := persistence.ConvoView{
		ID: convo, GroupID: convo, Creator: creation.Creator, Epoch: s.Epoch, CipherSuite: creation.CipherSuite,
		CreatedAt: env.Now, Name: creation.Name, Description: creation.Description,
	}
	for _, did := range s.Members.List() {
		v.Members = append(v.Members, persistence.MemberView{DID: did, JoinedAt: env.Now})
	}
	return viewConvo(v)
}

// digestOf tells bodies under one idempotency key apart.
func digestOf(v any) []byte {
	var b bytes.Buffer
	if err := encode(&b, v); err != nil {
		panic("router: an input that does not encode: " + err.Error()) // plain structs always do
	}
	sum := sha256.Sum256(b.Bytes())
	return sum[:]
}

type getConvosInput struct {
	Limit  *int64 `json:"limit"`
	Cursor string `json:"cursor"`
}

type getConvosOutput struct {
	Conversations []convoView `json:"conversations"`
	Cursor        string      `json:"cursor,omitempty"`
}

// memberSize is about how many bytes a member takes as it is and as an answer.
const memberSize = 256

// getConvos returns a page of the caller's active conversations.
func (rt *Router) getConvos(c *call, in *getConvosInput) (getConvosOutput, error) {
	limit, err := pageLimit(in.Limit)
	if err != nil {
		return getConvosOutput{}, err
	}
	page, err := rt.config.Store.Convos(c.ctx, persistence.ConvosQuery{Caller: c.caller, Limit: limit, Cursor: in.Cursor})
	if err != nil {
		return getConvosOutput{}, err
	}
	size := 0
	for i := range page.Convos {
		size += 1024 + len(page.Convos[i].Members)*memberSize
	}
	if err := rt.inFlight.hold(c, int64(size)); err != nil {
		return getConvosOutput{}, err
	}
	out := getConvosOutput{Conversations: make([]convoView, len(page.Convos)), Cursor: page.Cursor}
	for i, v := range page.Convos {
		out.Conversations[i] = viewConvo(v)
	}
	return out, nil
}
