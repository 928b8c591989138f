package cluster

import (
	"log/slog"
	"testing"
)

func BenchmarkRingOwner(b *testing.B) {
	r := NewRing(RingConfig{Logger: slog.New(slog.DiscardHandler)})
	if _, err := r.Set(names("catbird-", 10)); err != nil {
		b.Fatal(err)
	}
	const convo = "8a3f0c6e5b7d41929c4e1f2a3b4c5d6e"
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.View().Owner(convo); !ok {
			b.Fatal("no owner")
		}
	}
}

// BenchmarkRing1000 measures a thousand nodes with ten million conversations.
func BenchmarkRing1000(b *testing.B) {
	for b.Loop() {
		report, err := SimulateRing(1000, 10_000_000)
		if err != nil {
			b.Fatal(err)
		}
		b.Log(report)
		b.ReportMetric(report.Fullest, "fullest/mean")
		b.ReportMetric(report.Moved, "moved/ideal")
		b.ReportMetric(float64(report.Change.Microseconds())/1000, "ms/change")
	}
}
