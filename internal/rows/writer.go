package rows

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"time"

	"grahak"
)

// Writer writes customers in a form that a [Reader] reads, with all that makes
// them the same customers elsewhere: ids, times to the microsecond and metadata. It
// is for one goroutine. What it writes comes in small pieces.
type Writer struct {
	csv  *csv.Writer // nil for NDJSON
	json *json.Encoder
	row  []string
}

// header is the columns of a CSV file.
var header = []string{
	"id", "object_reference_id", "mobile_country_code", "mobile_number", "email_address", "first_name", "last_name",
	"date_created", "last_updated", "metadata",
}

// NewWriter returns a Writer that writes to w, which takes the header of CSV at
// once.
func NewWriter(w io.Writer, format Format) (*Writer, error) {
	if format == CSV {
		c := csv.NewWriter(w)
		err := c.Write(header)
		c.Flush()
		return &Writer{csv: c, row: make([]string, len(header))}, err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &Writer{json: e}, nil
}

// object is a customer as on the wire, but for the fractions of seconds.
type object struct {
	ID          grahak.CustomerID `json:"id"`
	Object      string            `json:"object"`
	Reference   string            `json:"object_reference_id"`
	CountryCode string            `json:"mobile_country_code"`
	Number      string            `json:"mobile_number"`
	Email       *string           `json:"email_address"`
	FirstName   *string           `json:"first_name"`
	LastName    *string           `json:"last_name"`
	CreatedAt   string            `json:"date_created"`
	UpdatedAt   string            `json:"last_updated"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// ifSet returns nil for a field that is not set.
func ifSet(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// at writes a time with as much of it as is kept.
func at(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Write writes the customers.
func (w *Writer) Write(customers []grahak.Customer) error {
	for _, c := range customers {
		var metadata map[string]string
		for key, value := range c.Metadata.All() {
			if metadata == nil {
				metadata = make(map[string]string)
			}
			metadata[key] = value
		}
		var err error
		if w.csv != nil {
			err = w.record(c, metadata)
		} else {
			err = w.json.Encode(object{
				ID: c.ID, Object: "customer", Reference: c.Reference, CountryCode: c.MobileCountryCode, Number: c.MobileNumber,
				Email: ifSet(c.Email), FirstName: ifSet(c.FirstName), LastName: ifSet(c.LastName),
				CreatedAt: at(c.CreatedAt), UpdatedAt: at(c.UpdatedAt), Metadata: metadata,
			})
		}
		if err != nil {
			return err
		}
	}
	if w.csv == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}

// record writes a customer as a record of CSV.
func (w *Writer) record(c grahak.Customer, metadata map[string]string) error {
	var cell string
	if len(metadata) > 0 {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(metadata); err != nil {
			return err
		}
		cell = string(bytes.TrimSpace(b.Bytes()))
	}
	w.row = append(w.row[:0],
		string(c.ID), c.Reference, c.MobileCountryCode, c.MobileNumber, c.Email, c.FirstName, c.LastName,
		at(c.CreatedAt), at(c.UpdatedAt), cell)
	return w.csv.Write(w.row)
}
