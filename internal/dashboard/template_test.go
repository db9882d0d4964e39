package dashboard

import (
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jba/templatecheck"

	"grahak"
)

// Templates and the structs that they are executed with fit together.
func TestTemplates(t *testing.T) {
	t.Parallel()
	// What was executed once calls escaped templates that the check does not know.
	fresh := parsePages()
	for name, view := range views {
		// The check follows calls of other templates, with the types that they get.
		if err := templatecheck.CheckHTML(fresh[name].Lookup("main"), view); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := templatecheck.CheckHTML(parseLayout().Lookup("layout"), shell{}); err != nil {
		t.Error(err)
	}
}

// Every file of a template belongs to a view, and none holds what the policy of content
// forbids.
func TestTemplateFiles(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script>|https?://`)
	var files []string
	err := fs.WalkDir(templateFiles, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(templateFiles, path)
		if found := forbidden.Find(text); found != nil {
			t.Errorf("%s has %q", path, found)
		}
		files = append(files, strings.TrimSuffix(strings.TrimPrefix(path, "templates/"), ".html"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if _, ok := views[name]; !ok && name != "layout" && name != "components" {
			t.Errorf("templates/%s.html is of no view", name)
		}
	}
}

// The audit log has words for every type of event.
func TestWhatHappened(t *testing.T) {
	t.Parallel()
	want := slices.Sorted(slices.Values(grahak.EventTypes()))
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(whatHappened))); d != "" {
		t.Errorf("types with words (-types +words):\n%s", d)
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	got := []string{
		num(0), num(12), num(999), num(1000), num(int64(1234567)), num(-1000), num(int32(-999999)),
		took(0), took(950 * time.Microsecond), took(1500 * time.Microsecond), took(42 * time.Millisecond), took(2500 * time.Millisecond),
		Lasting(0), Lasting(90 * time.Second), Lasting(time.Minute), Lasting(90 * time.Minute), Lasting(time.Hour), Lasting(24 * time.Hour), Lasting(36 * time.Hour), Lasting(48 * time.Hour), Lasting(2000 * 24 * time.Hour), Number(50_000),
		span(0), span(1500 * time.Millisecond), span(90 * time.Second), span(91 * time.Second), span(15 * time.Minute),
	}
	want := []string{
		"0", "12", "999", "1,000", "1,234,567", "−1,000", "−999,999",
		"0 µs", "950 µs", "1.5 ms", "42 ms", "2.5 s",
		"0s", "1m30s", "1 minute", "90 minutes", "1 hour", "24 hours", "36 hours", "2 days", "2,000 days", "50,000",
		"1 s", "2 s", "90 s", "2 min", "15 min",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"":                                 "/dashboard/",
		"/dashboard/m/demo/keys":           "/dashboard/m/demo/keys",
		"/dashboard/m/demo/requests?a=%2F": "/dashboard/m/demo/requests?a=%2F",
		"/dashboard/login?next=/x":         "/dashboard/",
		"/dashboard/logout":                "/dashboard/",
		"/customers":                       "/dashboard/",
		"//evil.example/dashboard/":        "/dashboard/",
		"https://evil.example/dashboard/":  "/dashboard/",
		"/dashboard/../../evil":            "/dashboard/",
		"/dashboard/%2e%2e/evil":           "/dashboard/",
		"/dashboard/\\evil.example":        "/dashboard/",
		"/dashboard/\r\nSet-Cookie: a=b":   "/dashboard/",
		"javascript:alert(1)":              "/dashboard/",
		"%zz":                              "/dashboard/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q: got %q, want %q", next, got, want)
		}
	}
}
