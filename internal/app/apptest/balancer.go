package apptest

import (
	"testing"
	"time"

	"catbird/internal/balancer"
)

// Balancer is a load balancer before a test's nodes.
type Balancer = balancer.Balancer

// NewBalancer returns a balancer that looks at each node every so often, until
// the test ends.
func NewBalancer(t testing.TB, every time.Duration) *Balancer {
	b := balancer.New(every)
	t.Cleanup(b.Close)
	return b
}
