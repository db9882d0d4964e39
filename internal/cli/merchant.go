package cli

import (
	"context"
	"fmt"

	"grahak"
	"grahak/internal/app"
)

type merchantCmd struct {
	Create  merchantCreateCmd  `cmd:"" help:"Make a merchant with its own sealing keys."`
	List    merchantListCmd    `cmd:"" help:"List the merchants."`
	Disable merchantDisableCmd `cmd:"" help:"Refuse every key of a merchant from now on; its data stays."`
}

type merchantCreateCmd struct {
	ID   string `arg:"" help:"Id of the merchant, which its programs send as x-merchantid: 1 to 64 letters, digits, _ and -."`
	Name string `placeholder:"NAME" env:"GRAHAK_NAME" help:"Name for people, such as 'Acme Books Ltd'."`
	target
}

// Help is what `grahak merchant create --help` says above the flags.
func (merchantCreateCmd) Help() string {
	return `The merchant's customers are sealed under keys of its own, which need the master key that the server runs with:

  grahak merchant create acme --name 'Acme Books Ltd'`
}

// Run makes the merchant.
func (c merchantCreateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		m, err := d.Service.CreateMerchant(ctx, operator(c.ID), c.Name)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Made merchant %s. Make a key for it: %s key create --merchant %s%s\n", m.ID, programName(), m.ID, c.flags())
		return nil
	})
}

type merchantListCmd struct {
	target
	jsonFlag
}

// Run lists the merchants.
func (c merchantListCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		list, err := d.Service.Merchants(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			for _, m := range list {
				err := printJSON(std.Out, struct {
					ID         grahak.MerchantID `json:"id"`
					Name       string            `json:"name"`
					IPMode     grahak.IPMode     `json:"iplist_mode"`
					CreatedAt  *string           `json:"created_at"`
					DisabledAt *string           `json:"disabled_at"`
				}{m.ID, m.Name, m.IPMode, jsonTime(m.CreatedAt), jsonTime(m.DisabledAt)})
				if err != nil {
					return err
				}
			}
			return nil
		}
		rows := make([][]string, len(list))
		for i, m := range list {
			rows[i] = []string{string(m.ID), m.Name, string(m.IPMode), stamp(m.CreatedAt), stamp(m.DisabledAt)}
		}
		return table(std.Out, []string{"ID", "NAME", "IP LIST", "CREATED", "DISABLED"}, rows)
	})
}

type merchantDisableCmd struct {
	ID string `arg:"" help:"Id of the merchant, as in grahak merchant list."`
	target
}

// Run disables the merchant.
func (c merchantDisableCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.DisableMerchant(ctx, operator(c.ID)); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Disabled merchant %s: all its keys are refused.\n", c.ID)
		return nil
	})
}
