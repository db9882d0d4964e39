-- +goose Up

-- Where a merchant's events are sent. All events up to position cursor were handed
-- out: what is not delivered of them is below. holder is the node that sends, and
-- term counts how often that has changed. Secrets are not stored: they are made
-- from the merchant's indexing key and secret_version.
CREATE TABLE webhooks (
    merchant_id    BYTEA  NOT NULL,
    id             BYTEA  NOT NULL,
    url            TEXT   NOT NULL,
    types          TEXT   NOT NULL,
    label          TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    disabled_at    BIGINT,
    disabled_for   TEXT   NOT NULL,
    secret_version BIGINT NOT NULL,
    previous_until BIGINT,
    cursor         BIGINT NOT NULL,
    failures       BIGINT NOT NULL,
    failing_since  BIGINT,
    resume_at      BIGINT,
    holder         BYTEA  NOT NULL,
    term           BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

-- Events that are not delivered to an endpoint. next_at is when the earliest one of
-- the customer is to be tried again, NULL for an event that was given up.
CREATE TABLE webhook_retries (
    merchant_id BYTEA  NOT NULL,
    webhook_id  BYTEA  NOT NULL,
    position    BIGINT NOT NULL,
    event_id    BYTEA  NOT NULL,
    customer_id BYTEA  NOT NULL,
    attempts    BIGINT NOT NULL,
    first_at    BIGINT NOT NULL,
    next_at     BIGINT,
    PRIMARY KEY (merchant_id, webhook_id, position)
);
CREATE INDEX webhook_retries_customer ON webhook_retries (merchant_id, webhook_id, customer_id, position);
CREATE INDEX webhook_retries_next ON webhook_retries (merchant_id, webhook_id, next_at);

-- The log of deliveries, of which only the newest are kept. took is in
-- microseconds. status is 0 where there was no answer; failure says why.
CREATE TABLE webhook_attempts (
    merchant_id BYTEA  NOT NULL,
    webhook_id  BYTEA  NOT NULL,
    at          BIGINT NOT NULL,
    event_id    BYTEA  NOT NULL,
    position    BIGINT NOT NULL,
    attempt     BIGINT NOT NULL,
    took        BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    failure     TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, webhook_id, at, event_id)
);

-- +goose Down
DROP TABLE webhook_attempts;
DROP TABLE webhook_retries;
DROP TABLE webhooks;
