package storetest

import (
	"slices"
	"testing"

	"catbird/persistence"
)

var sessionsTests = []test{
	{name: "SessionCounterRises", run: sessionCounterRises},
	{name: "SessionEndsForGood", run: sessionEndsForGood},
	{name: "SessionEndsOnlyWhenStalled", run: sessionEndsOnlyWhenStalled},
	{name: "SessionsLiveAlone", alone: true, run: sessionsLiveAlone},
	{name: "Wants", run: wants},
}

// sessionOf returns a session if it lives.
func (f *fixture) sessionOf(id string) (persistence.Session, bool) {
	f.t.Helper()
	all, err := f.Store.LiveSessions(f.ctx)
	f.ok(err, "list sessions")
	i := slices.IndexFunc(all, func(s persistence.Session) bool { return s.ID == id })
	if i < 0 {
		return persistence.Session{}, false
	}
	return all[i], true
}

func sessionCounterRises(t *testing.T, f *fixture) {
	s := f.session()
	for want := range int64(3) {
		got, lives := f.sessionOf(s.ID)
		equal(f, lives, true, "the session lives")
		s.Counter = want
		equal(f, got, s, "session")
		f.ok(f.Store.RenewSession(f.ctx, s.ID), "renew")
	}
	f.is(f.Store.RenewSession(f.ctx, newID()), persistence.ErrSessionOver, "renewing one that never was")
}

func sessionEndsForGood(t *testing.T, f *fixture) {
	s := f.session()
	f.ok(f.Store.EndSession(f.ctx, s.ID), "end")
	f.ok(f.Store.EndSession(f.ctx, s.ID), "end again")
	f.is(f.Store.RenewSession(f.ctx, s.ID), persistence.ErrSessionOver, "renewing an ended session")
	_, lives := f.sessionOf(s.ID)
	equal(f, lives, false, "the session lives")
	ended, err := f.Store.EndStalled(f.ctx, s.ID, 0)
	f.ok(err, "end a session that is over")
	equal(f, ended, false, "ended a session that is over")
	if err := f.Store.StartSession(f.ctx, s); err == nil {
		t.Fatal("an ended session was started again")
	}
	_, lives = f.sessionOf(s.ID)
	equal(f, lives, false, "the session lives")
}

func sessionEndsOnlyWhenStalled(t *testing.T, f *fixture) {
	s := f.session()
	f.ok(f.Store.RenewSession(f.ctx, s.ID), "renew")
	for _, seen := range []int64{0, 2} {
		ended, err := f.Store.EndStalled(f.ctx, s.ID, seen)
		f.ok(err, "end a session that moves")
		equal(f, ended, false, "ended")
	}
	f.ok(f.Store.RenewSession(f.ctx, s.ID), "renew")
	ended, err := f.Store.EndStalled(f.ctx, s.ID, 2)
	f.ok(err, "end a stalled session")
	equal(f, ended, true, "ended")
	ended, err = f.Store.EndStalled(f.ctx, s.ID, 2)
	f.ok(err, "end it again")
	equal(f, ended, false, "ended again")
	f.is(f.Store.RenewSession(f.ctx, s.ID), persistence.ErrSessionOver, "renewing it")
}

func sessionsLiveAlone(t *testing.T, f *fixture) {
	all, err := f.Store.LiveSessions(f.ctx)
	f.ok(err, "list sessions")
	equal(f, len(all), 0, "sessions at first")
	f.session()
	over := f.session()
	f.session()
	f.ok(f.Store.EndSession(f.ctx, over.ID), "end")
	all, err = f.Store.LiveSessions(f.ctx)
	f.ok(err, "list sessions")
	equal(f, len(all), 2, "sessions that live")
}

func wants(t *testing.T, f *fixture) {
	mine, other := f.session().ID, f.session().ID
	wanted := func(session string, want ...string) {
		t.Helper()
		got, err := f.Store.Wanted(f.ctx, session)
		f.ok(err, "look for wants")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("wanted: got %v, want %v", got, want)
		}
	}
	a, b := newConvoID(), newConvoID()
	wanted(mine)
	for _, convo := range []string{a, b, a} {
		f.ok(f.Store.Want(f.ctx, mine, convo), "want")
	}
	wanted(other)
	wanted(mine, a, b)
	wanted(mine)
	f.ok(f.Store.Want(f.ctx, mine, a), "want again")
	wanted(mine, a)
}
