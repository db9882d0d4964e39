package arch_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"grahak/internal/testkit"
)

// module is the module's path, which is also that of the domain at its root.
const module = "grahak"

// place is what a package may import besides the standard library: packages of
// this module, and modules of others.
type place struct {
	ours   []string
	others []string
	// denied are packages of the standard library.
	denied []string
	// tests marks a package that only tests and programs outside the product
	// may import.
	tests bool
}

// The places, by import path. Who adds a package decides here where it stands:
//
//	cmd → cli → app → edges and adapters → the domain → leaf helpers
//
// The edges (api, dashboard, ops) never import each other, nor the store. A driver, Tink
// and Prometheus each have one package that knows them.
var places = map[string]place{
	"grahak": {
		ours: []string{"grahak/internal/ratelimit"},
		// The hash of passwords is a rule of the domain, and no I/O.
		others: []string{"github.com/alexedwards/argon2id"},
		denied: []string{"net/http", "database/sql", "flag", "os", "encoding/json", "html/template", "embed"},
	},

	"grahak/cmd/grahak": {ours: []string{"grahak/internal/cli"}},
	"grahak/internal/cli": {
		ours: []string{"grahak", "grahak/internal/app", "grahak/internal/backup", "grahak/internal/config", "grahak/internal/disk", "grahak/internal/rows", "grahak/internal/telemetry", "grahak/internal/tlscert"},
		others: []string{
			"github.com/alecthomas/kong",        // Reads the command line.
			"github.com/gofrs/flock",            // Tells whether a server runs.
			"github.com/schollz/progressbar/v3", // Shows how far a long command is.
			"golang.org/x/term",                 // Tells a terminal from a file.
		},
		denied: []string{"net/http", "database/sql"},
	},
	"grahak/internal/app": {
		ours: []string{
			"grahak", "grahak/internal/config", "grahak/internal/disk",
			"grahak/internal/api", "grahak/internal/dashboard", "grahak/internal/ops", "grahak/internal/web", "grahak/internal/webhook", "grahak/internal/tlscert",
			"grahak/internal/sqlstore", "grahak/internal/seal", "grahak/internal/backup", "grahak/internal/telemetry",
			"grahak/internal/control", "grahak/internal/rows",
		},
		others: []string{"github.com/gofrs/flock"},
		denied: []string{"database/sql"},
	},
	"grahak/internal/config": {ours: []string{"grahak"}, denied: []string{"net/http", "database/sql"}},

	"grahak/api":          {},
	"grahak/internal/api": {ours: []string{"grahak", "grahak/api", "grahak/internal/web"}, denied: []string{"database/sql"}},
	"grahak/internal/dashboard": {
		ours:   []string{"grahak", "grahak/internal/web"},
		others: []string{"rsc.io/qr"}, // Draws the secret of an authenticator.
		denied: []string{"database/sql"},
	},
	"grahak/internal/ops": {ours: []string{"grahak", "grahak/internal/web"}, denied: []string{"database/sql"}},
	"grahak/internal/web": {ours: []string{"grahak"}, others: []string{"github.com/valyala/fasthttp", "golang.org/x/net/http/httpguts", "golang.org/x/net/netutil"}, denied: []string{"database/sql"}},

	"grahak/internal/control": {ours: []string{"grahak"}, denied: []string{"database/sql"}},
	"grahak/internal/rows":    {ours: []string{"grahak"}, denied: []string{"net/http", "database/sql", "os"}},
	"grahak/internal/webhook": {ours: []string{"grahak"}, denied: []string{"database/sql"}},

	"grahak/internal/backup": {denied: []string{"net/http", "database/sql"}},
	"grahak/internal/disk":   {others: []string{"golang.org/x/sys"}, denied: []string{"net/http", "database/sql"}},
	"grahak/internal/sqlstore": {
		ours:   []string{"grahak", "grahak/internal/disk"},
		others: []string{"modernc.org/sqlite", "modernc.org/libc", "github.com/jackc/pgx/v5", "github.com/pressly/goose/v3"},
		denied: []string{"net/http"},
	},
	"grahak/internal/ratelimit": {denied: []string{"net/http", "database/sql"}},
	"grahak/internal/seal":      {ours: []string{"grahak", "grahak/internal/disk"}, others: []string{"github.com/tink-crypto/tink-go/v2"}, denied: []string{"net/http", "database/sql"}},
	"grahak/internal/telemetry": {others: []string{"github.com/prometheus/client_golang"}, denied: []string{"database/sql"}},
	"grahak/internal/tlscert":   {ours: []string{"grahak"}, denied: []string{"net/http", "database/sql"}},

	"grahak/internal/arch":    {tests: true},
	"grahak/internal/testkit": {tests: true},
	"grahak/internal/testkit/postgres": {
		ours:   []string{"grahak/internal/testkit"},
		others: []string{"github.com/jackc/pgx/v5/pgconn"},
		tests:  true,
	},
	"grahak/internal/storetest": {ours: []string{"grahak"}, others: []string{"github.com/google/go-cmp", "pgregory.net/rapid"}, tests: true},
	"grahak/bench":              {others: []string{"github.com/google/pprof", "golang.org/x/sys"}, ours: []string{"grahak", "grahak/internal/sqlstore", "grahak/internal/testkit/postgres"}, tests: true},
	"grahak/internal/retries":   {tests: true},
	"grahak/scripts/failures":   {denied: []string{"net/http", "database/sql"}},
	"grahak/test/cli":           {tests: true},
	"grahak/test/clients":       {tests: true},
	"grahak/test/crash":         {tests: true},
	"grahak/test/dashboard":     {tests: true},
	"grahak/test/postgres":      {tests: true},
	"grahak/test/sealed":        {tests: true},
	"grahak/test/webhook":       {tests: true},
}

// vague are names that say nothing of what a package is for, so that everything
// ends up in it.
var vague = []string{"util", "utils", "common", "models", "model", "pkg", "helpers", "misc", "shared", "base", "types", "lib"}

// imports returns what every package of the module imports outside its tests,
// whatever system it is built for. A package with nothing but tests imports
// nothing.
func imports(tb testing.TB) map[string][]string {
	tb.Helper()
	root := testkit.ModuleRoot(tb)
	found := make(map[string][]string)
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			name := entry.Name()
			if file != root && (name == "testdata" || name == "node_modules" || name[0] == '.' || name[0] == '_' || isModule(file)) {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(file) != ".go" {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := path.Join(module, filepath.ToSlash(folder))
		found[pkg] = append(found[pkg], []string(nil)...)
		if strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[pkg] = append(found[pkg], imported)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// isModule reports whether folder is a module of its own.
func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// under reports whether pkg is one of list, or inside one of them.
func under(pkg string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") })
}

// complaints returns what is wrong with the imports, in a set order.
func complaints(found map[string][]string, places map[string]place) (list []string) {
	for _, pkg := range slices.Sorted(maps.Keys(found)) {
		if slices.Contains(vague, path.Base(pkg)) {
			list = append(list, pkg+": the name says nothing; name a package after its duty")
		}
		own, known := places[pkg]
		if !known {
			list = append(list, pkg+": the package has no place yet; decide in internal/arch what it may import")
			continue
		}
		imported := slices.Compact(slices.Sorted(slices.Values(found[pkg])))
		for _, i := range imported {
			first, _, _ := strings.Cut(i, "/")
			switch {
			case first == module:
				if !slices.Contains(own.ours, i) {
					list = append(list, pkg+" must not import "+i)
				} else if places[i].tests && !own.tests {
					list = append(list, pkg+" must not import "+i+", which is for tests")
				}
			case strings.Contains(first, "."):
				if !under(i, own.others) {
					list = append(list, pkg+" must not import "+i)
				}
			case under(i, own.denied):
				list = append(list, pkg+" must not import "+i)
			}
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(places)) {
		if _, exists := found[pkg]; !exists {
			list = append(list, pkg+": the package has a place but does not exist")
		}
	}
	return list
}

func TestImports(t *testing.T) {
	t.Parallel()
	found := imports(t)
	if len(found["grahak/internal/app"]) == 0 || len(found["grahak"]) == 0 {
		t.Fatalf("the packages were not found: %v", found)
	}
	for _, c := range complaints(found, places) {
		t.Error(c)
	}
}

// The table itself keeps the rules, so that a place cannot be widened by habit.
func TestPlaces(t *testing.T) {
	t.Parallel()
	product := make(map[string]place)
	for pkg, p := range places {
		if !p.tests {
			product[pkg] = p
		}
	}
	only := func(what string, owners ...string) {
		t.Helper()
		for pkg, p := range product {
			if slices.Contains(owners, pkg) {
				continue
			}
			if slices.Contains(p.ours, what) || slices.ContainsFunc(p.others, func(o string) bool { return under(o, []string{what}) }) {
				t.Errorf("%s may import %s, which is for %v only", pkg, what, owners)
			}
		}
	}
	only("modernc.org", "grahak/internal/sqlstore")
	only("github.com/pressly", "grahak/internal/sqlstore")
	only("github.com/tink-crypto", "grahak/internal/seal")
	only("github.com/prometheus", "grahak/internal/telemetry")
	only("github.com/alexedwards/argon2id", "grahak")
	only("github.com/alecthomas/kong", "grahak/internal/cli")
	only("github.com/schollz/progressbar/v3", "grahak/internal/cli")
	only("grahak/internal/cli", "grahak/cmd/grahak")
	only("grahak/internal/app", "grahak/internal/cli")
	only("grahak/internal/sqlstore", "grahak/internal/app")
	only("grahak/internal/seal", "grahak/internal/app")
	only("grahak/internal/webhook", "grahak/internal/app")
	for _, edge := range []string{"grahak/internal/api", "grahak/internal/ops"} {
		only(edge, "grahak/internal/app")
	}
	domain := places["grahak"]
	if !slices.Equal(domain.others, []string{"github.com/alexedwards/argon2id"}) {
		t.Errorf("the domain may import %v", domain.others)
	}
	for _, helper := range domain.ours {
		if leaf := places[helper]; len(leaf.ours)+len(leaf.others) != 0 {
			t.Errorf("the domain may import %s, which is no leaf: it may import %v and %v", helper, leaf.ours, leaf.others)
		}
	}
	for pkg, p := range places {
		if strings.HasPrefix(pkg, "grahak/test/") && len(p.ours) != 0 {
			t.Errorf("%s may import %v: a test of the real program sees it from outside", pkg, p.ours)
		}
	}

	// Nobody imports in a circle, over however many packages.
	var reaches func(from, to string, seen map[string]bool) bool
	reaches = func(from, to string, seen map[string]bool) bool {
		for _, next := range places[from].ours {
			if next == to {
				return true
			}
			if !seen[next] {
				seen[next] = true
				if reaches(next, to, seen) {
					return true
				}
			}
		}
		return false
	}
	for pkg := range places {
		if reaches(pkg, pkg, make(map[string]bool)) {
			t.Errorf("%s reaches itself", pkg)
		}
	}
}

// The rules find what they are for.
func TestComplaints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pkg     string
		imports []string
		want    string // empty when all is well
	}{
		"an edge that imports the domain":        {"grahak/internal/api", []string{"grahak"}, ""},
		"the standard library":                   {"grahak/internal/api", []string{"net/http", "encoding/json"}, ""},
		"part of a module":                       {"grahak/internal/seal", []string{"github.com/tink-crypto/tink-go/v2/aead/subtle"}, ""},
		"an edge that imports the store":         {"grahak/internal/api", []string{"grahak/internal/sqlstore"}, "grahak/internal/api must not import grahak/internal/sqlstore"},
		"an edge that imports the other":         {"grahak/internal/ops", []string{"grahak/internal/api"}, "grahak/internal/ops must not import grahak/internal/api"},
		"an edge that imports database/sql":      {"grahak/internal/ops", []string{"database/sql/driver"}, "grahak/internal/ops must not import database/sql/driver"},
		"the domain and an adapter":              {"grahak", []string{"grahak/internal/web"}, "grahak must not import grahak/internal/web"},
		"the domain and a module":                {"grahak", []string{"golang.org/x/crypto/argon2"}, "grahak must not import golang.org/x/crypto/argon2"},
		"the domain and HTTP":                    {"grahak", []string{"net/http"}, "grahak must not import net/http"},
		"the domain and addresses":               {"grahak", []string{"net/netip"}, ""},
		"a module whose name only begins so":     {"grahak/internal/sqlstore", []string{"modernc.org/sqlite-other"}, "grahak/internal/sqlstore must not import modernc.org/sqlite-other"},
		"another who imports a driver":           {"grahak/internal/app", []string{"modernc.org/sqlite"}, "grahak/internal/app must not import modernc.org/sqlite"},
		"another who imports Tink":               {"grahak/internal/app", []string{"github.com/tink-crypto/tink-go/v2/aead"}, "grahak/internal/app must not import github.com/tink-crypto/tink-go/v2/aead"},
		"the product and its tests":              {"grahak/internal/cli", []string{"grahak/internal/testkit"}, "grahak/internal/cli must not import grahak/internal/testkit"},
		"a package that has no place":            {"grahak/internal/hooks", nil, "grahak/internal/hooks: the package has no place yet; decide in internal/arch what it may import"},
		"a package of which nobody knows a duty": {"grahak/internal/util", nil, "grahak/internal/util: the name says nothing; name a package after its duty"},
	} {
		found := make(map[string][]string)
		for pkg := range places {
			found[pkg] = nil
		}
		found[c.pkg] = c.imports
		got := complaints(found, places)
		if c.want == "" && len(got) != 0 || c.want != "" && !slices.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	if got := complaints(nil, map[string]place{"grahak/internal/gone": {}}); len(got) != 1 {
		t.Errorf("a place without a package: got %q", got)
	}
}
