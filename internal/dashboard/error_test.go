package dashboard_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"grahak"
	"grahak/internal/dashboard"
	"grahak/internal/telemetry"
	"grahak/internal/web"
)

// failing answers every request as the dashboard answers an error.
type failing struct {
	*dashboard.Edge
	err error
}

func (f failing) Serve(*web.Exchange) error { return f.err }

// failed is the page for an error.
func failed(tb testing.TB, err error) *reply {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	h := web.NewHandler(web.Config{Edge: failing{dashboard.New(dashboard.Config{}), err}, Logger: log, Observer: telemetry.NewMetrics("test"), Clock: grahak.SystemClock{}, Random: rand.Reader})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/dashboard/m/acme/keys", http.NoBody))
	doc, parseErr := html.Parse(strings.NewReader(w.Body.String()))
	if parseErr != nil {
		tb.Fatal(parseErr)
	}
	return &reply{request: "GET", status: w.Code, header: w.Header(), body: w.Body.String(), doc: doc}
}

// Every code that a use case can return has an answer of its own, or is a fault of ours
// where no visitor can bring it about. What went wrong inside is told to nobody.
func TestErrors(t *testing.T) {
	t.Parallel()
	// The status, and whether the error's own sentence is shown.
	type answer struct {
		status int
		told   bool
	}
	fault, gone := answer{http.StatusInternalServerError, false}, answer{http.StatusNotFound, false}
	refused, stale := answer{http.StatusUnprocessableEntity, true}, answer{http.StatusConflict, true}
	forbidden := answer{http.StatusForbidden, false}
	answers := map[grahak.Code]answer{
		grahak.CodeUnavailable: {http.StatusServiceUnavailable, false}, grahak.CodeTooManyRequests: {http.StatusTooManyRequests, true},
		grahak.CodeEventsExpired: {http.StatusGone, false},

		grahak.CodeInternal: fault,
		// Of API keys, and of imports by the command line.
		grahak.CodeInvalidAPIKey: fault, grahak.CodeIPNotWhitelisted: fault, grahak.CodeInvalidImport: fault, grahak.CodeImportConflict: fault,

		grahak.CodeInsufficientScope: forbidden, grahak.CodeLoginRefused: forbidden, grahak.CodeNoSession: forbidden,

		grahak.CodeCustomerNotFound: gone, grahak.CodeTokenNotFound: gone, grahak.CodeMerchantNotFound: gone, grahak.CodeKeyNotFound: gone,
		grahak.CodeIPEntryNotFound: gone, grahak.CodeWebhookNotFound: gone, grahak.CodeOperatorNotFound: gone,

		grahak.CodeInvalidField: refused, grahak.CodeInvalidMerchant: refused, grahak.CodeInvalidKey: refused, grahak.CodeInvalidIPEntry: refused,
		grahak.CodeIPListEmpty: refused, grahak.CodeIPListFull: refused, grahak.CodeNotConfirmed: refused, grahak.CodeInvalidWebhook: refused,
		grahak.CodeWebhooksFull: refused, grahak.CodeInvalidOperator: refused, grahak.CodeLastOwner: refused,

		grahak.CodeDuplicateReference: stale, grahak.CodeMerchantExists: stale, grahak.CodeKeyExists: stale, grahak.CodeIPEntryExists: stale,
		grahak.CodeWebhookDisabled: stale, grahak.CodeOperatorExists: stale, grahak.CodePreconditionFailed: stale,
		grahak.CodeIdempotencyMismatch: stale, grahak.CodeIdempotencyInProgress: stale,
	}
	const sentence, cause = "A sentence <i>for</i> people.", "what went wrong inside"
	for _, code := range append(grahak.Codes(), "unheard_of") {
		want, ok := answers[code]
		if !ok && code != "unheard_of" {
			t.Errorf("%s has no line in the table", code)
		} else if !ok {
			want = fault
		}
		r := failed(t, &grahak.Error{Code: code, Message: sentence, RetryIn: 90 * time.Second, Err: errors.New(cause)})
		if r.status != want.status || r.text("h1") == "" || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s is answered %d, want %d, with the headline %q and the headers %v", code, r.status, want.status, r.text("h1"), r.header)
		}
		if got := strings.Contains(r.text("main"), sentence); got != want.told || strings.Contains(r.body, cause) || len(r.all("main i")) > 0 {
			t.Errorf("%s tells its sentence: %t, want %t:\n%s", code, got, want.told, r.body)
		}
		shown := string(code)
		if want == fault {
			shown = string(grahak.CodeInternal)
		}
		if text := r.text("main"); !strings.Contains(text, shown) || !strings.Contains(text, r.header.Get("X-Request-Id")) {
			t.Errorf("%s: the page names neither %s nor the request:\n%s", code, shown, text)
		}
		wait := ""
		if want.status == http.StatusServiceUnavailable || want.status == http.StatusTooManyRequests {
			wait = "90"
		}
		if got := r.header.Get("Retry-After"); got != wait {
			t.Errorf("%s: Retry-After is %q, want %q", code, got, wait)
		}
	}
	if r := failed(t, errors.New(cause)); r.status != http.StatusInternalServerError || strings.Contains(r.body, cause) {
		t.Errorf("a fault is answered %d:\n%s", r.status, r.body)
	}
}
