package config

import (
	"errors"
	"net/url"
	"strings"
)

// DatabaseURL names the database that the data is in. The zero value names none:
// then it is an SQLite file in the data folder. It prints without passwords.
type DatabaseURL struct {
	text, shown string
	folder      string // of sqlite://
	password    bool
}

var (
	errDatabaseURL = errors.New("this is not the URL of a database: write it like postgres://grahak@db.example.com:5432/grahak, with any @ : / ? # and % of its user and password percent-encoded, or like sqlite:///var/lib/grahak for a data folder")
	errFolderURL   = errors.New("the URL of a data folder has three slashes before its absolute path and nothing behind it: write it like sqlite:///var/lib/grahak")
)

// ParseDatabaseURL returns the URL in text: postgres:// or postgresql://, with
// any number of hosts, or sqlite:// with the path of a data folder. Empty text
// names no database. Nothing of a text that is not understood is in the error,
// because it may hold a password.
func ParseDatabaseURL(text string) (DatabaseURL, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	switch strings.ToLower(scheme) {
	case "":
		if text == "" {
			return DatabaseURL{}, nil
		}
	case "sqlite":
		path, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(path, "/") || strings.ContainsAny(rest, "?#") {
			return DatabaseURL{}, errFolderURL
		}
		return DatabaseURL{text: text, shown: text, folder: path}, nil
	case "postgres", "postgresql":
		return parsePostgres(text, rest)
	}
	return DatabaseURL{}, errDatabaseURL
}

// parsePostgres takes apart what follows the scheme. It does not use net/url,
// which does not know of several hosts with IPv6 addresses.
func parsePostgres(text, rest string) (DatabaseURL, error) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	// These stand here when a password that has one of the characters above was
	// not encoded: then nobody can tell where it ends.
	if strings.ContainsAny(tail, "@#") {
		return DatabaseURL{}, errDatabaseURL
	}
	u := DatabaseURL{text: text, shown: "postgres://"}
	hosts := authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		hosts = authority[i:]
		user, password, found := strings.Cut(authority[:i], ":")
		if strings.Contains(user+password, "@") {
			return DatabaseURL{}, errDatabaseURL
		}
		u.shown += user
		if found {
			u.shown += ":***"
			u.password = password != ""
		}
	}
	path, query, asked := strings.Cut(tail, "?")
	u.shown += hosts + path
	for i, param := range strings.Split(query, "&") {
		name, value, found := strings.Cut(param, "=")
		if plain, err := url.QueryUnescape(name); err != nil {
			return DatabaseURL{}, errDatabaseURL
		} else if found && strings.Contains(strings.ToLower(plain), "password") {
			u.password = u.password || value != ""
			param = name + "=***"
		}
		switch {
		case i > 0:
			u.shown += "&" + param
		case asked:
			u.shown += "?" + param
		}
	}
	return u, nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (u *DatabaseURL) UnmarshalText(text []byte) (err error) {
	*u, err = ParseDatabaseURL(string(text))
	return err
}

// MarshalText implements [encoding.TextMarshaler]: it is String's text.
func (u DatabaseURL) MarshalText() ([]byte, error) { return []byte(u.shown), nil }

// String returns the URL with *** in the place of passwords.
func (u DatabaseURL) String() string { return u.shown }

// GoString returns what String does, so that no way of printing shows more.
func (u DatabaseURL) GoString() string { return u.shown }

// Secret returns the whole URL, for the database's driver only.
func (u DatabaseURL) Secret() string { return u.text }

// Postgres reports whether it names a PostgreSQL database.
func (u DatabaseURL) Postgres() bool { return u.text != "" && u.folder == "" }

// HasPassword reports whether there is a password in it.
func (u DatabaseURL) HasPassword() bool { return u.password }
