package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/jackc/pgx/v5"

	"catbird/conversation"
	"catbird/persistence"
)

// publishLockSQL puts the publishing of one DID's key packages in line, so that
// what is counted is still so when the row is inserted.
const publishLockSQL = `SELECT pg_advisory_xact_lock(hashtextextended('catbird key packages of ' || $1, 0))`

// publishKeyPackageSQL inserts a key package unless the request was answered
// before, the bytes are there, used up or not, or there are too many.
func (sch schema) publishKeyPackageSQL() string {
	return fill(`
INSERT INTO {key_packages} (did, cipher_suite, key_data, key_package_hash, created_at, expires_at, consumed)
SELECT $1::text, $2::text, $3::bytea, $4::text, clock_timestamp(), $5::timestamptz, false
WHERE NOT EXISTS (SELECT FROM {key_packages} k WHERE k.did = $1 AND {same_hash})
	AND NOT EXISTS (SELECT FROM catbird_requests r WHERE r.convo_id = $6 AND r.caller = $7 AND r.endpoint = $8 AND r.key = nullif($9, ''))
	AND (SELECT count(*) FROM {key_packages} k WHERE k.did = $1 AND k.cipher_suite = $2
		AND k.consumed IS NOT TRUE AND k.expires_at > now()) < $10`,
		"key_packages", sch.keyPackages, "same_hash", sch.sameHash("k", "$4::text"))
}

func (sch schema) keyPackageThereSQL() string {
	return fill(`SELECT EXISTS (SELECT FROM {key_packages} k WHERE k.did = $1 AND {same_hash})`,
		"key_packages", sch.keyPackages, "same_hash", sch.sameHash("k", "$2::text"))
}

// queuePublishRecord queues the record of a request that has a key, where the
// package is there.
func (st *statements) queuePublishRecord(b *pgx.Batch, r *conversation.Request, k persistence.KeyPackage, hash string) {
	b.Queue(`
INSERT INTO catbird_requests (id, convo_id, caller, endpoint, key, digest, epoch, seq, at)
SELECT $3, $4, $5, $6, $7, $8, 0, 0, now() WHERE (`+st.keyPackageThere+`) ON CONFLICT DO NOTHING`,
		k.DID, hash, r.ID, r.Convo, r.Caller, string(conversation.OpPublishKeyPackage), r.Key, r.Digest)
}

// PublishKeyPackage stores a key package. Bytes that were published before stay
// what they were, used up ones too, until housekeeping forgets them.
func (s *Store) PublishKeyPackage(ctx context.Context, r *conversation.Request, k persistence.KeyPackage, limit int) error {
	st, err := s.prepared()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(k.Data)
	hash := hex.EncodeToString(sum[:])
	if k.Expires.IsZero() {
		k.Expires = time.Now().Add(conversation.MaxKeyPackageLife)
	}
	endpoint := conversation.OpPublishKeyPackage
	var there bool
	var earlier []*conversation.Earlier
	err = s.flight(ctx, s.main, "publish a key package", changes, func(b *pgx.Batch) {
		b.Queue(publishLockSQL, k.DID)
		earlier = queueLookup(b, []string{r.Convo}, []persistence.Ref{{Caller: r.Caller, Endpoint: endpoint, Key: r.Key}})
		b.Queue(st.publishKeyPackage, k.DID, k.CipherSuite, k.Data, hash, k.Expires, r.Convo, r.Caller, string(endpoint), r.Key, limit)
		b.Queue(st.keyPackageThere, k.DID, hash).QueryRow(func(row pgx.Row) error { return row.Scan(&there) })
		if r.Key != "" {
			st.queuePublishRecord(b, r, k, hash)
		}
	})
	switch {
	case err != nil:
		return err
	case earlier[0] != nil:
		_, err := conversation.Repeat(r, *earlier[0])
		return err
	case !there:
		return conversation.Refuse(conversation.TooManyKeyPackages, "there are %d unused key packages of this cipher suite", limit)
	}
	return nil
}

// findKeyPackagesSQL returns the oldest of each DID and cipher suite, without
// their bytes when those are too many.
func (sch schema) findKeyPackagesSQL() string {
	return fill(`
WITH found AS MATERIALIZED (
	SELECT d.n, k.* FROM unnest($1::text[]) WITH ORDINALITY d (did, n)
	CROSS JOIN LATERAL (
		SELECT k.id, k.did, k.cipher_suite, k.key_data, k.expires_at, k.created_at,
			row_number() OVER (PARTITION BY k.cipher_suite ORDER BY k.created_at, k.id) AS rank
		FROM {key_packages} k
		WHERE k.did = d.did AND ($2 = '' OR k.cipher_suite = $2) AND k.consumed IS NOT TRUE AND k.expires_at > now()
		OFFSET 0
	) k WHERE k.rank <= $3
), size AS MATERIALIZED (
	SELECT coalesce(sum(octet_length(found.key_data)), 0) <= $4 AS fits FROM found
)
SELECT size.fits, f.did, f.cipher_suite, CASE WHEN size.fits THEN f.key_data END, f.expires_at
FROM size CROSS JOIN found f ORDER BY f.n, f.created_at, f.id`, "key_packages", sch.keyPackages)
}

// FindKeyPackages returns key packages that may still be used, oldest first.
func (s *Store) FindKeyPackages(ctx context.Context, q persistence.KeyPackagesQuery) ([]persistence.KeyPackage, error) {
	st, err := s.prepared()
	if err != nil {
		return nil, err
	}
	if q.DIDs == nil {
		q.DIDs = []string{}
	}
	var out []persistence.KeyPackage
	fits := true
	err = s.many(ctx, s.main, "find key packages", st.findKeyPackages, []any{q.DIDs, q.CipherSuite, q.PerDID, q.MaxBytes},
		func() { out, fits = nil, true }, func(r pgx.Rows) error {
			var k persistence.KeyPackage
			if err := r.Scan(&fits, &k.DID, &k.CipherSuite, &k.Data, (*utc)(&k.Expires)); err != nil {
				return err
			}
			if fits {
				sum := sha256.Sum256(k.Data)
				k.Hash = sum[:]
				out = append(out, k)
			}
			return nil
		})
	switch {
	case err != nil:
		return nil, err
	case !fits:
		return nil, conversation.Refuse(conversation.TooManyDids, "dids: their key packages are more than %d bytes", q.MaxBytes)
	}
	return out, nil
}

func (sch schema) purgeKeyPackagesSQL() string {
	return fill(`
DELETE FROM {key_packages} WHERE id IN (
	(SELECT id FROM {key_packages} WHERE expires_at <= now() ORDER BY expires_at LIMIT $1)
	UNION ALL (SELECT id FROM {key_packages} WHERE consumed LIMIT $1) LIMIT $1)`, "key_packages", sch.keyPackages)
}
