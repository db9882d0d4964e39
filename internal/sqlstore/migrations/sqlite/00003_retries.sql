-- +goose Up

-- What requests with an idempotency key came to. Key and request are blind indexes.
-- A row is of no effect from expires_at on. It stays when its customer is erased.
CREATE TABLE idempotency_keys (
    merchant_id   TEXT    NOT NULL,
    key_index     BLOB    NOT NULL,
    request_index BLOB    NOT NULL,
    outcome       TEXT    NOT NULL,
    customer_id   TEXT    NOT NULL,
    expires_at    INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, key_index)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- +goose Down
DROP TABLE idempotency_keys;
