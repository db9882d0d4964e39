package dashboard

import (
	"net/netip"
	"time"

	"grahak"
)

var ipRoutes = []route{
	get(atMerchant+"ip", member, ipList),
	post(atMerchant+"ip/add", member, addIP),
	post(atMerchant+"ip/remove", member, changeIPList),
	post(atMerchant+"ip/mode", member, changeIPList),
}

// ipSeenTime is how far back the page looks for addresses that are in use.
const ipSeenTime = 7 * 24 * time.Hour

// ipView is a merchant's IP list and what it does.
type ipView struct {
	place
	State   badge
	Modes   []ipMode
	Entries []grahak.IPEntry
	Empty   empty
	// NobodyIn is set for an empty list that is enforced.
	NobodyIn bool
	Address  formField
	Label    formField
	// You is the visitor's own address, the zero value if it cannot be told, and
	// YouListed whether the list holds it.
	You       netip.Addr
	YouListed bool
	Test      formField
	Verdict   *ipVerdict
	// Outside is the addresses in use that the list does not hold.
	Outside []grahak.AddressUse
	// Blind is set without a request log, by which alone callers are known.
	Blind bool
}

// ipMode is a mode to choose, in plain words.
type ipMode struct {
	Mode    grahak.IPMode
	Title   string
	Text    string
	Current bool
}

// ipVerdict is what became of the test of an address.
type ipVerdict struct {
	Address string
	State   badge
	Text    string
}

// ipPlanView asks before a change of an IP list that shuts somebody out.
type ipPlanView struct {
	place
	grahak.IPPlan
	Title string
	// Typed is set if the merchant's id must be typed, by Confirm; otherwise the form
	// holds Hidden.
	Typed   bool
	URL     string
	Button  string
	Confirm confirmation
	Hidden  []hidden
}

func ipModes(current grahak.IPMode) []ipMode {
	modes := []ipMode{
		{Mode: grahak.IPModeOff, Title: "Off", Text: "Calls are answered from every address that has a valid key."},
		{Mode: grahak.IPModeReport, Title: "Report", Text: "Nobody is refused, but this page shows who would be. The way to find out whether the list is complete."},
		{Mode: grahak.IPModeEnforce, Title: "Enforce", Text: "Calls from addresses that no entry holds are refused with 403, whatever their key."},
	}
	for i := range modes {
		modes[i].Current = modes[i].Mode == current
	}
	return modes
}

func ipBadge(mode grahak.IPMode) badge {
	switch mode {
	case grahak.IPModeEnforce:
		return badge{"ok", "enforced"}
	case grahak.IPModeReport:
		return badge{"info", "reporting"}
	}
	return badge{"plain", "off"}
}

func (p *page) ipView() (ipView, error) {
	m, entries, err := p.edge.service.IPList(p.ctx(), p.Caller)
	if err != nil {
		return ipView{}, err
	}
	view := ipView{
		place: p.place(), State: ipBadge(m.IPMode), Modes: ipModes(m.IPMode), Entries: entries,
		Empty:    empty{Title: "The list is empty", Text: "Add the addresses and networks that your servers call from. Until the list is enforced, adding them changes nothing for anybody."},
		NobodyIn: len(entries) == 0 && m.IPMode == grahak.IPModeEnforce,
		Address: formField{
			Name: "address", Label: "Address or network", Value: p.field("address"), Required: true, Mono: true, Autocomplete: "off", MaxLength: 64,
			Hint: "Like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32.",
		},
		Label: formField{
			Name: "label", Label: "Label", Value: p.field("label"), Autocomplete: "off", MaxLength: grahak.MaxName, Hint: "Whose it is, such as Mumbai data centre.",
		},
		You:  p.x.Addr,
		Test: formField{Name: "test", Label: "Address", Value: p.query("test"), Required: true, Mono: true, Autocomplete: "off", MaxLength: 64},
	}
	listed := func(addr netip.Addr) bool {
		for _, e := range entries {
			if e.Prefix.Contains(addr.Unmap().WithZone("")) {
				return true
			}
		}
		return false
	}
	view.YouListed = listed(view.You)
	view.Blind = !p.edge.service.LogsRequests()
	uses, err := p.edge.service.Addresses(p.ctx(), p.Caller, p.edge.cfg.Clock.Now().Add(-ipSeenTime))
	if err != nil {
		return ipView{}, err
	}
	for _, use := range uses {
		if !listed(use.Addr) {
			view.Outside = append(view.Outside, use)
		}
	}
	return view, p.testIP(&view)
}

// testIP tests the address that the URL names, if it names one.
func (p *page) testIP(view *ipView) error {
	address := p.query("test")
	if address == "" {
		return nil
	}
	v, err := p.edge.service.TestIP(p.ctx(), p.Caller, address)
	if message, ok := formError(err); ok {
		view.Test.Error = message
		return nil
	}
	if err != nil {
		return err
	}
	view.Verdict = &ipVerdict{Address: address}
	switch {
	case v.Listed:
		view.Verdict.State, view.Verdict.Text = badge{"ok", "let in"}, "The entry "+v.Matched.String()+" holds it."
	case v.Refused():
		view.Verdict.State, view.Verdict.Text = badge{"bad", "refused"}, "No entry holds it, and the list is enforced."
	default:
		view.Verdict.State, view.Verdict.Text = badge{"warn", "let in"}, "No entry holds it: it would be refused if the list were enforced."
	}
	return nil
}

func ipList(p *page) error {
	view, err := p.ipView()
	if err != nil {
		return err
	}
	if view.Test.Error != "" {
		return p.refuse("ip", "IP whitelist", view)
	}
	return p.render("ip", "IP whitelist", view)
}

func addIP(p *page) error {
	entry, err := p.edge.service.AddIPEntry(p.ctx(), p.Caller, p.field("address"), p.field("label"))
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		view, err := p.ipView()
		if err != nil {
			return err
		}
		view.Address.Error = message
		return p.refuse("ip", "IP whitelist", view)
	}
	if err != nil {
		return err
	}
	return p.redirect(p.base()+"/ip", flash{Text: entry.Prefix.String() + " is on the list."})
}

// changeIPList sets the mode, or removes an entry: at once if that shuts out nobody, and
// otherwise after asking.
func changeIPList(p *page) error {
	change := grahak.IPChange{Mode: grahak.IPMode(p.field("mode")), Remove: p.field("address")}
	view := ipPlanView{place: p.place(), URL: p.base() + "/ip/mode", Title: "Set the IP list to " + string(change.Mode), Button: "Set it to " + string(change.Mode)}
	sentence := "The IP list is now in mode " + string(change.Mode) + "."
	view.Hidden = []hidden{{"mode", string(change.Mode)}, {"seen", "1"}}
	if p.x.Route == atMerchant+"ip/remove" {
		change.Mode = ""
		view.URL, view.Title, view.Button = p.base()+"/ip/remove", "Remove "+change.Remove, "Remove it"
		view.Hidden[0] = hidden{"address", change.Remove}
		sentence = change.Remove + " is off the list."
	} else {
		change.Remove = ""
	}
	plan, err := p.edge.service.ChangeIPList(p.ctx(), p.Caller, change, p.form.Has("seen"), p.field("confirm"))
	if grahak.CodeOf(err) == grahak.CodeNotConfirmed {
		p.noteRefusal(err)
		view.IPPlan, view.Typed = plan, plan.Confirmation() == grahak.IPConfirmTyped
		view.Confirm = confirmation{URL: view.URL, Word: string(p.Merchant.ID), Button: view.Button, Hidden: view.Hidden[:1]}
		if p.form.Has("confirm") {
			view.Confirm.Error = "This is not the merchant's id."
			return p.refuse("ipplan", view.Title, view)
		}
		return p.render("ipplan", view.Title, view)
	}
	if message, ok := formError(err); ok {
		p.noteRefusal(err)
		return p.redirect(p.base()+"/ip", flash{Text: message, Trouble: true})
	}
	if err != nil {
		return err
	}
	return p.redirect(p.base()+"/ip", flash{Text: sentence})
}

// Shown bounds how many addresses a plan shows.
func (v ipPlanView) Shown() []grahak.AddressUse { return v.ShutOut[:min(len(v.ShutOut), 50)] }

// More is how many addresses there are beside those.
func (v ipPlanView) More() int { return len(v.ShutOut) - len(v.Shown()) }

// Shown bounds how many addresses the page shows.
func (v ipView) Shown() []grahak.AddressUse { return v.Outside[:min(len(v.Outside), 100)] }

// More is how many addresses there are beside those.
func (v ipView) More() int { return len(v.Outside) - len(v.Shown()) }

// AddLabel is the label of an address that is added with one click.
func (v ipView) AddLabel(a netip.Addr) string {
	if a == v.You {
		return "from the dashboard"
	}
	return "seen calling"
}
