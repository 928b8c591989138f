package delivery

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"catbird/actor"
	"catbird/conversation"
	"catbird/peer"
	"catbird/persistence"
)

// Serve answers another node's question, once and at once: it serves, or says
// who holds the conversation, or that it is moving. It asks nobody else and
// waits for nothing but the conversation itself (rule 16). A node that its
// database has lost sight of serves nothing: who asks finds in the database
// who does.
func (s *Service) Serve(ctx context.Context, q peer.Question) peer.Answer {
	ctx, span := s.continued(ctx, &q)
	a := s.serve(ctx, q)
	a.Draining = s.cfg.Cluster.Leaving()
	endServed(span, &a)
	return a
}

func (s *Service) serve(ctx context.Context, q peer.Question) peer.Answer {
	switch {
	case len(q.Offer) > 0:
		return peer.Answer{Status: peer.Served, Accepted: s.Accepts(q.Offer)}
	case len(q.Take) > 0:
		s.TakeOver(ctx, q.Take)
		return peer.Answer{Status: peer.Served}
	}
	if !s.cfg.Trusted() {
		return peer.Answer{Status: peer.NotMine}
	}
	if s.cfg.Session() == "" { // it starts, or is about to begin anew: it holds nothing
		return peer.Answer{Status: peer.NotMine}
	}
	convo := q.Subject()
	if !q.MustServe && !s.cfg.Actors.Has(convo) {
		if _, self, ok := s.cfg.Cluster.Owner(convo); (ok && !self) || s.cfg.Cluster.Leaving() {
			return peer.Answer{Status: peer.NotMine}
		}
	}
	if q.Change == nil {
		epoch, err := s.epochHere(ctx, q.Convo, q.Caller)
		return s.answer(ctx, conversation.Result{}, epoch, err)
	}
	r := *q.Change
	res, err := s.local(ctx, &r, &noted{})
	return s.answer(ctx, res, 0, err)
}

// TryEpoch answers an epoch query that needs no waiting.
func (s *Service) TryEpoch(convo, caller string) (epoch int64, ok bool, err error) {
	epoch, member, ok := s.cfg.Actors.Epoch(convo, caller)
	if !ok {
		return 0, false, nil
	}
	epoch, err = told(epoch, member)
	return epoch, true, err
}

func (s *Service) answer(ctx context.Context, res conversation.Result, epoch int64, err error) peer.Answer {
	var held *persistence.HeldError
	var refusal *conversation.Error
	refuse := func(code conversation.Code, text string) peer.Answer {
		return peer.Answer{Status: peer.Refused, Refusal: conversation.Refuse(code, "%s", text)}
	}
	switch {
	case err == nil:
		return peer.Answer{Status: peer.Served, Result: res, Epoch: epoch}
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		return refuse(conversation.OutcomeUnknown, "contact with the database was lost while the change was being stored")
	case errors.As(err, &held):
		return peer.Answer{Status: peer.NotMine, Holder: peer.Holder{
			Node: held.Holder.Node, Address: held.Holder.Address, Session: held.Holder.Session, Fence: held.Holder.Fence,
		}}
	case errors.Is(err, actor.ErrMoving), errors.Is(err, actor.ErrClosed):
		return peer.Answer{Status: peer.Moving}
	case errors.Is(err, persistence.ErrUnavailable) && !s.cfg.Trusted():
		return peer.Answer{Status: peer.NotMine}
	case errors.Is(err, persistence.ErrUnavailable):
		return refuse(conversation.Unavailable, "the database cannot be reached")
	case errors.As(err, &refusal):
		return peer.Answer{Status: peer.Refused, Refusal: refusal}
	case ctx.Err() != nil:
		return peer.Answer{Status: peer.Moving} // nobody listens any more
	default:
		s.say(ctx, slog.LevelError, "change failed", slog.Any("error", err))
		return refuse(conversation.InternalServerError, "the change failed")
	}
}

// ask asks the node h, once. What travels with every question goes along.
func (s *Service) ask(ctx context.Context, h persistence.Holder, op conversation.Op, q peer.Question) (peer.Answer, error) {
	ctx, span := s.span(ctx, spanAsk, trace.SpanKindClient, op, q.Subject())
	if s.cfg.Trail != nil {
		q.RequestID, q.Traceparent = s.cfg.Trail(ctx)
	}
	answer, err := s.cfg.Peers.Ask(ctx, h.Address, q)
	endAsked(span, h.Node, &answer, err)
	return answer, err
}
