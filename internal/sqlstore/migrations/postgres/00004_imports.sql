-- +goose Up

-- brought is created_at for a customer whose id does not tell when it was made,
-- because it was brought from elsewhere, and NULL for all others.
ALTER TABLE customers ADD COLUMN brought BIGINT;
CREATE INDEX customers_brought ON customers (merchant_id, brought, id) WHERE brought IS NOT NULL;

-- How far imports have come: of rows_done, the four counts below it tell what
-- became. import_index is a blind index of what was imported. faults are those of
-- the last step, as JSON; there is nothing of a row in them.
CREATE TABLE imports (
    merchant_id  BYTEA  NOT NULL,
    import_index BYTEA  NOT NULL,
    rows_done    BIGINT NOT NULL,
    created      BIGINT NOT NULL,
    updated      BIGINT NOT NULL,
    skipped      BIGINT NOT NULL,
    rejected     BIGINT NOT NULL,
    faults       TEXT   NOT NULL,
    started_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    done         BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, import_index)
);

-- +goose Down
DROP TABLE imports;
DROP INDEX customers_brought;
ALTER TABLE customers DROP COLUMN brought;
