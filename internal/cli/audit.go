package cli

import (
	"context"
	"fmt"

	"grahak"
	"grahak/internal/app"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Check the chain of events for what was altered, removed or reordered."`
}

type auditVerifyCmd struct {
	Merchant string  `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Check this merchant only."`
	Anchor   *anchor `env:"GRAHAK_ANCHOR" placeholder:"POSITION:HASH" help:"Check that the merchant's chain still has this head, which an earlier run has printed."`
	target
	jsonFlag
}

// Help is what `grahak audit verify --help` says above the flags.
func (auditVerifyCmd) Help() string {
	return `Every change is an event, and every event of a merchant has a position and a link in a chain of hashes. It checks all of them and names the first that does not fit.

  grahak audit verify
  grahak audit verify --merchant acme --anchor 1234:9f86d0818…

It cannot tell when the newest events were removed together with their part of the chain: note the head that it prints where nobody who can write the data can change it, and give it as --anchor later. Events of the last second or so are not in the chain yet; they count as pending. Without the master key, a chain that was made anew does not show either.`
}

// anchor is a flag with a noted head of a chain.
type anchor struct{ grahak.Anchor }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *anchor) UnmarshalText(text []byte) (err error) {
	a.Anchor, err = grahak.ParseAnchor(string(text))
	return err
}

// Run checks the events and fails if any does not fit.
func (c auditVerifyCmd) Run(ctx context.Context, std Streams) error {
	var noted *grahak.Anchor
	if c.Anchor != nil {
		if c.Merchant == "" {
			return wrongUse("--anchor is of one merchant: give --merchant as well")
		}
		noted = &c.Anchor.Anchor
	}
	return c.with(ctx, std, func(d *app.Data) error {
		merchants, err := merchantsOf(ctx, d, c.Merchant)
		if err != nil {
			return err
		}
		faults, keyless := 0, false
		for _, m := range merchants {
			report, err := verifyAudit(ctx, std, d, m, noted)
			if err != nil {
				return about(m, err)
			}
			if report.Fault != "" {
				faults++
			}
			keyless = keyless || report.Keyless
			if c.JSON {
				err = printJSON(std.Out, toAuditJSON(report))
			} else {
				_, err = fmt.Fprintln(std.Out, auditLine(report))
			}
			if err != nil {
				return err
			}
		}
		if keyless {
			fmt.Fprintln(std.Err, "Without the master key a chain that was made anew, with the events that it covers, cannot be told from the real one: give the key, or compare with a noted head.")
		}
		if faults > 0 {
			return fmt.Errorf("the events of %d of %d merchants are not what they were; see above", faults, len(merchants))
		}
		return nil
	})
}

// verifyAudit checks one merchant's events.
func verifyAudit(ctx context.Context, std Streams, d *app.Data, m grahak.MerchantID, noted *grahak.Anchor) (grahak.AuditReport, error) {
	head, err := d.Store.ChainHead(ctx, m)
	if err != nil {
		return grahak.AuditReport{}, err
	}
	bar := newProgress(std, "Checking "+string(m))
	defer bar.finish()
	return d.Service.VerifyAudit(ctx, operator(string(m)), noted, func(events int64) { bar.set(events, head.Position) })
}

// auditLine is a report for people.
func auditLine(r grahak.AuditReport) string {
	if r.Fault != "" {
		return fmt.Sprintf("FAIL  %s: %s", r.Merchant, r.Fault)
	}
	line := fmt.Sprintf("ok    %s: %d events checked, %d pending", r.Merchant, r.Head.Position, r.Pending)
	if r.Head.Position > 0 {
		line += ", head " + r.Head.String()
	}
	return line
}

// auditJSON is a report for programs.
type auditJSON struct {
	Merchant grahak.MerchantID `json:"merchant"`
	Checked  int64             `json:"checked"`
	Pending  int64             `json:"pending"`
	Head     *string           `json:"head"`
	Keyless  bool              `json:"keyless"`
	Fault    *string           `json:"fault"`
}

func toAuditJSON(r grahak.AuditReport) auditJSON {
	out := auditJSON{Merchant: r.Merchant, Checked: r.Head.Position, Pending: r.Pending, Keyless: r.Keyless}
	if r.Head.Position > 0 {
		head := r.Head.String()
		out.Head = &head
	}
	if r.Fault != "" {
		out.Fault = &r.Fault
	}
	return out
}
