package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"grahak"
)

const sessionColumns = `s.hash, s.operator, s.created_at, s.used_at, s.expires_at, s.addr, s.browser`

// errRefused is what a proof or a code gets that does not hold. The service says it
// in one way whatever is wrong.
var errRefused = &grahak.Error{Code: grahak.CodeLoginRefused}

func scanSession(row row) (grahak.SessionRecord, error) {
	var r grahak.SessionRecord
	var hash []byte
	var addr string
	if err := row.Scan(&hash, (*string)(&r.Operator), &r.CreatedAt, &r.UsedAt, &r.ExpiresAt, &addr, &r.Browser); err != nil {
		return r, err
	}
	copy(r.Hash[:], hash)
	r.ID = r.Hash.ID()
	if addr == "" {
		return r, nil
	}
	var err error
	r.Addr, err = netip.ParseAddr(addr)
	return r, err
}

// LoginFailed implements [grahak.OperatorStore].
func (s *portable) LoginFailed(ctx context.Context, name grahak.OperatorName, at time.Time, lock func(int64) time.Duration, e grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		o, err := operator(tx, name)
		if grahak.CodeOf(err) == grahak.CodeOperatorNotFound {
			return errUnchanged
		}
		if err != nil {
			return err
		}
		until := o.LockedUntil
		locked := lock(o.Failures + 1)
		if locked > 0 {
			until = at.Add(locked)
		}
		_, err = tx.exec(`UPDATE operators SET failures = failures + 1, locked_until = $1 WHERE merchant_id = $2 AND name = $3`, micros(until), operators, string(name))
		if err != nil || locked == 0 {
			return err
		}
		return tx.appendEvent(grahak.OperatorsMerchant, e)
	})
}

// PutLoginLink implements [grahak.OperatorStore].
func (s *portable) PutLoginLink(ctx context.Context, name grahak.OperatorName, link grahak.OperatorCode) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if _, err := operator(tx, name); err != nil {
			return err
		}
		return insertCode(tx, name, grahak.CodeKindLink, link)
	})
}

// ClaimForm implements [grahak.OperatorStore].
func (s *portable) ClaimForm(ctx context.Context, name grahak.OperatorName, form grahak.OperatorCode, most int) (first bool, err error) {
	err = s.write(ctx, func(tx tx) error {
		if _, err := operator(tx, name); err != nil {
			return err
		}
		var sent int
		err := tx.queryRow(`SELECT count(*) FROM operator_codes WHERE merchant_id = $1 AND operator = $2 AND kind = $3`,
			operators, string(name), string(grahak.CodeKindForm)).Scan(&sent)
		if err != nil {
			return err
		}
		if sent >= most {
			return grahak.Errorf(grahak.CodeTooManyRequests, "You have sent as many forms as can be remembered: log in again when this session has ended.")
		}
		n, err := tx.exec(`INSERT INTO operator_codes (merchant_id, hash, operator, kind, expires_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (merchant_id, hash) DO NOTHING`, operators, form.Hash[:], string(name), string(grahak.CodeKindForm), micros(form.ExpiresAt))
		first = n > 0
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return false, err
	}
	return first, nil
}

// OperatorCode implements [grahak.OperatorStore].
func (s *portable) OperatorCode(ctx context.Context, kind grahak.CodeKind, hash grahak.SecretHash, now time.Time) (o grahak.OperatorRecord, err error) {
	err = s.vitalRead(ctx, func(r conn) error {
		o, err = operatorOfCode(r, kind, hash, now)
		return err
	})
	return o, err
}

func operatorOfCode(c conn, kind grahak.CodeKind, hash grahak.SecretHash, now time.Time) (o grahak.OperatorRecord, err error) {
	var name grahak.OperatorName
	err = c.queryRow(`SELECT operator FROM operator_codes WHERE merchant_id = $1 AND hash = $2 AND kind = $3 AND (expires_at IS NULL OR expires_at > $4)`,
		operators, hash[:], string(kind), now.UnixMicro()).Scan((*string)(&name))
	if errors.Is(err, sql.ErrNoRows) {
		return o, errRefused
	}
	if err != nil {
		return o, err
	}
	o, err = operator(c, name)
	if err == nil && !o.DisabledAt.IsZero() {
		return o, errRefused
	}
	return o, err
}

func deleteCode(tx conn, hash grahak.SecretHash) error {
	_, err := tx.exec(`DELETE FROM operator_codes WHERE merchant_id = $1 AND hash = $2`, operators, hash[:])
	return err
}

// FinishSetup implements [grahak.OperatorStore].
func (s *portable) FinishSetup(ctx context.Context, setup grahak.SecretHash, to grahak.OperatorRecord, recovery []grahak.SecretHash, e grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		o, err := operatorOfCode(tx, grahak.CodeKindSetup, setup, to.SetUpAt)
		if err != nil {
			return err
		}
		if o.Name != to.Name || o.TOTPVersion != to.TOTPVersion {
			return errRefused
		}
		if err := deleteCode(tx, setup); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE operators SET set_up_at = $1, password = $2, totp_step = $3, failures = 0, locked_until = NULL WHERE merchant_id = $4 AND name = $5`,
			to.SetUpAt.UnixMicro(), to.Password, to.TOTPStep, operators, string(to.Name))
		if err != nil {
			return err
		}
		return replaceRecoveryCodes(tx, to.Name, recovery)
	}, e)
}

func replaceRecoveryCodes(tx conn, name grahak.OperatorName, recovery []grahak.SecretHash) error {
	_, err := tx.exec(`DELETE FROM operator_codes WHERE merchant_id = $1 AND operator = $2 AND kind = 'recovery'`, operators, string(name))
	for _, hash := range recovery {
		if err != nil {
			return err
		}
		err = insertCode(tx, name, grahak.CodeKindRecovery, grahak.OperatorCode{Hash: hash})
	}
	return err
}

// useProof returns [errRefused], and writes nothing, unless a proof holds.
func useProof(tx conn, p grahak.LoginProof) error {
	var o grahak.OperatorRecord
	var err error
	if p.Kind != "" {
		o, err = operatorOfCode(tx, p.Kind, p.Code, p.At)
	} else if o, err = operator(tx, p.Operator); grahak.CodeOf(err) == grahak.CodeOperatorNotFound {
		err = errRefused
	}
	switch {
	case err != nil:
		return err
	case o.Name != p.Operator || !o.DisabledAt.IsZero(),
		p.Kind != grahak.CodeKindLink && (o.Password == "" || o.Password != p.Password),
		p.Kind == "" && (o.TOTPVersion != p.Version || p.Step <= o.TOTPStep):
		return errRefused
	case p.Kind != "":
		return deleteCode(tx, p.Code)
	}
	_, err = tx.exec(`UPDATE operators SET totp_step = $1 WHERE merchant_id = $2 AND name = $3`, p.Step, operators, string(p.Operator))
	return err
}

// BeginSession implements [grahak.OperatorStore].
func (s *portable) BeginSession(ctx context.Context, p grahak.LoginProof, r grahak.SessionRecord, idle time.Time, most int, events []grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if err := useProof(tx, p); err != nil {
			return err
		}
		_, err := tx.exec(`UPDATE operators SET failures = 0, locked_until = NULL, last_login_at = $1 WHERE merchant_id = $2 AND name = $3`,
			r.CreatedAt.UnixMicro(), operators, string(p.Operator))
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM operator_sessions WHERE merchant_id = $1 AND (expires_at <= $2 OR used_at <= $3)`,
			operators, r.CreatedAt.UnixMicro(), idle.UnixMicro())
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM operator_codes WHERE merchant_id = $1 AND expires_at <= $2`, operators, r.CreatedAt.UnixMicro())
		if err != nil {
			return err
		}
		others, err := sessions(tx, p.Operator)
		if err != nil {
			return err
		}
		for _, old := range others[min(len(others), most-1):] {
			if _, err := deleteSession(tx, p.Operator, old.Hash); err != nil {
				return err
			}
		}
		addr := ""
		if r.Addr.IsValid() {
			addr = r.Addr.String()
		}
		_, err = tx.exec(`INSERT INTO operator_sessions (merchant_id, hash, operator, created_at, used_at, expires_at, addr, browser) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			operators, r.Hash[:], string(p.Operator), r.CreatedAt.UnixMicro(), r.UsedAt.UnixMicro(), r.ExpiresAt.UnixMicro(), addr, r.Browser)
		return err
	}, events...)
}

func deleteSession(tx conn, name grahak.OperatorName, hash grahak.SecretHash) (int64, error) {
	return tx.exec(`DELETE FROM operator_sessions WHERE merchant_id = $1 AND operator = $2 AND hash = $3`, operators, string(name), hash[:])
}

func deleteSessions(tx conn, name grahak.OperatorName) (int64, error) {
	return tx.exec(`DELETE FROM operator_sessions WHERE merchant_id = $1 AND operator = $2`, operators, string(name))
}

// SetPassword implements [grahak.OperatorStore].
func (s *portable) SetPassword(ctx context.Context, p grahak.LoginProof, password string, keep grahak.SecretHash, events []grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if err := useProof(tx, p); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE operators SET password = $1, failures = 0, locked_until = NULL WHERE merchant_id = $2 AND name = $3`, password, operators, string(p.Operator)); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM operator_sessions WHERE merchant_id = $1 AND operator = $2 AND hash <> $3`, operators, string(p.Operator), keep[:])
		return err
	}, events...)
}

// SetRecoveryCodes implements [grahak.OperatorStore].
func (s *portable) SetRecoveryCodes(ctx context.Context, p grahak.LoginProof, recovery []grahak.SecretHash, events []grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if err := useProof(tx, p); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE operators SET failures = 0, locked_until = NULL WHERE merchant_id = $1 AND name = $2`, operators, string(p.Operator)); err != nil {
			return err
		}
		return replaceRecoveryCodes(tx, p.Operator, recovery)
	}, events...)
}

// Session implements [grahak.OperatorStore].
func (s *portable) Session(ctx context.Context, hash grahak.SecretHash) (r grahak.SessionRecord, a grahak.Account, grants []grahak.Grant, err error) {
	err = s.vitalRead(ctx, func(c conn) error {
		return c.snapshot(func() error {
			r, err = scanSession(c.queryRow(`SELECT `+sessionColumns+` FROM operator_sessions AS s WHERE s.merchant_id = $1 AND s.hash = $2`, operators, hash[:]))
			if errors.Is(err, sql.ErrNoRows) {
				return grahak.Errorf(grahak.CodeNoSession, "There is no such session: log in.")
			}
			if err != nil {
				return err
			}
			o, err := operator(c, r.Operator)
			if err != nil {
				return err
			}
			a = o.Account
			grants, err = queryAll(c, scanGrant, `SELECT `+grantColumns+` FROM operator_grants WHERE operator = $1`, string(r.Operator))
			sortGrants(grants)
			return err
		})
	})
	return r, a, grants, err
}

// Sessions implements [grahak.OperatorStore].
func (s *portable) Sessions(ctx context.Context, name grahak.OperatorName) (list []grahak.SessionRecord, err error) {
	err = s.read(ctx, func(r conn) error {
		list, err = sessions(r, name)
		return err
	})
	return list, err
}

func sessions(c conn, name grahak.OperatorName) ([]grahak.SessionRecord, error) {
	return queryAll(c, scanSession, `SELECT `+sessionColumns+` FROM operator_sessions AS s WHERE s.merchant_id = $1 AND s.operator = $2 ORDER BY s.used_at DESC, s.hash`,
		operators, string(name))
}

// TouchSession implements [grahak.OperatorStore].
func (s *portable) TouchSession(ctx context.Context, hash grahak.SecretHash, at time.Time) error {
	return s.write(ctx, func(tx tx) error {
		_, err := tx.exec(`UPDATE operator_sessions SET used_at = $1 WHERE merchant_id = $2 AND hash = $3 AND used_at < $1`, at.UnixMicro(), operators, hash[:])
		return err
	})
}

// EndSessions implements [grahak.OperatorStore].
func (s *portable) EndSessions(ctx context.Context, name grahak.OperatorName, hash grahak.SecretHash, e grahak.Event) error {
	return s.changeOperators(ctx, func(tx tx) error {
		if hash == (grahak.SecretHash{}) {
			return unlessUnchanged(deleteSessions(tx, name))
		}
		return unlessUnchanged(deleteSession(tx, name, hash))
	}, e)
}

// PruneOperators implements [grahak.OperatorStore].
func (s *portable) PruneOperators(ctx context.Context, now time.Time, limit int) (int, error) {
	at := now.UnixMicro()
	var due int
	err := s.read(ctx, func(r conn) error {
		return r.queryRow(`SELECT (SELECT count(*) FROM operator_sessions WHERE merchant_id = $1 AND expires_at <= $2)
			+ (SELECT count(*) FROM operator_codes WHERE merchant_id = $1 AND expires_at <= $2)`, operators, at).Scan(&due)
	})
	// Most looks find nothing, and those cost no write.
	if err != nil || due == 0 {
		return 0, err
	}
	var deleted int64
	err = s.write(ctx, func(tx tx) (err error) {
		deleted, err = tx.exec(`DELETE FROM operator_sessions WHERE merchant_id = $1 AND hash IN
			(SELECT hash FROM operator_sessions WHERE merchant_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT $3)`, operators, at, limit)
		if err != nil {
			return err
		}
		codes, err := tx.exec(`DELETE FROM operator_codes WHERE merchant_id = $1 AND hash IN
			(SELECT hash FROM operator_codes WHERE merchant_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT $3)`, operators, at, int64(limit)-deleted)
		deleted += codes
		return err
	})
	if err != nil {
		// The job may still run, so what it sets is not to be read.
		return 0, err
	}
	return int(deleted), nil
}
