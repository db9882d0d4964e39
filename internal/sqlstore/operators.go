package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"grahak"
)

// operators is the merchant that operators are kept under, as an argument.
const operators = string(grahak.OperatorsMerchant)

const (
	operatorColumns = `o.name, o.created_at, o.set_up_at, o.disabled_at, o.password, o.totp_version, o.totp_step, o.failures, o.locked_until, o.last_login_at,
		(SELECT count(*) FROM operator_codes AS c WHERE c.merchant_id = o.merchant_id AND c.operator = o.name AND c.kind = 'recovery')`
	grantColumns = `merchant_id, operator, role, granted_by, granted_at`
)

func operatorNotFound(name grahak.OperatorName) error {
	return grahak.Errorf(grahak.CodeOperatorNotFound, "There is no operator %q: see `grahak operator list`.", string(name))
}

func scanOperator(row row) (grahak.OperatorRecord, error) {
	var o grahak.OperatorRecord
	err := row.Scan((*string)(&o.Name), &o.CreatedAt, &o.SetUpAt, &o.DisabledAt, &o.Password, &o.TOTPVersion, &o.TOTPStep, &o.Failures,
		&o.LockedUntil, &o.LastLoginAt, &o.RecoveryCodes)
	return o, err
}

func scanGrant(row row) (grahak.Grant, error) {
	var g grahak.Grant
	err := row.Scan((*string)(&g.Merchant), (*string)(&g.Operator), (*string)(&g.Role), &g.GrantedBy, &g.GrantedAt)
	return g, err
}

func operator(c conn, name grahak.OperatorName) (grahak.OperatorRecord, error) {
	o, err := scanOperator(c.queryRow(`SELECT `+operatorColumns+` FROM operators AS o WHERE o.merchant_id = $1 AND o.name = $2`, operators, string(name)))
	if errors.Is(err, sql.ErrNoRows) {
		return o, operatorNotFound(name)
	}
	return o, err
}

// changeOperators runs a write that no other change of operators, nor of merchants,
// happens beside: what it reads holds until it ends. A change that changes nothing
// leaves no event.
func (s *portable) changeOperators(ctx context.Context, change func(tx) error, events ...grahak.Event) error {
	return s.write(ctx, func(tx tx) error {
		if err := tx.lockAccess(); err != nil {
			return err
		}
		if err := change(tx); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		for _, e := range events {
			if err := tx.appendEvent(grahak.OperatorsMerchant, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// changeOperator is changeOperators of an operator there is.
func (s *portable) changeOperator(ctx context.Context, name grahak.OperatorName, change func(tx, grahak.OperatorRecord) error, e grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		o, err := operator(tx, name)
		if err != nil {
			return err
		}
		return change(tx, o)
	}, e)
}

// CreateOperator implements [grahak.OperatorStore].
func (s *portable) CreateOperator(ctx context.Context, name grahak.OperatorName, at time.Time, setup grahak.OperatorCode, e grahak.Event, g grahak.Grant, granted grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if _, err := merchant(tx, grahak.OperatorsMerchant); err != nil {
			return err
		}
		if g.Role != "" {
			if _, err := merchant(tx, g.Merchant); err != nil {
				return err
			}
		}
		n, err := tx.exec(`INSERT INTO operators (merchant_id, name, created_at, password, totp_version, totp_step, failures) VALUES ($1, $2, $3, '', 1, 0, 0)
			ON CONFLICT (merchant_id, name) DO NOTHING`, operators, string(name), at.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return grahak.Errorf(grahak.CodeOperatorExists, "There is an operator %q already: see `grahak operator list`.", string(name))
		}
		if setup.Hash != (grahak.SecretHash{}) {
			if err := insertCode(tx, name, grahak.CodeKindSetup, setup); err != nil {
				return err
			}
		}
		if err := tx.appendEvent(grahak.OperatorsMerchant, e); err != nil || g.Role == "" {
			return err
		}
		if err := insertGrant(tx, g); err != nil {
			return err
		}
		return tx.appendEvent(g.Merchant, granted)
	})
}

func insertCode(tx conn, name grahak.OperatorName, kind grahak.CodeKind, code grahak.OperatorCode) error {
	_, err := tx.exec(`INSERT INTO operator_codes (merchant_id, hash, operator, kind, expires_at) VALUES ($1, $2, $3, $4, $5)`,
		operators, code.Hash[:], string(name), string(kind), micros(code.ExpiresAt))
	return err
}

func insertGrant(tx conn, g grahak.Grant) error {
	_, err := tx.exec(`INSERT INTO operator_grants (merchant_id, operator, role, granted_by, granted_at) VALUES ($1, $2, $3, $4, $5)`,
		string(g.Merchant), string(g.Operator), string(g.Role), g.GrantedBy, g.GrantedAt.UnixMicro())
	return err
}

// Operator implements [grahak.OperatorStore].
func (s *portable) Operator(ctx context.Context, name grahak.OperatorName) (o grahak.OperatorRecord, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		o, err = operator(r, name)
		return err
	})
	return o, err
}

// Operators implements [grahak.OperatorStore].
func (s *portable) Operators(ctx context.Context) (list []grahak.Account, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = queryAll(r, func(row row) (grahak.Account, error) {
			o, err := scanOperator(row)
			return o.Account, err
		}, `SELECT `+operatorColumns+` FROM operators AS o WHERE o.merchant_id = $1 ORDER BY o.name`, operators)
		return err
	})
	return list, err
}

// Grants implements [grahak.OperatorStore].
func (s *portable) Grants(ctx context.Context, m grahak.MerchantID) (list []grahak.Grant, err error) {
	err = s.read(ctx, func(r conn) error {
		if m == "" {
			list, err = queryAll(r, scanGrant, `SELECT `+grantColumns+` FROM operator_grants ORDER BY operator, merchant_id`)
		} else {
			list, err = queryAll(r, scanGrant, `SELECT `+grantColumns+` FROM operator_grants WHERE merchant_id = $1 ORDER BY operator`, string(m))
		}
		return err
	})
	return list, err
}

// SetRole implements [grahak.OperatorStore].
func (s *portable) SetRole(ctx context.Context, g grahak.Grant, e grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if _, err := operator(tx, g.Operator); err != nil {
			return err
		}
		if _, err := merchant(tx, g.Merchant); err != nil {
			return err
		}
		var role grahak.Role
		err := tx.queryRow(`SELECT role FROM operator_grants WHERE merchant_id = $1 AND operator = $2`, string(g.Merchant), string(g.Operator)).Scan((*string)(&role))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if role == g.Role {
			return errUnchanged
		}
		if role == grahak.RoleOwner && g.Merchant != grahak.OperatorsMerchant {
			if err := otherOwner(tx, g); err != nil {
				return err
			}
		}
		if role != "" {
			_, err := tx.exec(`DELETE FROM operator_grants WHERE merchant_id = $1 AND operator = $2`, string(g.Merchant), string(g.Operator))
			if err != nil {
				return err
			}
		}
		if g.Role != "" {
			if err := insertGrant(tx, g); err != nil {
				return err
			}
		}
		return tx.appendEvent(g.Merchant, e)
	})
}

// otherOwner returns an error unless a merchant has an owner besides the operator of
// g.
func otherOwner(tx conn, g grahak.Grant) error {
	for _, m := range []grahak.MerchantID{g.Merchant, grahak.OperatorsMerchant} {
		var owners int
		err := tx.queryRow(`SELECT count(*) FROM operator_grants AS g JOIN operators AS o ON o.name = g.operator
			WHERE g.merchant_id = $1 AND g.role = 'owner' AND (g.operator <> $2 OR g.merchant_id <> $3) AND o.merchant_id = $4 AND o.disabled_at IS NULL`,
			string(m), string(g.Operator), string(g.Merchant), operators).Scan(&owners)
		if err != nil || owners > 0 {
			return err
		}
	}
	return grahak.Errorf(grahak.CodeLastOwner, "%s is the merchant's last owner: make somebody else one first.", g.Operator)
}

// ResetOperator implements [grahak.OperatorStore].
func (s *portable) ResetOperator(ctx context.Context, name grahak.OperatorName, setup grahak.OperatorCode, e grahak.Event) error {
	return s.changeOperator(ctx, name, func(tx tx, _ grahak.OperatorRecord) error {
		_, err := tx.exec(`UPDATE operators SET set_up_at = NULL, password = '', totp_version = totp_version + 1, totp_step = 0, failures = 0, locked_until = NULL
			WHERE merchant_id = $1 AND name = $2`, operators, string(name))
		if err != nil {
			return err
		}
		if _, err := deleteSessions(tx, name); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM operator_codes WHERE merchant_id = $1 AND operator = $2`, operators, string(name)); err != nil {
			return err
		}
		return insertCode(tx, name, grahak.CodeKindSetup, setup)
	}, e)
}

// DisableOperator implements [grahak.OperatorStore].
func (s *portable) DisableOperator(ctx context.Context, name grahak.OperatorName, at time.Time, e grahak.Event) error {
	return s.changeOperator(ctx, name, func(tx tx, o grahak.OperatorRecord) error {
		if !o.DisabledAt.IsZero() {
			return errUnchanged
		}
		if _, err := deleteSessions(tx, name); err != nil {
			return err
		}
		_, err := tx.exec(`UPDATE operators SET disabled_at = $1 WHERE merchant_id = $2 AND name = $3`, at.UnixMicro(), operators, string(name))
		return err
	}, e)
}

// EnableOperator implements [grahak.OperatorStore].
func (s *portable) EnableOperator(ctx context.Context, name grahak.OperatorName, e grahak.Event) error {
	return s.changeOperator(ctx, name, func(tx tx, _ grahak.OperatorRecord) error {
		n, err := tx.exec(`UPDATE operators SET disabled_at = NULL WHERE merchant_id = $1 AND name = $2 AND disabled_at IS NOT NULL`, operators, string(name))
		return unlessUnchanged(n, err)
	}, e)
}

// UnlockOperator implements [grahak.OperatorStore].
func (s *portable) UnlockOperator(ctx context.Context, name grahak.OperatorName, e grahak.Event) error {
	return s.changeOperator(ctx, name, func(tx tx, _ grahak.OperatorRecord) error {
		n, err := tx.exec(`UPDATE operators SET failures = 0, locked_until = NULL WHERE merchant_id = $1 AND name = $2 AND failures > 0`, operators, string(name))
		return unlessUnchanged(n, err)
	}, e)
}

// sortGrants puts the role at all merchants first.
func sortGrants(list []grahak.Grant) {
	slices.SortFunc(list, func(a, b grahak.Grant) int {
		switch {
		case a.Merchant == b.Merchant:
			return 0
		case a.Merchant == grahak.OperatorsMerchant:
			return -1
		case b.Merchant == grahak.OperatorsMerchant:
			return 1
		}
		return cmp.Compare(a.Merchant, b.Merchant)
	})
}
