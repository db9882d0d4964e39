-- +goose Up

-- Where a merchant's events are sent. All events up to position cursor were handed
-- out: what is not delivered of them is below. holder is the node that sends, and
-- term counts how often that has changed. Secrets are not stored: they are made
-- from the merchant's indexing key and secret_version.
CREATE TABLE webhooks (
    merchant_id    TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    url            TEXT    NOT NULL,
    types          TEXT    NOT NULL,
    label          TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    disabled_at    INTEGER,
    disabled_for   TEXT    NOT NULL,
    secret_version INTEGER NOT NULL,
    previous_until INTEGER,
    cursor         INTEGER NOT NULL,
    failures       INTEGER NOT NULL,
    failing_since  INTEGER,
    resume_at      INTEGER,
    holder         TEXT    NOT NULL,
    term           INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, id)
) STRICT, WITHOUT ROWID;

-- Events that are not delivered to an endpoint. next_at is when the earliest one of
-- the customer is to be tried again, NULL for an event that was given up.
CREATE TABLE webhook_retries (
    merchant_id TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    event_id    TEXT    NOT NULL,
    customer_id TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    first_at    INTEGER NOT NULL,
    next_at     INTEGER,
    PRIMARY KEY (merchant_id, webhook_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_retries_customer ON webhook_retries (merchant_id, webhook_id, customer_id, position);
CREATE INDEX webhook_retries_next ON webhook_retries (merchant_id, webhook_id, next_at);

-- The log of deliveries, of which only the newest are kept. took is in
-- microseconds. status is 0 where there was no answer; failure says why.
CREATE TABLE webhook_attempts (
    merchant_id TEXT    NOT NULL,
    webhook_id  TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    event_id    TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    took        INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    failure     TEXT    NOT NULL,
    PRIMARY KEY (merchant_id, webhook_id, at, event_id)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE webhook_attempts;
DROP TABLE webhook_retries;
DROP TABLE webhooks;
