package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/persistence"
)

type houseFake struct {
	calls     []time.Time
	retention persistence.Retention
	answer    func(call int) (persistence.Removed, error)
}

func (f *houseFake) Housekeep(_ context.Context, r persistence.Retention, batch int) (persistence.Removed, error) {
	if batch != houseBatch {
		panic("another batch")
	}
	f.calls, f.retention = append(f.calls, time.Now()), r
	return f.answer(len(f.calls))
}

func newHouse(t *testing.T, f *houseFake) *housekeeper {
	t.Helper()
	h, err := newHousekeeper(f, time.Hour, quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Housekeeping goes on at once, but not without pause, while there is more, and
// rests otherwise, whatever went wrong.
func TestHousekeepingPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &houseFake{answer: func(call int) (persistence.Removed, error) {
			switch call {
			case 1, 2:
				return persistence.Removed{Messages: 500, More: true}, nil
			case 3:
				return persistence.Removed{Messages: 7}, nil
			case 4:
				return persistence.Removed{Busy: true, More: true}, nil
			case 5:
				return persistence.Removed{}, persistence.ErrUnavailable
			default:
				return persistence.Removed{}, errors.New("boom")
			}
		}}
		h := newHouse(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 6*houseEvery)
		defer cancel()
		began := time.Now()
		h.run(ctx)
		if first := f.calls[0].Sub(began); first >= houseEvery {
			t.Errorf("the first round came after %v", first)
		}
		want := []time.Duration{housePause, housePause, houseEvery, houseEvery, houseEvery}
		for i, d := range want {
			if got := f.calls[i+1].Sub(f.calls[i]); got != d {
				t.Errorf("pause %d was %v, want %v", i+1, got, d)
			}
		}
		for outcome, n := range map[string]float64{"ok": 3, "busy": 1} {
			if got := testutil.ToFloat64(h.runs.WithLabelValues(outcome)); got != n {
				t.Errorf("%v rounds %s, want %v", got, outcome, n)
			}
		}
		if got := testutil.ToFloat64(h.removed.WithLabelValues("messages")); got != 1007 {
			t.Errorf("%v messages counted, want 1007", got)
		}
	})
}

func TestHousekeepingRetention(t *testing.T) {
	f := &houseFake{answer: func(int) (persistence.Removed, error) { return persistence.Removed{}, nil }}
	newHouse(t, f).round(t.Context())
	if f.retention.Commits != time.Hour || f.retention.Requests < 24*time.Hour || f.retention.Welcomes == 0 || f.retention.Sessions == 0 {
		t.Errorf("retention = %+v", f.retention)
	}
}

func TestHousekeepingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &houseFake{answer: func(int) (persistence.Removed, error) { return persistence.Removed{More: true}, nil }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		h := newHouse(t, f)
		go func() { h.run(ctx); close(done) }()
		cancel()
		<-done
	})
}
