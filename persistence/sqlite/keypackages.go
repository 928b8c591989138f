package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"time"

	"catbird/conversation"
	"catbird/persistence"
)

// PublishKeyPackage stores a key package. Bytes that the DID has published
// before, used up or not, are not stored again: a key package is for one use.
func (s *Store) PublishKeyPackage(ctx context.Context, r *conversation.Request, k persistence.KeyPackage, limit int) error {
	return s.write(ctx, "publish key package", func(c *conn) error {
		e, err := byKey(c, "", persistence.Ref{Caller: r.Caller, Endpoint: conversation.OpPublishKeyPackage, Key: r.Key})
		if err != nil {
			return err
		}
		if e != nil {
			_, err := conversation.Repeat(r, *e)
			return err
		}
		if err := publish(c, k, limit); err != nil || r.Key == "" {
			return err
		}
		return insertRecord(c, "", &conversation.Record{
			ID: r.ID, Caller: r.Caller, Endpoint: conversation.OpPublishKeyPackage, Key: r.Key, Digest: r.Digest,
			Result: conversation.Result{ID: r.ID, At: time.Now()},
		})
	})
}

func publish(c *conn, k persistence.KeyPackage, limit int) error {
	hash, at := hex.EncodeToString(k.Hash), micros(time.Now())
	var there bool
	var free int
	err := c.row(`
		SELECT EXISTS (SELECT 1 FROM catbird_key_packages WHERE did = ?1 AND key_package_hash = ?2),
			(SELECT count(*) FROM catbird_key_packages WHERE did = ?1 AND cipher_suite = ?3 AND consumed = 0 AND expires_at > ?4)`,
		k.DID, hash, k.CipherSuite, at).scan(&there, &free)
	if err != nil || there {
		return err
	}
	if free >= limit {
		return conversation.Refuse(conversation.TooManyKeyPackages, "there are %d unused key packages of this cipher suite already", free)
	}
	_, err = c.exec(`
		INSERT INTO catbird_key_packages (did, cipher_suite, key_data, key_package_hash, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		k.DID, k.CipherSuite, blob(k.Data), hash, at, micros(k.Expires))
	return err
}

// FindKeyPackages returns unexpired and unconsumed ones, oldest first, by DID in
// the order asked. A DID that is asked for twice is answered once.
func (s *Store) FindKeyPackages(ctx context.Context, q persistence.KeyPackagesQuery) ([]persistence.KeyPackage, error) {
	var out []persistence.KeyPackage
	err := s.snapshot(ctx, "find key packages", func(c *conn) error {
		size, at := 0, micros(time.Now())
		asked := make(map[string]bool, len(q.DIDs))
		for _, did := range q.DIDs {
			if asked[did] {
				continue
			}
			asked[did] = true
			err := c.each(func(rows *sql.Rows) error {
				k, err := scanKeyPackage(rows, did)
				if size += len(k.Data); err == nil && size > q.MaxBytes {
					err = conversation.Refuse(conversation.TooManyDids, "the key packages make more than %d bytes, ask for fewer DIDs", q.MaxBytes)
				}
				out = append(out, k)
				return err
			}, `SELECT cipher_suite, key_data, key_package_hash, expires_at FROM (
					SELECT *, row_number() OVER (PARTITION BY cipher_suite ORDER BY id) AS place FROM catbird_key_packages
					WHERE did = ?1 AND consumed = 0 AND expires_at > ?2 AND (?3 = '' OR cipher_suite = ?3))
				WHERE place <= ?4 ORDER BY id`, did, at, q.CipherSuite, q.PerDID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func scanKeyPackage(rows *sql.Rows, did string) (persistence.KeyPackage, error) {
	k := persistence.KeyPackage{DID: did}
	var hash string
	var expires int64
	if err := rows.Scan(&k.CipherSuite, &k.Data, &hash, &expires); err != nil {
		return k, err
	}
	k.Expires = fromMicros(expires)
	var err error
	k.Hash, err = hex.DecodeString(hash)
	return k, err
}
