package client

import (
	"context"
	"net/url"
	"strconv"
)

// All methods of Caller block until there is an answer that counts, attempts
// are used up, or ctx is done. They return an *[Error] where the API refused
// and a *[ConnectionError] where no answer came, and wrap either in an
// *[UncertainError] where the change may have happened all the same.

func (a *Caller) procedure(ctx context.Context, endpoint string, in any, key string, builtOn *int64, out any) error {
	return a.c.do(ctx, call{
		endpoint: endpoint, did: a.did, body: in, harmless: key != "", builtOn: builtOn,
	}, out)
}

func (a *Caller) query(ctx context.Context, endpoint string, q url.Values, out any) error {
	return a.c.do(ctx, call{endpoint: endpoint, did: a.did, query: q, harmless: true}, out)
}

// CreateConvo makes a conversation.
func (a *Caller) CreateConvo(ctx context.Context, in CreateConvo) (out Convo, err error) {
	err = a.procedure(ctx, "createConvo", in, in.IdempotencyKey, nil, &out)
	return out, err
}

// AddMembers adds members.
func (a *Caller) AddMembers(ctx context.Context, in AddMembers) (out Changed, err error) {
	err = a.procedure(ctx, "addMembers", in, in.IdempotencyKey, in.ExpectedEpoch, &out)
	return out, err
}

// LeaveConvo takes out a member.
func (a *Caller) LeaveConvo(ctx context.Context, in LeaveConvo) (out Changed, err error) {
	err = a.procedure(ctx, "leaveConvo", in, in.IdempotencyKey, in.ExpectedEpoch, &out)
	return out, err
}

// Commit stores any other MLS commit.
func (a *Caller) Commit(ctx context.Context, in MakeCommit) (out Changed, err error) {
	err = a.procedure(ctx, "commit", in, in.IdempotencyKey, in.ExpectedEpoch, &out)
	return out, err
}

// SendMessage appends a message.
func (a *Caller) SendMessage(ctx context.Context, in SendMessage) (out Sent, err error) {
	key := in.IdempotencyKey + in.MsgID
	err = a.procedure(ctx, "sendMessage", in, key, &in.Epoch, &out)
	return out, err
}

// GetMessages reads a page of the log, which resets the caller's unread count.
func (a *Caller) GetMessages(ctx context.Context, in GetMessages) (out Messages, err error) {
	q := url.Values{"convoId": {in.ConvoID}}
	setInt(q, "limit", in.Limit)
	if in.SinceSeq != nil {
		q.Set("sinceSeq", strconv.FormatInt(*in.SinceSeq, 10))
	}
	if in.SinceMessage != "" {
		q.Set("sinceMessage", in.SinceMessage)
	}
	err = a.query(ctx, "getMessages", q, &out)
	return out, err
}

// GetEpoch returns the epoch that the conversation is at.
func (a *Caller) GetEpoch(ctx context.Context, convoID string) (int64, error) {
	var out Epoch
	err := a.query(ctx, "getEpoch", url.Values{"convoId": {convoID}}, &out)
	return out.CurrentEpoch, err
}

// GetCommits returns the commits of epochs from to to, both included; nil means
// up to the current one.
func (a *Caller) GetCommits(ctx context.Context, convoID string, from int64, to *int64) (out Commits, err error) {
	q := url.Values{"convoId": {convoID}, "fromEpoch": {strconv.FormatInt(from, 10)}}
	if to != nil {
		q.Set("toEpoch", strconv.FormatInt(*to, 10))
	}
	err = a.query(ctx, "getCommits", q, &out)
	return out, err
}

// GetConvos returns a page of the caller's active conversations. limit 0 is the
// server's default, cursor "" the first page.
func (a *Caller) GetConvos(ctx context.Context, limit int, cursor string) (out Convos, err error) {
	q := url.Values{}
	setInt(q, "limit", limit)
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	err = a.query(ctx, "getConvos", q, &out)
	return out, err
}

// GetWelcome returns the caller's newest welcome.
func (a *Caller) GetWelcome(ctx context.Context, convoID string) (out Welcome, err error) {
	err = a.query(ctx, "getWelcome", url.Values{"convoId": {convoID}}, &out)
	return out, err
}

// ConfirmWelcome says whether joining by the welcome worked. Saying it twice
// changes nothing, so it needs no idempotency key.
func (a *Caller) ConfirmWelcome(ctx context.Context, in ConfirmWelcome) (confirmed bool, err error) {
	var out struct {
		Confirmed bool `json:"confirmed"`
	}
	err = a.c.do(ctx, call{endpoint: "confirmWelcome", did: a.did, body: in, harmless: true}, &out)
	return out.Confirmed, err
}

// PublishKeyPackage stores a key package. The same bytes twice are one, so it
// needs no idempotency key.
func (a *Caller) PublishKeyPackage(ctx context.Context, in PublishKeyPackage) error {
	return a.c.do(ctx, call{endpoint: "publishKeyPackage", did: a.did, body: in, harmless: true}, nil)
}

// GetKeyPackages returns key packages that are free, of suite or, with "", of
// any.
func (a *Caller) GetKeyPackages(ctx context.Context, dids []string, suite string) (out KeyPackages, err error) {
	q := url.Values{"dids": dids}
	if suite != "" {
		q.Set("cipherSuite", suite)
	}
	err = a.query(ctx, "getKeyPackages", q, &out)
	return out, err
}

func setInt(q url.Values, name string, v int) {
	if v != 0 {
		q.Set(name, strconv.Itoa(v))
	}
}
