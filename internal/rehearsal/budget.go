package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Budget says how many pods of some sets may be missing, or must be there, for
// another one to be evicted. It holds no rollout back.
type Budget struct {
	Name string   `json:"name"`
	Sets []string `json:"sets"`
	// Either of them, a number or a percentage such as "25%"; "": not set.
	MaxUnavailable string `json:"maxUnavailable"`
	MinAvailable   string `json:"minAvailable"`
	// UnhealthyPods is AlwaysAllow or IfHealthyBudget: whether pods that are not
	// ready may be evicted whatever the budget says.
	UnhealthyPods string `json:"unhealthyPodEvictionPolicy"`
}

func (b Budget) check(p Plan) error {
	if (b.MaxUnavailable == "") == (b.MinAvailable == "") {
		return fmt.Errorf("budget %s: either maxUnavailable or minAvailable is to be set", b.Name)
	}
	if _, err := parseAmount(b.MaxUnavailable + b.MinAvailable); err != nil {
		return fmt.Errorf("budget %s: %w", b.Name, err)
	}
	for i, name := range b.Sets {
		if p.set(name) == nil {
			return fmt.Errorf("budget %s: there is no set %s", b.Name, name)
		}
		for _, other := range p.Budgets {
			// The API refuses every eviction of such a pod.
			if other.Name != b.Name && slices.Contains(other.Sets, b.Sets[i]) {
				return fmt.Errorf("budgets %s and %s are of the same pods", b.Name, other.Name)
			}
		}
	}
	return nil
}

// desired returns how many pods must be ready if the sets want so many, of which
// shares are shares.
func (b Budget) desired(wanted int) int {
	a, err := parseAmount(b.MaxUnavailable + b.MinAvailable)
	if err != nil {
		return wanted // checked before
	}
	if b.MinAvailable != "" {
		return a.of(wanted)
	}
	return max(0, wanted-a.of(wanted))
}

var (
	// errRefused says that a budget does not let a pod go now.
	errRefused = errors.New("the budget does not let it go")
	// errHopeless is the errRefused of a budget that will never do so.
	errHopeless = fmt.Errorf("%w, although no pod is missing", errRefused)
)

// retryEviction is how long a drain waits after a refusal: as long as kubectl does.
const retryEviction = 5 * time.Second

// evict asks for a pod's deletion as the API for evictions does. It returns the
// pod's end, or errRefused. Unlike an update, a budget counts pods that are ready,
// however briefly; one that is going is none.
func (c *cluster) evict(name string) (gone <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[name]
	if p == nil {
		return nil, fmt.Errorf("evicting %s: there is no such pod", name)
	}
	if p.leaving {
		return p.gone, nil
	}
	for _, b := range c.budgets {
		if slices.Contains(b.Sets, p.set.spec.Name) && !c.allowsLocked(b, p) {
			if c.unsettledLocked() == 0 {
				return nil, fmt.Errorf("%s: %w", name, errHopeless)
			}
			return nil, fmt.Errorf("%s: %w", name, errRefused)
		}
	}
	c.deleteLocked(p)
	return p.gone, nil
}

func (c *cluster) allowsLocked(b Budget, p *pod) bool {
	wanted, ready := 0, 0
	for _, s := range c.sets {
		if slices.Contains(b.Sets, s.spec.Name) {
			wanted += s.replicas
		}
	}
	for _, other := range c.pods {
		if slices.Contains(b.Sets, other.set.spec.Name) && other.ready && !other.leaving {
			ready++
		}
	}
	desired := b.desired(wanted)
	switch {
	case p.ready:
		return ready > desired
	case b.UnhealthyPods == "AlwaysAllow":
		return true
	default:
		return desired > 0 && ready >= desired
	}
}

// drain evicts pods at once, as they are when their node is to be emptied: one that
// is refused is tried again. It returns when all have ended, with how often a
// budget has refused.
func (c *cluster) drain(ctx context.Context, names ...string) (refused int, err error) {
	counts := make([]int, len(names))
	err = each(names, func(i int, name string) error {
		for {
			gone, err := c.evict(name)
			switch {
			case err == nil:
				select {
				case <-gone:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			case errors.Is(err, errHopeless):
				counts[i]++
				return &stuckError{err.Error()}
			case !errors.Is(err, errRefused):
				return err
			}
			counts[i]++
			c.say("%v, and is tried again in %v", err, retryEviction)
			if !pause(ctx, retryEviction) {
				return context.Cause(ctx)
			}
		}
	})
	for _, n := range counts {
		refused += n
	}
	return refused, err
}
