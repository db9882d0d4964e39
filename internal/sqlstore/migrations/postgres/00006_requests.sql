-- +goose Up

-- The request log: blocks of requests, which sort by when the last one came in, and
-- what each process counted in a quarter of an hour. bytes is about what a block
-- occupies. Nothing that was promised depends on these rows: they are written without
-- waiting for the disk.
CREATE TABLE request_blocks (
    merchant_id BYTEA  NOT NULL,
    id          BYTEA  NOT NULL,
    from_at     BIGINT NOT NULL,
    to_at       BIGINT NOT NULL,
    requests    BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    filter      BYTEA  NOT NULL,
    content     BYTEA  NOT NULL,
    PRIMARY KEY (merchant_id, id)
);
CREATE INDEX request_blocks_to_at ON request_blocks (to_at, bytes);

CREATE TABLE request_stats (
    merchant_id BYTEA  NOT NULL,
    at          BIGINT NOT NULL,
    node        BYTEA  NOT NULL,
    data        BYTEA  NOT NULL,
    PRIMARY KEY (merchant_id, at, node)
);
CREATE INDEX request_stats_at ON request_stats (at);

-- +goose Down
DROP TABLE request_stats;
DROP TABLE request_blocks;
