package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"grahak"
	"grahak/internal/app"
)

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Make a key. It is shown once."`
	Import keyImportCmd `cmd:"" help:"Keep a key that the merchant's programs already hold, read from standard input."`
	List   keyListCmd   `cmd:"" help:"List a merchant's keys. The keys themselves are not kept."`
	Revoke keyRevokeCmd `cmd:"" help:"Refuse a key from now on."`
	Rotate keyRotateCmd `cmd:"" help:"Make a successor of a key and let the old one expire."`
}

// keyFlags describe a key to make or import.
type keyFlags struct {
	Label     string `env:"GRAHAK_LABEL" placeholder:"TEXT" help:"What the key is for."`
	Scope     string `default:"write" enum:"read,write" env:"GRAHAK_SCOPE" help:"read or write; write includes read (default write)."`
	ExpiresIn span   `placeholder:"SPAN" env:"GRAHAK_EXPIRES_IN" help:"Let the key expire after this time, such as 90d or 24h."`
}

func (f keyFlags) spec() grahak.KeySpec {
	spec := grahak.KeySpec{Label: f.Label, Scope: grahak.Scope(f.Scope)}
	if f.ExpiresIn > 0 {
		spec.ExpiresAt = grahak.SystemClock{}.Now().Add(time.Duration(f.ExpiresIn))
	}
	return spec
}

type keyCreateCmd struct {
	merchantFlag
	keyFlags
	target
	jsonFlag
}

// Run makes the key and shows it.
func (c keyCreateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		k, secret, err := d.Service.CreateKey(ctx, c.caller(), c.spec())
		if err != nil {
			return err
		}
		return showKey(std, k, secret, c.JSON)
	})
}

// showKey prints a new key, the only time it can be seen.
func showKey(std Streams, k grahak.APIKey, secret string, asJSON bool) error {
	if asJSON {
		return printJSON(std.Out, struct {
			ID        grahak.KeyID      `json:"id"`
			Key       string            `json:"key"`
			Merchant  grahak.MerchantID `json:"merchant"`
			Prefix    string            `json:"prefix"`
			CreatedAt *string           `json:"created_at"`
		}{k.ID, secret, k.Merchant, k.Prefix, jsonTime(k.CreatedAt)})
	}
	fmt.Fprintf(std.Out, "Made key %s of merchant %s. It is shown only now; keep it safe:\n\n  %s\n\n", k.ID, k.Merchant, secret)
	return nil
}

type keyImportCmd struct {
	merchantFlag
	keyFlags
	target
}

// Run reads one key and keeps it.
func (c keyImportCmd) Run(ctx context.Context, std Streams) error {
	secret, err := readSecret(std, "Key to import: ")
	if err != nil {
		return err
	}
	return c.with(ctx, std, func(d *app.Data) error {
		k, err := d.Service.ImportKey(ctx, c.caller(), secret, c.spec())
		if err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Imported key %s (%s…) of merchant %s.\n", k.ID, k.Prefix, k.Merchant)
		return nil
	})
}

// readSecret reads one line, without showing it on a terminal.
func readSecret(std Streams, prompt string) (string, error) {
	if f, ok := std.In.(*os.File); ok && isTerminal(f) {
		fmt.Fprint(std.Err, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(std.Err)
		return string(line), err
	}
	line, err := bufio.NewReader(io.LimitReader(std.In, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

type keyListCmd struct {
	merchantFlag
	target
	jsonFlag
}

// Run lists the keys.
func (c keyListCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		list, err := d.Service.Keys(ctx, c.caller())
		if err != nil {
			return err
		}
		if c.JSON {
			for _, k := range list {
				err := printJSON(std.Out, struct {
					ID         grahak.KeyID      `json:"id"`
					Merchant   grahak.MerchantID `json:"merchant"`
					Prefix     string            `json:"prefix"`
					Label      string            `json:"label"`
					Scope      grahak.Scope      `json:"scope"`
					CreatedAt  *string           `json:"created_at"`
					ExpiresAt  *string           `json:"expires_at"`
					RevokedAt  *string           `json:"revoked_at"`
					LastUsedAt *string           `json:"last_used_at"`
				}{k.ID, k.Merchant, k.Prefix, k.Label, k.Scope, jsonTime(k.CreatedAt), jsonTime(k.ExpiresAt), jsonTime(k.RevokedAt), jsonTime(k.LastUsedAt)})
				if err != nil {
					return err
				}
			}
			return nil
		}
		now := grahak.SystemClock{}.Now()
		rows := make([][]string, len(list))
		for i, k := range list {
			state := "active"
			switch {
			case !k.RevokedAt.IsZero():
				state = "revoked"
			case !k.ActiveAt(now):
				state = "expired"
			}
			rows[i] = []string{string(k.ID), k.Prefix + "…", state, string(k.Scope), k.Label, stamp(k.CreatedAt), stamp(k.ExpiresAt), stamp(k.LastUsedAt)}
		}
		return table(std.Out, []string{"ID", "KEY", "STATE", "SCOPE", "LABEL", "CREATED", "EXPIRES", "LAST USED"}, rows)
	})
}

type keyRevokeCmd struct {
	ID string `arg:"" help:"Id of the key, as in grahak key list."`
	merchantFlag
	target
}

// Run revokes the key.
func (c keyRevokeCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		if err := d.Service.RevokeKey(ctx, c.caller(), grahak.KeyID(c.ID)); err != nil {
			return err
		}
		fmt.Fprintf(std.Out, "Revoked key %s.\n", c.ID)
		return nil
	})
}

type keyRotateCmd struct {
	ID      string `arg:"" help:"Id of the key, as in grahak key list."`
	Overlap span   `default:"24h" env:"GRAHAK_OVERLAP" placeholder:"SPAN" help:"For how long the old key still works (default 24h)."`
	merchantFlag
	target
	jsonFlag
}

// Run makes the successor and shows it.
func (c keyRotateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		k, secret, err := d.Service.RotateKey(ctx, c.caller(), grahak.KeyID(c.ID), time.Duration(c.Overlap))
		if err != nil {
			return err
		}
		if err := showKey(std, k, secret, c.JSON); err != nil || c.JSON {
			return err
		}
		fmt.Fprintf(std.Out, "The old key %s stops working in %s.\n", c.ID, time.Duration(c.Overlap))
		return nil
	})
}
