package app

import (
	"context"

	"catbird/actor"
	"catbird/cluster"
	"catbird/delivery"
	"catbird/operator"
)

// The parts do not know one another's types; these carry from one to the other.

type sessions struct{ keeper *cluster.Keeper }

// Current implements actor.Sessions.
func (s sessions) Current() actor.Session {
	if c := s.keeper.Current(); c != nil {
		return c
	}
	return nil // and not a nil pointer that is not nil
}

type switchboard struct {
	delivery *delivery.Service
	changed  func(delivery.Flags)
}

// Flags implements operator.Switchboard.
func (s switchboard) Flags() operator.Flags {
	f := s.delivery.Flags()
	return operator.Flags{ActorSystem: f.ActorSystem, RolloutPercent: f.RolloutPercent}
}

// SetFlags implements operator.Switchboard.
func (s switchboard) SetFlags(ctx context.Context, f operator.Flags) error {
	flags := delivery.Flags{ActorSystem: f.ActorSystem, RolloutPercent: f.RolloutPercent}
	s.changed(flags) // first: others may stop giving this node what it will not serve
	return s.delivery.SetFlags(ctx, flags)
}

type lister struct{ actors *actor.Registry }

// List implements operator.Actors.
func (l lister) List(limit int, cursor string) (page []operator.Actor, next string) {
	infos, next := l.actors.List(limit, cursor)
	for _, i := range infos {
		page = append(page, operator.Actor{
			Convo: i.Convo, Epoch: i.Epoch, Seq: i.Seq, Fence: i.Fence, Mailbox: i.Mailbox,
			IdleSeconds: i.Idle.Seconds(), Trusted: i.Trusted,
		})
	}
	return page, next
}
