package webhook_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An import of many customers, while others write, is told like anything else.
func TestImport(t *testing.T) {
	onEngines(t, func(t *testing.T, i *instance) {
		rows := 2000 * long(10)
		r := newReceiver(t, i)
		server := i.MustStart(t, r)
		acme, other := i.MustMerchant(t, "acme"), i.MustMerchant(t, "other")
		hooks := []*hook{r.MustHook(t, i, acme, "all", take), r.MustHook(t, i, acme, "some", take, "--types", "customer.updated"), r.MustHook(t, i, other, "all", take)}

		// Some of the customers are there already, and change by the import.
		existing := newClient(t, acme, server)
		const known = 50
		for n := range known {
			existing.MustCreate(t, n)
		}
		var text strings.Builder
		text.WriteString("object_reference_id,mobile_number,first_name\n")
		for n := range rows {
			fields := form(n)
			fmt.Fprintf(&text, "%s,%s,Imported\n", fields.Get("object_reference_id"), fields.Get("mobile_number"))
		}
		file := filepath.Join(t.TempDir(), "customers.csv")
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		l := startLoad(t, 7, math.MaxInt64, []merchant{acme, other}, server)
		i.MustRun(t, "import", file, "--merchant", "acme", "--on-duplicate", "update")
		l.stop()
		events := i.MustEvents(t, "acme")
		created, updated := 0, 0
		for _, e := range events {
			switch e.Type {
			case "customer.created":
				created++
			case "customer.updated":
				updated++
			}
		}
		if created < rows || updated < known {
			t.Errorf("the merchant has %d customer.created and %d customer.updated, want at least %d and %d", created, updated, rows, known)
		}
		MustGetAll(t, i, hooks)
	})
}
