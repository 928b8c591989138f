package cluster

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/internal/memstore"
)

// gauge returns what a gauge without labels says.
func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// Operators see how old a session is and when it was renewed last: the first
// shows that it was lost, the second that it is about to be.
func TestSessionsAgeIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, reg := newStore(t), prometheus.NewRegistry()
		k := NewKeeper(KeeperConfig{Store: store, Node: "a", TTL: 3 * time.Second, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
		check := func(when string, age, renewal float64) {
			t.Helper()
			if got := gauge(t, reg, "session_age_seconds"); got != age {
				t.Errorf("%s: the session is %v s old, want %v", when, got, age)
			}
			if got := gauge(t, reg, "session_renewal_age_seconds"); got != renewal {
				t.Errorf("%s: it was renewed %v s ago, want %v", when, got, renewal)
			}
		}
		check("before the start", 0, 0)
		start(t, k)
		if err := k.Established(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(10500 * time.Millisecond)
		check("in calm times", 10.5, .5)
		store.SetFaults(faultsOf(memstore.RenewSession, memstore.Fault{Fate: memstore.Refused}))
		pass(2 * time.Second)
		check("without renewals", 12.5, 2.5)
		store.SetFaults(nil)
		if err := store.EndSession(t.Context(), k.Current().ID()); err != nil {
			t.Fatal(err)
		}
		pass(3 * time.Second)
		if age := gauge(t, reg, "session_age_seconds"); age > 3 {
			t.Errorf("the next session is %v s old", age)
		}
	})
}
