package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/persistence"
)

// integrityPage is how many conversations one look covers.
const integrityPage = 200

// maxExamples is how many places a finding names.
const maxExamples = 10

const integrityPageSQL = `SELECT id FROM conversations WHERE id > $1 ORDER BY id LIMIT $2`

// Each statement answers with rows (conversation, epoch, seq, count, what).
const (
	duplicateEpochsSQL = `
SELECT m.convo_id, m.epoch, NULL::bigint, 1::bigint, count(*) || ' commits at one epoch'
FROM {commits} m
GROUP BY m.convo_id, m.epoch HAVING count(*) > 1 AND max(m.created_at) >= $2 ORDER BY 1, 2`

	missingEpochsSQL = `
SELECT x.convo_id, x.before + 1, NULL::bigint, x.epoch - x.before - 1, 'no commit at epochs ' || x.before + 1 || ' to ' || x.epoch - 1
FROM (
	SELECT m.convo_id, m.epoch, max(m.created_at) AS at, lag(m.epoch) OVER (PARTITION BY m.convo_id ORDER BY m.epoch) AS before
	FROM {commits} m GROUP BY m.convo_id, m.epoch
) x WHERE x.epoch - x.before > 1 AND x.at >= $2 ORDER BY 1, 2`

	// A hole is none where messages are known to have been deleted: below what
	// housekeeping has deleted, and, since operators delete by age, below the
	// oldest application message that is left.
	sequenceGapsSQL = `
SELECT * FROM (
	SELECT x.convo_id, NULL::bigint, x.first, x.seq - x.first, 'seq ' || x.first || ' to ' || x.seq - 1 || ' missing'
	FROM (
		SELECT g.convo_id, g.seq, g.at, greatest(g.before, c.catbird_trimmed_seq) + 1 AS first, g.before >= g.oldest AS kept
		FROM (
			SELECT m.convo_id, m.seq, max(m.created_at) AS at, lag(m.seq) OVER w AS before,
				min(CASE WHEN bool_or(m.message_type = 'app') THEN m.seq END) OVER (PARTITION BY m.convo_id) AS oldest
			FROM {log} m WHERE m.seq > 0
			GROUP BY m.convo_id, m.seq WINDOW w AS (PARTITION BY m.convo_id ORDER BY m.seq)
		) g JOIN conversations c ON c.id = g.convo_id
	) x WHERE x.seq > x.first AND x.kept AND x.at >= $2
	UNION ALL
	SELECT m.convo_id, NULL, m.seq, count(*) - 1, 'seq ' || m.seq || ' is there ' || count(*) || ' times'
	FROM {log} m WHERE m.seq > 0
	GROUP BY m.convo_id, m.seq HAVING count(*) > 1 AND max(m.created_at) >= $2
	UNION ALL
	SELECT m.convo_id, min(m.epoch), NULL, count(*), count(*) || ' rows without a seq'
	FROM {log} m WHERE coalesce(m.seq, 0) <= 0 AND m.created_at >= $2
	GROUP BY m.convo_id
) f ORDER BY 1, 3`

	// A conversation whose commits are all gone by age tells nothing of its
	// epoch; one whose application messages are, nothing of its newest seq. The
	// old server does not write our seq.
	epochMismatchesSQL = `
SELECT x.id, x.current_epoch, x.seq, 1::bigint, CASE
	WHEN x.current_epoch <> x.top THEN 'current epoch ' || x.current_epoch || ', newest commit at ' || x.top
	ELSE 'current seq ' || x.seq || ', newest row at ' || coalesce(x.newest, 0) END
FROM (
	SELECT c.id, coalesce(c.current_epoch, 0)::bigint AS current_epoch, c.catbird_seq AS seq, {our_seq} AS newest, {old_seq} AS old, c.catbird_trimmed_seq AS trimmed,
		EXISTS (SELECT FROM {log} m WHERE m.convo_id = c.id AND m.message_type = 'app') AS kept,
		greatest({our_epoch}, {old_epoch}) AS top,
		greatest(c.updated_at, c.catbird_last_activity, (SELECT max(m.created_at) FROM {log} m WHERE m.convo_id = c.id)) AS at
	FROM conversations c WHERE c.id = ANY($1::text[])
) x WHERE (x.current_epoch <> x.top OR x.seq < x.newest OR (x.kept AND x.seq > greatest(x.newest, x.old, x.trimmed))) AND x.at >= $2 ORDER BY 1`
)

// integrityTexts are the statements in full. Rows of ours and of the old server
// are read through an index each.
var integrityTexts = func() (texts [4]string) {
	rows := func(where string) string {
		part := `SELECT m.convo_id, m.message_type, m.epoch, m.seq, m.created_at FROM messages m WHERE m.convo_id = ANY($1::text[]) AND `
		return "(" + part + "m.catbird_v IS NOT NULL" + where + " UNION ALL " + part + "m.catbird_v IS NULL" + where + ")"
	}
	for i, text := range []string{duplicateEpochsSQL, missingEpochsSQL, sequenceGapsSQL, epochMismatchesSQL} {
		texts[i] = fill(text, "log", rows(""), "commits", rows(" AND m.message_type = 'commit'"),
			"our_seq", maxMarkedSeq, "old_seq", maxOldSeq, "our_epoch", maxOurEpoch, "old_epoch", maxOldEpoch)
	}
	return texts
}()

// integrityOf adds what it finds in ids to out.
func (s *Store) integrityOf(ctx context.Context, ids []string, since time.Time, out *persistence.Integrity) error {
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	kinds := [...]*persistence.Finding{&out.DuplicateEpochs, &out.MissingEpochs, &out.SequenceGaps, &out.EpochMismatches}
	found := make([]persistence.Finding, len(kinds))
	conn, err := s.main.acquire(ctx)
	if err != nil {
		return fmt.Errorf("check conversations: %w", err)
	}
	defer func() { s.main.done(conn, err) }()
	// Not a flight, which would be bound to answer soon.
	err = fly(ctx, conn.Conn(), "check conversations", reads, func(b *pgx.Batch) {
		clear(found)
		snapshot(b, func() {
			b.Queue(fmt.Sprintf("SET LOCAL statement_timeout = %d", integrityTimeout.Milliseconds()))
			for i := range kinds {
				f := &found[i]
				b.Queue(integrityTexts[i], ids, since).Query(each(func(r pgx.Rows) error {
					var e persistence.Example
					var n int64
					if err := r.Scan(&e.Convo, &e.Epoch, &e.Seq, &n, &e.Detail); err != nil {
						return err
					}
					f.Count += n
					f.Examples = append(f.Examples, e)
					return nil
				}))
			}
		})
	})
	if err != nil {
		return err
	}
	for i, to := range kinds {
		to.Count += found[i].Count
		room := max(0, maxExamples-len(to.Examples))
		to.Examples = append(to.Examples, found[i].Examples[:min(room, len(found[i].Examples))]...)
	}
	return nil
}

// integrityTimeout bounds each look.
const integrityTimeout = 2 * time.Minute
