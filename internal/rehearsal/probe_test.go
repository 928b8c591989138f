package rehearsal

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbe(t *testing.T) {
	p := Probe{InitialDelaySeconds: 3, PeriodSeconds: 2, TimeoutSeconds: 1, SuccessThreshold: 2, FailureThreshold: 3}
	type change struct {
		at   time.Duration
		good bool
	}
	for name, c := range map[string]struct {
		answers string // one a probe: + good, - bad, . none
		want    []change
	}{
		"good":                    {"+++++++", []change{{5 * time.Second, true}}},
		"good at last":            {"--+-++++", []change{{13 * time.Second, true}}},
		"never":                   {"-+-+-+-+", nil},
		"bad from the beginning":  {"-----++", []change{{7 * time.Second, false}, {15 * time.Second, true}}},
		"two failures are none":   {"++--+--+", []change{{5 * time.Second, true}}},
		"three are":               {"++---", []change{{5 * time.Second, true}, {11 * time.Second, false}}},
		"silence is failure":      {"++...", []change{{5 * time.Second, true}, {12 * time.Second, false}}},
		"and it comes back":       {"++---++", []change{{5 * time.Second, true}, {11 * time.Second, false}, {15 * time.Second, true}}},
		"once more does not tell": {"++++", []change{{5 * time.Second, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began, n := time.Now(), 0
				var got []change
				p.watch(ctx, began, func(ctx context.Context) bool {
					if n == len(c.answers) {
						cancel()
						return false
					}
					n++
					if c.answers[n-1] == '.' {
						<-ctx.Done()
					}
					return c.answers[n-1] == '+'
				}, func(good bool) { got = append(got, change{time.Since(began), good}) })
				if !slices.Equal(got, c.want) {
					t.Errorf("%v, want %v", got, c.want)
				}
			})
		})
	}
}

// What stands before the pods acts on news when its lag has passed, in their order.
func TestServiceLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(2 * time.Second)
		defer s.close()
		s.set("a", "1")
		s.set("b", "2")
		time.Sleep(time.Second)
		s.set("b", "")
		time.Sleep(999 * time.Millisecond)
		synctest.Wait()
		if n := s.ready(); n != 0 || s.pick() != "" {
			t.Errorf("%d pods get requests already", n)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if n := s.ready(); n != 2 {
			t.Errorf("%d pods get requests", n)
		}
		if got := []string{s.pick(), s.pick()}; !slices.Contains(got, "1") || !slices.Contains(got, "2") {
			t.Errorf("requests go to %v", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := s.ready(); n != 1 || s.pick() != "1" {
			t.Errorf("%d pods get requests", n)
		}
	})
}
