package rows_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"grahak"
	"grahak/internal/rows"
)

// metadata is metadata with the pairs.
func metadata(tb testing.TB, pairs ...grahak.MetadataPair) grahak.Metadata {
	tb.Helper()
	p, err := grahak.NewProfile(grahak.CustomerInput{
		Reference: given("r"), MobileNumber: given("1"), Metadata: grahak.MetadataInput{Pairs: pairs},
	}, "91")
	if err != nil {
		tb.Fatal(err)
	}
	return p.Metadata
}

func TestWriter(t *testing.T) {
	t.Parallel()
	at := time.Date(2020, 3, 17, 14, 13, 37, 0, time.UTC)
	customers := []grahak.Customer{
		{
			ID: "cst_0000000000000001", CreatedAt: at.Add(123456 * time.Microsecond), UpdatedAt: at.Add(time.Hour + 10*time.Millisecond), Revision: 2,
			Profile: grahak.Profile{
				Reference: ` <a>&"b",c@example.com `, MobileCountryCode: "91", MobileNumber: "0998", Email: "b@example.com", FirstName: "Asha, née", LastName: `"Rao"`,
				Metadata: metadata(t, grahak.MetadataPair{Key: "b", Value: `<"x">`}, grahak.MetadataPair{Key: "a,\u2028", Value: "1"}),
			},
		},
		{ID: "cth_a", CreatedAt: at, UpdatedAt: at, Profile: grahak.Profile{Reference: "null", MobileCountryCode: "1", MobileNumber: "2"}},
	}
	for format, want := range map[rows.Format]string{
		rows.CSV: `id,object_reference_id,mobile_country_code,mobile_number,email_address,first_name,last_name,date_created,last_updated,metadata
cst_0000000000000001," <a>&""b"",c@example.com ",91,0998,b@example.com,"Asha, née","""Rao""",2020-03-17T14:13:37.123456Z,2020-03-17T15:13:37.01Z,"{""a,\u2028"":""1"",""b"":""<\""x\"">""}"
cth_a,null,1,2,,,,2020-03-17T14:13:37Z,2020-03-17T14:13:37Z,
`,
		rows.NDJSON: `{"id":"cst_0000000000000001","object":"customer","object_reference_id":" <a>&\"b\",c@example.com ","mobile_country_code":"91","mobile_number":"0998","email_address":"b@example.com","first_name":"Asha, née","last_name":"\"Rao\"","date_created":"2020-03-17T14:13:37.123456Z","last_updated":"2020-03-17T15:13:37.01Z","metadata":{"a,\u2028":"1","b":"<\"x\">"}}
{"id":"cth_a","object":"customer","object_reference_id":"null","mobile_country_code":"1","mobile_number":"2","email_address":null,"first_name":null,"last_name":null,"date_created":"2020-03-17T14:13:37Z","last_updated":"2020-03-17T14:13:37Z"}
`,
	} {
		var b bytes.Buffer
		w, err := rows.NewWriter(&b, format)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range customers {
			if err := w.Write([]grahak.Customer{c}); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
		// A reader finds the same customers in it.
		list, told, err := read(strings.NewReader(b.String()), rows.Options{})
		if err != nil || told != format || len(list) != len(customers) {
			t.Fatalf("read again: %d customers of %q (%v)", len(list), told, err)
		}
		for i, row := range list {
			p, err := grahak.NewProfile(row.Customer, "")
			if err != nil {
				t.Fatal(err)
			}
			got := grahak.Customer{ID: grahak.CustomerID(row.ID.Value), Profile: p, CreatedAt: MustTime(t, row.CreatedAt.Value), UpdatedAt: MustTime(t, row.UpdatedAt.Value)}
			want := customers[i]
			want.Revision = 0
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: customer %d read again (-want +got):\n%s", format, i, diff)
			}
		}
	}
}

// MustTime reads a time in RFC 3339.
func MustTime(tb testing.TB, text string) time.Time {
	tb.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}
