package main

import (
	"context"
	"errors"
	"fmt"

	"catbird/internal/config"
	"catbird/internal/ctl"
	"catbird/operator"
)

type flagsCmd struct {
	Get getFlagsCmd `cmd:"" help:"Show the flags."`
	Set setFlagsCmd `cmd:"" help:"Change flags; what is not named stays as it is."`
}

type getFlagsCmd struct{}

// Run shows the flags.
func (getFlagsCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(c *ctl.Client) (operator.Flags, error) { return c.Flags(ctx) }, ctl.Flags)
}

type setFlagsCmd struct {
	ActorSystem *config.Switch `name:"actor-system" help:"Serve conversations through actors: true or false."`
	Rollout     *int           `name:"rollout-percent" help:"Percentage of conversations that actors serve, 0 to 100."`
	All         bool           `name:"all" help:"On every node of the cluster, one after another, until one of them fails."`
}

// Run changes the flags and shows what is in force.
func (c *setFlagsCmd) Run(ctx context.Context, t *tool) error {
	if c.ActorSystem == nil && c.Rollout == nil {
		return errors.New("nothing to set: name --actor-system or --rollout-percent")
	}
	if c.All {
		return c.everywhere(ctx, t)
	}
	return ask(ctx, t, func(node *ctl.Client) (operator.Flags, error) { return c.set(ctx, node) }, ctl.Flags)
}

func (c *setFlagsCmd) set(ctx context.Context, node *ctl.Client) (operator.Flags, error) {
	return node.SetFlags(ctx, (*bool)(c.ActorSystem), c.Rollout)
}

// everywhere changes the flags of all nodes and shows those that were changed,
// also when one of them failed.
func (c *setFlagsCmd) everywhere(ctx context.Context, t *tool) error {
	asked, err := t.node(ctx, t.within(answerTimeout))
	if err != nil {
		return err
	}
	v, err := asked.Cluster(ctx)
	if err != nil {
		return err
	}
	done := []ctl.NodeFlags{}
	var failure error
	for i, m := range v.Members {
		f, err := c.setOn(ctx, asked, v, m)
		if err != nil {
			failure = fmt.Errorf("stopped at node %s, with %d more to go: %w", m.Name, len(v.Members)-i-1, err)
			break
		}
		done = append(done, ctl.NodeFlags{Node: m.Name, Flags: f})
	}
	if len(done) > 0 || failure == nil {
		failure = errors.Join(failure, write(t, done, ctl.FlagsOfAll))
	}
	return failure
}

func (c *setFlagsCmd) setOn(ctx context.Context, asked *ctl.Client, v operator.ClusterView, m operator.Member) (operator.Flags, error) {
	node, err := clientFor(asked, v, m)
	if err != nil {
		return operator.Flags{}, err
	}
	return c.set(ctx, node)
}
