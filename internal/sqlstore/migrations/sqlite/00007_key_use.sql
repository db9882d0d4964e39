-- +goose Up

-- Where a key was used from at last_used_at, NULL if that is not known.
ALTER TABLE api_keys ADD COLUMN last_used_addr TEXT;

-- +goose Down
ALTER TABLE api_keys DROP COLUMN last_used_addr;
