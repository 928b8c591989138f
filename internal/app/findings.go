package app

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"catbird/operator"
	"catbird/persistence"
)

// surveyed is a store for the operators' API that leaves in metrics what a look
// through the data has found, so that a look by a timer is an alarm too.
type surveyed struct {
	operator.Store
	findings *prometheus.GaugeVec
	checked  prometheus.Gauge
}

func newSurveyed(store operator.Store, reg prometheus.Registerer) (*surveyed, error) {
	s := &surveyed{
		Store: store,
		findings: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "integrity_findings", Help: "What the last look through the data by this node has found.",
		}, []string{"kind"}),
		checked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "integrity_checked_timestamp_seconds", Help: "When the last look through the data by this node ended; 0: none yet.",
		}),
	}
	for _, c := range []prometheus.Collector{s.findings, s.checked} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of the data's integrity: %w", err)
		}
	}
	s.note(persistence.Integrity{}) // series are there before the first look
	return s, nil
}

// Integrity looks through the data. A look that fails changes no figure.
func (s *surveyed) Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error) {
	found, err := s.Store.Integrity(ctx, since)
	if err == nil {
		s.note(found)
		s.checked.SetToCurrentTime()
	}
	return found, err
}

func (s *surveyed) note(found persistence.Integrity) {
	for kind, f := range map[string]persistence.Finding{
		"duplicate_epochs": found.DuplicateEpochs, "missing_epochs": found.MissingEpochs,
		"sequence_gaps": found.SequenceGaps, "epoch_mismatches": found.EpochMismatches,
	} {
		s.findings.WithLabelValues(kind).Set(float64(f.Count))
	}
}
