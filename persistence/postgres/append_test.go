package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// One unit that the database refuses for a reason of its own does not take the
// others with it.
func TestAppendIsolatesWhatTheDatabaseRefuses(t *testing.T) {
	s, conn := fresh(t)
	run(t, conn, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.ciphertext = 'bad' THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION refuse()`)
	ses := session(t, s)
	var units []*conversation.Unit
	for i := range 5 {
		convo := fmt.Sprintf("a%d", i)
		newConvo(t, s, convo, "did:plc:alice")
		data := "good"
		if i == 2 {
			data = "bad"
		}
		units = append(units, unitOf(t, hold(t, s, ses, convo), request(convo, "did:plc:alice", text(data))))
	}
	out, err := s.Append(patience(t), units)
	want := []persistence.AppendOutcome{persistence.Appended, persistence.Appended, persistence.Failed, persistence.Appended, persistence.Appended}
	if err != nil || !slices.Equal(out, want) {
		t.Fatalf("got %v, %v, want %v", out, err, want)
	}
	out, err = s.Append(patience(t), units[2:3])
	if err != nil || out[0] != persistence.Failed {
		t.Fatalf("alone: %v, %v, want failed", out, err)
	}
}

// A unit that repeats a row which is there is a conflict of its own, though the
// row is only found when it is inserted.
func TestAppendFindsRepeatedRowsLate(t *testing.T) {
	s, _ := fresh(t)
	ses := session(t, s)
	newConvo(t, s, "aa", "did:plc:alice")
	newConvo(t, s, "bb", "did:plc:alice")
	r := request("aa", "did:plc:alice", text("once"))
	first := unitOf(t, hold(t, s, ses, "aa"), r)
	if _, err := s.Append(patience(t), []*conversation.Unit{first}); err != nil {
		t.Fatal(err)
	}
	again := unitOf(t, hold(t, s, ses, "aa"), request("aa", "did:plc:alice", text("fresh")), r)
	other := unitOf(t, hold(t, s, ses, "bb"), request("bb", "did:plc:alice", text("other")))
	out, err := s.Append(patience(t), []*conversation.Unit{again, other})
	if err != nil || out[0] != persistence.Conflict || out[1] != persistence.Appended {
		t.Fatalf("got %v, %v, want a conflict and an append", out, err)
	}
	// A key that is there is one, too.
	keyed := request("bb", "did:plc:alice", text("keyed"))
	keyed.Key = "k"
	out, err = s.Append(patience(t), []*conversation.Unit{unitOf(t, hold(t, s, ses, "bb"), keyed)})
	if err != nil || out[0] != persistence.Appended {
		t.Fatalf("got %v, %v", out, err)
	}
	keyed.ID = newID()
	out, err = s.Append(patience(t), []*conversation.Unit{unitOf(t, hold(t, s, ses, "bb"), keyed)})
	if err != nil || out[0] != persistence.Conflict {
		t.Fatalf("the key again: %v, %v, want a conflict", out, err)
	}
}

// Updates of conversations and members rewrite no index, whatever the shape of
// the load.
func TestUpdatesAreHOT(t *testing.T) {
	s, conn := fresh(t)
	ses := session(t, s)
	newConvo(t, s, "aa", "did:plc:alice", "did:plc:bob", "did:plc:carol")
	c := hold(t, s, ses, "aa")
	for range 50 {
		u := unitOf(t, c, request("aa", "did:plc:alice", text("x")), request("aa", "did:plc:bob", text("y")))
		if out, err := s.Append(patience(t), []*conversation.Unit{u}); err != nil || out[0] != persistence.Appended {
			t.Fatal(out, err)
		}
		c.State.Seq = u.Seq
		if err := s.Fold(patience(t), []string{"aa"}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close() // its connections report what they have done
	for _, table := range []string{"conversations", "members"} {
		const share = `SELECT coalesce(sum(n_tup_hot_upd) * 100 / nullif(sum(n_tup_upd), 0), -1)::int FROM pg_stat_user_tables WHERE relname = $1 AND n_tup_upd >= 100`
		got := -1
		for deadline := time.Now().Add(20 * time.Second); got < 0 && time.Now().Before(deadline); {
			run(t, conn, "SELECT pg_stat_clear_snapshot()")
			got = value[int](t, conn, share, table)
		}
		if got < 90 {
			t.Errorf("%d%% of the updates of %s are HOT, want 90", got, table)
		}
	}
}

// Everything at once on the same conversations, in every order: nobody waits in
// a circle, nothing is lost, and counts come out exact.
func TestEverythingAtOnce(t *testing.T) {
	s, conn := fresh(t)
	run(t, conn, "SET deadlock_timeout = '1s'")
	const n, rounds = 8, 25
	members := []string{"did:plc:alice", "did:plc:bob", "did:plc:carol"}
	var convos []string
	for i := range n {
		convos = append(convos, fmt.Sprintf("%02x", i))
		newConvo(t, s, convos[i], members[0], members[1:]...)
	}
	shuffled := func() []string {
		c := slices.Clone(convos)
		rand.Shuffle(n, func(i, j int) { c[i], c[j] = c[j], c[i] })
		return c[:1+rand.IntN(n)]
	}
	ctx := patience(t)
	var sent [n]int
	var mu sync.Mutex
	count := func(convo string) {
		mu.Lock()
		defer mu.Unlock()
		sent[slices.Index(convos, convo)]++
	}
	appends := func(ses string) error {
		for range rounds {
			held, err := s.Claim(ctx, ses, shuffled())
			if err != nil {
				return err
			}
			var units []*conversation.Unit
			var release []persistence.Claim
			for _, c := range held {
				if c.Outcome == persistence.ClaimGranted {
					units = append(units, unitOf(t, c, request(c.Convo, members[0], text("x"))))
					release = append(release, persistence.Claim{Convo: c.Convo, Fence: c.Fence})
				}
			}
			rand.Shuffle(len(units), func(i, j int) { units[i], units[j] = units[j], units[i] })
			out, err := s.Append(ctx, units)
			if err != nil {
				return err
			}
			for i, o := range out {
				switch o {
				case persistence.Appended:
					count(units[i].Convo)
				case persistence.Failed:
					return fmt.Errorf("an append to %s failed", units[i].Convo)
				}
			}
			if err := s.Release(ctx, ses, release); err != nil {
				return err
			}
		}
		return nil
	}
	directs := func() error {
		for range rounds {
			convo := convos[rand.IntN(n)]
			_, err := s.Direct(ctx, "", request(convo, members[0], text("y")), envNow())
			var held *persistence.HeldError
			if err == nil {
				count(convo)
			} else if !errors.As(err, &held) {
				return err
			}
		}
		return nil
	}
	upkeep := func() error {
		for range rounds {
			if err := s.Fold(ctx, shuffled()); err != nil {
				return err
			}
			if err := s.ResetUnread(ctx, convos[rand.IntN(n)], members[2], int64(rand.IntN(20))); err != nil {
				return err
			}
			if _, err := s.Housekeep(ctx, persistence.Retention{Requests: time.Hour, Welcomes: time.Hour, Sessions: time.Hour}, 10); err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 2 {
		ses := session(t, s)
		wg.Go(func() { errs <- appends(ses) })
		wg.Go(func() { errs <- directs() })
		wg.Go(func() { errs <- upkeep() })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Fold(ctx, convos); err != nil {
		t.Fatal(err)
	}
	for i, convo := range convos {
		v, err := s.Convo(ctx, convo, members[1])
		if err != nil || int(v.Unread) != sent[i] {
			t.Errorf("%s: %d unread, %v, want all %d messages", convo, v.Unread, err, sent[i])
		}
	}
	if found, err := s.Integrity(ctx, time.Time{}); err != nil || !found.Clean() {
		t.Errorf("integrity: %+v, %v", found, err)
	}
	if got := value[int](t, conn, `SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`); got != 0 {
		t.Errorf("%d deadlocks", got)
	}
}
