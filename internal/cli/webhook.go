package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
)

type webhookCmd struct {
	Create  webhookCreateCmd  `cmd:"" help:"Have events sent to a URL. The secret that signs them is shown once."`
	List    webhookListCmd    `cmd:"" help:"List a merchant's webhooks, and how far each has come."`
	Log     webhookLogCmd     `cmd:"" help:"List the last attempts to deliver events, the newest first."`
	Test    webhookTestCmd    `cmd:"" help:"Send a test event now, and say what came of it."`
	Replay  webhookReplayCmd  `cmd:"" help:"Have events sent again: one, a range, or those that were given up."`
	Disable webhookDisableCmd `cmd:"" help:"Send nothing any more."`
	Enable  webhookEnableCmd  `cmd:"" help:"Go on sending, from the first event that was not delivered."`
	Rotate  webhookRotateCmd  `cmd:"" name:"rotate-secret" help:"Make a new secret, and let the old one sign as well for a while."`
}

// Help is what `grahak webhook --help` says above the commands.
func (webhookCmd) Help() string {
	return `A merchant's other systems are told of every change of a customer: at least once, and in order for each customer. What is sent names the event, the customer's id and the changed fields, and is signed as Standard Webhooks has it; who wants to know more reads the customer.

  grahak webhook create --url https://hooks.example.com/grahak --merchant acme
  grahak webhook test whe_2rxaxzlnq1qj99so --merchant acme
  grahak webhook list --merchant acme`
}

// webhookFlags name one webhook.
type webhookFlags struct {
	ID string `arg:"" help:"Id of the webhook, as in grahak webhook list."`
	merchantFlag
	target
}

func (f webhookFlags) id() grahak.WebhookID { return grahak.WebhookID(f.ID) }

type webhookCreateCmd struct {
	URL   string             `name:"url" required:"" env:"GRAHAK_URL" placeholder:"URL" help:"Where to send events. It begins with https://; in a sandbox http:// will do."`
	Types []grahak.EventType `env:"GRAHAK_TYPES" placeholder:"TYPE" help:"What to send, of customer.created, customer.updated and customer.erased; by default all of it."`
	Label string             `env:"GRAHAK_LABEL" placeholder:"TEXT" help:"What receives the events, such as 'order service'."`
	merchantFlag
	target
	jsonFlag
}

// Run makes the webhook and shows its secret.
func (c webhookCreateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		w, secret, err := d.Service.CreateWebhook(ctx, c.caller(), grahak.WebhookSpec{URL: c.URL, Types: c.Types, Label: c.Label})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.Out, newWebhookJSON{webhookToJSON(w), secret})
		}
		fmt.Fprintf(std.Out, "Made webhook %s of merchant %s. What is sent to it is signed with this secret, which is shown only now:\n\n  %s\n\n", w.ID, w.Merchant, secret)
		return nil
	})
}

// webhookJSON is a webhook for programs.
type webhookJSON struct {
	ID            grahak.WebhookID   `json:"id"`
	Merchant      grahak.MerchantID  `json:"merchant"`
	URL           string             `json:"url"`
	Types         []grahak.EventType `json:"types"`
	Label         string             `json:"label"`
	State         string             `json:"state"`
	Position      int64              `json:"position"`
	SecretVersion int64              `json:"secret_version"`
	CreatedAt     *string            `json:"created_at"`
	DisabledAt    *string            `json:"disabled_at"`
	FailingSince  *string            `json:"failing_since"`
}

// newWebhookJSON is one with the secret that was just made.
type newWebhookJSON struct {
	webhookJSON
	Secret string `json:"secret"`
}

func webhookToJSON(w grahak.Webhook) webhookJSON {
	return webhookJSON{
		w.ID, w.Merchant, w.URL, w.Types, w.Label, webhookState(w), w.Cursor, w.SecretVersion,
		jsonTime(w.CreatedAt), jsonTime(w.DisabledAt), jsonTime(w.FailingSince),
	}
}

// webhookState is how a webhook is, in a word or two.
func webhookState(w grahak.Webhook) string {
	switch {
	case w.DisabledFor == grahak.WebhookEndGone:
		return "disabled: answered 410"
	case w.DisabledFor == grahak.WebhookEndFailing:
		return "disabled: failed for days"
	case !w.DisabledAt.IsZero():
		return "disabled"
	case !w.FailingSince.IsZero():
		return "failing"
	}
	return "active"
}

type webhookListCmd struct {
	merchantFlag
	target
	jsonFlag
}

// Run lists the webhooks.
func (c webhookListCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		list, err := d.Service.Webhooks(ctx, c.caller())
		if err != nil {
			return err
		}
		rows := make([][]string, len(list))
		for i, w := range list {
			if c.JSON {
				if err := printJSON(std.Out, webhookToJSON(w)); err != nil {
					return err
				}
				continue
			}
			types := make([]string, len(w.Types))
			for i, t := range w.Types {
				types[i] = strings.TrimPrefix(string(t), "customer.")
			}
			rows[i] = []string{string(w.ID), webhookState(w), strings.Join(types, ","), fmt.Sprint(w.Cursor), w.Label, stamp(w.CreatedAt), stamp(w.FailingSince), w.URL}
		}
		if c.JSON {
			return nil
		}
		return table(std.Out, []string{"ID", "STATE", "TYPES", "POSITION", "LABEL", "CREATED", "FAILING SINCE", "URL"}, rows)
	})
}

type webhookLogCmd struct {
	webhookFlags
	Failed bool `env:"GRAHAK_FAILED" help:"List only attempts that failed."`
	Count  int  `default:"100" env:"GRAHAK_COUNT" placeholder:"N" help:"How many to list at most."`
	jsonFlag
}

// Run lists the attempts.
func (c webhookLogCmd) Run(ctx context.Context, std Streams) error {
	if c.Count < 1 {
		return wrongUse("--count is at least 1")
	}
	return c.with(ctx, std, func(d *app.Data) error {
		list, err := d.Service.WebhookLog(ctx, c.caller(), c.id(), c.Failed, c.Count)
		if err != nil {
			return err
		}
		rows := make([][]string, len(list))
		for i, a := range list {
			if c.JSON {
				err := printJSON(std.Out, struct {
					At       *string        `json:"at"`
					Event    grahak.EventID `json:"event"`
					Position int64          `json:"position"`
					Attempt  int64          `json:"attempt"`
					outcomeJSON
				}{jsonTime(a.At), a.EventID, a.Position, a.Attempt, outcomeToJSON(a.WebhookOutcome)})
				if err != nil {
					return err
				}
				continue
			}
			rows[i] = []string{stamp(a.At), string(a.EventID), fmt.Sprint(a.Position), fmt.Sprint(a.Attempt), outcomeText(a.WebhookOutcome), a.Took.Round(time.Millisecond).String()}
		}
		if c.JSON {
			return nil
		}
		return table(std.Out, []string{"AT", "EVENT", "POSITION", "ATTEMPT", "OUTCOME", "TOOK"}, rows)
	})
}

// outcomeJSON is what came of an attempt for programs.
type outcomeJSON struct {
	Delivered bool                  `json:"delivered"`
	Status    int                   `json:"status"`
	Failure   grahak.WebhookFailure `json:"failure"`
	Millis    int64                 `json:"duration_ms"`
}

func outcomeToJSON(o grahak.WebhookOutcome) outcomeJSON {
	return outcomeJSON{o.Delivered(), o.Status, o.Failure, o.Took.Milliseconds()}
}

// outcomeText is what came of an attempt for people.
func outcomeText(o grahak.WebhookOutcome) string {
	if o.Failure != "" {
		return strings.ReplaceAll(string(o.Failure), "_", " ")
	}
	return fmt.Sprintf("status %d", o.Status)
}

type webhookTestCmd struct {
	webhookFlags
	config.WebhookFlags
	jsonFlag
}

// Help is what `grahak webhook test --help` says above the flags.
func (webhookTestCmd) Help() string {
	return `An event of the type webhook.test is sent from this machine, not from the server's, and signed like any other. It leaves no trace in the log and changes nothing.

  grahak webhook test whe_2rxaxzlnq1qj99so --merchant acme`
}

// whyNot is how to mend what keeps an attempt from having an answer.
var whyNot = map[grahak.WebhookFailure]string{
	grahak.WebhookForbidden: "its address is private or local: allow its host, address or network with --webhook-allow, here and for the server",
	grahak.WebhookNoName:    "its host's name leads nowhere: check the URL with grahak webhook list",
	grahak.WebhookNoConn:    "nothing took the connection: start the receiver, or open the way to it",
	grahak.WebhookTLS:       "its certificate is not valid for it, or it does not speak TLS: mend that at the receiver",
	grahak.WebhookTimeout:   "it did not answer in 15 seconds: have it answer first and work afterwards",
	grahak.WebhookBroken:    "the connection was lost before it answered: look at its log",
}

// Run sends the event and says what came of it.
func (c webhookTestCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		courier, err := d.Courier(c.WebhookFlags, version())
		if err != nil {
			return err
		}
		o, err := d.Service.TestWebhook(ctx, c.caller(), c.id(), courier)
		if err != nil {
			return err
		}
		if c.JSON {
			if err := printJSON(std.Out, outcomeToJSON(o)); err != nil {
				return err
			}
		} else if o.Delivered() {
			fmt.Fprintf(std.Out, "Delivered to webhook %s: status %d after %s.\n", c.ID, o.Status, o.Took.Round(time.Millisecond))
		}
		switch {
		case o.Delivered():
			return nil
		case o.Failure != "":
			return fmt.Errorf("the test event was not delivered after %s: %s", o.Took.Round(time.Millisecond), whyNot[o.Failure])
		case o.Status/100 == 3:
			return fmt.Errorf("the test event was not delivered after %s: the receiver answered %d, and redirects are not followed: make a webhook with the URL that it leads to", o.Took.Round(time.Millisecond), o.Status)
		}
		return fmt.Errorf("the test event was not delivered after %s: the receiver answered %d, and only 200 to 299 counts: look at its log", o.Took.Round(time.Millisecond), o.Status)
	})
}

type webhookReplayCmd struct {
	webhookFlags
	Event  string `xor:"what" env:"GRAHAK_EVENT" placeholder:"ID" help:"The event to send again, as in grahak webhook log."`
	From   int64  `default:"0" env:"GRAHAK_FROM_POSITION" placeholder:"POSITION" help:"The first position of a range to send again, as in grahak audit events."`
	To     int64  `default:"0" env:"GRAHAK_TO_POSITION" placeholder:"POSITION" help:"The last position of the range."`
	Failed bool   `xor:"what" env:"GRAHAK_FAILED" help:"Send again all events that were given up."`
	jsonFlag
}

// Help is what `grahak webhook replay --help` says above the flags.
func (webhookReplayCmd) Help() string {
	return `A running server sends them, in order for each customer, and what is new of such a customer comes after them. Receivers know an event by its webhook-id, which stays the same. Events from before the webhook was made can be sent, too.

  grahak webhook replay whe_2rxaxzlnq1qj99so --failed --merchant acme
  grahak webhook replay whe_2rxaxzlnq1qj99so --from 10 --to 20 --merchant acme`
}

// Run has the events sent again.
func (c webhookReplayCmd) Run(ctx context.Context, std Streams) error {
	ranged := c.From != 0 || c.To != 0
	chosen := 0
	for _, is := range []bool{c.Event != "", ranged, c.Failed} {
		if is {
			chosen++
		}
	}
	if chosen != 1 || ranged && (c.From == 0 || c.To == 0) {
		return wrongUse("say what to send again: --event ID, or --from and --to, or --failed")
	}
	return c.with(ctx, std, func(d *app.Data) error {
		n, err := d.Service.ReplayWebhook(ctx, c.caller(), c.id(), grahak.WebhookReplay{Event: grahak.EventID(c.Event), From: c.From, To: c.To, GivenUp: c.Failed})
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.Out, struct {
				Events int `json:"events"`
			}{n})
		}
		switch {
		case n == 0 && c.Failed:
			return errors.New("there is nothing to send again: no event was given up; those that are still tried are in grahak webhook log --failed")
		case n == 0:
			return errors.New("there is nothing to send again: no such event is of a type that the webhook was made for")
		}
		fmt.Fprintf(std.Out, "%s will be sent to webhook %s again.\n", count(int64(n), "event"), c.ID)
		return nil
	})
}

type webhookDisableCmd struct{ webhookFlags }

// Run disables the webhook.
func (c webhookDisableCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.DisableWebhook(ctx, c.caller(), c.id()); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Disabled webhook %s.\n", c.ID)
		return nil
	})
}

type webhookEnableCmd struct{ webhookFlags }

// Run enables the webhook.
func (c webhookEnableCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.EnableWebhook(ctx, c.caller(), c.id()); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Enabled webhook %s.\n", c.ID)
		return nil
	})
}

type webhookRotateCmd struct {
	webhookFlags
	Overlap span `default:"24h" env:"GRAHAK_OVERLAP" placeholder:"SPAN" help:"For how long the old secret signs as well, such as 7d, 24h or 0s."`
	jsonFlag
}

// Run makes the secret and shows it.
func (c webhookRotateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		w, secret, err := d.Service.RotateWebhookSecret(ctx, c.caller(), c.id(), time.Duration(c.Overlap))
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(std.Out, newWebhookJSON{webhookToJSON(w), secret})
		}
		fmt.Fprintf(std.Out, "Made a new secret of webhook %s, which is shown only now:\n\n  %s\n\n", w.ID, secret)
		if c.Overlap == 0 {
			fmt.Fprintln(std.Out, "The old secret signs no more.")
		} else {
			fmt.Fprintf(std.Out, "For %s what is sent is signed with the old secret as well.\n", c.Overlap)
		}
		return nil
	})
}
