-- The four tables of before where they are missing, what we add to them, and
-- the tables of our own. Everything may be there already, in part or whole.
-- Each statement stands alone, so that no two tables are locked at once.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS conversations (
	id            text PRIMARY KEY,
	creator_did   text NOT NULL,
	current_epoch integer NOT NULL DEFAULT 0,
	created_at    timestamptz NOT NULL DEFAULT now(),
	updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS members (
	convo_id     text NOT NULL,
	member_did   text NOT NULL,
	joined_at    timestamptz NOT NULL DEFAULT now(),
	left_at      timestamptz,
	unread_count integer NOT NULL DEFAULT 0,
	PRIMARY KEY (convo_id, member_did)
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS messages (
	id           text PRIMARY KEY,
	convo_id     text NOT NULL,
	sender_did   text,
	message_type text NOT NULL DEFAULT 'app',
	epoch        bigint NOT NULL DEFAULT 0,
	seq          bigint DEFAULT 0,
	ciphertext   bytea,
	created_at   timestamptz NOT NULL DEFAULT now(),
	expires_at   timestamptz
);

CREATE TABLE IF NOT EXISTS welcome_messages (
	id               text PRIMARY KEY,
	convo_id         text NOT NULL,
	recipient_did    text NOT NULL,
	welcome_data     bytea NOT NULL,
	key_package_hash bytea,
	created_at       timestamptz NOT NULL DEFAULT now(),
	consumed         boolean NOT NULL DEFAULT false,
	consumed_at      timestamptz
);

-- seq: of the newest row of the log; fence and claim: who serves it from
-- memory; mls: the log holds an MLS commit; folded_seq: up to where unread
-- counts are in the members rows; trimmed_seq: up to where housekeeping has
-- deleted; last_activity: when the newest row was made.
ALTER TABLE conversations
	ADD COLUMN IF NOT EXISTS catbird_seq             bigint,
	ADD COLUMN IF NOT EXISTS catbird_fence           bigint,
	ADD COLUMN IF NOT EXISTS catbird_claim           text,
	ADD COLUMN IF NOT EXISTS catbird_mls             boolean,
	ADD COLUMN IF NOT EXISTS catbird_folded_seq      bigint,
	ADD COLUMN IF NOT EXISTS catbird_trimmed_seq     bigint,
	ADD COLUMN IF NOT EXISTS catbird_last_activity   timestamptz,
	ADD COLUMN IF NOT EXISTS catbird_last_message_at timestamptz,
	ADD COLUMN IF NOT EXISTS catbird_cipher_suite    text,
	ADD COLUMN IF NOT EXISTS catbird_name            text,
	ADD COLUMN IF NOT EXISTS catbird_description     text;

-- counted_seq: up to where unread_count counts our rows; left_seq: up to where
-- one who has left may read.
ALTER TABLE members
	ADD COLUMN IF NOT EXISTS catbird_counted_seq bigint,
	ADD COLUMN IF NOT EXISTS catbird_left_seq    bigint;

-- v: the mark of rows that we wrote.
ALTER TABLE messages
	ADD COLUMN IF NOT EXISTS catbird_v          smallint,
	ADD COLUMN IF NOT EXISTS catbird_embed_type text,
	ADD COLUMN IF NOT EXISTS catbird_embed_uri  text,
	ADD COLUMN IF NOT EXISTS catbird_client_id  text;

-- epoch and seq: where the recipient's reading begins.
ALTER TABLE welcome_messages
	ADD COLUMN IF NOT EXISTS catbird_epoch      bigint,
	ADD COLUMN IF NOT EXISTS catbird_seq        bigint,
	ADD COLUMN IF NOT EXISTS catbird_fetched_at timestamptz;

CREATE TABLE IF NOT EXISTS catbird_sessions (
	id         text PRIMARY KEY,
	node       text NOT NULL,
	address    text NOT NULL,
	ttl_ms     bigint NOT NULL,
	counter    bigint NOT NULL DEFAULT 0,
	ended      boolean NOT NULL DEFAULT false,
	started_at timestamptz NOT NULL DEFAULT now(),
	ended_at   timestamptz
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS catbird_wants (
	session    text NOT NULL,
	convo_id   text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (session, convo_id)
);

CREATE TABLE IF NOT EXISTS catbird_requests (
	id         text PRIMARY KEY,
	convo_id   text NOT NULL,
	caller     text NOT NULL,
	endpoint   text NOT NULL,
	key        text,
	digest     bytea,
	epoch      bigint NOT NULL,
	seq        bigint NOT NULL,
	at         timestamptz NOT NULL,
	response   bytea,
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX IF NOT EXISTS catbird_requests_key ON catbird_requests (convo_id, caller, endpoint, key) WHERE key IS NOT NULL;

CREATE INDEX IF NOT EXISTS catbird_requests_created ON catbird_requests (created_at);

CREATE TABLE IF NOT EXISTS catbird_key_packages (
	id               bigserial PRIMARY KEY,
	did              text NOT NULL,
	cipher_suite     text NOT NULL,
	key_data         bytea NOT NULL,
	key_package_hash text NOT NULL,
	created_at       timestamptz NOT NULL DEFAULT now(),
	expires_at       timestamptz NOT NULL,
	consumed         boolean NOT NULL DEFAULT false,
	consumed_at      timestamptz
);
