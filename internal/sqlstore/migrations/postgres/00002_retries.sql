-- +goose Up

-- What requests with an idempotency key came to. Key and request are blind indexes.
-- A row is of no effect from expires_at on. It stays when its customer is erased.
CREATE TABLE idempotency_keys (
    merchant_id   BYTEA  NOT NULL,
    key_index     BYTEA  NOT NULL,
    request_index BYTEA  NOT NULL,
    outcome       TEXT   NOT NULL,
    customer_id   BYTEA  NOT NULL,
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, key_index)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- +goose Down
DROP TABLE idempotency_keys;
