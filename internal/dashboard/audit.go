package dashboard

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"grahak"
)

var auditRoutes = []route{
	get(atMerchant+"audit", member, audit),
	post(atMerchant+"audit/check", member, checkAudit),
}

const (
	// auditPage is how many events a page lists.
	auditPage = 50
	// checkTime is for how long a check of the chain goes on from a page.
	checkTime = 8 * time.Second
)

// auditView is a page of a merchant's events.
type auditView struct {
	place
	Rows                 []eventRow
	Type, Actor, Subject formField
	Filtered             bool
	Pager                pager
	Empty                empty
	// SearchedTo is how far back a page with few events was looked for, zero if to the
	// end.
	SearchedTo time.Time
	// Head is an anchor to note down, empty without a chain.
	Head  copyable
	Check *checkView
	// Anchor is the field of the form that has the chain checked.
	Anchor formField
}

// checkView is what a check of the chain came to.
type checkView struct {
	grahak.AuditReport
	Checked int64
	// Unfinished is set if there was no time for all of it.
	Unfinished bool
	Time       time.Duration
	Command    copyable
}

// eventRow is an event for people.
type eventRow struct {
	grahak.Event
	// What happened, and to whom or what.
	What  string
	About link
	By    link
	// RequestURL is empty for an event from the command line.
	RequestURL string
}

// whatHappened says of types what happened to the subject.
var whatHappened = map[grahak.EventType]string{
	grahak.EventCustomerCreated:  "Customer created",
	grahak.EventCustomerUpdated:  "Customer changed",
	grahak.EventCustomerErased:   "Customer erased",
	grahak.EventCustomerRevealed: "Customer shown in clear",

	grahak.EventCustomersExported: "All customers exported in clear",

	grahak.EventMerchantCreated:  "Merchant created",
	grahak.EventMerchantDisabled: "Merchant disabled",

	grahak.EventKeyCreated:  "API key made",
	grahak.EventKeyImported: "API key brought in",
	grahak.EventKeyRevoked:  "API key revoked",
	grahak.EventKeyRotated:  "API key rotated",

	grahak.EventIPEntryAdded:   "Added to the IP whitelist:",
	grahak.EventIPEntryRemoved: "Removed from the IP whitelist:",
	grahak.EventIPModeChanged:  "IP whitelist set to",

	grahak.EventSealRotated:   "New sealing key:",
	grahak.EventSealRetired:   "Older sealing keys dropped, left is",
	grahak.EventSealRewrapped: "Sealing keys wrapped under the master key",

	grahak.EventWebhookCreated:       "Webhook made",
	grahak.EventWebhookDisabled:      "Webhook disabled",
	grahak.EventWebhookEnabled:       "Webhook enabled",
	grahak.EventWebhookSecretRotated: "Webhook secret rotated",
	grahak.EventWebhookReplayed:      "Events sent again to the webhook",
	grahak.EventWebhookTested:        "Test sent to the webhook",

	grahak.EventRoleSet:                   "Role given:",
	grahak.EventRoleRemoved:               "Role taken away from",
	grahak.EventOperatorCreated:           "Operator made",
	grahak.EventOperatorSetUp:             "Operator has set up a login",
	grahak.EventOperatorReset:             "Operator's login reset",
	grahak.EventOperatorDisabled:          "Operator disabled",
	grahak.EventOperatorEnabled:           "Operator enabled",
	grahak.EventOperatorUnlocked:          "Operator unlocked",
	grahak.EventOperatorLoggedIn:          "Logged in:",
	grahak.EventOperatorLockedOut:         "Locked out after failed logins:",
	grahak.EventOperatorPasswordChanged:   "Password changed by",
	grahak.EventOperatorRecoveryCodeUsed:  "Recovery code used by",
	grahak.EventOperatorRecoveryCodesMade: "New recovery codes for",
	grahak.EventOperatorSessionsEnded:     "Sessions ended of",
}

// newEventRow returns an event with what it is about, on the pages of a merchant.
func newEventRow(base string, e grahak.Event) eventRow {
	row := eventRow{Event: e, What: whatHappened[e.Type], About: link{Text: e.Subject}, By: actorLink(base, e.Actor)}
	if row.What == "" {
		row.What = string(e.Type)
	}
	if len(e.Changed) > 0 {
		row.What += ": " + strings.ReplaceAll(row.ChangedText(), "_", " ")
	}
	kind, _, _ := strings.Cut(string(e.Type), ".")
	switch {
	case e.Subject == "":
	case e.Type.AboutCustomer():
		row.About.URL = customerPath(base, grahak.CustomerID(e.Subject))
	case kind == "api_key":
		row.About.URL = base + "/keys#" + url.PathEscape(e.Subject)
	case kind == "ip_list":
		row.About.URL = base + "/ip"
	case kind == "webhook":
		row.About.URL = base + "/webhooks/" + url.PathEscape(e.Subject)
	}
	if e.RequestID != "" && strings.HasPrefix(e.Actor, "key_") {
		// The requests of pages themselves are not in the log.
		row.RequestURL = base + "/requests/" + url.PathEscape(e.RequestID)
	}
	return row
}

// actorLink returns who did something.
func actorLink(base, actor string) link {
	if strings.HasPrefix(actor, "key_") {
		return link{actor, base + "/keys#" + url.PathEscape(actor)}
	}
	return link{Text: actor}
}

// ChangedText is the names of the changed fields.
func (r eventRow) ChangedText() string {
	names := make([]string, len(r.Changed))
	for i, f := range r.Changed {
		names[i] = f.String()
	}
	return strings.Join(names, ", ")
}

func audit(p *page) error {
	view, err := p.auditView()
	if err != nil {
		return err
	}
	return p.render("audit", "Audit log", view)
}

// auditView returns the page of the log that the URL asks for.
func (p *page) auditView() (auditView, error) {
	q := grahak.AuditQuery{
		Limit: auditPage, Type: grahak.EventType(p.query("type")),
		Actor: strings.TrimSpace(p.query("actor")), Subject: strings.TrimSpace(p.query("subject")),
	}
	if before := p.query("before"); before != "" {
		var err error
		if q.Before, err = strconv.ParseInt(before, 10, 64); err != nil || q.Before < 1 {
			return auditView{}, errNotFound
		}
	}
	list, err := p.edge.service.AuditEvents(p.ctx(), p.Caller, q)
	if err != nil {
		return auditView{}, err
	}
	here := p.base() + "/audit"
	view := auditView{
		place:    p.place(),
		Filtered: q.Type != "" || q.Actor != "" || q.Subject != "",
		Type: formField{Name: "type", Label: "What", Options: choices(string(q.Type),
			option{Value: "", Label: "Everything"},
			option{Value: "customer.", Label: "Customers"},
			option{Value: string(grahak.EventCustomerRevealed), Label: "Customers shown in clear"},
			option{Value: string(grahak.EventCustomersExported), Label: "Customers exported"},
			option{Value: string(grahak.EventCustomerErased), Label: "Customers erased"},
			option{Value: "api_key.", Label: "API keys"},
			option{Value: "ip_list.", Label: "IP whitelist"},
			option{Value: "webhook.", Label: "Webhooks"},
			option{Value: "operator.", Label: "Team"},
			option{Value: "merchant.", Label: "Merchant"},
			option{Value: "seal.", Label: "Sealing keys"})},
		Actor:   formField{Name: "actor", Label: "By", Value: q.Actor, Autocomplete: "off", Mono: true, MaxLength: 200},
		Subject: formField{Name: "subject", Label: "About", Value: q.Subject, Autocomplete: "off", Mono: true, MaxLength: 200},
		Anchor: formField{
			Name: "anchor", Label: "Head noted earlier", Autocomplete: "off", Mono: true, MaxLength: 100,
			Hint: "Optional. With it the check also finds a chain that was made anew.",
		},
	}
	for _, e := range list.Events {
		view.Rows = append(view.Rows, newEventRow(view.Base, e))
	}
	params := url.Values{}
	for name, value := range map[string]string{"type": string(q.Type), "actor": q.Actor, "subject": q.Subject} {
		if value != "" {
			params.Set(name, value)
		}
	}
	if q.Before > 0 {
		view.Pager.First = withQuery(here, params)
	}
	if list.Next > 0 {
		params.Set("before", strconv.FormatInt(list.Next, 10))
		view.Pager.Next = withQuery(here, params)
		if len(list.Events) < auditPage {
			view.SearchedTo = list.SearchedTo
		}
	}
	if list.Head.Position > 0 {
		view.Head = copyable{"the head", list.Head.String()}
	}
	switch {
	case !view.SearchedTo.IsZero():
		view.Empty = empty{Title: "None so far", Text: "So many events were looked through that the search has paused. Go on with Next."}
	case view.Filtered:
		view.Empty = empty{Title: "No such events", Text: "Actors are a key's id, operator:NAME or cli:USER; subjects an id or a network, written out.", Action: "All events", URL: here}
	default:
		view.Empty = empty{Title: "No events", Text: "Every change of a customer, key, list or webhook will be here, with who made it."}
	}
	return view, nil
}

// checkAudit checks as much of the chain as there is time for: a chain of millions is
// for the command line.
func checkAudit(p *page) error {
	view, err := p.auditView()
	if err != nil {
		return err
	}
	var anchor *grahak.Anchor
	if view.Anchor.Value = p.field("anchor"); view.Anchor.Value != "" {
		noted, err := grahak.ParseAnchor(view.Anchor.Value)
		if err != nil {
			view.Anchor.Error = "This is not a head: it is a position, a colon and 64 hexadecimal digits."
			return p.refuse("audit", "Audit log", view)
		}
		anchor = &noted
	}
	// A check reads all events: one at a time is enough.
	if !p.edge.checking.TryLock() {
		view.Anchor.Error = "Another check is under way: try again in some seconds."
		return p.refuse("audit", "Audit log", view)
	}
	defer p.edge.checking.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx(), checkTime)
	defer cancel()
	report, err := p.edge.service.VerifyAudit(ctx, p.Caller, anchor, nil)
	unfinished := err != nil && ctx.Err() != nil && p.ctx().Err() == nil
	if err != nil && !unfinished {
		return err
	}
	view.Check = &checkView{
		AuditReport: report, Unfinished: unfinished, Time: checkTime,
		Checked: max(0, report.Head.Position-report.Pruned),
		Command: copyable{"the command", "grahak audit verify --merchant " + string(p.Merchant.ID)},
	}
	return p.render("audit", "Audit log", view)
}
