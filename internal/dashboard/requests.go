package dashboard

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"grahak"
)

var requestRoutes = []route{
	get(atMerchant+"requests", member, requests),
	get(atMerchant+"requests/{request}", member, showRequest),
}

// requestsShown is how many requests a page of the log has.
const requestsShown = 50

// requestsView is a page of the request log.
type requestsView struct {
	place
	// Path is that of the log, Here with its filters, and All without them.
	Path, Here, All string
	Tabs            []tab
	Unknown         bool
	Filters         []formField
	Filtered        bool
	Requests        []requestRow
	SearchedTo      time.Time
	Pager           pager
	Empty           empty
	Error           string
}

// requestRow is a request in the log.
type requestRow struct {
	grahak.RequestRecord
	State badge
	// KeyLabel is the key's label, or its id if it has none.
	KeyLabel string
}

// requestView is one request, or those few that were sent with one id.
type requestView struct {
	place
	ID    string
	Found []requestDetail
	// Link is the page's own address, to be passed on.
	Link copyable
}

// requestDetail is a request with all that is known of it.
type requestDetail struct {
	requestRow
	Curl copyable
}

func statusBadge(status int) badge {
	kind := "ok"
	switch {
	case status >= 500:
		kind = "bad"
	case status >= 400:
		kind = "warn"
	case status >= 300:
		kind = "plain"
	}
	return badge{kind, strconv.Itoa(status)}
}

// keyLabels returns what to call the merchant's keys.
func (p *page) keyLabels() (map[grahak.KeyID]string, []option, error) {
	list, err := p.edge.service.Keys(p.ctx(), p.Caller)
	if err != nil {
		return nil, nil, err
	}
	labels := make(map[grahak.KeyID]string, len(list))
	options := []option{{Label: "Any"}}
	for _, k := range slices.Backward(list) {
		labels[k.ID] = keyName(k)
		options = append(options, option{Value: string(k.ID), Label: labels[k.ID]})
	}
	return labels, options, nil
}

func newRequestRow(r grahak.RequestRecord, labels map[grahak.KeyID]string) requestRow {
	return requestRow{RequestRecord: r, State: statusBadge(r.Status), KeyLabel: cmp.Or(labels[r.Key], string(r.Key))}
}

// everywhere reports whether the visitor has a role at all merchants.
func (p *page) everywhere() bool { return p.Visitor.Role(grahak.OperatorsMerchant) != "" }

// requestFilters are the parameters of the log. None of them is personal.
var requestFilters = []string{"status", "method", "route", "code", "key", "addr", "from", "until", "customer", "unknown"}

// requestTime reads a time of a filter, in UTC.
func requestTime(s string) (time.Time, bool) {
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04", minuteForm, dayForm} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, s == ""
}

// requestQuery returns what the URL asks for, and what is wrong with each parameter.
func (p *page) requestQuery() (q grahak.RequestQuery, faults map[string]string) {
	faults = make(map[string]string)
	q = grahak.RequestQuery{
		Limit: requestsShown, Before: p.query("before"), Method: strings.ToUpper(p.query("method")), Route: p.query("route"),
		Code: p.query("code"), Key: grahak.KeyID(p.query("key")), Customer: grahak.CustomerID(p.query("customer")),
	}
	if status := p.query("status"); status != "" {
		n, err := strconv.Atoi(strings.TrimSuffix(status, "xx"))
		if err != nil || n < 2 || n > 5 && n < 100 || n > 599 {
			faults["status"] = "Write a status such as 404, or a class such as 4xx."
		}
		q.Status = n
	}
	if addr := p.query("addr"); addr != "" {
		prefix, err := grahak.ParseIPEntry(addr)
		if err != nil {
			faults["addr"] = "Write it like 203.0.113.7 or 203.0.113.0/24."
		}
		q.Addr = prefix
	}
	var ok bool
	if q.From, ok = requestTime(p.query("from")); !ok {
		faults["from"] = "Write it like 2026-03-17 14:00."
	}
	if q.Until, ok = requestTime(p.query("until")); !ok {
		faults["until"] = "Write it like 2026-03-17 14:00."
	}
	return q, faults
}

func (p *page) requestsView() (requestsView, error) {
	path := p.base() + "/requests"
	unknown := p.query("unknown") != ""
	view := requestsView{place: p.place(), Path: path, All: path, Unknown: unknown, Here: p.x.Request.URL.RequestURI()}
	if p.everywhere() {
		view.Tabs = []tab{{"Of " + string(p.Merchant.ID), path, !unknown}, {"Unknown keys", path + "?unknown=1", unknown}}
	}
	if unknown {
		view.All += "?unknown=1"
	}
	labels, keyOptions, err := p.keyLabels()
	if err != nil {
		return view, err
	}
	methods := choices(strings.ToUpper(p.query("method")), option{Label: "Any"}, option{Value: http.MethodGet, Label: http.MethodGet}, option{Value: http.MethodPost, Label: http.MethodPost}, option{Value: http.MethodDelete, Label: http.MethodDelete})
	view.Filters = []formField{
		{Name: "status", Label: "Status", Hint: "404, or 4xx", MaxLength: 3},
		{Name: "method", Label: "Method", Options: methods},
		{Name: "route", Label: "Route", MaxLength: 200},
		{Name: "code", Label: "Error code", MaxLength: 64},
		{Name: "key", Label: "Key", Options: choices(p.query("key"), keyOptions...)},
		{Name: "addr", Label: "Address or network", MaxLength: 64},
		{Name: "from", Label: "From (UTC)", Hint: "2026-03-17 14:00", MaxLength: 32},
		{Name: "until", Label: "Until (UTC)", MaxLength: 32},
	}
	if unknown {
		view.Filters = slices.DeleteFunc(view.Filters, func(f formField) bool { return f.Name == "key" })
	}
	q, faults := p.requestQuery()
	for i := range view.Filters {
		f := &view.Filters[i]
		f.Value, f.Autocomplete, f.Error = p.query(f.Name), "off", faults[f.Name]
	}
	view.Filtered = slices.ContainsFunc(requestFilters, func(name string) bool { return name != "unknown" && p.query(name) != "" })
	view.Empty = empty{Title: "No requests yet", Text: "Requests to the API show here seconds after they were answered, without bodies and personal data. Make a key and send one.", Action: "API keys", URL: p.base() + "/keys"}
	if !p.edge.service.LogsRequests() {
		view.Empty = empty{Title: "No request log", Text: "This server keeps none: it was started with --requests-keep 0d, or its log says why it could not make the file."}
	} else if view.Filtered {
		view.Empty = empty{Title: "Nothing fits", Text: "No request that was looked at fits the filters.", Action: "Show all", URL: view.All}
	}
	if len(faults) > 0 {
		view.Error = "Some filters cannot be understood."
		return view, nil
	}
	var found grahak.RequestPage
	if unknown {
		found, err = p.edge.service.UnknownRequests(p.ctx(), p.Visitor, q)
	} else {
		found, err = p.edge.service.Requests(p.ctx(), p.Caller, q)
	}
	if message, ok := formError(err); ok {
		view.Error = message
		return view, nil
	}
	if err != nil {
		return view, err
	}
	for _, r := range found.Requests {
		view.Requests = append(view.Requests, newRequestRow(r, labels))
	}
	view.SearchedTo = found.SearchedTo
	if q.Before != "" {
		view.Pager.First = p.requestsURL("")
	}
	if found.Next != "" {
		view.Pager.Next = p.requestsURL(found.Next)
	}
	return view, nil
}

// requestsURL returns the URL of the log with the filters of this one and another cursor.
func (p *page) requestsURL(before string) string {
	params := make(url.Values)
	for _, name := range requestFilters {
		if value := p.query(name); value != "" {
			params.Set(name, value)
		}
	}
	if before != "" {
		params.Set("before", before)
	}
	return withQuery(p.base()+"/requests", params)
}

func requests(p *page) error {
	view, err := p.requestsView()
	if err != nil {
		return err
	}
	if view.Error != "" {
		return p.refuse("requests", "Requests", view)
	}
	return p.render("requests", "Requests", view)
}

func showRequest(p *page) error {
	id := p.value("request")
	found, err := p.edge.service.Request(p.ctx(), p.Caller, id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return errNotFound
	}
	labels, _, err := p.keyLabels()
	if err != nil {
		return err
	}
	view := requestView{place: p.place(), ID: id, Link: copyable{Label: "link", Text: p.ownURL(p.base() + "/requests/" + url.PathEscape(id))}}
	for _, r := range found {
		view.Found = append(view.Found, requestDetail{requestRow: newRequestRow(r, labels), Curl: copyable{Label: "command", Text: p.curl(r)}})
	}
	return p.render("request", "Request", view)
}

// curl returns a command that repeats a request as far as it is known, which holds
// neither secrets nor what was in the body.
func (p *page) curl(r grahak.RequestRecord) string {
	path := r.Route
	if r.Customer != "" {
		// Ids are letters and digits. Of what somebody else put into the log nothing must be
		// a shell's to run.
		path = strings.Replace(path, "{id}", url.PathEscape(string(r.Customer)), 1)
	}
	words := []string{"curl"}
	if r.Method != http.MethodGet {
		words = append(words, "-X "+r.Method)
	}
	words = append(words, "-u YOUR_KEY:", "-H 'x-merchantid: "+string(p.Merchant.ID)+"'")
	if r.Method == http.MethodPost {
		words = append(words, "-d 'FIELD=VALUE'")
	}
	return strings.Join(append(words, "'"+p.apiURL()+path+"'"), " ")
}

// Headline is the request in a line.
func (d requestDetail) Headline() string { return d.Method + " " + d.Route }
