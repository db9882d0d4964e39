-- +goose Up

-- One row. access_version changes whenever a key, an IP list or a merchant
-- changes, so that every process can tell that what it remembers is out of date.
-- master_key_id names the master key that merchants' keys are wrapped under.
CREATE TABLE instance (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    environment    TEXT    NOT NULL,
    master_key_id  TEXT,
    access_version INTEGER NOT NULL,
    created_at     INTEGER NOT NULL
) STRICT;

-- Times are microseconds since 1970 UTC. A time that may be absent is NULL.
CREATE TABLE merchants (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    ip_mode     TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT;

-- A merchant's sealing keys, wrapped under the master key.
CREATE TABLE keysets (
    merchant_id   TEXT NOT NULL PRIMARY KEY,
    master_key_id TEXT NOT NULL,
    sealing       BLOB NOT NULL,
    indexing      BLOB NOT NULL
) STRICT;

-- The hash is unique over all merchants: it is how a request's merchant is
-- found in the first place.
CREATE TABLE api_keys (
    merchant_id  TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    hash         BLOB    NOT NULL,
    prefix       TEXT    NOT NULL,
    label        TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (merchant_id, id)
) STRICT;
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);

CREATE TABLE ip_list (
    merchant_id TEXT    NOT NULL,
    prefix      TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    added_by    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, prefix)
) STRICT;

-- Ids begin with a time-ordered part, so the table itself appends. The index on
-- the reference is the only random one that a create touches.
CREATE TABLE customers (
    merchant_id     TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    reference_index BLOB    NOT NULL,
    sealed          BLOB    NOT NULL,
    revision        INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX customers_reference ON customers (merchant_id, reference_index);

-- How many customers a merchant has. The writer adds what a transaction made,
-- once a transaction.
CREATE TABLE customer_counts (
    merchant_id TEXT    NOT NULL PRIMARY KEY,
    total       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Append-only. A change and its event are one transaction. A merchant's
-- positions are 1, 2, 3 … in the order of commits.
CREATE TABLE events (
    merchant_id TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    id          TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    changed     TEXT,
    actor       TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, position)
) STRICT, WITHOUT ROWID;

-- A token is looked up by its hash alone: it is all that its bearer has.
CREATE TABLE client_auth_tokens (
    merchant_id TEXT    NOT NULL,
    customer_id TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, customer_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_auth_tokens_hash ON client_auth_tokens (hash);
CREATE INDEX client_auth_tokens_expiry ON client_auth_tokens (expires_at);

-- +goose Down
DROP TABLE client_auth_tokens;
DROP TABLE events;
DROP TABLE customer_counts;
DROP TABLE customers;
DROP TABLE ip_list;
DROP TABLE api_keys;
DROP TABLE keysets;
DROP TABLE merchants;
DROP TABLE instance;
