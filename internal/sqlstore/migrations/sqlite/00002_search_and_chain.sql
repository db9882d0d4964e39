-- +goose Up

-- What is deleted is overwritten, in this migration too.
PRAGMA secure_delete = ON;

-- What a customer is searched by, besides the reference: short blind indexes,
-- NULL for no value. key_version is the version of the key that the customer is
-- sealed under; 0 is the first one too, of a customer that has no indexes yet.
ALTER TABLE customers ADD COLUMN email_index BLOB;
ALTER TABLE customers ADD COLUMN mobile_index BLOB;
ALTER TABLE customers ADD COLUMN key_version INTEGER NOT NULL DEFAULT 0;

-- Versions of a merchant's sealing key from oldest_version to version are in its
-- keyset. While walking, customers are sealed anew in the order of their ids, up
-- to walked_to so far: seen of them, of which unopened do not open.
ALTER TABLE keysets ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE keysets ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE keysets ADD COLUMN oldest_version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE keysets ADD COLUMN rotated_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keysets ADD COLUMN walking INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keysets ADD COLUMN walked_to TEXT NOT NULL DEFAULT '';
ALTER TABLE keysets ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keysets ADD COLUMN unopened INTEGER NOT NULL DEFAULT 0;
CREATE INDEX keysets_rotating ON keysets (merchant_id) WHERE oldest_version < version;

-- The customers there are get their indexes as if their keys had been rotated.
UPDATE keysets SET oldest_version = 0, walking = 1,
    rotated_at = (SELECT created_at FROM merchants WHERE id = keysets.merchant_id);

-- The look-up index: customers by the indexes in their rows, but for those with
-- events that are not in the chain yet. It is kept in sorted runs; lookup.go says
-- how.
CREATE TABLE lookup_runs (
    merchant_id TEXT    NOT NULL,
    run         INTEGER NOT NULL,
    level       INTEGER NOT NULL,
    keys        INTEGER NOT NULL,
    whole       INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, run)
) STRICT, WITHOUT ROWID;
CREATE TABLE lookup_blocks (
    merchant_id TEXT    NOT NULL,
    run         INTEGER NOT NULL,
    first       BLOB    NOT NULL,
    keys        BLOB    NOT NULL,
    PRIMARY KEY (merchant_id, run, first)
) STRICT;

-- The hash chain over a merchant's events, in segments as they were added:
-- links has 32 bytes for each event, customers is the merchant's number of them
-- after the last event. The rows are large, so they are not in the index: to find
-- one there, SQLite would read all of each that it compares.
CREATE TABLE event_chain (
    merchant_id    TEXT    NOT NULL,
    first_position INTEGER NOT NULL,
    last_position  INTEGER NOT NULL,
    customers      INTEGER NOT NULL,
    proof          BLOB    NOT NULL,
    links          BLOB    NOT NULL,
    PRIMARY KEY (merchant_id, first_position)
) STRICT;

-- The merchants with events that are not in their chain, or with runs to merge.
CREATE TABLE unordered (
    merchant_id TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
INSERT INTO unordered SELECT id FROM merchants;

-- Subjects are ids of customers for the most part, which begin with a
-- time-ordered part, so this index appends.
CREATE INDEX events_subject ON events (merchant_id, subject);

-- The chain counts the customers.
DROP TABLE customer_counts;

-- +goose Down
CREATE TABLE customer_counts (
    merchant_id TEXT    NOT NULL PRIMARY KEY,
    total       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO customer_counts SELECT merchant_id, count(*) FROM customers GROUP BY merchant_id;
DROP INDEX events_subject;
DROP TABLE unordered;
DROP TABLE event_chain;
DROP TABLE lookup_blocks;
DROP TABLE lookup_runs;
DROP INDEX keysets_rotating;
ALTER TABLE keysets DROP COLUMN unopened;
ALTER TABLE keysets DROP COLUMN seen;
ALTER TABLE keysets DROP COLUMN walked_to;
ALTER TABLE keysets DROP COLUMN walking;
ALTER TABLE keysets DROP COLUMN rotated_at;
ALTER TABLE keysets DROP COLUMN oldest_version;
ALTER TABLE keysets DROP COLUMN version;
ALTER TABLE keysets DROP COLUMN revision;
ALTER TABLE customers DROP COLUMN key_version;
ALTER TABLE customers DROP COLUMN mobile_index;
ALTER TABLE customers DROP COLUMN email_index;
