package postgres

import "catbird/internal/broken"

// coreSQL stores units under the locks of their conversations: each whose
// conversation is still at its base and none of whose ids and keys is there.
// It answers for each whether it fits and whether it was stored; a unit that
// fits is not stored when a key package it uses is gone.
//
// Ids are in the order of time, so that records with an id as new as the
// oldest of the units' are few or none: one look saves most of the others.
// Whether the log holds an id is asked for those only that come with no row of
// their own, unless one is suspected: a row that is there cannot be inserted
// again.
//
// Subqueries that return at most one row, and OFFSET 0, make PostgreSQL probe
// an index for each unit or row whatever it believes of the tables' sizes. A
// row is found again by its ctid, which the lock keeps as it is.
func (sch schema) coreSQL() string {
	fence := `coalesce(c.catbird_fence, 0) = u.base_fence`
	if broken.Is(broken.AppendWithoutFence) {
		fence = `true`
	}
	return fill(`
WITH u AS MATERIALIZED (
	SELECT u.*, c.at FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
			$8::boolean[], $9::boolean[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])
		WITH ORDINALITY u (convo, base_epoch, base_seq, base_fence, epoch, seq, fence, mls, release, changed, active, messaged, unit)
	LEFT JOIN LATERAL (
		SELECT c.ctid AS at FROM conversations c
		WHERE c.id = u.convo AND coalesce(c.current_epoch, 0) = u.base_epoch AND coalesce(c.catbird_seq, 0) = u.base_seq
			AND {fence}
		OFFSET 0
	) c ON true
), recorded AS MATERIALIZED (
	SELECT (SELECT true FROM catbird_requests r WHERE r.id >= (SELECT min(x.id) FROM unnest($14::text[]) x (id)) LIMIT 1) AS maybe
), bad AS MATERIALIZED (
	SELECT x.unit FROM unnest($13::int[], $14::text[]) x (unit, id)
	WHERE (SELECT maybe FROM recorded) AND (SELECT true FROM catbird_requests r WHERE r.id = x.id)
	UNION ALL
	SELECT x.unit FROM unnest($33::int[], $34::text[]) x (unit, id) WHERE (SELECT true FROM messages m WHERE m.id = x.id)
	UNION ALL
	SELECT k.unit FROM unnest($15::int[], $16::text[], $17::text[], $18::text[], $19::text[]) k (unit, convo, caller, endpoint, key)
	WHERE (SELECT true FROM catbird_requests r
		WHERE r.convo_id = k.convo AND r.caller = k.caller AND r.endpoint = k.endpoint AND r.key = k.key)
), packages AS MATERIALIZED (
	SELECT count(*) = cardinality($20::text[]) AS there FROM unnest($20::text[], $21::text[]) p (did, hash)
	WHERE (SELECT true FROM {key_packages} k WHERE k.did = p.did AND {same_hash}
		AND k.consumed IS NOT TRUE AND k.expires_at > now() LIMIT 1)
), fit AS MATERIALIZED (
	SELECT u.* FROM u WHERE u.at IS NOT NULL AND u.unit NOT IN (SELECT bad.unit FROM bad)
), ok AS (
	UPDATE conversations c SET
		current_epoch = f.epoch, catbird_seq = f.seq, catbird_fence = f.fence, updated_at = f.changed,
		catbird_mls = CASE WHEN f.mls THEN true ELSE c.catbird_mls END,
		catbird_claim = CASE WHEN f.release THEN NULL ELSE c.catbird_claim END,
		catbird_last_activity = coalesce(f.active, c.catbird_last_activity),
		catbird_last_message_at = coalesce(f.messaged, c.catbird_last_message_at)
	FROM fit f
	WHERE c.ctid = f.at AND (SELECT there FROM packages)
	RETURNING f.unit, c.id
), rows AS (
	INSERT INTO messages (id, convo_id, sender_did, message_type, epoch, seq, ciphertext, created_at, expires_at,
		catbird_v, catbird_embed_type, catbird_embed_uri, catbird_client_id)
	SELECT r.id, ok.id, r.sender, r.kind, r.epoch, r.seq, r.ciphertext, r.at, r.expires, 1, r.embed_type, r.embed_uri, r.client_id
	FROM unnest($22::int[], $23::text[], $24::text[], $25::text[], $26::bigint[], $27::bigint[],
			$28::timestamptz[], $29::timestamptz[], $30::text[], $31::text[], $32::text[], $35::bytea[])
		r (unit, id, sender, kind, epoch, seq, at, expires, embed_type, embed_uri, client_id, ciphertext)
	JOIN ok ON ok.unit = r.unit
)
SELECT u.unit::int, u.unit IN (SELECT f.unit FROM fit f), u.unit IN (SELECT ok.unit FROM ok) FROM u`,
		"key_packages", sch.keyPackages, "same_hash", sch.sameHash("k", "p.hash"), "fence", fence)
}

// sameHash compares the hash of a key package with hex in lower case. The old
// server's hashes may be missing or written otherwise.
func (sch schema) sameHash(k, hex string) string {
	if !sch.oldHash {
		return k + ".key_package_hash = " + hex
	}
	return "(lower(" + k + ".key_package_hash) = " + hex + " OR encode(sha256(" + k + ".key_data), 'hex') = " + hex + ")"
}

// lockKeyPackagesSQL locks the key packages that a unit uses, after its
// conversation and by id.
func (sch schema) lockKeyPackagesSQL() string {
	return fill(`
SELECT k.id FROM {key_packages} k
WHERE k.did = ANY($1::text[]) AND EXISTS (
	SELECT FROM unnest($1::text[], $2::text[]) p (did, hash) WHERE k.did = p.did AND {same_hash})
ORDER BY k.id FOR UPDATE OF k`,
		"key_packages", sch.keyPackages, "same_hash", sch.sameHash("k", "p.hash"))
}

// consumeKeyPackagesSQL consumes them where the unit was stored.
func (sch schema) consumeKeyPackagesSQL() string {
	return fill(`
UPDATE {key_packages} k SET consumed = true, consumed_at = now()
WHERE k.did = ANY($1::text[]) AND k.consumed IS NOT TRUE AND EXISTS (
	SELECT FROM unnest($1::text[], $2::text[]) p (did, hash) WHERE k.did = p.did AND {same_hash})
AND EXISTS (SELECT FROM conversations c WHERE c.id = $3 AND {written})`,
		"key_packages", sch.keyPackages, "same_hash", sch.sameHash("k", "p.hash"), "written", written)
}

// upsertMembersSQL writes the members who have joined, those among them too who
// have left again.
func (sch schema) upsertMembersSQL() string {
	columns, values, updates := "", "", ""
	if sch.hasText("members", "user_did") {
		columns += ", user_did"
		values += ", split_part(j.did, '#', 1)"
		updates += ", user_did = excluded.user_did"
	}
	if sch.columns["members"]["is_admin"] == "boolean" {
		columns += ", is_admin"
		values += ", j.did = c.creator_did"
		updates += ", is_admin = excluded.is_admin"
	}
	return fill(`
INSERT INTO members (convo_id, member_did, joined_at, left_at, unread_count, catbird_counted_seq, catbird_left_seq{columns})
SELECT c.id, j.did, j.at, CASE WHEN j.gone THEN j.at END, 0, j.joined_seq, CASE WHEN j.gone THEN j.left_seq END{values}
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::boolean[], $6::bigint[]) j (convo, did, at, joined_seq, gone, left_seq)
JOIN conversations c ON c.id = j.convo AND {written}
ON CONFLICT (convo_id, member_did) DO UPDATE SET joined_at = excluded.joined_at, left_at = excluded.left_at, unread_count = 0,
	catbird_counted_seq = excluded.catbird_counted_seq, catbird_left_seq = excluded.catbird_left_seq{updates}`,
		"columns", columns, "values", values, "updates", updates, "written", written)
}

// leaveMembersSQL writes the members who have left.
const leaveMembersSQL = `
UPDATE members m SET left_at = j.at, catbird_left_seq = j.left_seq
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[]) j (convo, did, at, left_seq)
JOIN conversations c ON c.id = j.convo AND ` + written + `
WHERE m.convo_id = j.convo AND m.convo_id = ANY($1::text[]) AND m.member_did = j.did`

// dropWelcomesSQL takes away what was left over for members who join anew.
const dropWelcomesSQL = `
DELETE FROM welcome_messages w
USING unnest($1::text[], $2::text[]) j (convo, did)
JOIN conversations c ON c.id = j.convo AND ` + written + `
WHERE w.convo_id = j.convo AND w.convo_id = ANY($1::text[]) AND w.recipient_did = j.did AND w.consumed IS NOT TRUE`

func (sch schema) insertWelcomesSQL() string {
	columns, values := "", ""
	if sch.hasText("welcome_messages", "state") {
		columns, values = ", state", ", 'available'"
	}
	return fill(`
INSERT INTO welcome_messages (id, convo_id, recipient_did, welcome_data, key_package_hash, created_at, consumed, catbird_epoch, catbird_seq{columns})
SELECT w.id, c.id, w.did, w.data, w.hash, w.at, false, w.epoch, w.seq{values}
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::timestamptz[], $7::bigint[], $8::bigint[])
	w (convo, id, did, data, hash, at, epoch, seq)
JOIN conversations c ON c.id = w.convo AND {written}`,
		"columns", columns, "values", values, "written", written)
}

const insertRequestsSQL = `
INSERT INTO catbird_requests (id, convo_id, caller, endpoint, key, digest, epoch, seq, at, response)
SELECT r.id, c.id, r.caller, r.endpoint, nullif(r.key, ''), r.digest, r.epoch, r.seq, r.at, r.response
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::bigint[], $9::timestamptz[], $10::bytea[])
	r (convo, id, caller, endpoint, key, digest, epoch, seq, at, response)
JOIN conversations c ON c.id = r.convo AND ` + written
