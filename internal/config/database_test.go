package config_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/config"
)

// A URL names a database or a folder, and prints without its passwords in every way that Go prints things.
func TestDatabaseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, shown, folder string
		password            bool
	}{
		{text: ""},
		{text: "postgres://db.example.com/grahak", shown: "postgres://db.example.com/grahak"},
		{text: "postgresql://grahak@db.example.com:5433/grahak", shown: "postgres://grahak@db.example.com:5433/grahak"},
		{text: "POSTGRES://grahak@db.example.com/grahak", shown: "postgres://grahak@db.example.com/grahak"},
		{text: "postgres://grahak:hunter2@db.example.com/grahak", shown: "postgres://grahak:***@db.example.com/grahak", password: true},
		{text: "postgres://grahak:@db.example.com/grahak", shown: "postgres://grahak:***@db.example.com/grahak"},
		{text: "postgres://:hunter2@db.example.com", shown: "postgres://:***@db.example.com", password: true},
		{text: "postgres://grahak:hunter2:hunter2%40@db.example.com", shown: "postgres://grahak:***@db.example.com", password: true},
		{
			text:  "postgres://grahak@a.example.com:1,[2001:db8::1]:2,b.example.com/grahak?target_session_attrs=read-write",
			shown: "postgres://grahak@a.example.com:1,[2001:db8::1]:2,b.example.com/grahak?target_session_attrs=read-write",
		},
		{text: "postgres:///grahak?host=/run/postgresql&user=grahak", shown: "postgres:///grahak?host=/run/postgresql&user=grahak"},
		{text: "postgres://grahak@%2Frun%2Fpostgresql/grahak", shown: "postgres://grahak@%2Frun%2Fpostgresql/grahak"},
		{text: "postgres:///grahak?password=hunter2&sslmode=require", shown: "postgres:///grahak?password=***&sslmode=require", password: true},
		{text: "postgres:///grahak?sslmode=require&pass%77ord=hunter2", shown: "postgres:///grahak?sslmode=require&pass%77ord=***", password: true},
		{text: "postgres:///grahak?sslpassword=hunter2", shown: "postgres:///grahak?sslpassword=***", password: true},
		{text: "postgres:///grahak?password=", shown: "postgres:///grahak?password=***"},
		{text: "postgres://db.example.com/grahak?", shown: "postgres://db.example.com/grahak?"},
		{text: "sqlite:///var/lib/grahak", shown: "sqlite:///var/lib/grahak", folder: "/var/lib/grahak"},
		{text: "sqlite:///var/lib/my%20data", shown: "sqlite:///var/lib/my%20data", folder: "/var/lib/my data"},
	} {
		u, err := config.ParseDatabaseURL(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		data := config.Data{Dir: config.DefaultDir, DatabaseURL: u}
		folder := c.folder
		if folder == "" {
			folder = config.DefaultDir
		}
		type outcome struct {
			Secret, Shown, Folder string
			Postgres, Password    bool
		}
		want := outcome{c.text, c.shown, folder, c.text != "" && c.folder == "", c.password}
		if diff := cmp.Diff(want, outcome{u.Secret(), u.String(), data.Folder(), data.Postgres(), u.HasPassword()}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.text, diff)
		}
		if err := data.Check(); err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		asJSON, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{fmt.Sprint(u), fmt.Sprintf("%v %+v %#v %s %q", data, data, data, data, data), string(asJSON)} {
			if strings.Contains(text, "hunter2") {
				t.Errorf("%q is printed with its password: %s", c.text, text)
			}
		}
	}
}

// What is not understood may hold a password anywhere, so nothing of it is in the error.
func TestDatabaseURLRefused(t *testing.T) {
	t.Parallel()
	const (
		database = "this is not the URL of a database: write it like postgres://grahak@db.example.com:5432/grahak, with any @ : / ? # and % of its user and password percent-encoded, or like sqlite:///var/lib/grahak for a data folder"
		folder   = "the URL of a data folder has three slashes before its absolute path and nothing behind it: write it like sqlite:///var/lib/grahak"
	)
	for text, want := range map[string]string{
		"hunter2":    database,
		"://hunter2": database,
		"mysql://grahak:hunter2@db.example.com/grahak":    database,
		"host=db.example.com password=hunter2":            database,
		"postgres:grahak:hunter2@db.example.com":          database,
		"postgres://grahak:hun/ter2@db.example.com/g":     database,
		"postgres://grahak:hun?ter2@db.example.com/g":     database,
		"postgres://grahak:hun#ter2@db.example.com/g":     database,
		"postgres://grahak:hun@ter2@db.example.com/g":     database,
		"postgres://db.example.com/grahak#hunter2":        database,
		"postgres:///grahak?password=hunter2@example.com": database,
		"postgres:///grahak?%zz=hunter2":                  database,
		"sqlite://var/lib/hunter2":                        folder,
		"sqlite://":                                       folder,
		"sqlite:///var/lib/grahak?mode=hunter2":           folder,
		"sqlite:///var/lib/%zz":                           folder,
	} {
		u, err := config.ParseDatabaseURL(text)
		if diff := cmp.Diff(want, errorText(err)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if u != (config.DatabaseURL{}) {
			t.Errorf("%q is refused, and yet a database: %q", text, u)
		}
	}
}

// Two folders are a contradiction; a folder and PostgreSQL are none, because a sandbox keeps its secrets in a folder.
func TestDataCheck(t *testing.T) {
	t.Parallel()
	const two = "--data and --database-url name two data folders: give one of them"
	for _, c := range []struct{ dir, url, want string }{
		{"here", "", ""},
		{"here", "sqlite:///there", two},
		{"/there", "sqlite:///there", ""},
		{config.DefaultDir, "sqlite:///there", ""},
		{"here", "postgres://db.example.com/grahak", ""},
	} {
		u, err := config.ParseDatabaseURL(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := errorText(config.Data{Dir: c.dir, DatabaseURL: u}.Check()); got != c.want {
			t.Errorf("--data %s --database-url %s: %q, want %q", c.dir, c.url, got, c.want)
		}
	}
}

// On PostgreSQL only a sandbox that makes something for itself needs a folder.
func TestNeedsFolder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environment, url string
		key, selfSigned  bool
		want             bool
	}{
		{"sandbox", "", true, false, true},
		{"production", "", true, false, true},
		{"sandbox", "sqlite:///there", true, false, true},
		{"sandbox", "postgres:///grahak", false, false, true},
		{"sandbox", "postgres:///grahak", true, false, false},
		{"sandbox", "postgres:///grahak", true, true, true},
		{"production", "postgres:///grahak", true, false, false},
	} {
		s := server()
		s.Environment, s.TLSSelfSigned, s.Dir, s.Connections = c.environment, c.selfSigned, "", config.MinConnections
		if c.key {
			s.MasterKey.File = "key"
		}
		var err error
		if s.DatabaseURL, err = config.ParseDatabaseURL(c.url); err != nil {
			t.Fatal(err)
		}
		if got := s.NeedsFolder(); got != c.want {
			t.Errorf("%+v: it needs a folder: %v", c, got)
		}
		// A folder that is needed must have a name; one in the URL has.
		want := ""
		if c.want && s.Folder() == "" {
			want = "--data is empty: give a folder"
		}
		if got := errorText(s.Check()); got != want {
			t.Errorf("%+v without --data: %q, want %q", c, got, want)
		}
	}
}

// The number of connections matters where there are any.
func TestConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url         string
		connections int
		want        string
	}{
		{"postgres:///grahak", 7, "--database-connections is at least 8"},
		{"postgres:///grahak", -1, "--database-connections is at least 8"},
		{"postgres:///grahak", 8, ""},
		{"", 7, ""},
	} {
		s := server()
		s.Connections = c.connections
		var err error
		if s.DatabaseURL, err = config.ParseDatabaseURL(c.url); err != nil {
			t.Fatal(err)
		}
		if got := errorText(s.Check()); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
