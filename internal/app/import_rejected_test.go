package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/app"
)

// TestCompleteRejected cuts the file of rejected rows off at every byte at which a
// kill or an outage may have: within what the state still knows. It is completed to
// what it was.
func TestCompleteRejected(t *testing.T) {
	t.Parallel()
	const wrong = "It is wrong."
	fault := func(line int64, field grahak.Field) grahak.ImportFault {
		return grahak.ImportFault{Line: line, Field: field, Reason: wrong}
	}
	ndjson := func(line, object string) string {
		return `{"rejected_line":` + line + `,"rejected_reason":"mobile_number: It is wrong."` + object + "\n"
	}
	for name, c := range map[string]struct {
		text   string
		before string // what is safe
		last   string // what may be there
		faults []grahak.ImportFault
		earlier,
		rows int64
	}{
		"CSV, all rejected rows are new": {
			text:   "object_reference_id,mobile_number\na,x\nb,1\n\"c\nc\",x\na,x\n",
			last:   "rejected_line,rejected_reason,object_reference_id,mobile_number\n2,\"mobile_number: It is wrong.\",a,x\n4,\"mobile_number: It is wrong. It is wrong.\",\"c\nc\",x\n6,\"object_reference_id: It is wrong.\",a,x\n",
			faults: []grahak.ImportFault{fault(2, grahak.FieldMobileNumber), fault(4, grahak.FieldMobileNumber), fault(4, grahak.FieldRow), fault(6, grahak.FieldReference)},
			rows:   4,
		},
		"CSV, some are older": {
			text:    "object_reference_id,mobile_number\na,x\na,x\na,x\n",
			before:  "rejected_line,rejected_reason,object_reference_id,mobile_number\n2,\"mobile_number: It is wrong.\",a,x\n",
			last:    "3,\"mobile_number: It is wrong.\",a,x\n4,\"mobile_number: It is wrong.\",a,x\n",
			faults:  []grahak.ImportFault{fault(3, grahak.FieldMobileNumber), fault(4, grahak.FieldMobileNumber)},
			earlier: 1, rows: 3,
		},
		"NDJSON": {
			text:    "{\"mobile_number\":\"x\"}\n{}\n{\"a\n{\"mobile_number\":\"1\"}\n",
			before:  ndjson("1", `,"mobile_number":"x"}`),
			last:    ndjson("2", "}") + ndjson("3", `,"rejected_text":"{\"a"}`),
			faults:  []grahak.ImportFault{fault(2, grahak.FieldMobileNumber), fault(3, grahak.FieldMobileNumber)},
			earlier: 1, rows: 4,
		},
		"nothing new": {
			text:    "object_reference_id,mobile_number\na,x\nb,1\n",
			before:  "rejected_line,rejected_reason,object_reference_id,mobile_number\n2,\"mobile_number: It is wrong.\",a,x\n",
			earlier: 1, rows: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "rejected")
			rejected := c.earlier
			for i, f := range c.faults {
				if i == 0 || c.faults[i-1].Line != f.Line {
					rejected++
				}
			}
			state := grahak.ImportState{Rows: c.rows, Rejected: rejected, LastFaults: c.faults}
			for n := range len(c.last) + 1 {
				if err := os.WriteFile(path, []byte(c.before+c.last[:n]), 0o644); err != nil {
					t.Fatal(err)
				}
				unnoted, err := app.CompleteRejected(path, c.text, state)
				if err != nil || unnoted != 0 {
					t.Fatalf("cut off at byte %d of %q: %d rows are missing (%v)", n, c.last, unnoted, err)
				}
				got, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.before+c.last, string(got)); diff != "" {
					t.Fatalf("cut off at byte %d (-want +got):\n%s", n, diff)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
			}
			// Without what was there before, only the newest are to be had.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if unnoted, err := app.CompleteRejected(path, c.text, state); err != nil || unnoted != c.earlier {
				t.Errorf("a new file lacks %d rows (%v), want %d", unnoted, err, c.earlier)
			}
			// A file of something else is left as it is.
			for _, other := range []string{"something else", "something else\n", c.before + c.last + "half a line"} {
				if c.before == "" || strings.HasPrefix(c.text, "{") && other == "something else\n" {
					continue // NDJSON has no header to tell it by.
				}
				if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := app.CompleteRejected(path, c.text, state); err == nil || !strings.Contains(err.Error(), "is not the file of the rows that this import has rejected before") {
					t.Errorf("%q: got error %v", other, err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != other {
					t.Errorf("%q was changed to %q (%v)", other, got, err)
				}
			}
		})
	}
}
