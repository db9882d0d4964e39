package sqlstore

import (
	"context"
	"net/netip"

	"grahak"
)

func countIPEntries(c conn, m grahak.MerchantID) (n int, err error) {
	err = c.queryRow(`SELECT count(*) FROM ip_list WHERE merchant_id = $1`, string(m)).Scan(&n)
	return n, err
}

// AddIPEntry implements [grahak.IPListStore].
func (s *portable) AddIPEntry(ctx context.Context, m grahak.MerchantID, entry grahak.IPEntry, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		if _, err := merchant(tx, m); err != nil {
			return err
		}
		count, err := countIPEntries(tx, m)
		if err != nil {
			return err
		}
		if count >= grahak.MaxIPEntries {
			return grahak.Errorf(grahak.CodeIPListFull, "The list has %d entries, which is the most: remove some or join them into networks.", count)
		}
		n, err := tx.exec(`INSERT INTO ip_list (merchant_id, prefix, label, added_by, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (merchant_id, prefix) DO NOTHING`,
			string(m), entry.Prefix.String(), entry.Label, entry.AddedBy, entry.CreatedAt.UnixMicro())
		if err == nil && n == 0 {
			return grahak.Errorf(grahak.CodeIPEntryExists, "%s is on the list already.", entry.Prefix)
		}
		return err
	})
}

// RemoveIPEntry implements [grahak.IPListStore].
func (s *portable) RemoveIPEntry(ctx context.Context, m grahak.MerchantID, p netip.Prefix, evenLast bool, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		owner, err := merchant(tx, m)
		if err != nil {
			return err
		}
		var listed int
		if err := tx.queryRow(`SELECT count(*) FROM ip_list WHERE merchant_id = $1 AND prefix = $2`, string(m), p.String()).Scan(&listed); err != nil {
			return err
		}
		if listed == 0 {
			return grahak.Errorf(grahak.CodeIPEntryNotFound, "%s is not on the list: see `grahak iplist list`.", p)
		}
		if count, err := countIPEntries(tx, m); err != nil {
			return err
		} else if count == 1 && owner.IPMode == grahak.IPModeEnforce && !evenLast {
			return grahak.Errorf(grahak.CodeIPListEmpty, "%s is the last entry and the list is enforced, so that nobody could call any more: add another first, or set the mode to report or off.", p)
		}
		_, err = tx.exec(`DELETE FROM ip_list WHERE merchant_id = $1 AND prefix = $2`, string(m), p.String())
		return err
	})
}

// IPList implements [grahak.IPListStore].
func (s *portable) IPList(ctx context.Context, m grahak.MerchantID) (list []grahak.IPEntry, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, scanIPEntry, `SELECT prefix, label, added_by, created_at FROM ip_list WHERE merchant_id = $1 ORDER BY created_at, prefix`, string(m))
		return err
	})
	return list, err
}

func scanIPEntry(row row) (entry grahak.IPEntry, err error) {
	var prefix string
	if err := row.Scan(&prefix, &entry.Label, &entry.AddedBy, &entry.CreatedAt); err != nil {
		return entry, err
	}
	entry.Prefix, err = netip.ParsePrefix(prefix)
	return entry, err
}

// SetIPMode implements [grahak.IPListStore].
func (s *portable) SetIPMode(ctx context.Context, m grahak.MerchantID, mode grahak.IPMode, evenEmpty bool, e grahak.Event) error {
	return s.changeAccess(ctx, m, e, func(tx tx) error {
		if _, err := merchant(tx, m); err != nil {
			return err
		}
		count, err := countIPEntries(tx, m)
		if err != nil {
			return err
		}
		if mode == grahak.IPModeEnforce && count == 0 && !evenEmpty {
			return grahak.Errorf(grahak.CodeIPListEmpty, "The list is empty, so that nobody could call any more: add an address first with `grahak iplist add`.")
		}
		n, err := tx.exec(`UPDATE merchants SET ip_mode = $1 WHERE id = $2 AND ip_mode <> $1`, string(mode), string(m))
		return unlessUnchanged(n, err)
	})
}
