package dashboard

import (
	"strings"

	"grahak"
)

var chooseRoutes = []route{
	get(root, visitor, choose),
	get("/", open, toRoot),
	get("/dashboard", open, toRoot),
}

// toRoot leads to the first page from the paths above it.
func toRoot(p *page) error { return p.redirect(root, flash{}) }

// merchantsShown is how many merchants the page lists at most.
const merchantsShown = 100

// chooseView is the merchants that a visitor may choose from.
type chooseView struct {
	Merchants []merchantRow
	// Find chooses those whose id or name has a text in it, and More is how many there
	// are beside those shown. Find is shown only where it has to be.
	Find formField
	More int
	// All is set for a role at all merchants.
	All bool
}

type merchantRow struct {
	grahak.Merchant
	URL   string
	Role  grahak.Role
	State badge
}

// choose shows the visitor's merchants, or goes on to the only one.
func choose(p *page) error {
	merchants, err := p.edge.service.VisitorMerchants(p.ctx(), p.Visitor)
	if err != nil {
		return err
	}
	if len(merchants) == 1 && p.query("all") == "" {
		return p.redirect(merchantPath(merchants[0].ID)+"/", flash{})
	}
	view := chooseView{
		All: p.everywhere(),
		Find: formField{
			Name: "find", Label: "Part of the id or the name", Value: strings.TrimSpace(p.query("find")), Autocomplete: "off", MaxLength: 64,
		},
	}
	find := strings.ToLower(view.Find.Value)
	for _, m := range merchants {
		if !strings.Contains(strings.ToLower(string(m.ID)+"\n"+m.Name), find) {
			continue
		}
		if len(view.Merchants) == merchantsShown {
			view.More++
			continue
		}
		row := merchantRow{Merchant: m, URL: merchantPath(m.ID) + "/", Role: p.Visitor.Role(m.ID), State: badge{"ok", "active"}}
		if !m.DisabledAt.IsZero() {
			row.State = badge{"bad", "disabled"}
		}
		view.Merchants = append(view.Merchants, row)
	}
	return p.render("choose", "Merchants", view)
}
