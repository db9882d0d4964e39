package dashboard_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// axeCore returns the script of axe-core.
func axeCore(t testing.TB) string {
	t.Helper()
	script, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("axe-core is not installed. In the module's root folder run: npm --prefix test/dashboard ci (%v)", err)
	}
	return string(script)
}

// finding is something that axe-core says keeps somebody from using a page.
type finding struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	}
}

// mustBeUsable fails the test if axe-core finds anything serious on the page as it is
// shown, or if it is wider than the window. what says which page it is. Unless all is
// set, only that is looked for which depends on colours.
func (b *tab) mustBeUsable(what, axe string, all bool) {
	b.t.Helper()
	options := `{resultTypes: ['violations']}`
	if !all {
		options = `{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}`
	}
	// The policy of content does not hold for the tools of developers.
	if value[bool](b, "typeof axe === 'undefined'") {
		value[any](b, axe+"; null")
	}
	for _, f := range value[[]finding](b, "axe.run(document, "+options+").then(r => r.violations)") {
		if f.Impact != "serious" && f.Impact != "critical" {
			continue
		}
		var where strings.Builder
		for i, n := range f.Nodes {
			if i == 3 {
				fmt.Fprintf(&where, "\n  and %d more", len(f.Nodes)-i)
				break
			}
			fmt.Fprintf(&where, "\n  %.300s\n    %s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", "\n    "))
		}
		b.t.Errorf("%s: %s (%s, %s)%s", what, f.Help, f.ID, f.Impact, where.String())
	}
	if over := value[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
		widest := value[string](b, `[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3).map(e => e.outerHTML.slice(0, 200)).join('\n')`)
		b.t.Errorf("%s is %d pixels wider than the window:\n%s", what, over, widest)
	}
}
