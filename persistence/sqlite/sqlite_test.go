package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"catbird/persistence/sqlite"
	"catbird/persistence/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openHarness)
}

// openStore opens and prepares a store in dir.
func openStore(t testing.TB, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func openHarness(t testing.TB) storetest.Harness {
	t.Helper()
	dir := t.TempDir()
	s := openStore(t, dir)
	return storetest.Harness{Store: s, Raw: &raw{db: openRaw(t, dir)}}
}

// openRaw opens the database file past the store.
func openRaw(t testing.TB, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "catbird.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close the raw handle: %v", err)
		}
	})
	return db
}

type raw struct{ db *sql.DB }

func (r *raw) InsertMessage(ctx context.Context, m storetest.RawMessage) error {
	_, err := r.db.ExecContext(ctx, `DROP INDEX IF EXISTS catbird_messages_seq; DROP INDEX IF EXISTS catbird_messages_epoch`)
	if err != nil {
		return fmt.Errorf("take the unique indexes away: %w", err)
	}
	_, err = r.db.ExecContext(ctx, `
		INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		m.ID, m.Convo, m.Sender, string(m.Kind), m.Epoch, m.Seq, m.Ciphertext, m.At.UnixMicro())
	return err
}

func (r *raw) DeleteMessage(ctx context.Context, id string) error {
	_, err := r.db.ExecContext(ctx, `DELETE FROM messages WHERE id = ?1`, id)
	return err
}

func (r *raw) SetVersion(ctx context.Context, convo string, epoch, seq int64) error {
	_, err := r.db.ExecContext(ctx, `UPDATE conversations SET current_epoch = ?2, catbird_seq = ?3 WHERE id = ?1`, convo, epoch, seq)
	return err
}
