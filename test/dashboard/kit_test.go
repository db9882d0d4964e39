package dashboard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// The kit itself finds what it is for, on a page that is full of faults.
func TestKit(t *testing.T) {
	t.Parallel()
	faulty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; form-action 'self'")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		_, _ = w.Write([]byte(`<!doctype html><html lang=en><title>Faults</title><meta name=viewport content="width=device-width">
			<main><h1>Faults</h1><form method=post><label for=n>Name <small>as you like</small></label><input id=n name=n value="` + r.PostFormValue("n") + `"><button>Go on</button></form>
			<p style="color:red">styled</p><img src=/x.png><script>boom()</script></main>`))
	}))
	t.Cleanup(faulty.Close)

	inner := &recorder{TB: t}
	b := newTab(t, faulty.URL)
	b.MustOpen("/", http.StatusOK)
	b.Fill("Name", "Asha")
	if status := b.Press("Go on"); status != http.StatusUnprocessableEntity {
		t.Errorf("a refused form is answered %d, want 422", status)
	}
	if got := value[string](b, `document.querySelector('#n').value`); got != "Asha" {
		t.Errorf("%q was entered, want Asha", got)
	}
	b.t = inner
	b.mustBeUsable("the page", axeCore(t), true)
	b.t = t
	if inner.errors == 0 {
		t.Error("axe-core finds nothing wrong with an image without a text")
	}
	if b.has(button("Not there")) {
		t.Error("a button is found that is not there")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.troubles) == 0 {
		t.Error("the browser did not complain of a script and a style against the policy")
	}
	b.troubles = nil
}

// recorder counts errors in place of failing.
type recorder struct {
	testing.TB
	errors int
}

func (r *recorder) Errorf(string, ...any) { r.errors++ }
