package dashboard

import (
	"context"
	"strconv"
	"time"

	"grahak"
)

var homeRoutes = []route{get(atMerchant, member, home)}

// homeView is how a merchant is doing.
type homeView struct {
	place
	// Spans are how far back the charts may reach.
	Spans     []tab
	Customers string // how many there are
	Total     grahak.TrafficPoint
	Errors    int64
	P95       string
	Charts    []chart
	Codes     []codeRow
	Attention []attention
	// Blind is set without a request log, by which alone requests are known.
	Blind bool
	// Quiet is set if there was no request in the span.
	Quiet bool
	// First is set if there are no customers and no requests: then the page shows how
	// to make the first.
	First bool
	Curl  copyable
	Keys  []grahak.APIKey
}

// codeRow is an error code and how often it was answered.
type codeRow struct {
	grahak.CodeCount
	URL string
}

// attention is something that somebody should look at.
type attention struct {
	State     badge
	Text, URL string
}

var spans = []struct {
	span  grahak.TrafficSpan
	label string
}{
	{grahak.TrafficDay, "24 hours"},
	{grahak.TrafficWeek, "7 days"},
	{grahak.TrafficMonth, "30 days"},
}

func home(p *page) error {
	span := grahak.TrafficDay
	view := homeView{place: p.place()}
	for _, s := range spans {
		if p.query("span") == string(s.span) {
			span = s.span
		}
	}
	for _, s := range spans {
		view.Spans = append(view.Spans, tab{s.label, p.base() + "/?span=" + string(s.span), s.span == span})
	}
	traffic, err := p.edge.service.Traffic(p.ctx(), p.Caller, span)
	if err != nil {
		return err
	}
	customers, err := p.edge.service.MaskedCustomers(p.ctx(), p.Caller, grahak.ListQuery{Limit: 1})
	if err != nil {
		return err
	}
	if err := view.look(p.ctx(), p); err != nil {
		return err
	}
	view.Customers = num(customers.Total)
	view.Total = traffic.Total
	view.Errors = traffic.Total.ClientErrors + traffic.Total.ServerErrors
	view.P95 = "–"
	view.Blind = !p.edge.service.LogsRequests()
	view.Quiet = traffic.Total.Requests == 0
	if !view.Quiet {
		view.P95 = took(traffic.Total.P95)
	}
	view.First = view.Quiet && customers.Total == 0
	view.Charts = trafficCharts(traffic)
	for _, c := range traffic.Codes {
		view.Codes = append(view.Codes, codeRow{c, p.base() + "/requests?code=" + c.Code})
	}
	view.Curl = copyable{"the command", "curl " + p.apiURL() + "/customers -u YOUR_KEY: \\\n" +
		"  -d object_reference_id=customer@example.com -d mobile_number=9988776655 \\\n" +
		"  -d email_address=customer@example.com -d first_name=Asha -d last_name=Rao"}
	return p.render("home", "Home", view)
}

// look fills in what needs attention.
func (v *homeView) look(ctx context.Context, p *page) error {
	now := p.edge.cfg.Clock.Now()
	note := func(kind, state, text, url string) {
		v.Attention = append(v.Attention, attention{badge{kind, state}, text, p.base() + url})
	}
	if !p.Merchant.DisabledAt.IsZero() {
		note("bad", "disabled", "The merchant is disabled: every key is refused.", "/keys")
	}
	var err error
	if v.Keys, err = p.edge.service.Keys(ctx, p.Caller); err != nil {
		return err
	}
	active := 0
	for _, k := range v.Keys {
		if !k.ActiveAt(now) {
			continue
		}
		active++
		if expiresSoon(k, now) {
			note("warn", "expires", "The key "+keyName(k)+" expires on "+k.ExpiresAt.UTC().Format(minuteForm)+" UTC.", "/keys")
		}
	}
	if active == 0 {
		note("warn", "no key", "No key works: programs cannot call the API.", "/keys")
	}
	merchant, entries, err := p.edge.service.IPList(ctx, p.Caller)
	if err != nil {
		return err
	}
	switch {
	case merchant.IPMode == grahak.IPModeReport:
		note("info", "report", "The IP whitelist only reports: it refuses no address yet.", "/ip")
	case merchant.IPMode == grahak.IPModeOff && p.edge.cfg.Environment == grahak.Production:
		note("info", "off", "The IP whitelist is off: keys work from any address.", "/ip")
	case merchant.IPMode == grahak.IPModeEnforce && len(entries) == 0:
		note("bad", "enforced", "The IP whitelist is enforced and empty: every address is refused.", "/ip")
	}
	hooks, err := p.edge.service.Webhooks(ctx, p.Caller)
	if err != nil {
		return err
	}
	for _, w := range hooks {
		switch {
		case !w.DisabledAt.IsZero() && w.DisabledFor != "":
			note("bad", "disabled", "The webhook "+string(w.ID)+" is disabled.", "/webhooks/"+string(w.ID))
		case !w.FailingSince.IsZero():
			note("warn", "failing", "The webhook "+string(w.ID)+" has failed "+strconv.FormatInt(w.Failures, 10)+" times in a row since "+w.FailingSince.UTC().Format(minuteForm)+" UTC.", "/webhooks/"+string(w.ID))
		}
	}
	return nil
}

// trafficCharts draws what is known of the requests.
func trafficCharts(t grahak.Traffic) []chart {
	n := len(t.Points)
	column := func(value func(grahak.TrafficPoint) float64) []float64 {
		list := make([]float64, n)
		for i, p := range t.Points {
			list[i] = value(p)
		}
		return list
	}
	times := make([]time.Time, n)
	for i, p := range t.Points {
		times[i] = p.At
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return []chart{
		{
			Title: "Requests", Times: times, Step: t.Step,
			Text: num(t.Total.Requests) + " requests, " + num(t.Total.ClientErrors) + " of them with a client's error and " + num(t.Total.ServerErrors) + " with a server's.",
			Series: []series{
				{"Answered", column(func(p grahak.TrafficPoint) float64 { return float64(p.Requests - p.ClientErrors - p.ServerErrors) }), 1},
				{"Client errors (4xx)", column(func(p grahak.TrafficPoint) float64 { return float64(p.ClientErrors) }), 3},
				{"Server errors (5xx)", column(func(p grahak.TrafficPoint) float64 { return float64(p.ServerErrors) }), 4},
			},
		},
		{
			Title: "Customers made", Times: times, Step: t.Step,
			Text:   num(t.Total.Created) + " customers were made.",
			Series: []series{{"Made", column(func(p grahak.TrafficPoint) float64 { return float64(p.Created) }), 2}},
		},
		{
			Title: "Time to answer", Times: times, Step: t.Step, Lines: true,
			Text:   "Half of the requests took at most " + took(t.Total.P50) + ", 95 of 100 at most " + took(t.Total.P95) + ", 99 of 100 at most " + took(t.Total.P99) + ".",
			Format: func(v float64) string { return took(time.Duration(v * float64(time.Millisecond))) },
			Series: []series{
				{"Median", column(func(p grahak.TrafficPoint) float64 { return ms(p.P50) }), 2},
				{"95th percentile", column(func(p grahak.TrafficPoint) float64 { return ms(p.P95) }), 1},
				{"99th percentile", column(func(p grahak.TrafficPoint) float64 { return ms(p.P99) }), 3},
			},
		},
	}
}
