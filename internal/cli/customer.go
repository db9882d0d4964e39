package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"grahak"
	"grahak/internal/app"
)

type customerCmd struct {
	Get    customerGetCmd    `cmd:"" help:"Show one customer."`
	List   customerListCmd   `cmd:"" help:"List or find customers, newest first."`
	Export customerExportCmd `cmd:"" help:"Print everything that is held on one customer."`
	Erase  customerEraseCmd  `cmd:"" help:"Erase one customer for good."`
}

// customerJSON is a customer for programs, in the wire's names.
type customerJSON struct {
	ID          grahak.CustomerID `json:"id"`
	Reference   string            `json:"object_reference_id"`
	CountryCode string            `json:"mobile_country_code"`
	Number      string            `json:"mobile_number"`
	Email       string            `json:"email_address,omitempty"`
	FirstName   string            `json:"first_name,omitempty"`
	LastName    string            `json:"last_name,omitempty"`
	Revision    int64             `json:"revision"`
	CreatedAt   *string           `json:"date_created"`
	UpdatedAt   *string           `json:"last_updated"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

func toJSON(c grahak.Customer) customerJSON {
	return customerJSON{
		ID: c.ID, Reference: c.Reference, CountryCode: c.MobileCountryCode, Number: c.MobileNumber, Email: c.Email,
		FirstName: c.FirstName, LastName: c.LastName, Revision: c.Revision, CreatedAt: jsonTime(c.CreatedAt), UpdatedAt: jsonTime(c.UpdatedAt),
		Metadata: maps.Collect(c.Metadata.All()),
	}
}

type customerGetCmd struct {
	Ref string `arg:"" help:"The customer's id (cst_…) or object_reference_id."`
	merchantFlag
	target
	jsonFlag
}

// Run shows the customer.
func (c customerGetCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		result, err := d.Service.Customer(ctx, c.caller(), c.Ref, false)
		if err != nil {
			return unreadable(err)
		}
		if c.JSON {
			return printJSON(std.Out, toJSON(result.Customer))
		}
		customer := result.Customer
		rows := [][]string{
			{"reference", customer.Reference},
			{"mobile", "+" + customer.MobileCountryCode + " " + customer.MobileNumber},
			{"e-mail", customer.Email},
			{"first name", customer.FirstName},
			{"last name", customer.LastName},
			{"created", stamp(customer.CreatedAt)},
			{"updated", stamp(customer.UpdatedAt)},
			{"revision", fmt.Sprint(customer.Revision)},
		}
		for key, text := range customer.Metadata.All() {
			rows = append(rows, []string{"metadata " + key, text})
		}
		return table(std.Out, []string{"id", string(customer.ID)}, rows)
	})
}

// unreadable is err with how to mend it, if it is about a customer whose record
// cannot be read.
func unreadable(err error) error {
	if grahak.CodeOf(err) != grahak.CodeInternal {
		return err
	}
	return fmt.Errorf("%w; erase the customer by its own id (cst_…) and have it created again, or restore a backup", err)
}

// filterFlags choose among the customers those that have all that is given.
type filterFlags struct {
	Reference     *string `env:"GRAHAK_REFERENCE" placeholder:"TEXT" help:"Only the customer with this object_reference_id."`
	Email         *string `env:"GRAHAK_EMAIL" placeholder:"ADDRESS" help:"Only customers with this e-mail address, in capital or small letters."`
	Mobile        *string `env:"GRAHAK_MOBILE" placeholder:"DIGITS" help:"Only customers with this mobile number, without a country code."`
	CountryCode   *string `env:"GRAHAK_COUNTRY_CODE" placeholder:"DIGITS" help:"With --mobile: only customers with this country code."`
	CreatedAfter  *moment `env:"GRAHAK_CREATED_AFTER" placeholder:"TIME" help:"Only customers made at this time or later, such as 2026-03-17T14:13:37Z or 2026-03-17, which is that day from its start in UTC."`
	CreatedBefore *moment `env:"GRAHAK_CREATED_BEFORE" placeholder:"TIME" help:"Only customers made before this time."`
}

// filter is the flags for the service.
func (f filterFlags) filter() grahak.CustomerFilter {
	text := func(s *string) grahak.Input {
		if s == nil {
			return grahak.Input{}
		}
		return grahak.Input{Value: *s, Given: true}
	}
	at := func(m *moment) grahak.Input {
		if m == nil {
			return grahak.Input{}
		}
		return grahak.Input{Value: m.Format(time.RFC3339Nano), Given: true}
	}
	return grahak.CustomerFilter{
		Reference: text(f.Reference), Email: text(f.Email), MobileNumber: text(f.Mobile), MobileCountryCode: text(f.CountryCode),
		CreatedFrom: at(f.CreatedAfter), CreatedBefore: at(f.CreatedBefore),
	}
}

// wrongFilter says what is wrong with the flag of each field.
var wrongFilter = map[grahak.Field]error{
	grahak.FieldReference:         wrongUse("--reference has 1 to %d characters", grahak.MaxReference),
	grahak.FieldMobileNumber:      wrongUse("--mobile has 1 to %d digits, without a country code", grahak.MaxMobileNumber),
	grahak.FieldMobileCountryCode: wrongUse("--country-code has 1 to %d digits and goes with --mobile only", grahak.MaxCountryCode),
	grahak.FieldEmail:             wrongUse("--email is not an e-mail address"),
	grahak.FieldCursor:            errors.New("--after is not the cursor of a page of this merchant: take it from the end of the page before"),
}

type customerListCmd struct {
	Count  int    `default:"10" env:"GRAHAK_COUNT" placeholder:"N" help:"How many to list, from 1 to 100."`
	Offset int    `default:"0" env:"GRAHAK_OFFSET" placeholder:"N" help:"How many of the newest to skip, up to 10000."`
	After  string `env:"GRAHAK_AFTER" placeholder:"CURSOR" help:"Go on after an earlier page, which ended with this cursor."`
	filterFlags
	merchantFlag
	target
	jsonFlag
}

// check returns an error for flags that ask for no page.
func (c customerListCmd) check() error {
	switch {
	case c.Count < 1 || c.Count > grahak.MaxPage:
		return wrongUse("--count is from 1 to %d", grahak.MaxPage)
	case c.Offset < 0 || c.Offset > grahak.MaxOffset:
		return wrongUse("--offset is from 0 to %d: go further with --after", grahak.MaxOffset)
	}
	return nil
}

// Run lists the customers.
func (c customerListCmd) Run(ctx context.Context, std Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.with(ctx, std, func(d *app.Data) error {
		if _, err := d.Store.Merchant(ctx, grahak.MerchantID(c.Merchant)); err != nil {
			return err
		}
		page, err := d.Service.Customers(ctx, c.caller(), grahak.ListQuery{Limit: c.Count, Offset: c.Offset, After: c.After, Filter: c.filter()})
		var known *grahak.Error
		if errors.As(err, &known) && len(known.Fields) > 0 && wrongFilter[known.Fields[0]] != nil {
			return wrongFilter[known.Fields[0]]
		}
		if err != nil {
			return unreadable(err)
		}
		if c.JSON {
			for _, customer := range page.Customers {
				if err := printJSON(std.Out, toJSON(customer)); err != nil {
					return err
				}
			}
			return nextPage(std.Err, page)
		}
		rows := make([][]string, len(page.Customers))
		for i, customer := range page.Customers {
			rows[i] = []string{
				string(customer.ID), customer.Reference, "+" + customer.MobileCountryCode + " " + customer.MobileNumber,
				customer.Email, customer.FirstName, customer.LastName, stamp(customer.CreatedAt),
			}
		}
		if err := table(std.Out, []string{"ID", "REFERENCE", "MOBILE", "E-MAIL", "FIRST NAME", "LAST NAME", "CREATED"}, rows); err != nil {
			return err
		}
		found := "%d of %s.\n"
		if c.filterFlags != (filterFlags{}) {
			found = "%d found on this page, of %s in all.\n"
		}
		fmt.Fprintf(std.Out, "\n"+found, len(rows), count(page.Total, "customer"))
		return nextPage(std.Out, page)
	})
}

// nextPage says how to go on, if there is more.
func nextPage(w io.Writer, page grahak.CustomerPage) error {
	if page.Next == "" {
		return nil
	}
	_, err := fmt.Fprintf(w, "The next page: --after %s\n", page.Next)
	return err
}
