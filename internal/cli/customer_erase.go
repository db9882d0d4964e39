package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"grahak"
	"grahak/internal/app"
)

type customerExportCmd struct {
	Ref string `arg:"" help:"The customer's id (cst_…) or object_reference_id."`
	merchantFlag
	target
}

// Help is what `grahak customer export --help` says above the flags.
func (customerExportCmd) Help() string {
	return `One JSON document for a customer who asks what is held on them: the stored values, the client auth tokens that are kept, and every event. Of a token only its SHA-256 is kept, and only until some minutes after it has expired. What it prints is personal data:

  umask 077
  grahak customer export customer@example.com --merchant acme >export.json`
}

// tokenJSON is what is kept of a client auth token.
type tokenJSON struct {
	SHA256    string  `json:"sha256"`
	ExpiresAt *string `json:"expires_at"`
}

// eventJSON is an event for programs.
type eventJSON struct {
	Position  int64            `json:"position"`
	ID        grahak.EventID   `json:"id"`
	Type      grahak.EventType `json:"type"`
	Revision  int64            `json:"revision"`
	Changed   []string         `json:"changed"`
	Actor     string           `json:"actor"`
	RequestID string           `json:"request_id,omitempty"`
	At        *string          `json:"at"`
}

func toEventJSON(e grahak.Event) eventJSON {
	out := eventJSON{
		Position: e.Position, ID: e.ID, Type: e.Type, Revision: e.Revision, Changed: make([]string, len(e.Changed)),
		Actor: e.Actor, RequestID: e.RequestID, At: jsonTime(e.At),
	}
	for i, field := range e.Changed {
		out.Changed[i] = field.String()
	}
	return out
}

// exportJSON is everything that is held on a customer.
type exportJSON struct {
	About    string            `json:"about"`
	Merchant grahak.MerchantID `json:"merchant"`
	Customer customerJSON      `json:"customer"`
	Tokens   []tokenJSON       `json:"client_auth_tokens"`
	Events   []eventJSON       `json:"events"`
}

const exportAbout = "Everything that is held on this customer. Of client auth tokens only the SHA-256 is kept, not the token. Events name the fields that changed, not their values. Besides, keyed fingerprints of the reference, e-mail address and mobile number are kept to find the customer by."

// Run prints the export.
func (c customerExportCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		// Events that have no position yet would be shown with none.
		if _, err := orderEvents(ctx, d, grahak.MerchantID(c.Merchant)); err != nil {
			return err
		}
		export, err := d.Service.ExportCustomer(ctx, c.caller(), c.Ref)
		if err != nil {
			return unreadable(err)
		}
		out := exportJSON{
			About: exportAbout, Merchant: grahak.MerchantID(c.Merchant), Customer: toJSON(export.Customer),
			Tokens: make([]tokenJSON, len(export.Tokens)), Events: make([]eventJSON, len(export.Events)),
		}
		for i, t := range export.Tokens {
			out.Tokens[i] = tokenJSON{SHA256: hex.EncodeToString(t.Hash[:]), ExpiresAt: jsonTime(t.ExpiresAt)}
		}
		for i, e := range export.Events {
			out.Events[i] = toEventJSON(e)
		}
		encoder := json.NewEncoder(std.Out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(out)
	})
}

type customerEraseCmd struct {
	Ref string `arg:"" help:"The customer's id (cst_…) or object_reference_id."`
	Yes bool   `env:"GRAHAK_YES" help:"Do not ask whether it is meant."`
	merchantFlag
	target
}

// Help is what `grahak customer erase --help` says above the flags.
func (customerEraseCmd) Help() string {
	return `The stored values, what they are found by, and the customer's tokens are gone at once, and the reference can be used again. The events stay; they hold no personal data. On a terminal it asks first; elsewhere it needs --yes.

What is left of the customer in free pages, in the write-ahead log and in backups becomes unreadable once the keys are gone that it was sealed under. That takes all of this:

  grahak customer erase customer@example.com --merchant acme
  grahak seal rotate --merchant acme
  grahak seal rewrap

and then the destruction of the old master key by you, wherever it is, which makes every backup from before unreadable as well.`
}

// Run erases the customer.
func (c customerEraseCmd) Run(ctx context.Context, std Streams) error {
	if !c.Yes && !isTerminal(std.In) {
		return wrongUse("there is no terminal to ask on whether it is meant: give --yes")
	}
	return c.with(ctx, std, func(d *app.Data) error {
		if !c.Yes {
			if err := c.confirm(ctx, std, d); err != nil {
				return err
			}
		}
		erased, err := d.Service.EraseCustomer(ctx, c.caller(), c.Ref, grahak.WriteOptions{})
		if grahak.CodeOf(err) == grahak.CodeInternal {
			return fmt.Errorf("%w; a customer whose record cannot be read can be erased by its id only", err)
		}
		if err != nil {
			return err
		}
		id := erased.Customer
		events, err := d.Store.EventsOf(ctx, grahak.MerchantID(c.Merchant), string(id))
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Erased customer %s of merchant %s. Its %d events stay; they hold no personal data.\n", id, c.Merchant, len(events))
		fmt.Fprintf(std.Out, "What is left of it in free pages, the log and backups stays readable with the old keys, until three things are done: %s seal rotate --merchant %s%s; then %s seal rewrap%s; and then the old master key is destroyed wherever it is, which makes every backup from before unreadable, too.\n",
			programName(), c.Merchant, c.flags(), programName(), c.flags())
		return nil
	})
}

// confirm asks the user to type whom to erase. It shows nothing of the customer
// but the id.
func (c customerEraseCmd) confirm(ctx context.Context, std Streams, d *app.Data) error {
	result, err := d.Service.Customer(ctx, c.caller(), c.Ref, false)
	known := []string{string(result.Customer.ID), result.Customer.Reference}
	switch code := grahak.CodeOf(err); {
	case err == nil:
		fmt.Fprintf(std.Err, "This erases customer %s of merchant %s for good.\n", result.Customer.ID, c.Merchant)
	case code != grahak.CodeInternal:
		return err
	default:
		// A record that is damaged is often why it is to be erased.
		fmt.Fprintf(std.Err, "This erases a customer of merchant %s for good, whose record cannot be read.\n", c.Merchant)
		known = []string{c.Ref}
	}
	answer, err := ask(ctx, std, "Type the customer's id or reference to go on: ")
	if err != nil {
		return err
	}
	for _, word := range known {
		if word != "" && answer == word {
			return nil
		}
	}
	return errors.New("nothing was erased: what was typed is neither the customer's id nor its reference")
}

// ask reads the line that a person types as the answer to prompt.
func ask(ctx context.Context, std Streams, prompt string) (string, error) {
	fmt.Fprint(std.Err, prompt)
	typed := make(chan string, 1)
	// A terminal cannot be told to stop waiting, and the program ends soon.
	go func() {
		line, _ := bufio.NewReader(std.In).ReadString('\n')
		typed <- strings.TrimRight(line, "\r\n")
	}()
	select {
	case line := <-typed:
		return line, nil
	case <-ctx.Done():
		fmt.Fprintln(std.Err)
		return "", errors.New("interrupted; nothing was done")
	}
}
