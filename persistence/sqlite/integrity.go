package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"catbird/persistence"
)

const (
	maxExamples = 10
	// integrityStep is how many conversations are looked at in one snapshot: a
	// longer one would keep the write-ahead log from being emptied.
	integrityStep = 200
)

// Integrity looks at the logs, a few conversations in one snapshot at a time.
//
// What age has taken is no fault: a gap below the oldest application message,
// or up to where housekeeping has deleted, may be messages that have expired
// while the commits among them are kept.
func (s *Store) Integrity(ctx context.Context, since time.Time) (persistence.Integrity, error) {
	r := integrityRange{since: 0}
	if !since.IsZero() {
		r.since = micros(since)
	}
	var out persistence.Integrity
	for {
		more := false
		err := s.snapshot(ctx, "check integrity", func(c *conn) (err error) {
			if more, err = r.next(c); err == nil && more {
				err = r.check(c, &out)
			}
			return err
		})
		if err != nil {
			return persistence.Integrity{}, err
		}
		if !more {
			return out, nil
		}
	}
}

// integrityRange is the conversations with ids in (after, to].
type integrityRange struct {
	after, to string
	since     int64
}

// next moves to the next few conversations, if there are any.
func (r *integrityRange) next(c *conn) (bool, error) {
	r.after = r.to
	err := c.row(`SELECT coalesce(max(id), '') FROM (SELECT id FROM conversations WHERE id > ?1 ORDER BY id LIMIT ?2)`,
		r.after, integrityStep).scan(&r.to)
	return r.to != "", err
}

func (r *integrityRange) check(c *conn, out *persistence.Integrity) error {
	for _, check := range []func(*conn, *persistence.Integrity) error{
		r.duplicateEpochs, r.missingEpochs, r.sequenceGaps, r.rowsWithoutSeq, r.mismatches,
	} {
		if err := check(c, out); err != nil {
			return err
		}
	}
	return nil
}

func found(f *persistence.Finding, n int64, e persistence.Example) {
	f.Count += n
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, e)
	}
}

func (r *integrityRange) duplicateEpochs(c *conn, out *persistence.Integrity) error {
	return c.each(func(rows *sql.Rows) error {
		var e persistence.Example
		var epoch, n int64
		err := rows.Scan(&e.Convo, &epoch, &n)
		e.Epoch, e.Detail = &epoch, fmt.Sprintf("%d commits at epoch %d", n, epoch)
		found(&out.DuplicateEpochs, 1, e)
		return err
	}, `SELECT convo_id, epoch, count(*) FROM messages
		WHERE convo_id > ?1 AND convo_id <= ?2 AND message_type = 'commit'
		GROUP BY convo_id, epoch HAVING count(*) > 1 AND max(created_at) >= ?3 ORDER BY convo_id, epoch`, r.after, r.to, r.since)
}

func (r *integrityRange) missingEpochs(c *conn, out *persistence.Integrity) error {
	return c.each(func(rows *sql.Rows) error {
		var e persistence.Example
		var epoch, before int64
		err := rows.Scan(&e.Convo, &epoch, &before)
		first := before + 1
		e.Epoch, e.Detail = &first, fmt.Sprintf("no commit between those of epochs %d and %d", before, epoch)
		found(&out.MissingEpochs, epoch-first, e)
		return err
	}, `SELECT convo_id, epoch, before FROM (
			SELECT convo_id, epoch, created_at, lag(epoch) OVER (PARTITION BY convo_id ORDER BY epoch) AS before
			FROM messages WHERE convo_id > ?1 AND convo_id <= ?2 AND message_type = 'commit')
		WHERE epoch > before + 1 AND created_at >= ?3 ORDER BY convo_id, epoch`, r.after, r.to, r.since)
}

func (r *integrityRange) sequenceGaps(c *conn, out *persistence.Integrity) error {
	return c.each(func(rows *sql.Rows) error {
		var e persistence.Example
		var seq, before, trimmed int64
		err := rows.Scan(&e.Convo, &seq, &before, &trimmed)
		if seq == before {
			e.Seq, e.Detail = &seq, fmt.Sprintf("seq %d is there more than once", seq)
			found(&out.SequenceGaps, 1, e)
			return err
		}
		first := max(before, trimmed) + 1
		e.Seq, e.Detail = &first, fmt.Sprintf("nothing between seq %d and %d", before, seq)
		found(&out.SequenceGaps, seq-first, e)
		return err
	}, `SELECT s.convo_id, s.seq, s.before, c.catbird_trimmed_seq FROM (
			SELECT convo_id, seq, created_at, lag(seq) OVER log AS before,
				min(CASE WHEN message_type = 'app' THEN seq END) OVER log AS first_app
			FROM messages WHERE convo_id > ?1 AND convo_id <= ?2 AND seq > 0
			WINDOW log AS (PARTITION BY convo_id ORDER BY seq)) s
		JOIN conversations c ON c.id = s.convo_id
		WHERE s.created_at >= ?3 AND (s.seq = s.before OR
			(s.first_app <= s.before AND s.seq > s.before + 1 AND s.seq > c.catbird_trimmed_seq + 1))
		ORDER BY s.convo_id, s.seq`, r.after, r.to, r.since)
}

func (r *integrityRange) rowsWithoutSeq(c *conn, out *persistence.Integrity) error {
	return c.each(func(rows *sql.Rows) error {
		var e persistence.Example
		var epoch int64
		err := rows.Scan(&e.Convo, &epoch, &e.Detail)
		e.Epoch, e.Detail = &epoch, "row "+e.Detail+" has no seq"
		found(&out.SequenceGaps, 1, e)
		return err
	}, `SELECT convo_id, epoch, id FROM messages
		WHERE convo_id > ?1 AND convo_id <= ?2 AND coalesce(seq, 0) <= 0 AND created_at >= ?3 ORDER BY convo_id, epoch`,
		r.after, r.to, r.since)
}

// mismatches compares each conversation's row with its log. A log whose newest
// commits are gone cannot be told from one that never had them, so it is left
// out; so is one that ends early for age.
func (r *integrityRange) mismatches(c *conn, out *persistence.Integrity) error {
	return c.each(func(rows *sql.Rows) error {
		var convo string
		var epoch, seq, trimmed int64
		var logEpoch, logSeq, firstApp sql.NullInt64
		if err := rows.Scan(&convo, &epoch, &seq, &trimmed, &logEpoch, &logSeq, &firstApp); err != nil {
			return err
		}
		if logEpoch.Valid && logEpoch.Int64 != epoch {
			found(&out.EpochMismatches, 1, persistence.Example{
				Convo: convo, Epoch: &epoch,
				Detail: fmt.Sprintf("the conversation is at epoch %d, its log at %d", epoch, logEpoch.Int64),
			})
		}
		if logSeq.Int64 > seq || (firstApp.Valid && logSeq.Int64 < seq && trimmed < seq) {
			found(&out.EpochMismatches, 1, persistence.Example{
				Convo: convo, Seq: &seq,
				Detail: fmt.Sprintf("the conversation is at seq %d, its log at %d", seq, logSeq.Int64),
			})
		}
		return nil
	}, `SELECT c.id, c.current_epoch, c.catbird_seq, c.catbird_trimmed_seq, max(m.epoch) FILTER (WHERE m.message_type = 'commit'),
			max(m.seq), min(m.seq) FILTER (WHERE m.message_type = 'app')
		FROM conversations c LEFT JOIN messages m ON m.convo_id = c.id
		WHERE c.id > ?1 AND c.id <= ?2 GROUP BY c.id
		HAVING max(c.updated_at, coalesce(max(m.created_at), 0)) >= ?3 ORDER BY c.id`, r.after, r.to, r.since)
}
