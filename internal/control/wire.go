// Package control lets commands on a machine have work done by the server that
// runs there, over a Unix socket in its data folder. Whoever may open the socket
// is an operator. It carries imports, and nothing else.
package control

import (
	"errors"
	"time"

	"grahak"
)

// version is part of every path: what one version says another does not
// understand.
const version = "/v1"

// maxBody is the largest message, in bytes: rows of a chunk whose values are as
// long as may be and are all to be escaped.
const maxBody = 64 << 20

// who is the caller, in every request.
type who struct {
	Merchant grahak.MerchantID `json:"merchant"`
	Actor    string            `json:"actor"`
}

func (w who) caller() grahak.Caller { return grahak.Operator(w.Merchant, w.Actor) }

// valid reports whether the actor is one of a command.
func (w who) valid() bool {
	const longest = 128
	if len(w.Actor) > longest || len(w.Actor) < len("cli:") || w.Actor[:len("cli:")] != "cli:" {
		return false
	}
	for _, c := range w.Actor {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

type stateRequest struct {
	who
	Import string `json:"import"`
}

type chunkRequest struct {
	who
	Import      string             `json:"import"`
	After       int64              `json:"after"`
	Rows        []row              `json:"rows"`
	OnDuplicate grahak.OnDuplicate `json:"on_duplicate"`
	Last        bool               `json:"last"`
	Restart     bool               `json:"restart"`
	Unnoted     int64              `json:"unnoted"`
}

type checkRequest struct {
	who
	// After is how many rows were checked over the connection before.
	After       int64              `json:"after"`
	Rows        []row              `json:"rows"`
	OnDuplicate grahak.OnDuplicate `json:"on_duplicate"`
}

// answer is what comes back: an error, or the rest.
type answer struct {
	Error  *fault    `json:"error,omitempty"`
	State  state     `json:"state"`
	Faults []problem `json:"faults"`
}

// row is a [grahak.ImportRow].
type row struct {
	Line   int64    `json:"l"`
	Broken string   `json:"b,omitempty"`
	Inputs []string `json:"i,omitempty"` // as packInput makes them; absent ones at the end are left out
	Pairs  []string `json:"m,omitempty"` // keys of metadata, each followed by its value
}

// inputs is how many inputs a row has.
const inputs = 10

// list returns the inputs of a row in the order in which they are sent.
func list(r *grahak.ImportRow) [inputs]*grahak.Input {
	c := &r.Customer
	return [inputs]*grahak.Input{
		&c.Reference, &c.MobileNumber, &c.Email, &c.FirstName, &c.LastName, &c.MobileCountryCode,
		&r.ID, &r.CreatedAt, &r.UpdatedAt, &c.Metadata.Whole,
	}
}

// packInput makes one text of an input: nothing if it is absent, and its value
// behind a character that says whether it is malformed.
func packInput(in grahak.Input) string {
	switch {
	case in.Malformed:
		return "!" + in.Value
	case in.Given:
		return "=" + in.Value
	}
	return ""
}

// unpackInput is the inverse of packInput.
func unpackInput(text string) grahak.Input {
	if text == "" {
		return grahak.Input{}
	}
	return grahak.Input{Value: text[1:], Given: true, Malformed: text[0] == '!'}
}

// packRows makes rows to send of those of an import.
func packRows(from []grahak.ImportRow) []row {
	packed := make([]row, len(from))
	texts := make([]string, inputs*len(from))
	for i := range from {
		r := &from[i]
		p := row{Line: r.Line, Broken: r.Broken}
		n := 0
		for j, in := range list(r) {
			if texts[j] = packInput(*in); texts[j] != "" {
				n = j + 1
			}
		}
		p.Inputs, texts = texts[:n:n], texts[inputs:]
		for _, pair := range r.Customer.Metadata.Pairs {
			p.Pairs = append(p.Pairs, pair.Key, packInput(grahak.Input{Value: pair.Value, Given: true, Malformed: pair.Malformed}))
		}
		packed[i] = p
	}
	return packed
}

var errRow = errors.New("a row does not have the form that was agreed")

// unpackRows is the inverse of packRows.
func unpackRows(from []row) ([]grahak.ImportRow, error) {
	if len(from) > grahak.MaxImportChunk {
		return nil, errRow
	}
	rows := make([]grahak.ImportRow, len(from))
	for i, p := range from {
		r := &rows[i]
		if len(p.Inputs) > inputs || len(p.Pairs)%2 != 0 {
			return nil, errRow
		}
		r.Line, r.Broken = p.Line, p.Broken
		all := list(r)
		for j, text := range p.Inputs {
			*all[j] = unpackInput(text)
		}
		for j := 0; j < len(p.Pairs); j += 2 {
			value := unpackInput(p.Pairs[j+1])
			r.Customer.Metadata.Pairs = append(r.Customer.Metadata.Pairs, grahak.MetadataPair{Key: p.Pairs[j], Value: value.Value, Malformed: value.Malformed})
		}
	}
	return rows, nil
}

// problem is a [grahak.ImportFault].
type problem struct {
	Line   int64  `json:"line"`
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func packFaults(faults []grahak.ImportFault) []problem {
	packed := make([]problem, len(faults))
	for i, f := range faults {
		packed[i] = problem{f.Line, f.Field.String(), f.Reason}
	}
	return packed
}

func unpackFaults(packed []problem) []grahak.ImportFault {
	var faults []grahak.ImportFault
	for _, p := range packed {
		field, known := grahak.ParseField(p.Field)
		if !known {
			field = grahak.FieldRow
		}
		faults = append(faults, grahak.ImportFault{Line: p.Line, Field: field, Reason: p.Reason})
	}
	return faults
}

// state is a [grahak.ImportState].
type state struct {
	ID         string    `json:"id"`
	Rows       int64     `json:"rows"`
	Created    int64     `json:"created"`
	Updated    int64     `json:"updated"`
	Skipped    int64     `json:"skipped"`
	Rejected   int64     `json:"rejected"`
	LastFaults []problem `json:"last_faults"`
	StartedAt  time.Time `json:"started_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	Done       bool      `json:"done"`
}

func packState(s grahak.ImportState) state {
	return state{
		ID: s.ID, Rows: s.Rows, Created: s.Created, Updated: s.Updated, Skipped: s.Skipped, Rejected: s.Rejected,
		LastFaults: packFaults(s.LastFaults), StartedAt: s.StartedAt, UpdatedAt: s.UpdatedAt, Done: s.Done,
	}
}

func (s state) unpack() grahak.ImportState {
	return grahak.ImportState{
		ID: s.ID, Rows: s.Rows, Created: s.Created, Updated: s.Updated, Skipped: s.Skipped, Rejected: s.Rejected,
		LastFaults: unpackFaults(s.LastFaults), StartedAt: s.StartedAt, UpdatedAt: s.UpdatedAt, Done: s.Done,
	}
}

// fault is a [grahak.Error].
type fault struct {
	Code    grahak.Code `json:"code"`
	Message string      `json:"message"`
	// RetryIn is in milliseconds.
	RetryIn int64 `json:"retry_in_ms,omitempty"`
}

// packError makes a fault of err. Of what is none of the caller's business it
// says nothing, and reports true: that belongs into the log.
func packError(err error) (f fault, hidden bool) {
	var known *grahak.Error
	if !errors.As(err, &known) || known.Code == grahak.CodeInternal {
		return fault{Code: grahak.CodeInternal, Message: "the server failed; its log says of what"}, true
	}
	return fault{Code: known.Code, Message: known.Message, RetryIn: known.RetryIn.Milliseconds()}, known.Code == grahak.CodeUnavailable
}

func (f fault) unpack() error {
	return &grahak.Error{Code: f.Code, Message: f.Message, RetryIn: time.Duration(f.RetryIn) * time.Millisecond}
}
