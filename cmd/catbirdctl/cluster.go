package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"catbird/internal/ctl"
	"catbird/operator"
)

type nodesCmd struct{}

// Run lists the nodes.
func (nodesCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(c *ctl.Client) (operator.ClusterView, error) { return c.Cluster(ctx) }, ctl.Nodes)
}

type ringCmd struct{}

// Run shows the ring.
func (ringCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(c *ctl.Client) (ctl.RingView, error) {
		v, err := c.Cluster(ctx)
		return ctl.RingOf(v), err
	}, ctl.Ring)
}

type ownerCmd struct {
	Convo string `arg:"" help:"The conversation's id."`
}

// Run shows who holds a conversation.
func (c *ownerCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(n *ctl.Client) (operator.Ownership, error) { return n.Owner(ctx, c.Convo) }, ctl.Owner)
}

// clientFor returns a client of a member, at the address that the node asked for v
// knows.
func clientFor(asked *ctl.Client, v operator.ClusterView, m operator.Member) (*ctl.Client, error) {
	if m.Name == v.Node {
		return asked, nil // also where only this one is reached, through a tunnel
	}
	c, err := asked.At(m.Address)
	if err != nil {
		return nil, fmt.Errorf("node %s has no usable address: %w", m.Name, err)
	}
	return c, nil
}

// nodeArgument is what the name of a node is called in the model, so that it can
// be completed.
const nodeArgument = "node-name"

type drainCmd struct {
	Name string `arg:"" name:"node-name" help:"Name of the node that is to leave, as nodes lists it."`
}

// drained is which node leaves.
type drained struct {
	Node string `json:"node"`
	operator.Drained
}

// Run makes a node leave.
func (c *drainCmd) Run(ctx context.Context, t *tool) error {
	return ask(ctx, t, func(asked *ctl.Client) (out drained, err error) {
		v, err := asked.Cluster(ctx)
		if err != nil {
			return out, err
		}
		m, err := find(v, c.Name)
		if err != nil {
			return out, err
		}
		node, err := clientFor(asked, v, m)
		if err != nil {
			return out, err
		}
		d, err := node.Drain(ctx)
		return drained{m.Name, d}, err
	}, func(w io.Writer, d drained) error {
		_, err := fmt.Fprintf(w, "%s is leaving\n", d.Node)
		return err
	})
}

func find(v operator.ClusterView, name string) (operator.Member, error) {
	names := make([]string, len(v.Members))
	for i, m := range v.Members {
		if m.Name == name {
			return m, nil
		}
		names[i] = m.Name
	}
	return operator.Member{}, fmt.Errorf("there is no node %q, only %s", name, strings.Join(names, ", "))
}
