package delivery

import (
	"context"

	"catbird/conversation"
	"catbird/peer"
)

// Epoch returns the current epoch to a member: from memory where an actor
// serves the conversation, here or on another node, else from the database,
// which can always tell.
func (s *Service) Epoch(ctx context.Context, convo, caller string) (int64, error) {
	if !s.keeps(convo) {
		s.note(conversation.OpGetEpoch, convo, false)
		return s.cfg.Store.Epoch(ctx, convo, caller)
	}
	s.note(conversation.OpGetEpoch, convo, true)
	if epoch, member, ok := s.cfg.Actors.Epoch(convo, caller); ok {
		return told(epoch, member)
	}
	if owner, ok := s.ownerElsewhere(convo); ok && !s.cfg.Actors.Has(convo) {
		answer, err := s.cfg.Peers.Ask(ctx, owner.Address, s.question(ctx, peer.Question{Convo: convo, Caller: caller}))
		switch {
		case err == nil && answer.Status == peer.Served:
			return answer.Epoch, nil
		case err == nil && answer.Status == peer.Refused && answer.Refusal.Code == conversation.NotMember:
			return 0, answer.Refusal
		}
		s.hints.forget(convo)
		return s.cfg.Store.Epoch(ctx, convo, caller)
	}
	return s.epochHere(ctx, convo, caller)
}

// epochHere loads the conversation, if this node may, and answers from memory,
// or from the database where memory cannot tell.
func (s *Service) epochHere(ctx context.Context, convo, caller string) (int64, error) {
	if s.keeps(convo) && !s.cfg.Cluster.Leaving() && s.cfg.Actors.Load(ctx, convo) == nil {
		if epoch, member, ok := s.cfg.Actors.Epoch(convo, caller); ok {
			return told(epoch, member)
		}
	}
	return s.cfg.Store.Epoch(ctx, convo, caller)
}

func told(epoch int64, member bool) (int64, error) {
	if !member {
		return 0, conversation.Refuse(conversation.NotMember, "the caller is not a member of this conversation")
	}
	return epoch, nil
}
