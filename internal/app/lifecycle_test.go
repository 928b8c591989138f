package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStackUnwindsLastFirst(t *testing.T) {
	s := newStack(quiet())
	var order []string
	for _, name := range []string{"store", "session", "actors"} {
		s.push(name, 0, func(context.Context) error {
			order = append(order, name)
			return nil
		})
	}
	if err := s.unwind(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"actors", "session", "store"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestStackRunsEveryStepAndJoinsErrors(t *testing.T) {
	s := newStack(quiet())
	errStore, errActors := errors.New("disk"), errors.New("busy")
	closed := 0
	s.push("store", 0, func(context.Context) error { closed++; return errStore })
	s.push("session", 0, func(context.Context) error { closed++; return nil })
	s.push("actors", 0, func(context.Context) error { closed++; return errActors })
	err := s.unwind(t.Context())
	if closed != 3 || !errors.Is(err, errStore) || !errors.Is(err, errActors) {
		t.Fatalf("%d steps ran, err = %v", closed, err)
	}
	if !strings.Contains(err.Error(), "stopping store: disk") {
		t.Errorf("the error does not name its step: %v", err)
	}
	if again := s.unwind(t.Context()); closed != 3 || !errors.Is(again, errStore) {
		t.Errorf("a second call ran %d steps and returned %v", closed-3, again)
	}
}

func TestStackBoundsItsSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(quiet())
		var last time.Duration
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		began := time.Now()
		s.push("last", 0, func(ctx context.Context) error {
			err := hang(ctx)
			last = time.Since(began)
			return err
		})
		s.push("whole budget", 0, hang)
		s.push("own bound", time.Second, hang)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.unwind(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if want := 5*time.Second + lastBreath; last != want {
			t.Errorf("the last step ended after %v, want %v", last, want)
		}
	})
}

func TestStackSecondCallWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(quiet())
		release, errStep := make(chan struct{}), errors.New("x")
		s.push("slow", 0, func(context.Context) error { <-release; return errStep })
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- s.unwind(t.Context()) }()
		synctest.Wait()
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.unwind(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("an impatient caller got %v", err)
		}
		go func() { second <- s.unwind(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-second:
			t.Fatalf("the second call returned %v before the first had ended", err)
		default:
		}
		close(release)
		if a, b := <-first, <-second; !errors.Is(a, errStep) || !errors.Is(b, errStep) {
			t.Errorf("the calls returned %v and %v", a, b)
		}
	})
}
