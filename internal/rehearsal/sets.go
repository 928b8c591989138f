package rehearsal

import (
	"fmt"
	"slices"
	"time"
)

// set is a set of pods, with what its controller knows of it. All is of the
// cluster's mu.
type set struct {
	spec     Set // what was said of it last
	replicas int // how many pods are wanted now
	removed  bool
	// update is what pods are to become, current what they were when the last
	// update was through.
	current, update revision
	restarts        int // that were asked for
}

// never is how long it takes when nothing is due.
const never = time.Duration(-1)

// apply makes a plan what is wanted: sets that are not in it are removed with their
// pods, and those that are begin to change.
func (c *cluster) apply(p Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sets {
		s.removed = p.set(s.spec.Name) == nil
	}
	for _, is := range p.Sets {
		i := slices.IndexFunc(c.sets, func(s *set) bool { return s.spec.Name == is.Name })
		if i < 0 {
			first := revision{is.Template.Revision, is.Template}
			c.sets = append(c.sets, &set{spec: is, replicas: is.Replicas, current: first, update: first})
			continue
		}
		s := c.sets[i]
		if is.MaxReplicas > 0 { // the number is the autoscaler's, as soon as there is one
			s.replicas = min(max(s.replicas, is.Replicas), is.MaxReplicas)
		} else {
			s.replicas = is.Replicas
		}
		s.spec = is
		s.revise(is.Template)
	}
	c.budgets = p.Budgets
	c.changedLocked()
}

// revise makes t what pods are to become.
func (s *set) revise(t Template) {
	id := t.Revision
	if s.restarts > 0 { // the mark of the last restart stays in the template
		id = fmt.Sprintf("%s, restart %d", t.Revision, s.restarts)
	}
	s.update = revision{id, t}
}

// restart makes all pods of some sets be replaced as an update does it.
func (c *cluster) restart(names ...string) error {
	return c.change(names, func(s *set) error {
		s.restarts++
		s.revise(s.spec.Template)
		return nil
	})
}

// scale changes the number of a set's pods. An autoscaler's limits hold.
func (c *cluster) scale(name string, by int) error {
	return c.change([]string{name}, func(s *set) error {
		s.replicas += by
		if limit := s.spec.MaxReplicas; s.replicas < 1 || limit > 0 && (s.replicas > limit || s.replicas < s.spec.Replicas) {
			return fmt.Errorf("%s: it may not have %d pods", name, s.replicas)
		}
		return nil
	})
}

func (c *cluster) change(names []string, how func(*set) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		i := slices.IndexFunc(c.sets, func(s *set) bool { return s.spec.Name == name && !s.removed })
		if i < 0 {
			return fmt.Errorf("there is no set %s", name)
		}
		if err := how(c.sets[i]); err != nil {
			return err
		}
	}
	c.changedLocked()
	return nil
}

// revisionOf returns what a new pod is made of: one that a partition holds back is
// made as it was.
func (s *set) revisionOf(ordinal int) revision {
	if s.spec.Update == RollingUpdate && ordinal < s.spec.Partition {
		return s.current
	}
	return s.update
}

// givesUp reports whether a pod is replaced or removed though it is not ready. A set
// whose pods are ordered waits for it to be ready first, for ever.
func (s *set) givesUp(p *pod) bool {
	rolled := s.spec.Update == RollingUpdate && s.spec.Management == Parallel && p.ordinal >= s.spec.Partition
	return s.removed || rolled && p.revision.id != s.update.id
}

// control lets every set's controller act whenever anything has changed, until the
// cluster is closed.
func (c *cluster) control() {
	for {
		c.mu.Lock()
		due := never
		for _, s := range slices.Clone(c.sets) {
			if wait := c.actLocked(s); wait > 0 && (due < 0 || wait < due) {
				due = wait
			}
		}
		changed := c.changed
		c.mu.Unlock()
		var again <-chan time.Time
		if due > 0 {
			again = time.After(due)
		}
		select {
		case <-again:
		case <-changed:
		case <-c.life.Done():
			return
		}
	}
}

// podsLocked returns a set's pods by their ordinals.
func (c *cluster) podsLocked(s *set) map[int]*pod {
	out := map[int]*pod{}
	for _, p := range c.pods {
		if p.set == s {
			out[p.ordinal] = p
		}
	}
	return out
}

// soon returns when a pod will have been ready for as long as its set wants: 0 for
// now, never for one that is not ready or not there.
func (s *set) soon(p *pod) time.Duration {
	if p == nil || p.leaving || !p.ready {
		return never
	}
	return max(0, time.Until(p.since.Add(seconds(s.spec.MinReadySeconds))))
}

// actLocked does the next thing for a set, and returns when there may be another
// one to do if nothing changes before.
func (c *cluster) actLocked(s *set) time.Duration {
	there := c.podsLocked(s)
	if s.removed {
		for _, p := range there {
			c.deleteLocked(p)
		}
		if len(there) == 0 {
			c.sets = slices.DeleteFunc(c.sets, func(o *set) bool { return o == s })
			c.changedLocked()
		}
		return never
	}
	if wait, goOn := c.resizeLocked(s, there); !goOn {
		return wait
	}
	return c.rollLocked(s, there)
}

// resizeLocked creates what is missing and deletes what is too much: all at once, or
// one after another where pods are ordered, of which each waits for all before it.
func (c *cluster) resizeLocked(s *set, there map[int]*pod) (wait time.Duration, goOn bool) {
	ordered := s.spec.Management == OrderedReady
	for i := range s.replicas {
		if there[i] == nil {
			c.createLocked(s, i)
			if ordered {
				return never, false
			}
		} else if wait := s.soon(there[i]); ordered && wait != 0 {
			return wait, false
		}
	}
	for i := highest(there); i >= s.replicas; i-- {
		if there[i] == nil {
			continue
		}
		c.deleteLocked(there[i])
		if ordered {
			return never, false
		}
	}
	return 0, true
}

func highest(there map[int]*pod) int {
	top := -1
	for i := range there {
		top = max(top, i)
	}
	return top
}

// rollLocked replaces the highest pod that is to be, if all above it are available.
func (c *cluster) rollLocked(s *set, there map[int]*pod) time.Duration {
	if s.spec.Update != RollingUpdate {
		return never
	}
	for i := s.replicas - 1; i >= s.spec.Partition; i-- {
		p := there[i]
		if p == nil || p.leaving {
			return never // its successor is to come
		}
		if p.revision.id != s.update.id {
			c.deleteLocked(p)
			return never
		}
		if wait := s.soon(p); wait != 0 {
			return wait
		}
	}
	if s.spec.Partition == 0 {
		s.current = s.update
	}
	return never
}

// unfinishedLocked returns how long it takes at least until a set is as it should
// be; less than 0: nobody knows.
func (c *cluster) unfinishedLocked(s *set) (longest time.Duration) {
	there := c.podsLocked(s)
	if s.removed || len(there) != s.replicas {
		return never
	}
	for i := range s.replicas {
		wait := s.soon(there[i])
		if wait < 0 || s.spec.Update == RollingUpdate && i >= s.spec.Partition && there[i].revision.id != s.update.id {
			return never
		}
		longest = max(longest, wait)
	}
	return longest
}
