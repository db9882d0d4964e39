-- +goose Up

-- brought is created_at for a customer whose id does not tell when it was made,
-- because it was brought from elsewhere, and NULL for all others.
ALTER TABLE customers ADD COLUMN brought INTEGER;
CREATE INDEX customers_brought ON customers (merchant_id, brought, id) WHERE brought IS NOT NULL;

-- How far imports have come: of rows_done, the four counts below it tell what
-- became. import_index is a blind index of what was imported. faults are those of
-- the last step, as JSON; there is nothing of a row in them.
CREATE TABLE imports (
    merchant_id  TEXT    NOT NULL,
    import_index BLOB    NOT NULL,
    rows_done    INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    skipped      INTEGER NOT NULL,
    rejected     INTEGER NOT NULL,
    faults       TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    done         INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, import_index)
) STRICT;

-- +goose Down
DROP TABLE imports;
DROP INDEX customers_brought;
ALTER TABLE customers DROP COLUMN brought;
