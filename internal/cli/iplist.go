package cli

import (
	"context"
	"fmt"

	"grahak"
	"grahak/internal/app"
)

type ipListCmd struct {
	Add    ipAddCmd    `cmd:"" help:"Put an address or network on the list."`
	Remove ipRemoveCmd `cmd:"" help:"Take an address or network off the list."`
	List   ipListList  `cmd:"" help:"Show the list and its mode."`
	Test   ipTestCmd   `cmd:"" help:"Say whether an address would be let in, and why."`
	Mode   ipModeCmd   `cmd:"" help:"Set what the list does: off, report or enforce."`
}

// Help is what `grahak iplist --help` says above the commands.
func (ipListCmd) Help() string {
	return `A list does nothing until its mode is set. First add the addresses, then look in the log at what would be refused, then refuse it:

  grahak iplist add 203.0.113.0/24 --label 'data centre' --merchant acme
  grahak iplist mode report --merchant acme
  grahak iplist test 198.51.100.7 --merchant acme
  grahak iplist mode enforce --merchant acme`
}

type ipAddCmd struct {
	Address string `arg:"" help:"An address or network, such as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32. IPv4-mapped IPv6 addresses count as IPv4."`
	Label   string `env:"GRAHAK_LABEL" placeholder:"TEXT" help:"What is at the address, such as 'data centre'."`
	merchantFlag
	target
}

// Run adds the entry.
func (c ipAddCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		entry, err := d.Service.AddIPEntry(ctx, c.caller(), c.Address, c.Label)
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Added %s to the IP list of %s.\n", entry.Prefix, c.Merchant)
		return nil
	})
}

type ipRemoveCmd struct {
	Address string `arg:"" help:"The address or network of the entry, as in grahak iplist list."`
	merchantFlag
	target
}

// Run removes the entry.
func (c ipRemoveCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.RemoveIPEntry(ctx, c.caller(), c.Address); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Removed %s from the IP list of %s.\n", c.Address, c.Merchant)
		return nil
	})
}

type ipListList struct {
	merchantFlag
	target
	jsonFlag
}

// Run shows the list.
func (c ipListList) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		m, entries, err := d.Service.IPList(ctx, c.caller())
		if err != nil {
			return err
		}
		type entryJSON struct {
			Address   string  `json:"address"`
			Label     string  `json:"label"`
			AddedBy   string  `json:"added_by"`
			CreatedAt *string `json:"created_at"`
		}
		list := make([]entryJSON, len(entries))
		rows := make([][]string, len(entries))
		for i, e := range entries {
			list[i] = entryJSON{e.Prefix.String(), e.Label, e.AddedBy, jsonTime(e.CreatedAt)}
			rows[i] = []string{e.Prefix.String(), e.Label, e.AddedBy, stamp(e.CreatedAt)}
		}
		if c.JSON {
			return printJSON(std.Out, struct {
				Mode    grahak.IPMode `json:"mode"`
				Entries []entryJSON   `json:"entries"`
			}{m.IPMode, list})
		}
		fmt.Fprintf(std.Out, "Mode: %s\n", m.IPMode)
		return table(std.Out, []string{"ADDRESS", "LABEL", "ADDED BY", "ADDED"}, rows)
	})
}

type ipTestCmd struct {
	Address string `arg:"" help:"The address to test, such as 203.0.113.7."`
	merchantFlag
	target
}

// Run says what the list makes of the address. An address that is refused is
// an answer, not a failure.
func (c ipTestCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		v, err := d.Service.TestIP(ctx, c.caller(), c.Address)
		if err != nil {
			return err
		}
		outcome, why := "allowed", "no entry holds it"
		switch {
		case v.Listed:
			why = fmt.Sprintf("the entry %s holds it", v.Matched)
		case v.Refused():
			outcome = "refused"
		default:
			why += ", so mode enforce would refuse it"
		}
		fmt.Fprintf(std.Out, "%s: %s (%s; mode %s)\n", c.Address, outcome, why, v.Mode)
		return nil
	})
}

type ipModeCmd struct {
	Mode string `arg:"" enum:"off,report,enforce" help:"off lets every address in; report too, but logs what enforce would refuse; enforce answers 403 to addresses that no entry holds."`
	merchantFlag
	target
}

// Run sets the mode.
func (c ipModeCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.SetIPMode(ctx, c.caller(), grahak.IPMode(c.Mode)); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "The IP list of %s is now in mode %s.\n", c.Merchant, c.Mode)
		return nil
	})
}
