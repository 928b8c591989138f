package app

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"catbird/persistence"
)

type slowStore struct {
	persistence.Store
	attempts []time.Time
	failures int
}

func (s *slowStore) Prepare(context.Context) error {
	s.attempts = append(s.attempts, time.Now())
	if len(s.attempts) <= s.failures {
		return persistence.ErrUnavailable
	}
	return nil
}

func TestPrepareGoesOnTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowStore{failures: 20}
		if err := prepare(t.Context(), s, quiet()); err != nil {
			t.Fatal(err)
		}
		if len(s.attempts) != 21 {
			t.Errorf("%d attempts, want 21", len(s.attempts))
		}
		for i := range s.attempts[1:] {
			pause := s.attempts[i+1].Sub(s.attempts[i])
			if pause < firstRetry/2 || pause > maxRetry {
				t.Errorf("pause %d was %v", i+1, pause)
			}
		}
		if pause := s.attempts[20].Sub(s.attempts[19]); pause < maxRetry/2 {
			t.Errorf("the pauses do not grow: the last was %v", pause)
		}
	})
}

func TestPrepareEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := prepare(ctx, &slowStore{failures: 1 << 30}, quiet())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("err = %v, want why it ended and what was wrong", err)
		}
	})
}
