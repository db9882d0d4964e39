package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"grahak"
	"grahak/internal/app"
	"grahak/internal/config"
)

type operatorCmd struct {
	Create  operatorCreateCmd  `cmd:"" help:"Make an operator, and a code to set up a password and an authenticator."`
	List    operatorListCmd    `cmd:"" help:"List the operators and their roles."`
	Role    operatorRoleCmd    `cmd:"" help:"Give an operator another role, or take it away."`
	Reset   operatorResetCmd   `cmd:"" help:"Let an operator set up a new password and authenticator; the old ones end at once."`
	Link    operatorLinkCmd    `cmd:"" help:"In a sandbox: make a link that logs in as an operator once."`
	Disable operatorDisableCmd `cmd:"" help:"End an operator's sessions and refuse further logins."`
	Enable  operatorEnableCmd  `cmd:"" help:"Let a disabled operator log in again."`
	Unlock  operatorUnlockCmd  `cmd:"" help:"Let an operator try again after too many failed logins."`
}

// Help is what `grahak operator --help` says above the commands.
func (operatorCmd) Help() string {
	return `Operators are people who use the dashboard. At each merchant, or at all, they are owners (who choose the team), admins (who see customers in clear, and manage keys, the IP list and webhooks) or viewers (who see everything but personal data, and change nothing).

  grahak operator create asha --merchant acme --role owner
  grahak operator create ravi --all-merchants --role viewer`
}

// whereFlags name the merchants that a role is for.
type whereFlags struct {
	Merchant     []string `short:"m" env:"GRAHAK_MERCHANT" placeholder:"ID" help:"Ids of the merchants that the role is for, as in grahak merchant list."`
	AllMerchants bool     `name:"all-merchants" env:"GRAHAK_ALL_MERCHANTS" help:"The role is for all merchants, those to come too."`
}

// callers are those for this user's work on each of the merchants.
func (f whereFlags) callers(ctx context.Context, d *app.Data) ([]grahak.Caller, error) {
	if f.AllMerchants {
		return []grahak.Caller{onOperators()}, nil
	}
	callers := make([]grahak.Caller, len(f.Merchant))
	for i, m := range f.Merchant {
		if _, err := grahak.ParseMerchantID(m); err != nil {
			return nil, err
		}
		if _, err := d.Store.Merchant(ctx, grahak.MerchantID(m)); err != nil {
			return nil, err
		}
		callers[i] = operator(m)
	}
	return callers, nil
}

func (f whereFlags) check() error {
	if f.AllMerchants == (len(f.Merchant) > 0) {
		return wrongUse("give either --merchant or --all-merchants: where the role is for")
	}
	return nil
}

// where says where a role is for.
func (f whereFlags) where() string {
	if f.AllMerchants {
		return "all merchants"
	}
	return strings.Join(f.Merchant, ", ")
}

// onOperators returns the caller for this user's work on operators.
func onOperators() grahak.Caller { return operator(string(grahak.OperatorsMerchant)) }

// dashboardFlag is where the dashboard is.
type dashboardFlag struct {
	URL string `name:"url" env:"GRAHAK_DASHBOARD_URL" placeholder:"URL" help:"Where people reach the dashboard, such as https://pay.example.com:8443, to print whole links."`
}

func (f dashboardFlag) check() error {
	if f.URL != "" && !config.IsBaseURL(f.URL) {
		return wrongUse("--url is not where a dashboard can be: give it as in https://pay.example.com:8443")
	}
	return nil
}

// page returns the address of a page, or only its path if it is not known where the
// dashboard is.
func (f dashboardFlag) page(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(f.URL, "/"), "/dashboard") + "/dashboard/" + path
}

// showSetup prints a setup code, the only time it can be seen.
func (f dashboardFlag) showSetup(w io.Writer, name, code string) {
	fmt.Fprintf(w, "Give %s this code, which works once within %s and is shown only now:\n\n  %s\n\n", name, hours(grahak.SetupTime), code)
	if f.URL == "" {
		fmt.Fprintf(w, "It is entered on the page /dashboard/setup of the server, where a password is chosen and an authenticator set up.\n")
		return
	}
	fmt.Fprintf(w, "It is entered at %s, where a password is chosen and an authenticator set up.\n", f.page("setup"))
}

func hours(d time.Duration) string { return count(int64(d/time.Hour), "hour") }

type operatorCreateCmd struct {
	Name string `arg:"" help:"Name to log in with: 1 to 64 of a-z, 0-9, ., _ and -, no e-mail address."`
	whereFlags
	Role string `default:"owner" enum:"owner,admin,viewer" env:"GRAHAK_ROLE" placeholder:"owner|admin|viewer" help:"What the operator may do there."`
	dashboardFlag
	target
}

// Help is what `grahak operator create --help` says above the flags.
func (operatorCreateCmd) Help() string {
	return `The code that it prints is for the person, who opens /dashboard/setup with it, chooses a password, sets up an authenticator and gets recovery codes. Names are written into events, which never change, so they should not say who somebody is.

  grahak operator create asha --merchant acme --url https://pay.example.com

The first operator needs the master key that the server runs with.`
}

// Run makes the operator and shows the setup code.
func (c operatorCreateCmd) Run(ctx context.Context, std Streams) error {
	if err := c.whereFlags.check(); err != nil {
		return err
	}
	if err := c.dashboardFlag.check(); err != nil {
		return err
	}
	return c.with(ctx, std, func(d *app.Data) error {
		name, err := grahak.ParseOperatorName(c.Name)
		if err != nil {
			return err
		}
		callers, err := c.callers(ctx, d)
		if err != nil {
			return err
		}
		if _, err := d.Store.Operator(ctx, name); err == nil {
			return grahak.Errorf(grahak.CodeOperatorExists, "There is an operator %q already: see `%s operator role --help`.", c.Name, programName())
		}
		setup, err := d.Service.Invite(ctx, callers[0], c.Name, grahak.Role(c.Role))
		if err != nil {
			return err
		}
		for _, caller := range callers[1:] {
			if err := d.Service.SetRole(ctx, caller, name, grahak.Role(c.Role)); err != nil {
				return about(caller.Merchant, err)
			}
		}
		fmt.Fprintf(std.Out, "Made operator %s, %s of %s.\n", c.Name, c.Role, c.where())
		c.showSetup(std.Out, c.Name, setup)
		return nil
	})
}

type operatorListCmd struct {
	target
	jsonFlag
}

// grantJSON is a role as it is printed for programs, at no merchant if it is for all.
type grantJSON struct {
	Merchant grahak.MerchantID `json:"merchant,omitempty"`
	All      bool              `json:"all_merchants,omitempty"`
	Role     grahak.Role       `json:"role"`
}

// Run lists the operators.
func (c operatorListCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		accounts, grants, err := d.Service.Operators(ctx, onOperators())
		if err != nil {
			return err
		}
		now := grahak.SystemClock{}.Now()
		roles := make(map[grahak.OperatorName][]grantJSON)
		words := make(map[grahak.OperatorName][]string)
		for _, g := range grants {
			if g.Merchant == grahak.OperatorsMerchant {
				roles[g.Operator] = append(roles[g.Operator], grantJSON{All: true, Role: g.Role})
				words[g.Operator] = append(words[g.Operator], string(g.Role)+" of all")
				continue
			}
			roles[g.Operator] = append(roles[g.Operator], grantJSON{Merchant: g.Merchant, Role: g.Role})
			words[g.Operator] = append(words[g.Operator], string(g.Role)+" of "+string(g.Merchant))
		}
		rows := make([][]string, len(accounts))
		for i, a := range accounts {
			state := accountState(a, now)
			rows[i] = []string{string(a.Name), state, strings.Join(words[a.Name], ", "), stamp(a.CreatedAt), stamp(a.LastLoginAt)}
			if !c.JSON {
				continue
			}
			err := printJSON(std.Out, struct {
				Name          grahak.OperatorName `json:"name"`
				State         string              `json:"state"`
				Roles         []grantJSON         `json:"roles"`
				CreatedAt     *string             `json:"created_at"`
				SetUpAt       *string             `json:"set_up_at"`
				DisabledAt    *string             `json:"disabled_at"`
				LockedUntil   *string             `json:"locked_until"`
				LastLoginAt   *string             `json:"last_login_at"`
				RecoveryCodes int                 `json:"recovery_codes"`
			}{a.Name, state, append([]grantJSON{}, roles[a.Name]...), jsonTime(a.CreatedAt), jsonTime(a.SetUpAt), jsonTime(a.DisabledAt), jsonTime(a.LockedUntil), jsonTime(a.LastLoginAt), a.RecoveryCodes})
			if err != nil {
				return err
			}
		}
		if c.JSON {
			return nil
		}
		return table(std.Out, []string{"NAME", "STATE", "ROLES", "CREATED", "LAST LOGIN"}, rows)
	})
}

// accountState says in a word whether an operator can log in.
func accountState(a grahak.Account, now time.Time) string {
	switch {
	case !a.DisabledAt.IsZero():
		return "disabled"
	case now.Before(a.LockedUntil):
		return "locked"
	case a.SetUpAt.IsZero():
		return "not set up"
	}
	return "active"
}

type operatorRoleCmd struct {
	operatorArg
	whereFlags
	Role   string `enum:"owner,admin,viewer," default:"" env:"GRAHAK_ROLE" placeholder:"owner|admin|viewer" help:"What the operator may do there from now on."`
	Remove bool   `env:"GRAHAK_REMOVE" help:"Take the role away."`
	target
}

// Help is what `grahak operator role --help` says above the flags.
func (operatorRoleCmd) Help() string {
	return `A role at all merchants and one at a merchant are apart: whichever is higher counts. A merchant keeps its last owner.

  grahak operator role asha --merchant acme --role admin
  grahak operator role asha --merchant acme --remove`
}

// Run sets the role.
func (c operatorRoleCmd) Run(ctx context.Context, std Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Remove == (c.Role != "") {
		return wrongUse("give either --role or --remove")
	}
	return c.with(ctx, std, func(d *app.Data) error {
		callers, err := c.callers(ctx, d)
		if err != nil {
			return err
		}
		for _, caller := range callers {
			if err := d.Service.SetRole(ctx, caller, c.name(), grahak.Role(c.Role)); err != nil {
				return err
			}
		}
		if c.Remove {
			fmt.Fprintf(std.Out, "Operator %s has no role at %s any more.\n", c.Name, c.where())
		} else {
			fmt.Fprintf(std.Out, "Operator %s is %s of %s.\n", c.Name, c.Role, c.where())
		}
		return nil
	})
}

func (c operatorRoleCmd) check() error { return c.whereFlags.check() }

// operatorArg names an operator there is.
type operatorArg struct {
	Name string `arg:"" help:"Name of the operator, as in grahak operator list."`
}

func (a operatorArg) name() grahak.OperatorName { return grahak.OperatorName(a.Name) }

type operatorResetCmd struct {
	operatorArg
	dashboardFlag
	target
}

// Run resets the operator and shows the setup code.
func (c operatorResetCmd) Run(ctx context.Context, std Streams) error {
	if err := c.dashboardFlag.check(); err != nil {
		return err
	}
	return c.with(ctx, std, func(d *app.Data) error {
		setup, err := d.Service.ResetOperator(ctx, onOperators(), c.name())
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Reset operator %s, whose password, authenticator, recovery codes and sessions have ended.\n", c.Name)
		c.showSetup(std.Out, c.Name, setup)
		return nil
	})
}

type operatorLinkCmd struct {
	operatorArg
	dashboardFlag
	target
}

// Run makes the link.
func (c operatorLinkCmd) Run(ctx context.Context, std Streams) error {
	if err := c.dashboardFlag.check(); err != nil {
		return err
	}
	return c.with(ctx, std, func(d *app.Data) error {
		code, err := d.Service.LoginLink(ctx, onOperators(), c.name())
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Log in as %s, once within %s:\n\n  %s\n", c.Name, count(int64(grahak.LoginLinkTime/time.Minute), "minute"), c.page("login?link="+code))
		return nil
	})
}

type operatorDisableCmd struct {
	operatorArg
	target
}

// Run disables the operator.
func (c operatorDisableCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.DisableOperator(ctx, onOperators(), c.name()); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Disabled operator %s: all sessions have ended.\n", c.Name)
		return nil
	})
}

type operatorEnableCmd struct {
	operatorArg
	target
}

// Run enables the operator.
func (c operatorEnableCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.EnableOperator(ctx, onOperators(), c.name()); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Enabled operator %s.\n", c.Name)
		return nil
	})
}

type operatorUnlockCmd struct {
	operatorArg
	target
}

// Run unlocks the operator.
func (c operatorUnlockCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.UnlockOperator(ctx, onOperators(), c.name()); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Unlocked operator %s, who can try to log in again.\n", c.Name)
		return nil
	})
}
