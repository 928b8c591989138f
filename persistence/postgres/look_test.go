package postgres

import (
	"errors"
	"testing"
	"time"

	"catbird/internal/testenv"
)

// Before they migrate, operators look for damage in the tables as they are.
func TestLookReadsWhatWasNotMigrated(t *testing.T) {
	url := testenv.Postgres(t)
	conn := connect(t, url)
	empty := openAt(t, url)
	if err := empty.Look(patience(t)); !errors.Is(err, ErrNoTables) {
		t.Errorf("an empty database: %v, want ErrNoTables", err)
	}
	run(t, conn, plainOld)
	run(t, conn, `INSERT INTO conversations VALUES ('aa', 'did:plc:a', 2, now(), now());
		INSERT INTO members VALUES ('aa', 'did:plc:a', now(), NULL, 0);
		INSERT INTO messages VALUES
			('1', 'aa', 'did:plc:a', 'commit', 1, 0, '', now(), NULL), ('2', 'aa', NULL, 'commit', 1, NULL, '', now(), NULL),
			('3', 'aa', 'did:plc:a', 'app', 1, 1, '', now(), NULL), ('4', 'aa', 'did:plc:a', 'app', 1, 3, '', now(), NULL)`)
	s := openAt(t, url)
	if err := s.Look(patience(t)); err != nil {
		t.Fatal(err)
	}
	found, err := s.Integrity(patience(t), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if found.DuplicateEpochs.Count != 1 || found.SequenceGaps.Count == 0 || found.EpochMismatches.Count != 1 {
		t.Errorf("found %+v", found)
	}
	view, err := s.Overview(patience(t), "aa")
	if err != nil || view.Epoch != 2 || len(view.Members) != 1 {
		t.Errorf("overview %+v, %v", view, err)
	}
	if n := value[int](t, conn, `SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attname LIKE 'catbird%'`); n != 0 {
		t.Errorf("looking has added %d columns", n)
	}
	prepare(t, url)
	s = openAt(t, url)
	if err := s.Look(patience(t)); err != nil {
		t.Fatal(err)
	}
	again, err := s.Integrity(patience(t), time.Time{})
	if err != nil || again.DuplicateEpochs.Count != 1 {
		t.Errorf("after the migration: %+v, %v", again, err)
	}
}

// A server that hangs tells nothing: a read on a connection that is open
// already is given up soon.
func TestReadsAreBoundedWhereTheServerHangs(t *testing.T) {
	proxy, url := testenv.ProxyURL(t, testenv.Postgres(t))
	prepare(t, url)
	s, err := Open(t.Context(), Config{URL: url, ReplyTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Prepare(patience(t)); err != nil {
		t.Fatal(err)
	}
	newConvo(t, s, "aa", "did:plc:a")
	if _, err := s.Epoch(patience(t), "aa", "did:plc:a"); err != nil {
		t.Fatal(err)
	}
	proxy.Stall()
	defer proxy.Restore()
	began := time.Now()
	if _, err := s.Epoch(patience(t), "aa", "did:plc:a"); err == nil {
		t.Error("answered by a server that hangs")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("given up after %v", took)
	}
}
