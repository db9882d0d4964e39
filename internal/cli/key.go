package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
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
	Label string `env:"GRAHAK_LABEL" placeholder:"TEXT" help:"What the key is for, such as 'checkout backend'."`
	Scope string `default:"write" enum:"read,write" env:"GRAHAK_SCOPE" placeholder:"read|write" help:"What the key may do; write includes read."`
	expiryFlag
}

// expiryFlag gives a key an end.
type expiryFlag struct {
	ExpiresIn *span `placeholder:"SPAN" env:"GRAHAK_EXPIRES_IN" help:"Let the key expire after this time, such as 90d, 24h or 30m; without it the key does not expire."`
}

// time is when the key expires, zero for never.
func (f expiryFlag) time() time.Time {
	if f.ExpiresIn == nil {
		return time.Time{}
	}
	return grahak.SystemClock{}.Now().Add(time.Duration(*f.ExpiresIn))
}

func (f keyFlags) spec() grahak.KeySpec {
	return grahak.KeySpec{Label: f.Label, Scope: grahak.Scope(f.Scope), ExpiresAt: f.time()}
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

// Help is what `grahak key import --help` says above the flags.
func (keyImportCmd) Help() string {
	return `Programs that move over from the hosted service then go on with the key they have. It comes from standard input, because other users of a machine can read the arguments of a process; on a terminal it is asked for. It has 16 to 256 printable ASCII characters, no space and no colon, and no other merchant may have it.

  grahak key import --merchant acme <key.txt`
}

// Run reads one key and keeps it.
func (c keyImportCmd) Run(ctx context.Context, std Streams) error {
	secret, err := readSecret(std, "Key to import: ")
	if err != nil {
		return err
	}
	if secret == "" {
		return errors.New("there is no key on standard input: pipe it in, as in grahak key import --merchant ID <key.txt")
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

// maxSecretInput is how much of standard input is read for a secret, in bytes:
// more than any secret has.
const maxSecretInput = 4096

// readSecret reads all that standard input has, without the end of its line, or
// on a terminal one line that is not shown.
func readSecret(std Streams, prompt string) (string, error) {
	if f, ok := std.In.(*os.File); ok && isTerminal(f) {
		fmt.Fprint(std.Err, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(std.Err)
		return string(line), err
	}
	text, err := io.ReadAll(io.LimitReader(std.In, maxSecretInput))
	return strings.TrimRight(string(text), "\r\n"), err
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
					ID           grahak.KeyID      `json:"id"`
					Merchant     grahak.MerchantID `json:"merchant"`
					Prefix       string            `json:"prefix"`
					Label        string            `json:"label"`
					Scope        grahak.Scope      `json:"scope"`
					CreatedAt    *string           `json:"created_at"`
					ExpiresAt    *string           `json:"expires_at"`
					RevokedAt    *string           `json:"revoked_at"`
					LastUsedAt   *string           `json:"last_used_at"`
					LastUsedFrom *string           `json:"last_used_from"`
				}{k.ID, k.Merchant, k.Prefix, k.Label, k.Scope, jsonTime(k.CreatedAt), jsonTime(k.ExpiresAt), jsonTime(k.RevokedAt), jsonTime(k.LastUsedAt), jsonAddr(k.LastUsedAddr)})
				if err != nil {
					return err
				}
			}
			return nil
		}
		merchant, err := d.Store.Merchant(ctx, grahak.MerchantID(c.Merchant))
		if err != nil {
			return err
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
			case !merchant.DisabledAt.IsZero():
				state = "disabled"
			}
			from := ""
			if k.LastUsedAddr.IsValid() {
				from = k.LastUsedAddr.String()
			}
			rows[i] = []string{string(k.ID), k.Prefix + "…", state, string(k.Scope), k.Label, stamp(k.CreatedAt), stamp(k.ExpiresAt), stamp(k.LastUsedAt), from}
		}
		return table(std.Out, []string{"ID", "KEY", "STATE", "SCOPE", "LABEL", "CREATED", "EXPIRES", "LAST USED", "FROM"}, rows)
	})
}

// jsonAddr returns an address as text, nil for none.
func jsonAddr(a netip.Addr) *string {
	if !a.IsValid() {
		return nil
	}
	s := a.String()
	return &s
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
	Overlap span   `default:"24h" env:"GRAHAK_OVERLAP" placeholder:"SPAN" help:"For how long the old key still works, such as 7d, 24h or 0s."`
	expiryFlag
	merchantFlag
	target
	jsonFlag
}

// Help is what `grahak key rotate --help` says above the flags.
func (keyRotateCmd) Help() string {
	return `The successor has the label and scope of the old key but not its expiry, and is shown once. Both work until the overlap is over, so that programs can change to the new one:

  grahak key rotate key_2rxaxzlnq1qj99so --overlap 7d --merchant acme`
}

// Run makes the successor and shows it.
func (c keyRotateCmd) Run(ctx context.Context, std Streams) error {
	return c.with(ctx, std, func(d *app.Data) error {
		k, secret, err := d.Service.RotateKey(ctx, c.caller(), grahak.KeyID(c.ID), time.Duration(c.Overlap), c.time())
		if err != nil {
			return err
		}
		if err := showKey(std, k, secret, c.JSON); err != nil || c.JSON {
			return err
		}
		if c.Overlap == 0 {
			fmt.Fprintf(std.Out, "The old key %s has stopped working.\n", c.ID)
		} else {
			fmt.Fprintf(std.Out, "The old key %s stops working in %s, or when it would have expired if that is sooner.\n", c.ID, c.Overlap)
		}
		return nil
	})
}
