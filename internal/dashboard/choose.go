package dashboard

import (
	"grahak"
)

var chooseRoutes = []route{
	get(root, visitor, choose),
	get("/", open, toRoot),
	get("/dashboard", open, toRoot),
}

// toRoot leads to the first page from the paths above it.
func toRoot(p *page) error { return p.redirect(root, flash{}) }

// chooseView is the merchants that a visitor may choose from.
type chooseView struct {
	Merchants []merchantRow
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
	view := chooseView{All: roleAt(p.Visitor, grahak.OperatorsMerchant) != ""}
	for _, m := range merchants {
		row := merchantRow{Merchant: m, URL: merchantPath(m.ID) + "/", Role: roleAt(p.Visitor, m.ID), State: badge{"ok", "active"}}
		if !m.DisabledAt.IsZero() {
			row.State = badge{"bad", "disabled"}
		}
		view.Merchants = append(view.Merchants, row)
	}
	return p.render("choose", "Merchants", view)
}
