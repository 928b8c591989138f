package cluster

import (
	"io"
	"log/slog"
	"reflect"
	"testing"
)

func TestRingOfOneIsWhatARingGives(t *testing.T) {
	r := NewRing(RingConfig{Node: "a", Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	built, err := r.Set([]string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if one := RingOfOne("a"); !reflect.DeepEqual(one, built) {
		t.Errorf("RingOfOne has version %x and %d partitions of a, a ring version %x and %d",
			one.Version(), one.Partitions("a"), built.Version(), built.Partitions("a"))
	}
}
