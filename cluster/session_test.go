package cluster

import (
	"testing"
	"time"
)

// Rule 11's deadline is on two clocks, and memory is distrusted when either has
// passed.
func TestSessionDistrustsWhenEitherClockHasPassed(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name  string
		alter func(s *Session)
		want  bool
	}{
		{"both ahead", func(*Session) {}, true},
		{"wall clock passed: the machine slept", func(s *Session) { s.wall.Store(now.UnixNano()) }, false},
		{"monotonic clock passed: somebody set the time back", func(s *Session) { s.mono.Store(int64(now.Sub(monoStart))) }, false},
		{"ended", func(s *Session) { s.end() }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Session{id: "one"}
			s.extend(now, time.Second)
			tt.alter(s)
			if got := s.Trusted(now); got != tt.want {
				t.Errorf("trusted = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSessionIsTrustedUntilItsDeadlineAndNotAtIt(t *testing.T) {
	s := &Session{id: "one"}
	if s.Trusted(time.Now()) {
		t.Error("trusted before anything was renewed")
	}
	sent := time.Now()
	s.extend(sent, time.Second)
	if !s.Trusted(sent.Add(time.Second - 1)) {
		t.Error("not trusted right before the deadline")
	}
	if s.Trusted(sent.Add(time.Second)) {
		t.Error("trusted at the deadline")
	}
}

// A deadline from before the clock was set back would let a machine sleep
// unnoticed for as long as the clock was set back.
func TestSessionFollowsAWallClockThatIsSetBack(t *testing.T) {
	s := &Session{id: "one"}
	now := time.Now()
	s.extend(now, time.Second)
	s.wall.Add(int64(time.Hour)) // as if it had been an hour later
	s.extend(now, time.Second)
	if got := s.wall.Load(); got != now.Add(time.Second).UnixNano() {
		t.Errorf("deadline on the wall clock is %v, want a second on", time.Unix(0, got).Sub(now))
	}
}

func TestTrustedDoesNotAllocate(t *testing.T) {
	s := &Session{id: "one"}
	s.extend(time.Now(), time.Hour)
	if n := testing.AllocsPerRun(100, func() { s.Trusted(time.Now()) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
