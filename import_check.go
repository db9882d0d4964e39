package grahak

import (
	"context"
	"hash/maphash"
)

// ImportCheck is a dry run of an import. It is made by [Service.NewImportCheck],
// and used by one goroutine at a time.
type ImportCheck struct {
	service *Service
	caller  Caller
	rule    OnDuplicate
	state   ImportState
	seen    seenRows
}

// NewImportCheck begins a dry run, which writes nothing. It is for the
// command line. Codes: [CodeInsufficientScope], [CodeInvalidImport] for a rule that there is not.
func (s *Service) NewImportCheck(c Caller, rule OnDuplicate) (*ImportCheck, error) {
	if err := c.may(scopeOperator); err != nil {
		return nil, err
	}
	if err := c.ofMerchant(); err != nil {
		return nil, err
	}
	if err := rule.check(); err != nil {
		return nil, err
	}
	return &ImportCheck{service: s, caller: c, rule: rule, seen: newSeenRows()}, nil
}

// Rows looks at the next rows, of which there are at most [MaxImportChunk], and
// returns the faults of those that an import would reject now. Rows that repeat a
// reference or an id of one before are told only among the first few million, whose
// hashes it keeps in memory: some 20 bytes each. Codes: [CodeInvalidImport],
// [CodeMerchantNotFound].
func (k *ImportCheck) Rows(ctx context.Context, rows []ImportRow) ([]ImportFault, error) {
	if err := (ImportChunk{Rows: rows, Last: true, OnDuplicate: k.rule}).check(); err != nil {
		return nil, err
	}
	p, err := k.service.planImport(ctx, k.caller, k.rule, rows)
	if err != nil {
		return nil, err
	}
	p.seen = &k.seen
	for range writeAttempts {
		if err = p.decide(ctx); CodeOf(err) != CodeCustomerNotFound {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	for _, w := range p.created {
		k.seen.add(string(w.Customer.Reference[:]), string(w.Customer.ID))
	}
	k.state.Rows += p.counts.Rows
	k.state.Created += p.counts.Created
	k.state.Updated += p.counts.Updated
	k.state.Skipped += p.counts.Skipped
	k.state.Rejected += p.counts.Rejected
	k.state.LastFaults = p.faults
	return p.faults, nil
}

// State returns what would become of the rows so far. Its ID and times are empty.
func (k *ImportCheck) State() ImportState { return k.state }

// maxSeen bounds how many hashes seenRows keeps.
const maxSeen = 8 << 20

// seenRows is the references and ids of a dry run's rows, by their hashes. A nil one
// has none.
type seenRows struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newSeenRows() seenRows {
	return seenRows{seed: maphash.MakeSeed(), hashes: make(map[uint64]struct{})}
}

func (s *seenRows) has(value string) bool {
	if s == nil {
		return false
	}
	_, found := s.hashes[maphash.String(s.seed, value)]
	return found
}

// add adds values; beyond maxSeen it adds none.
func (s *seenRows) add(values ...string) {
	for _, value := range values {
		if len(s.hashes) < maxSeen {
			s.hashes[maphash.String(s.seed, value)] = struct{}{}
		}
	}
}
