-- Times are microseconds since 1970 in UTC. Tables and columns have the names
-- that they have in PostgreSQL; catbird_no alone exists here only: it numbers
-- the rows of all logs in the order in which they were stored. Large columns
-- stand last, so that the others are read without them.

-- +goose Up
CREATE TABLE conversations (
    id                      TEXT PRIMARY KEY,
    creator_did             TEXT    NOT NULL,
    current_epoch           INTEGER NOT NULL DEFAULT 0,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    group_id                TEXT    NOT NULL,
    catbird_cipher_suite    TEXT    NOT NULL DEFAULT '',
    catbird_name            TEXT    NOT NULL DEFAULT '',
    catbird_description     TEXT    NOT NULL DEFAULT '',
    catbird_seq             INTEGER NOT NULL DEFAULT 0, -- of the newest row of the log
    catbird_fence           INTEGER NOT NULL DEFAULT 0, -- rises with every claim and every direct write
    catbird_claim           TEXT,                       -- the session that serves it from memory
    catbird_mls             INTEGER NOT NULL DEFAULT 0, -- the log holds a commit with an MLS header
    catbird_folded_seq      INTEGER NOT NULL DEFAULT 0, -- up to where unread counts are in the members rows
    catbird_trimmed_seq     INTEGER NOT NULL DEFAULT 0, -- up to where housekeeping has deleted
    catbird_last_message_at INTEGER,
    catbird_last_activity   INTEGER NOT NULL,           -- when the newest row was made, else created_at
    catbird_last_no         INTEGER NOT NULL DEFAULT 0  -- catbird_no of that row
) STRICT, WITHOUT ROWID;

CREATE INDEX catbird_conversations_unfolded ON conversations (id)
    WHERE catbird_folded_seq < catbird_seq;

CREATE TABLE members (
    convo_id            TEXT    NOT NULL REFERENCES conversations (id),
    member_did          TEXT    NOT NULL,
    user_did            TEXT    NOT NULL, -- member_did without the #device part
    joined_at           INTEGER NOT NULL,
    left_at             INTEGER,          -- null: active
    unread_count        INTEGER NOT NULL DEFAULT 0,
    is_admin            INTEGER NOT NULL DEFAULT 0,
    catbird_counted_seq INTEGER NOT NULL DEFAULT 0, -- unread_count holds the log up to here
    catbird_left_seq    INTEGER,                    -- who left may read the log up to here
    PRIMARY KEY (convo_id, member_did)
) STRICT, WITHOUT ROWID;

CREATE INDEX catbird_members_active ON members (member_did) WHERE left_at IS NULL;

CREATE TABLE messages (
    catbird_no         INTEGER PRIMARY KEY AUTOINCREMENT,
    id                 TEXT    NOT NULL UNIQUE,
    convo_id           TEXT    NOT NULL REFERENCES conversations (id),
    sender_did         TEXT,
    message_type       TEXT    NOT NULL,
    epoch              INTEGER NOT NULL,
    seq                INTEGER,
    created_at         INTEGER NOT NULL,
    expires_at         INTEGER,
    catbird_embed_type TEXT,
    catbird_embed_uri  TEXT,
    catbird_client_id  TEXT,
    ciphertext         BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX catbird_messages_seq ON messages (convo_id, seq);
CREATE UNIQUE INDEX catbird_messages_epoch ON messages (convo_id, epoch) WHERE message_type = 'commit';
CREATE INDEX catbird_messages_expires ON messages (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX catbird_messages_commits ON messages (created_at) WHERE message_type = 'commit';

CREATE TABLE welcome_messages (
    id                 TEXT PRIMARY KEY,
    convo_id           TEXT    NOT NULL REFERENCES conversations (id),
    recipient_did      TEXT    NOT NULL,
    key_package_hash   BLOB,
    created_at         INTEGER NOT NULL,
    consumed           INTEGER NOT NULL DEFAULT 0,
    consumed_at        INTEGER,
    catbird_epoch      INTEGER NOT NULL, -- where the recipient's reading begins
    catbird_seq        INTEGER NOT NULL,
    catbird_fetched_at INTEGER,
    welcome_data       BLOB    NOT NULL
) STRICT;

CREATE INDEX catbird_welcomes_recipient ON welcome_messages (convo_id, recipient_did);
CREATE INDEX catbird_welcomes_consumed ON welcome_messages (consumed_at) WHERE consumed <> 0;

CREATE TABLE catbird_key_packages (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    did              TEXT    NOT NULL,
    cipher_suite     TEXT    NOT NULL,
    key_package_hash TEXT    NOT NULL, -- SHA-256 of key_data in hex
    created_at       INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    consumed         INTEGER NOT NULL DEFAULT 0,
    consumed_at      INTEGER,
    key_data         BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX catbird_key_packages_hash ON catbird_key_packages (did, key_package_hash);
CREATE INDEX catbird_key_packages_free ON catbird_key_packages (did, cipher_suite, id) WHERE consumed = 0;
CREATE INDEX catbird_key_packages_expires ON catbird_key_packages (expires_at);
CREATE INDEX catbird_key_packages_consumed ON catbird_key_packages (consumed_at) WHERE consumed <> 0;

-- What a request led to: one with an idempotency key, or one that left no row
-- in a log.
CREATE TABLE catbird_requests (
    id         TEXT PRIMARY KEY,
    convo_id   TEXT    NOT NULL, -- '' for requests that belong to no conversation
    caller     TEXT    NOT NULL,
    endpoint   TEXT    NOT NULL,
    key        TEXT,             -- null for none
    digest     BLOB,
    epoch      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL, -- of the change
    created_at INTEGER NOT NULL, -- by the database's clock
    response   BLOB
) STRICT;

CREATE UNIQUE INDEX catbird_requests_key ON catbird_requests (convo_id, caller, endpoint, key)
    WHERE key IS NOT NULL;
CREATE INDEX catbird_requests_created ON catbird_requests (created_at);

-- One life of a node. Nobody compares clocks: counter rises while it lives.
CREATE TABLE catbird_sessions (
    id         TEXT PRIMARY KEY,
    node       TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    ttl_ms     INTEGER NOT NULL,
    counter    INTEGER NOT NULL DEFAULT 0,
    ended      INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX catbird_sessions_ended ON catbird_sessions (ended, ended_at);

-- What others want the holder's session to let go of.
CREATE TABLE catbird_wants (
    session    TEXT    NOT NULL,
    convo_id   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (session, convo_id)
) STRICT, WITHOUT ROWID;
