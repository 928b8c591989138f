package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"catbird/internal/testenv"
	"catbird/persistence"
)

func TestPrepareByManyNodesAtOnce(t *testing.T) {
	url := testenv.Postgres(t)
	conn := connect(t, url)
	run(t, conn, fullOld)
	fillOld(t, conn)
	var wg sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		s := openAt(t, url, func(c *Config) { c.MaxConnections = minConnections })
		wg.Go(func() { errs[i] = s.Prepare(patience(t)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	bad := value[int](t, conn, `SELECT count(*)::int FROM pg_index WHERE NOT indisvalid`)
	if bad != 0 {
		t.Errorf("%d indexes are invalid", bad)
	}
	for _, i := range indexes {
		if !value[bool](t, conn, `SELECT to_regclass($1) IS NOT NULL`, i.name) {
			t.Errorf("index %s is missing", i.name)
		}
	}
}

// A node that died while it built an index leaves an invalid one behind, and
// somebody may have added part of the rest by hand.
func TestPrepareFinishesWhatAnotherBegan(t *testing.T) {
	url := testenv.Postgres(t)
	conn := connect(t, url)
	run(t, conn, plainOld)
	run(t, conn, `ALTER TABLE conversations ADD COLUMN catbird_seq bigint; ALTER TABLE messages ADD COLUMN catbird_v smallint;
		CREATE TABLE catbird_wants (session text NOT NULL, convo_id text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (session, convo_id));
		INSERT INTO messages (id, convo_id, seq, message_type, epoch, created_at, catbird_v) VALUES ('a', 'c', 1, 'app', 0, now(), 1), ('b', 'c', 1, 'app', 0, now(), 1)`)
	_, err := conn.Exec(patience(t), `CREATE UNIQUE INDEX CONCURRENTLY catbird_messages_seq ON messages (convo_id, seq) WHERE catbird_v IS NOT NULL`)
	if err == nil {
		t.Fatal("the index could be built")
	}
	run(t, conn, `DELETE FROM messages`)
	prepare(t, url)
	if got := value[bool](t, conn, `SELECT indisvalid FROM pg_index WHERE indexrelid = 'catbird_messages_seq'::regclass`); !got {
		t.Error("the index is still invalid")
	}
}

// A database that is down is no reason not to start.
func TestOpenNeedsNoDatabase(t *testing.T) {
	s := openAt(t, "postgresql://nobody@127.0.0.1:1/nothing")
	ctx := patience(t)
	if err := s.Prepare(ctx); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("prepare: %v, want unavailable", err)
	}
	if _, err := s.Epoch(ctx, "a", "b"); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("epoch: %v, want unavailable", err)
	}
	if err := s.RenewSession(ctx, "x"); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("renew: %v, want unavailable", err)
	}
	if got := s.Stats().Max; got != 12 {
		t.Errorf("the pools have %d connections, want 12", got)
	}
}

func TestOpenRefusesBadConfigurations(t *testing.T) {
	for want, cfg := range map[string]Config{
		"URL is required":       {},
		"parse the database":    {URL: "postgresql://host:port-that-is-none/x"},
		"must be at least 3":    {URL: "postgresql://h/x", MaxConnections: 2},
		"a timeout is negative": {URL: "postgresql://h/x", LockTimeout: -1},
	} {
		if _, err := Open(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The sizes of the pools always add up to the budget.
func TestPoolsShareTheBudget(t *testing.T) {
	for budget := minConnections; budget < 30; budget++ {
		s := openAt(t, "postgresql://h/x", func(c *Config) { c.MaxConnections = budget })
		if got := s.Stats().Max; got != budget {
			t.Errorf("%d connections out of %d", got, budget)
		}
		if s.main.p.Stat().MaxConns() < s.journal.p.Stat().MaxConns() {
			t.Errorf("budget %d: fewer connections for readers than for the journal", budget)
		}
	}
}

// Whatever the planner believes of the tables, a statement finds its rows by
// key: a plan that was made on empty tables is kept.
func TestStatementsScanNothing(t *testing.T) {
	s, _ := fresh(t)
	st := s.statements.Load()
	conn, err := s.main.acquire(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for name, c := range map[string]struct {
		sql  string
		args int
	}{
		"lock": {lockSQL, 1}, "core": {st.core, 35}, "claim": {claimSQL, 2}, "release": {releaseSQL, 3},
		"state": {stateByLogSQL, 1}, "members": {activeMembersSQL, 1}, "mls": {oldMLSSQL, 1}, "lookup": {lookupSQL, 5},
		"fold": {foldSQL, 1}, "reset": {resetSQL, 3}, "upsert": {st.upsertMembers, 6}, "leave": {leaveMembersSQL, 4},
		"drop welcomes": {dropWelcomesSQL, 2}, "welcomes": {st.insertWelcomes, 8}, "requests": {insertRequestsSQL, 10},
		"consume": {st.consumeKeyPackages, 3}, "newest": {messagesText(newestPage, 51), 2}, "after seq": {messagesText(afterSeq, 51), 3},
		"after id": {messagesText(afterID, 51), 3}, "commits": {commitsText(101), 5}, "epoch": {epochSQL, 2},
		"convo": {st.convo, 2}, "convos": {st.convos, 6}, "fetch": {st.fetchWelcome, 2}, "confirm": {st.confirmWelcome, 3},
		"publish": {st.publishKeyPackage, 10}, "find": {st.findKeyPackages, 4}, "expired": {expiredSQL, 1},
		"trim": {trimExpiredSQL, 2}, "trim commits": {trimCommitsSQL, 3}, "sweep": {sweepText, 2}, "old commits": {oldCommitsSQL, 3},
		"purge requests": {purgeRequestsSQL, 2}, "purge key packages": {st.purgeKeyPackages, 1}, "purge welcomes": {st.purgeWelcomes, 2},
		"overview": {overviewSQL, 1}, "overview members": {overviewMembersSQL, 1}, "overview epochs": {overviewEpochsSQL, 1},
		"duplicates": {integrityTexts[0], 2}, "missing": {integrityTexts[1], 2}, "gaps": {integrityTexts[2], 2}, "mismatches": {integrityTexts[3], 2},
	} {
		plan := explain(t, conn.Conn(), c.sql, c.args)
		if strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s scans a table:\n%s", name, plan)
		}
	}
	for name, c := range map[string]struct {
		sql  string
		args int
	}{"append": {st.core, 35}, "claim": {claimSQL, 2}, "release": {releaseSQL, 3}, "fold": {foldSQL, 1}} {
		if plan := explain(t, conn.Conn(), c.sql, c.args); strings.Count(plan, "Tid Scan") != 1 {
			t.Errorf("%s does not find its conversations by their place, one by one:\n%s", name, plan)
		}
	}
}
