package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"catbird/internal/testenv"
	"catbird/persistence/storetest"
)

func TestConformance(t *testing.T) { conform(t, "") }

// The suite must hold on a database of before as well, with all that stands in
// the way there.
func TestConformanceOnOldTables(t *testing.T) { conform(t, fullOld) }

// conform runs the suite on databases that held old tables to begin with.
func conform(t *testing.T, old string) {
	original := testenv.Postgres(t)
	conn := connect(t, original)
	run(t, conn, old)
	conn.Close(patience(t))
	prepare(t, original).Close()
	storetest.Run(t, func(t testing.TB) storetest.Harness {
		url := testenv.CopyPostgres(t, original)
		return storetest.Harness{Store: prepare(t, url), Raw: raw{url}}
	})
}

// raw is whoever else writes to the database: the old server, or an operator.
type raw struct{ url string }

func (r raw) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

func (r raw) InsertMessage(ctx context.Context, m storetest.RawMessage) error {
	insert := func(seq *int64) error {
		return r.exec(ctx, `INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, m.ID, m.Convo, m.Sender, string(m.Kind), m.Epoch, seq, m.Ciphertext, m.At)
	}
	err := insert(m.Seq)
	if codeOf(err) == "23502" { // NOT NULL
		err = insert(new(int64))
	}
	return err
}

func (r raw) DeleteMessage(ctx context.Context, id string) error {
	return r.exec(ctx, `DELETE FROM messages WHERE id = $1`, id)
}

func (r raw) SetVersion(ctx context.Context, convo string, epoch, seq int64) error {
	return r.exec(ctx, `UPDATE conversations SET current_epoch = $2, catbird_seq = $3 WHERE id = $1`, convo, epoch, seq)
}
