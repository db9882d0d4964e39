-- +goose Up

-- What holds text that people may type is TEXT. Ids and all else that is put in
-- order are BYTEA, whose order is that of its bytes whatever the collation of the
-- database. Times are microseconds since 1970 UTC; a time that may be absent is
-- NULL. What is read of one merchant is under one merchant's rows only: every key
-- begins with the merchant, so that the tables can be distributed by it.

-- One row. access_version changes whenever a key, an IP list, a merchant or a
-- keyset changes, so that every process can tell that what it remembers is out of
-- date. master_key_id names the master key that keysets are wrapped under.
CREATE TABLE instance (
    id             BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    environment    TEXT   NOT NULL,
    master_key_id  TEXT,
    access_version BIGINT NOT NULL,
    created_at     BIGINT NOT NULL
);

-- The processes that are alive, and how often each has said so.
CREATE TABLE nodes (
    id   BYTEA  NOT NULL PRIMARY KEY,
    beat BIGINT NOT NULL
);

CREATE TABLE merchants (
    id          BYTEA  NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    ip_mode     TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    disabled_at BIGINT
);

-- The hash is unique over all merchants: it is how a request's merchant is found
-- in the first place.
CREATE TABLE api_keys (
    merchant_id  BYTEA  NOT NULL,
    id           BYTEA  NOT NULL,
    hash         BYTEA  NOT NULL,
    prefix       TEXT   NOT NULL,
    label        TEXT   NOT NULL,
    scope        TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (merchant_id, id)
);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);

CREATE TABLE ip_list (
    merchant_id BYTEA  NOT NULL,
    prefix      TEXT   NOT NULL,
    label       TEXT   NOT NULL,
    added_by    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, prefix)
);

-- A merchant's sealing keys, wrapped under the master key: those of the versions
-- from oldest_version to version. While walking, customers are sealed anew in the
-- order of their ids, up to walked_to so far: seen of them, of which unopened do
-- not open. The row is also what writes of the merchant wait for; see tx.
CREATE TABLE keysets (
    merchant_id    BYTEA  NOT NULL PRIMARY KEY,
    master_key_id  TEXT   NOT NULL,
    sealing        BYTEA  NOT NULL,
    indexing       BYTEA  NOT NULL,
    revision       BIGINT NOT NULL DEFAULT 1,
    version        BIGINT NOT NULL DEFAULT 1,
    oldest_version BIGINT NOT NULL DEFAULT 1,
    rotated_at     BIGINT NOT NULL DEFAULT 0,
    walking        BIGINT NOT NULL DEFAULT 0,
    walked_to      BYTEA  NOT NULL DEFAULT '',
    seen           BIGINT NOT NULL DEFAULT 0,
    unopened       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX keysets_rotating ON keysets (merchant_id) WHERE oldest_version < version;

-- Ids begin with a time-ordered part, so the primary key appends. The index on
-- the reference is the only random one that a create touches. email_index and
-- mobile_index are what a customer is searched by: short blind indexes, NULL for
-- no value. key_version is that of the key that the customer is sealed under.
CREATE TABLE customers (
    merchant_id     BYTEA  NOT NULL,
    id              BYTEA  NOT NULL,
    reference_index BYTEA  NOT NULL,
    email_index     BYTEA,
    mobile_index    BYTEA,
    sealed          BYTEA  NOT NULL,
    key_version     BIGINT NOT NULL,
    revision        BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id)
);
CREATE UNIQUE INDEX customers_reference ON customers (merchant_id, reference_index);

-- A token is looked up by its hash alone: it is all that its bearer has.
CREATE TABLE client_auth_tokens (
    merchant_id BYTEA  NOT NULL,
    customer_id BYTEA  NOT NULL,
    hash        BYTEA  NOT NULL,
    expires_at  BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, customer_id, hash)
);
CREATE INDEX client_auth_tokens_hash ON client_auth_tokens (hash);
CREATE INDEX client_auth_tokens_expiry ON client_auth_tokens (expires_at);

-- Events that have no position yet. A change and its event are one transaction.
-- The pass that orders events moves them to the table below. reindex is 1 where
-- the write changed what its customer is searched by; old_email and old_mobile
-- are the indexes that the customer then no longer has.
CREATE TABLE pending_events (
    merchant_id BYTEA  NOT NULL,
    id          BYTEA  NOT NULL,
    type        TEXT   NOT NULL,
    subject     BYTEA  NOT NULL,
    revision    BIGINT NOT NULL,
    changed     TEXT,
    actor       TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    reindex     BIGINT NOT NULL,
    old_email   BYTEA,
    old_mobile  BYTEA,
    PRIMARY KEY (merchant_id, id)
);

-- Append-only. A merchant's positions are 1, 2, 3 … without gaps. Subjects are
-- ids of customers for the most part, so the index on them appends too.
CREATE TABLE events (
    merchant_id BYTEA  NOT NULL,
    position    BIGINT NOT NULL,
    id          BYTEA  NOT NULL,
    type        TEXT   NOT NULL,
    subject     BYTEA  NOT NULL,
    revision    BIGINT NOT NULL,
    changed     TEXT,
    actor       TEXT   NOT NULL,
    request_id  TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, position)
);
CREATE INDEX events_subject ON events (merchant_id, subject);

-- The hash chain over a merchant's events, in segments as they were added: links
-- has 32 bytes for each event, customers is the merchant's number of them after
-- the last event.
CREATE TABLE event_chain (
    merchant_id    BYTEA  NOT NULL,
    first_position BIGINT NOT NULL,
    last_position  BIGINT NOT NULL,
    customers      BIGINT NOT NULL,
    proof          BYTEA  NOT NULL,
    links          BYTEA  NOT NULL,
    PRIMARY KEY (merchant_id, first_position)
);

-- The look-up index: customers by the indexes in their rows, but for those with
-- pending events. It is kept in sorted runs; lookup.go says how.
CREATE TABLE lookup_runs (
    merchant_id BYTEA  NOT NULL,
    run         BIGINT NOT NULL,
    level       BIGINT NOT NULL,
    keys        BIGINT NOT NULL,
    whole       BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, run)
);
CREATE TABLE lookup_blocks (
    merchant_id BYTEA  NOT NULL,
    run         BIGINT NOT NULL,
    first       BYTEA  NOT NULL,
    keys        BYTEA  NOT NULL,
    PRIMARY KEY (merchant_id, run, first)
);

-- The merchants with runs to merge.
CREATE TABLE unordered (
    merchant_id BYTEA NOT NULL PRIMARY KEY
);

-- +goose Down
DROP TABLE unordered;
DROP TABLE lookup_blocks;
DROP TABLE lookup_runs;
DROP TABLE event_chain;
DROP TABLE events;
DROP TABLE pending_events;
DROP TABLE client_auth_tokens;
DROP TABLE customers;
DROP TABLE keysets;
DROP TABLE ip_list;
DROP TABLE api_keys;
DROP TABLE merchants;
DROP TABLE nodes;
DROP TABLE instance;
