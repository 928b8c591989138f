package delivery

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"catbird/conversation"
	"catbird/peer"
)

// Epoch returns the current epoch to a member: from memory where an actor
// serves the conversation, here or on another node, else from the database,
// which can always tell.
func (s *Service) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	if !s.keeps(convo) {
		s.note(ctx, conversation.OpGetEpoch, convo, false)
		return s.epochStored(ctx, convo, caller)
	}
	s.note(ctx, conversation.OpGetEpoch, convo, true)
	if epoch, member, ok := s.cfg.Actors.Epoch(convo, caller); ok {
		return told(epoch, member)
	}
	if owner, ok := s.ownerElsewhere(convo); ok && !s.cfg.Actors.Has(convo) {
		answer, err := s.ask(ctx, owner, conversation.OpGetEpoch, peer.Question{Convo: convo, Caller: caller})
		switch {
		case err == nil && answer.Status == peer.Served:
			return answer.Epoch, nil
		case err == nil && answer.Status == peer.Refused && answer.Refusal.Code == conversation.NotMember:
			return 0, answer.Refusal
		}
		s.hints.forget(convo)
		return s.epochStored(ctx, convo, caller)
	}
	return s.epochHere(ctx, convo, caller)
}

// epochStored answers from the database.
func (s *Service) epochStored(ctx context.Context, convo, caller string) (int64, error) {
	ctx, span := s.span(ctx, spanDirect, trace.SpanKindInternal, conversation.OpGetEpoch, convo)
	epoch, err := s.cfg.Store.Epoch(ctx, convo, caller)
	endSpan(span, err)
	return epoch, err
}

// epochHere loads the conversation, if this node may, and answers from memory,
// or from the database where memory cannot tell.
func (s *Service) epochHere(ctx context.Context, convo, caller string) (int64, error) {
	if s.keeps(convo) && !s.cfg.Cluster.Leaving() && s.load(ctx, convo) == nil {
		if epoch, member, ok := s.cfg.Actors.Epoch(convo, caller); ok {
			return told(epoch, member)
		}
	}
	return s.epochStored(ctx, convo, caller)
}

// load loads the conversation where it is not in memory.
func (s *Service) load(ctx context.Context, convo string) error {
	ctx, span := s.span(ctx, spanActor, trace.SpanKindInternal, conversation.OpGetEpoch, convo)
	err := s.cfg.Actors.Load(ctx, convo)
	endSpan(span, err)
	return err
}

func told(epoch int64, member bool) (int64, error) {
	if !member {
		return 0, conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
	}
	return epoch, nil
}
