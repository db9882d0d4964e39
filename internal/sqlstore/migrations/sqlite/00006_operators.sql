-- +goose Up

-- People who use the dashboard, all under the merchant '@operators'. password is an
-- argon2id hash, empty until the person has set one. The secret of the authenticator
-- is not stored: it is made from that merchant's indexing key and totp_version.
-- totp_step is the last time step of which a code was used. failures counts logins
-- that failed in a row.
CREATE TABLE operators (
    merchant_id   TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    set_up_at     INTEGER,
    disabled_at   INTEGER,
    password      TEXT    NOT NULL,
    totp_version  INTEGER NOT NULL,
    totp_step     INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    locked_until  INTEGER,
    last_login_at INTEGER,
    PRIMARY KEY (merchant_id, name)
) STRICT, WITHOUT ROWID;

-- What they may do with a merchant, or with all of them where that is '@operators'.
CREATE TABLE operator_grants (
    merchant_id TEXT    NOT NULL,
    operator    TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    granted_by  TEXT    NOT NULL,
    granted_at  INTEGER NOT NULL,
    PRIMARY KEY (merchant_id, operator)
) STRICT, WITHOUT ROWID;
CREATE INDEX operator_grants_operator ON operator_grants (operator);

-- Browsers that are logged in. The hash is that of the cookie.
CREATE TABLE operator_sessions (
    merchant_id TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    operator    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    used_at     INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    addr        TEXT    NOT NULL,
    browser     TEXT    NOT NULL,
    PRIMARY KEY (merchant_id, hash)
) STRICT, WITHOUT ROWID;

-- Codes that each work once: setup codes, login links, recovery codes, and forms that
-- were sent.
CREATE TABLE operator_codes (
    merchant_id TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    operator    TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    expires_at  INTEGER,
    PRIMARY KEY (merchant_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX operator_codes_operator ON operator_codes (merchant_id, operator, kind);

-- +goose Down
DROP TABLE operator_codes;
DROP TABLE operator_sessions;
DROP TABLE operator_grants;
DROP TABLE operators;
