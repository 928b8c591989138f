package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"catbird/conversation"
	"catbird/persistence"
)

// lookupSQL finds, for each of what is asked, the record under its key, else the
// record under its id, else the row of the log with that id.
const lookupSQL = `
SELECT q.n::int, e.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
	WITH ORDINALITY q (convo, id, caller, endpoint, key, n)
CROSS JOIN LATERAL (
	(SELECT r.id, r.epoch, r.seq, r.at, r.digest, r.response FROM catbird_requests r
		WHERE q.key <> '' AND r.convo_id = q.convo AND r.caller = q.caller AND r.endpoint = q.endpoint AND r.key = q.key)
	UNION ALL
	(SELECT r.id, r.epoch, r.seq, r.at, r.digest, r.response FROM catbird_requests r WHERE r.id = q.id AND r.convo_id = q.convo)
	UNION ALL
	(SELECT m.id, m.epoch, coalesce(m.seq, 0), m.created_at, NULL, NULL FROM messages m WHERE m.id = q.id AND m.convo_id = q.convo)
	LIMIT 1
) e`

// Lookup returns what earlier requests left behind.
func (s *Store) Lookup(ctx context.Context, convos []string, refs []persistence.Ref) ([]*conversation.Earlier, error) {
	if _, err := s.prepared(); err != nil {
		return nil, err
	}
	if len(convos) != len(refs) {
		return nil, fmt.Errorf("look up: %d conversations for %d requests", len(convos), len(refs))
	}
	if len(refs) == 0 {
		return nil, nil
	}
	var found []*conversation.Earlier
	err := s.flight(ctx, s.journal, "look up", reads, func(b *pgx.Batch) {
		found = queueLookup(b, convos, refs)
	})
	return found, err
}

func queueLookup(b *pgx.Batch, convos []string, refs []persistence.Ref) []*conversation.Earlier {
	found := make([]*conversation.Earlier, len(refs))
	ids, callers := make([]string, len(refs)), make([]string, len(refs))
	endpoints, keys := make([]string, len(refs)), make([]string, len(refs))
	for i, r := range refs {
		ids[i], callers[i], endpoints[i], keys[i] = r.ID, r.Caller, string(r.Endpoint), r.Key
	}
	b.Queue(lookupSQL, convos, ids, callers, endpoints, keys).Query(each(func(rows pgx.Rows) error {
		var n int
		e := &conversation.Earlier{}
		err := rows.Scan(&n, &e.Result.ID, &e.Result.Epoch, &e.Result.Seq, (*utc)(&e.Result.At), &e.Digest, &e.Response)
		if err != nil {
			return err
		}
		if n < 1 || n > len(found) {
			return fmt.Errorf("an answer for request %d of %d", n, len(found))
		}
		found[n-1] = e
		return nil
	}))
	return found
}

// utc scans a time that is never NULL, in UTC.
type utc time.Time

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (t *utc) ScanTimestamptz(v pgtype.Timestamptz) error {
	if !v.Valid {
		*t = utc{}
		return nil
	}
	*t = utc(v.Time.UTC())
	return nil
}
