package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"grahak"
	"grahak/internal/app"
)

type customerCmd struct {
	Get  customerGetCmd  `cmd:"" help:"Show one customer."`
	List customerListCmd `cmd:"" help:"List customers, newest first."`
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
}

func toJSON(c grahak.Customer) customerJSON {
	return customerJSON{
		ID: c.ID, Reference: c.Reference, CountryCode: c.MobileCountryCode, Number: c.MobileNumber, Email: c.Email,
		FirstName: c.FirstName, LastName: c.LastName, Revision: c.Revision, CreatedAt: jsonTime(c.CreatedAt), UpdatedAt: jsonTime(c.UpdatedAt),
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
			return err
		}
		if c.JSON {
			return printJSON(std.Out, toJSON(result.Customer))
		}
		customer := result.Customer
		return table(std.Out, []string{"id", string(customer.ID)}, [][]string{
			{"reference", customer.Reference},
			{"mobile", "+" + customer.MobileCountryCode + " " + customer.MobileNumber},
			{"e-mail", customer.Email},
			{"first name", customer.FirstName},
			{"last name", customer.LastName},
			{"created", stamp(customer.CreatedAt)},
			{"updated", stamp(customer.UpdatedAt)},
			{"revision", fmt.Sprint(customer.Revision)},
		})
	})
}

type customerListCmd struct {
	Count  int    `default:"10" env:"GRAHAK_COUNT" placeholder:"N" help:"How many to list, from 1 to 100."`
	Offset int    `default:"0" env:"GRAHAK_OFFSET" placeholder:"N" help:"How many of the newest to skip, up to 10000."`
	After  string `env:"GRAHAK_AFTER" placeholder:"CURSOR" help:"Go on after an earlier page, which ended with this cursor."`
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
		page, err := d.Service.Customers(ctx, c.caller(), grahak.ListQuery{Limit: c.Count, Offset: c.Offset, After: c.After})
		if c.After != "" && grahak.CodeOf(err) == grahak.CodeInvalidField {
			return errors.New("--after is not the cursor of a page of this merchant: take it from the end of the page before")
		}
		if err != nil {
			return err
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
		fmt.Fprintf(std.Out, "\n%d of %d customers.\n", len(rows), page.Total)
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
