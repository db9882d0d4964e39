package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak/internal/testkit"
)

// TestListNewestFirst checks that customers that were made one after the other are listed in that order, however soon
// one followed the other, over the wire and by the command line.
func TestListNewestFirst(t *testing.T) {
	const customers = 90
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	demo := caller{base: s.BaseURL, key: s.Key}
	var want []string
	for i := range customers {
		want = append(want, fmt.Sprintf("customer-%d", i))
		demo.create(t, want[i])
	}
	slices.Reverse(want)
	type customer struct {
		Reference string `json:"object_reference_id"`
	}
	references := func(list []customer) (found []string) {
		for _, c := range list {
			found = append(found, c.Reference)
		}
		return found
	}

	a := demo.send(t, http.MethodGet, fmt.Sprintf("/customers?count=%d", customers), "")
	var page struct{ List []customer }
	if err := json.Unmarshal([]byte(a.body), &page); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
	if diff := cmp.Diff(want, references(page.List)); diff != "" {
		t.Errorf("over the wire (-want +got):\n%s", diff)
	}

	r := run(t, "customer", "list", "--merchant", "demo", "--count", fmt.Sprint(customers), "--json", "--data", s.Data).done(t)
	var list []customer
	for line := range strings.Lines(r.stdout) {
		var c customer
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	if diff := cmp.Diff(want, references(list)); diff != "" {
		t.Errorf("by the command line (-want +got):\n%s", diff)
	}
	s.Stop(t)
}

// TestTokenOfDisabledMerchant checks that the platform's services are not told of a customer whose merchant is disabled.
func TestTokenOfDisabledMerchant(t *testing.T) {
	s := testkit.Start(t, filepath.Join(t.TempDir(), "data"))
	ops := caller{base: s.OpsURL}
	run(t, "merchant", "create", "acme", "--data", s.Data).done(t)
	verify := map[string]func() int{}
	for merchant, key := range map[string]string{"demo": s.Key, "acme": createKey(t, s.Data, "acme").Key} {
		a := caller{base: s.BaseURL, key: key}.send(t, http.MethodPost, "/customers", newCustomer("with-token")+"&options.get_client_auth_token=true")
		var made struct {
			Juspay struct {
				Token string `json:"client_auth_token"`
			}
		}
		if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Juspay.Token == "" {
			t.Fatalf("no token (%v) in %d %s", err, a.status, a.body)
		}
		verify[merchant] = func() int {
			return ops.send(t, http.MethodPost, "/client-auth-tokens/verify", "client_auth_token="+made.Juspay.Token).status
		}
	}
	for merchant, status := range verify {
		if got := status(); got != http.StatusOK {
			t.Errorf("a token of %s: %d, want 200", merchant, got)
		}
	}
	run(t, "merchant", "disable", "acme", "--data", s.Data).done(t)
	seen(t, "merchant disable", func() bool { return verify["acme"]() == http.StatusNotFound })
	if got := verify["demo"](); got != http.StatusOK {
		t.Errorf("a token of another merchant: %d, want 200", got)
	}
	s.Stop(t)
}
