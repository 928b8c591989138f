package rehearsal

import (
	"context"
	"fmt"
	"strings"
)

// Step is one thing that is done to a cluster. It is through when every set is as it
// should be, and what stands before the pods has heard of it.
type Step struct {
	Name string
	plan *Plan // what it upgrades to, nil for none
	do   func(ctx context.Context, s *stage) error
}

func (step Step) take(ctx context.Context, s *stage) error {
	if err := step.do(ctx, s); err != nil {
		return err
	}
	return s.await(ctx)
}

// Restart replaces all pods of some sets, in the order of an update: each set one
// pod at a time, and the sets at once.
func Restart(sets ...string) Step {
	return Step{Name: "rolling restart of " + strings.Join(sets, " and "), do: func(_ context.Context, s *stage) error {
		return s.cluster.restart(sets...)
	}}
}

// Scale changes the number of a set's pods.
func Scale(set string, by int) Step {
	return Step{Name: fmt.Sprintf("scale %s by %+d", set, by), do: func(_ context.Context, s *stage) error {
		return s.cluster.scale(set, by)
	}}
}

// Drain empties a node of some pods: all are evicted at once, as far as a budget
// lets them.
func Drain(pods ...string) Step {
	return Step{Name: "drain a node of " + strings.Join(pods, " and "), do: func(ctx context.Context, s *stage) error {
		refused, err := s.cluster.drain(ctx, pods...)
		s.clock.refuse(refused)
		return err
	}}
}

// Upgrade makes another plan what is wanted: sets come, go, and replace those of
// their pods whose revision is another one then.
func Upgrade(name string, to Plan) Step {
	return Step{Name: name, plan: &to, do: func(_ context.Context, s *stage) error { s.cluster.apply(to); return nil }}
}

// Steps are what is to be rehearsed with every plan: a rolling restart of each set,
// and of all at once if there are several; two pods more, and two fewer; and a node
// that is drained of two pods, of the first set and of the last.
func Steps(p Plan) (out []Step) {
	var names []string
	for _, s := range p.Sets {
		out = append(out, Restart(s.Name))
		names = append(names, s.Name)
	}
	first, last := p.Sets[0], p.Sets[len(p.Sets)-1]
	if len(names) > 1 {
		out = append(out, Restart(names...))
	}
	more := 2
	if first.MaxReplicas > 0 {
		more = min(more, first.MaxReplicas-first.Replicas)
	}
	if more > 0 {
		out = append(out, Scale(first.Name, more), Scale(first.Name, -more))
	}
	other := last.Name + "-0"
	if len(names) == 1 {
		other = last.Name + "-1"
	}
	return append(out, Drain(first.Name+"-0", other))
}
