package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"catbird/operator"
	"catbird/persistence"
)

// found is a database in which a look finds that, or fails.
type found struct {
	operator.Store
	what persistence.Integrity
	err  error
}

func (f *found) Integrity(context.Context, time.Time) (persistence.Integrity, error) {
	return f.what, f.err
}

// What a look through the data has found stays in the metrics until the next one
// has looked.
func TestFindingsAreMetrics(t *testing.T) {
	db := &found{}
	db.what.DuplicateEpochs.Count, db.what.MissingEpochs.Count = 1, 2
	db.what.SequenceGaps.Count, db.what.EpochMismatches.Count = 3, 4
	s, err := newSurveyed(db, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	figures := func() (all [5]float64) {
		for i, kind := range []string{"duplicate_epochs", "missing_epochs", "sequence_gaps", "epoch_mismatches"} {
			all[i] = testutil.ToFloat64(s.findings.WithLabelValues(kind))
		}
		all[4] = min(1, testutil.ToFloat64(s.checked))
		return all
	}
	for _, look := range []struct {
		name string
		err  error
		want [5]float64
	}{
		{"one that fails", errors.New("no database"), [5]float64{}},
		{"one that finds something", nil, [5]float64{1, 2, 3, 4, 1}},
		{"another that fails", errors.New("no database"), [5]float64{1, 2, 3, 4, 1}},
	} {
		db.err = look.err
		if _, err := s.Integrity(t.Context(), time.Time{}); !errors.Is(err, look.err) {
			t.Errorf("%s: %v", look.name, err)
		}
		if got := figures(); got != look.want {
			t.Errorf("after %s the metrics say %v, want %v", look.name, got, look.want)
		}
	}
	db.what, db.err = persistence.Integrity{}, nil
	if _, err := s.Integrity(t.Context(), time.Time{}); err != nil || figures() != [5]float64{4: 1} {
		t.Errorf("after a look that found nothing the metrics say %v: %v", figures(), err)
	}
}
