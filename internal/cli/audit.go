package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"grahak"
	"grahak/internal/app"
)

type auditCmd struct {
	Verify auditVerifyCmd `cmd:"" help:"Check the chain of events for what was altered, removed or reordered."`
	Events auditEventsCmd `cmd:"" help:"List the events, the newest last."`
}

type auditVerifyCmd struct {
	Merchant string  `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Check this merchant only."`
	Anchor   *anchor `env:"GRAHAK_ANCHOR" placeholder:"POSITION:HASH" help:"Check that the merchant's chain still has this head, which an earlier run has printed."`
	target
	jsonFlag
}

// Help is what `grahak audit verify --help` says above the flags.
func (auditVerifyCmd) Help() string {
	return `Every change is an event, and every event of a merchant has a position and a link in a chain of hashes. It checks all of them and names the first that does not fit. What happens to operators of the dashboard has a chain of its own, which goes by @operators.

  grahak audit verify
  grahak audit verify --merchant acme --anchor 1234:9f86d0818…

It cannot tell when the newest events were removed together with their part of the chain: note the head that it prints where nobody who can write the data can change it, and give it as --anchor later. Events that are older than serve --events-keep are deleted; what is left of their part of the chain is a checkpoint, which is checked as well, and a head from before it cannot be compared any more. Events get into the chain within a second while a server runs, and until then they count as pending. Without the master key, a chain that was made anew does not show either.`
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
		merchants, err := chainsOf(ctx, d, c.Merchant)
		if err != nil {
			return err
		}
		faults, keyless := 0, false
		for _, m := range merchants {
			// What has no position counts as pending.
			if _, err := orderEvents(ctx, d, m); err != nil {
				return about(m, err)
			}
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
			return fmt.Errorf("the events of %d of %s are not what they were; see above", faults, count(int64(len(merchants)), "merchant"))
		}
		return nil
	})
}

// chainsOf is merchantsOf, and after all merchants [grahak.OperatorsMerchant] if there is
// one: what happened to operators has a chain and keys as well.
func chainsOf(ctx context.Context, d *app.Data, named string) ([]grahak.MerchantID, error) {
	merchants, err := merchantsOf(ctx, d, named)
	if err != nil || named != "" {
		return merchants, err
	}
	_, err = d.Store.Merchant(ctx, grahak.OperatorsMerchant)
	if grahak.CodeOf(err) == grahak.CodeMerchantNotFound {
		return merchants, nil
	}
	return append(merchants, grahak.OperatorsMerchant), err
}

// orderEvents sees to it that the events that the merchant has now have positions.
// On PostgreSQL it takes the master key, and without that it reports false: then
// only the servers give them positions.
func orderEvents(ctx context.Context, d *app.Data, m grahak.MerchantID) (bool, error) {
	if d.Postgres == nil {
		return true, nil
	}
	if d.Sealer.Check(ctx, m) != nil {
		return false, ctx.Err()
	}
	return true, d.Service.OrderEvents(ctx, operator(string(m)))
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
	line := fmt.Sprintf("ok    %s: %s checked, %d pending", r.Merchant, count(r.Head.Position-r.Pruned, "event"), r.Pending)
	if r.Pruned > 0 {
		line += fmt.Sprintf(", %d pruned because of their age", r.Pruned)
	}
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
	Pruned   int64             `json:"pruned"`
	Head     *string           `json:"head"`
	Keyless  bool              `json:"keyless"`
	Fault    *string           `json:"fault"`
}

func toAuditJSON(r grahak.AuditReport) auditJSON {
	out := auditJSON{Merchant: r.Merchant, Checked: r.Head.Position - r.Pruned, Pending: r.Pending, Pruned: r.Pruned, Keyless: r.Keyless}
	if r.Head.Position > 0 {
		head := r.Head.String()
		out.Head = &head
	}
	if r.Fault != "" {
		out.Fault = &r.Fault
	}
	return out
}

type auditEventsCmd struct {
	Merchant string           `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"List the events of this merchant only."`
	Type     grahak.EventType `enum:"${eventTypes}" default:"" env:"GRAHAK_TYPE" placeholder:"TYPE" help:"List only events of this type, such as customer.erased."`
	After    int64            `default:"0" env:"GRAHAK_AFTER" placeholder:"POSITION" help:"List only events above this position of their merchant."`
	Since    *moment          `env:"GRAHAK_SINCE" placeholder:"TIME" help:"List only events of this time or later, such as 2026-03-17T14:13:37Z or 2026-03-17, which is that day from its start in UTC."`
	target
	jsonFlag
}

// Help is what `grahak audit events --help` says above the flags.
func (auditEventsCmd) Help() string {
	return `Who changed what, and when: every change of a customer, a merchant, a key, an IP list, a webhook, a sealing key or an operator, every look of an operator at a customer in clear, and every export. There are no values in it. It needs no master key; but on PostgreSQL, where events get their positions within a second while a server runs, those that have none yet are left out without it.

  grahak audit events --merchant acme --type customer.erased

What happens to operators of the dashboard goes by @operators. Whether the events are what they were, grahak audit verify says.`
}

// Run lists the events.
func (c auditEventsCmd) Run(ctx context.Context, std Streams) error {
	query := grahak.EventQuery{After: c.After, Type: c.Type}
	if c.Since != nil {
		query.Since = c.Since.Time
	}
	return c.with(ctx, std, func(d *app.Data) error {
		merchants, err := chainsOf(ctx, d, c.Merchant)
		if err != nil {
			return err
		}
		// There may be millions, more than a table could align.
		out := bufio.NewWriter(std.Out)
		for _, m := range merchants {
			ordered, err := orderEvents(ctx, d, m)
			if err != nil {
				return about(m, err)
			}
			err = d.Service.Events(ctx, operator(string(m)), query, func(e grahak.Event) error {
				if c.JSON {
					return printJSON(out, auditEventJSON{Merchant: m, Subject: e.Subject, eventJSON: toEventJSON(e)})
				}
				return printEvent(out, m, e)
			})
			if err := errors.Join(err, out.Flush()); err != nil {
				return about(m, err)
			}
			if !ordered {
				if err := leftOut(ctx, std, d, m); err != nil {
					return about(m, err)
				}
			}
		}
		return nil
	})
}

// leftOut says how many events were not listed because they have no position.
func leftOut(ctx context.Context, std Streams, d *app.Data, m grahak.MerchantID) error {
	pending, err := d.Store.CountPending(ctx, m)
	if err == nil && pending > 0 {
		fmt.Fprintf(std.Err, "Merchant %s has %s without a position yet, not listed here: a server that runs gives them one, and so does this command with the master key.\n", m, count(pending, "event"))
	}
	return err
}

// printEvent prints an event for people, on one line.
func printEvent(w io.Writer, m grahak.MerchantID, e grahak.Event) error {
	changed := make([]string, len(e.Changed))
	for i, field := range e.Changed {
		changed[i] = field.String()
	}
	_, err := fmt.Fprintf(w, "%s  %7d  %s  %-21s  %-20s  %-20s  %s  %s\n", m, e.Position, stamp(e.At), e.Type,
		printable(e.Subject), printable(e.Actor), printable(e.RequestID), printable(strings.Join(changed, ",")))
	return err
}

// auditEventJSON is an event of any kind for programs.
type auditEventJSON struct {
	Merchant grahak.MerchantID `json:"merchant"`
	Subject  string            `json:"subject"`
	eventJSON
}

// eventTypes is what --type takes, with nothing for every type.
var eventTypes = func() string {
	var names strings.Builder
	for _, t := range grahak.EventTypes() {
		names.WriteString("," + string(t))
	}
	return names.String()
}()
