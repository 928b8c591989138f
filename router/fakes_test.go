package router

import (
	"context"

	"catbird/conversation"
	"catbird/persistence"
)

// fakeDelivery answers as it is told to; what is nil panics.
type fakeDelivery struct {
	do    func(ctx context.Context, r *conversation.Request) (conversation.Result, error)
	epoch func(ctx context.Context, convo, caller string) (int64, error)
}

func (d fakeDelivery) Do(ctx context.Context, r *conversation.Request) (conversation.Result, error) {
	return d.do(ctx, r)
}

func (d fakeDelivery) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	return d.epoch(ctx, convo, caller)
}

// refusing is a Delivery that answers everything with err.
func refusing(err error) fakeDelivery {
	return fakeDelivery{
		do: func(context.Context, *conversation.Request) (conversation.Result, error) {
			return conversation.Result{}, err
		},
		epoch: func(context.Context, string, string) (int64, error) { return 0, err },
	}
}

// fakeStore is a Store with some of its answers replaced.
type fakeStore struct {
	Store
	messages func(q persistence.MessagesQuery) (persistence.MessagesPage, error)
	commits  func(q persistence.CommitsQuery) (persistence.CommitsPage, error)
	reset    func() error
	create   func() error
	publish  func() error
}

func (s fakeStore) Messages(ctx context.Context, q persistence.MessagesQuery) (persistence.MessagesPage, error) {
	if s.messages != nil {
		return s.messages(q)
	}
	return s.Store.Messages(ctx, q)
}

func (s fakeStore) Commits(ctx context.Context, q persistence.CommitsQuery) (persistence.CommitsPage, error) {
	if s.commits != nil {
		return s.commits(q)
	}
	return s.Store.Commits(ctx, q)
}

func (s fakeStore) ResetUnread(ctx context.Context, convo, caller string, seq int64) error {
	if s.reset != nil {
		return s.reset()
	}
	return s.Store.ResetUnread(ctx, convo, caller, seq)
}

func (s fakeStore) Create(ctx context.Context, r persistence.CreateRequest) ([]byte, bool, error) {
	if s.create != nil {
		return nil, false, s.create()
	}
	return s.Store.Create(ctx, r)
}

func (s fakeStore) PublishKeyPackage(ctx context.Context, r *conversation.Request, k persistence.KeyPackage, max int) error {
	if s.publish != nil {
		return s.publish()
	}
	return s.Store.PublishKeyPackage(ctx, r, k, max)
}

// fakeVerifier takes the token for the caller.
type fakeVerifier struct{ err error }

func (v fakeVerifier) Verify(_ context.Context, token, _ string) (string, error) {
	if v.err != nil || token != "" {
		return token, v.err
	}
	return "", conversation.Refuse(conversation.AuthenticationRequired, "no token")
}
