package dashboard

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"grahak"
)

var webhookRoutes = []route{
	get(atMerchant+"webhooks", member, listWebhooks),
	post(atMerchant+"webhooks", member, createWebhook),
	get(atMerchant+"webhooks/{webhook}", member, showWebhook),
	post(atMerchant+"webhooks/{webhook}/enable", member, enableWebhook),
	post(atMerchant+"webhooks/{webhook}/disable", member, disableWebhook),
	post(atMerchant+"webhooks/{webhook}/test", member, testWebhook),
	post(atMerchant+"webhooks/{webhook}/rotate", member, rotateWebhook),
	post(atMerchant+"webhooks/{webhook}/replay", member, replayWebhook),
	get(atMerchant+"webhooks/{webhook}/events/{position}", member, showDelivery),
}

// deliveriesShown is how many lines of the delivery log are shown.
const deliveriesShown = 50

// webhooksView is a merchant's endpoints.
type webhooksView struct {
	place
	Webhooks []webhookRow
	Empty    empty
	Create   webhookForm
}

// webhookRow is an endpoint and how it does.
type webhookRow struct {
	grahak.Webhook
	State badge
	// Why says more of the state, if there is more to say.
	Why string
	// Behind is how many events there are that it was not sent yet.
	Behind int64
	Active bool
}

// webhookForm is the form that makes an endpoint.
type webhookForm struct {
	URL, Label formField
	Types      []option
	Once       hidden
}

// webhookSecretView shows the secret of an endpoint, once.
type webhookSecretView struct {
	place
	Webhook grahak.Webhook
	Title   string
	Secret  secretBox
	// Until is until when the secret before signs as well, zero for not at all.
	Until time.Time
}

// webhookView is an endpoint and its newest deliveries.
type webhookView struct {
	place
	webhookRow
	Path     string
	Tabs     []tab
	Log      []deliveryRow
	Empty    empty
	Overlap  formField
	Once     hidden
	Event    formField
	From, To formField
	Error    string
}

// deliveryRow is an attempt to deliver an event.
type deliveryRow struct {
	grahak.WebhookAttempt
	State badge
	// Text says what came of it.
	Text string
}

// deliveryView is an event at an endpoint: what was sent, and what came of it.
type deliveryView struct {
	place
	grahak.WebhookDelivery
	Path    string
	Log     []deliveryRow
	Message copyable
	// AnswerBytes is how much of an answer is shown.
	AnswerBytes int64
}

func newWebhookRow(w grahak.Webhook, head int64, now time.Time) webhookRow {
	row := webhookRow{Webhook: w, State: badge{"ok", "active"}, Active: w.DisabledAt.IsZero(), Behind: max(0, head-w.Cursor)}
	switch {
	case w.DisabledFor == grahak.WebhookEndGone:
		row.State, row.Why = badge{"bad", "disabled"}, "It answered 410, by which a receiver asks to be sent nothing more."
	case w.DisabledFor == grahak.WebhookEndFailing:
		row.State, row.Why = badge{"bad", "disabled"}, "It took nothing for days."
	case !row.Active:
		row.State = badge{"plain", "disabled"}
	case !w.FailingSince.IsZero():
		row.State, row.Why = badge{"warn", "failing"}, num(w.Failures)+" in a row since "+w.FailingSince.UTC().Format(minuteForm)+"."
		if w.ResumeAt.After(now) {
			row.Why += " Next try at " + w.ResumeAt.UTC().Format(secondForm) + "."
		}
	}
	return row
}

// failures are the reasons for which there is no answer, in words.
var failures = map[grahak.WebhookFailure]string{
	grahak.WebhookForbidden: "Not sent: the name leads to a private address.",
	grahak.WebhookNoName:    "Not sent: the name cannot be found.",
	grahak.WebhookNoConn:    "Not sent: nothing listens there.",
	grahak.WebhookTLS:       "Not sent: the certificate or TLS is wrong.",
	grahak.WebhookTimeout:   "No answer in time.",
	grahak.WebhookBroken:    "The connection was lost before an answer.",
	grahak.WebhookAborted:   "Given up by this server.",
}

func newDeliveryRow(a grahak.WebhookAttempt) deliveryRow {
	row := deliveryRow{WebhookAttempt: a, State: badge{"bad", "failed"}, Text: outcomeText(a.WebhookOutcome)}
	if a.Delivered() {
		row.State = badge{"ok", "delivered"}
	}
	return row
}

func outcomeText(o grahak.WebhookOutcome) string {
	if o.Failure != "" {
		return failures[o.Failure]
	}
	text := "Answered " + strconv.Itoa(o.Status)
	if o.Status/100 == 3 {
		text += ", a redirect, which is not followed"
	}
	return text + "."
}

func (p *page) webhooksView() (webhooksView, error) {
	list, err := p.edge.service.Webhooks(p.ctx(), p.Caller)
	if err != nil {
		return webhooksView{}, err
	}
	head, err := p.edge.service.ChainPosition(p.ctx(), p.Caller)
	if err != nil {
		return webhooksView{}, err
	}
	view := webhooksView{place: p.place(), Empty: empty{
		Title: "No webhooks yet", Text: "An endpoint of yours can be told of each customer that is created, changed or erased, within a second and without personal data.",
	}}
	for _, w := range list {
		view.Webhooks = append(view.Webhooks, newWebhookRow(w, head, p.edge.cfg.Clock.Now()))
	}
	view.Create.URL = formField{
		Name: "url", Label: "URL", Type: "url", Value: p.field("url"), Required: true, Mono: true, Autocomplete: "off", MaxLength: grahak.MaxWebhookURL,
		Hint: "Like https://hooks.example.com/grahak.",
	}
	view.Create.Label = formField{Name: "label", Label: "Label", Value: p.field("label"), Autocomplete: "off", MaxLength: grahak.MaxName}
	for _, t := range grahak.WebhookTypes() {
		view.Create.Types = append(view.Create.Types, option{
			Value: string(t), Label: string(t), Selected: len(p.form["types"]) == 0 || slices.Contains(p.form["types"], string(t)),
		})
	}
	view.Create.Once, err = p.once()
	return view, err
}

func listWebhooks(p *page) error {
	view, err := p.webhooksView()
	if err != nil {
		return err
	}
	return p.render("webhooks", "Webhooks", view)
}

func createWebhook(p *page) error {
	if err := p.claim(); err != nil {
		return err
	}
	spec := grahak.WebhookSpec{URL: p.field("url"), Label: p.field("label")}
	for _, t := range p.form["types"] {
		spec.Types = append(spec.Types, grahak.EventType(t))
	}
	w, secret, err := p.edge.service.CreateWebhook(p.ctx(), p.Caller, spec)
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		view, err := p.webhooksView()
		if err != nil {
			return err
		}
		view.Create.URL.Error = message
		return p.refuse("webhooks", "Webhooks", view)
	}
	if err != nil {
		return err
	}
	return p.showSecret(webhookSecretView{place: p.place(), Webhook: w, Title: "The new webhook"}, secret)
}

// showSecret answers with a secret that an endpoint has got.
func (p *page) showSecret(view webhookSecretView, secret string) error {
	view.Secret = secretBox{
		Label: "Signing secret", Value: secret,
		Note: "The receiver checks with it that a message is ours (Standard Webhooks). It cannot be shown again.",
	}
	return p.render("webhooksecret", view.Title, view)
}

// webhookPath is the path of the page of an endpoint.
func (p *page) webhookPath(id grahak.WebhookID) string { return p.base() + "/webhooks/" + string(id) }

// webhookID is the endpoint that the path names.
func (p *page) webhookID() grahak.WebhookID { return grahak.WebhookID(p.value("webhook")) }

// webhook returns the endpoint that the path names. Code: [grahak.CodeWebhookNotFound].
func (p *page) webhook() (grahak.Webhook, error) {
	list, err := p.edge.service.Webhooks(p.ctx(), p.Caller)
	if err != nil {
		return grahak.Webhook{}, err
	}
	i := slices.IndexFunc(list, func(w grahak.Webhook) bool { return w.ID == p.webhookID() })
	if i < 0 {
		return grahak.Webhook{}, grahak.Errorf(grahak.CodeWebhookNotFound, "There is no such webhook.")
	}
	return list[i], nil
}

func (p *page) webhookView() (webhookView, error) {
	w, err := p.webhook()
	if err != nil {
		return webhookView{}, err
	}
	head, err := p.edge.service.ChainPosition(p.ctx(), p.Caller)
	if err != nil {
		return webhookView{}, err
	}
	failed := p.query("failed") != ""
	log, err := p.edge.service.WebhookLog(p.ctx(), p.Caller, w.ID, failed, deliveriesShown)
	if err != nil {
		return webhookView{}, err
	}
	path := p.webhookPath(w.ID)
	view := webhookView{
		place: p.place(), webhookRow: newWebhookRow(w, head, p.edge.cfg.Clock.Now()), Path: path,
		Tabs:    []tab{{"All", path, !failed}, {"Failed", path + "?failed=1", failed}},
		Empty:   empty{Title: "Nothing was sent yet", Text: "Send a test, or create a customer: what was sent shows here for seven days."},
		Overlap: p.overlapField("The old secret goes on signing for"),
		Event:   formField{Name: "event", Label: "Event id", Value: p.field("event"), Required: true, Mono: true, Autocomplete: "off", MaxLength: 64},
		From:    formField{Name: "from", Label: "From position", Value: p.field("from"), InputMode: "numeric", Required: true, Autocomplete: "off", MaxLength: 19},
		To:      formField{Name: "to", Label: "To position", Value: p.field("to"), InputMode: "numeric", Required: true, Autocomplete: "off", MaxLength: 19},
	}
	if failed {
		view.Empty = empty{Title: "Nothing has failed", Text: "Every attempt of the last seven days was delivered."}
	}
	for _, a := range log {
		view.Log = append(view.Log, newDeliveryRow(a))
	}
	view.Once, err = p.once()
	return view, err
}

func showWebhook(p *page) error {
	view, err := p.webhookView()
	if err != nil {
		return err
	}
	return p.render("webhook", "Webhook", view)
}

// webhookDone answers an action on an endpoint with the way back to its page.
func (p *page) webhookDone(err error, done string) error {
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		return p.redirect(p.webhookPath(p.webhookID()), flash{Text: message, Trouble: true})
	}
	if err != nil {
		return err
	}
	return p.redirect(p.webhookPath(p.webhookID()), flash{Text: done})
}

func enableWebhook(p *page) error {
	return p.webhookDone(p.edge.service.EnableWebhook(p.ctx(), p.Caller, p.webhookID()), "Events are sent again, from the first that was not delivered.")
}

func disableWebhook(p *page) error {
	return p.webhookDone(p.edge.service.DisableWebhook(p.ctx(), p.Caller, p.webhookID()), "Nothing is sent any more. What happens meanwhile is sent when it is enabled again.")
}

func testWebhook(p *page) error {
	o, err := p.edge.service.TestWebhook(p.ctx(), p.Caller, p.webhookID(), nil)
	if err == nil && !o.Delivered() {
		return p.redirect(p.webhookPath(p.webhookID()), flash{Text: "The test failed after " + took(o.Took) + ". " + outcomeText(o), Trouble: true})
	}
	return p.webhookDone(err, "The test was delivered in "+took(o.Took)+". "+outcomeText(o))
}

func rotateWebhook(p *page) error {
	overlap, err := p.overlap()
	if err != nil {
		return err
	}
	if err := p.claim(); err != nil {
		return err
	}
	w, secret, err := p.edge.service.RotateWebhookSecret(p.ctx(), p.Caller, p.webhookID(), overlap)
	if err != nil {
		return p.webhookDone(err, "")
	}
	view := webhookSecretView{place: p.place(), Webhook: w, Title: "The new signing secret"}
	if overlap > 0 {
		view.Until = w.PreviousUntil
	}
	return p.showSecret(view, secret)
}

func replayWebhook(p *page) error {
	var r grahak.WebhookReplay
	switch p.field("what") {
	case "event":
		r.Event = grahak.EventID(p.field("event"))
	case "failed":
		r.GivenUp = true
	case "range":
		// What is no number is 0, which is no position.
		r.From, _ = strconv.ParseInt(strings.ReplaceAll(p.field("from"), ",", ""), 10, 64)
		r.To, _ = strconv.ParseInt(strings.ReplaceAll(p.field("to"), ",", ""), 10, 64)
	default:
		return errMalformedForm
	}
	n, err := p.edge.service.ReplayWebhook(p.ctx(), p.Caller, p.webhookID(), r)
	done := num(n) + " events are sent again."
	switch {
	case n == 1:
		done = "The event is sent again."
	case n == 0 && r.GivenUp:
		done = "No event was given up in the last 30 days: those that failed since are tried again by themselves."
	case n == 0:
		done = "None of that is for this endpoint."
	}
	return p.webhookDone(err, done)
}

func showDelivery(p *page) error {
	position, err := strconv.ParseInt(p.value("position"), 10, 64)
	if err != nil || position < 1 {
		return errNotFound
	}
	d, err := p.edge.service.WebhookDelivery(p.ctx(), p.Caller, p.webhookID(), position)
	if grahak.CodeOf(err) == grahak.CodeInvalidWebhook {
		return errNotFound
	}
	if err != nil {
		return err
	}
	view := deliveryView{
		place: p.place(), WebhookDelivery: d, Path: p.webhookPath(d.Webhook.ID),
		Message:     copyable{Label: "body", Text: d.Request.Body},
		AnswerBytes: grahak.MaxWebhookAnswer,
	}
	for _, a := range d.Attempts {
		view.Log = append(view.Log, newDeliveryRow(a))
	}
	return p.render("delivery", "Delivery", view)
}
