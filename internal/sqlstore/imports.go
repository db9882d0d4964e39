package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"grahak"
)

var errImportMoved = &grahak.Error{
	Code:    grahak.CodeImportConflict,
	Message: "The import has come to another row meanwhile: is the same file being imported twice at once?",
}

// Import implements [grahak.ImportStore].
func (s *portable) Import(ctx context.Context, m grahak.MerchantID, name grahak.Index) (state grahak.ImportState, err error) {
	err = s.read(ctx, func(r conn) error {
		state, err = importState(r, m, name, "")
		return err
	})
	return state, err
}

// importState returns how far an import has come. lock may end the query.
func importState(c conn, m grahak.MerchantID, name grahak.Index, lock string) (grahak.ImportState, error) {
	var state grahak.ImportState
	var faults string
	err := c.queryRow(`SELECT rows_done, created, updated, skipped, rejected, faults, started_at, updated_at, done FROM imports WHERE merchant_id = $1 AND import_index = $2`+lock, string(m), name[:]).
		Scan(&state.Rows, &state.Created, &state.Updated, &state.Skipped, &state.Rejected, &faults, &state.StartedAt, &state.UpdatedAt, &state.Done)
	if errors.Is(err, sql.ErrNoRows) {
		return grahak.ImportState{}, nil
	}
	if err != nil {
		return state, err
	}
	state.LastFaults, err = decodeFaults(faults)
	return state, err
}

// checkBefore returns [errImportMoved] unless the stored state is the one before the
// step.
func checkBefore(c conn, m grahak.MerchantID, step grahak.ImportStep, lock string) error {
	stored, err := importState(c, m, step.Import, lock)
	if err == nil && (stored.Rows != step.Before.Rows || !stored.UpdatedAt.Equal(step.Before.UpdatedAt)) {
		err = errImportMoved
	}
	return err
}

// putImport writes the state after a step.
func putImport(tx conn, m grahak.MerchantID, step grahak.ImportStep) error {
	s := step.State
	faults, err := encodeFaults(s.LastFaults)
	if err != nil {
		return err
	}
	args := []any{string(m), step.Import[:], s.Rows, s.Created, s.Updated, s.Skipped, s.Rejected, faults, s.StartedAt.UnixMicro(), s.UpdatedAt.UnixMicro(), s.Done}
	query := `UPDATE imports SET rows_done = $3, created = $4, updated = $5, skipped = $6, rejected = $7, faults = $8, started_at = $9, updated_at = $10, done = $11
		WHERE merchant_id = $1 AND import_index = $2`
	if step.Before.UpdatedAt.IsZero() {
		// Somebody else may have begun it meanwhile.
		query = `INSERT INTO imports (merchant_id, import_index, rows_done, created, updated, skipped, rejected, faults, started_at, updated_at, done)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (merchant_id, import_index) DO NOTHING`
	}
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		err = errImportMoved
	}
	return err
}

// storedFault is how a fault is stored.
type storedFault struct {
	Line   int64  `json:"line"`
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func encodeFaults(faults []grahak.ImportFault) (string, error) {
	stored := make([]storedFault, len(faults))
	for i, f := range faults {
		stored[i] = storedFault{f.Line, f.Field.String(), f.Reason}
	}
	text, err := json.Marshal(stored)
	return string(text), err
}

func decodeFaults(text string) ([]grahak.ImportFault, error) {
	var stored []storedFault
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, fmt.Errorf("the faults of an import do not read: %w", err)
	}
	var faults []grahak.ImportFault
	for _, s := range stored {
		field, ok := grahak.ParseField(s.Field)
		if !ok {
			return nil, errors.New("a fault of an import names a field that there is not: it was altered")
		}
		faults = append(faults, grahak.ImportFault{Line: s.Line, Field: field, Reason: s.Reason})
	}
	return faults, nil
}

// keyVersions calls check with each version of the key that the step's customers are
// sealed under.
func keyVersions(step grahak.ImportStep, check func(version int64) error) error {
	last := int64(-1) // none
	for _, list := range [][]grahak.ImportWrite{step.Created, step.Updated} {
		for _, w := range list {
			if v := w.Customer.Sealed.Version; v != last {
				if err := check(v); err != nil {
					return err
				}
				last = v
			}
		}
	}
	return nil
}

// broughtAt is how it is stored that an id was brought.
func broughtAt(c grahak.CustomerRecord) any {
	if !c.Brought {
		return nil
	}
	return c.CreatedAt.UnixMicro()
}
