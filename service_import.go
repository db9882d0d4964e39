package grahak

import (
	"context"
	"slices"
	"sync"
	"time"
)

// ImportState returns how far the import with the given name has come. It is for
// the command line. Codes: [CodeInsufficientScope], [CodeMerchantNotFound],
// [CodeInvalidImport].
func (s *Service) ImportState(ctx context.Context, c Caller, name string) (ImportState, error) {
	if err := c.may(scopeOperator); err != nil {
		return ImportState{}, err
	}
	if err := c.ofMerchant(); err != nil {
		return ImportState{}, err
	}
	index, err := s.importIndex(ctx, c.Merchant, name)
	if err != nil {
		return ImportState{}, err
	}
	state, err := s.store.Import(ctx, c.Merchant, index)
	state.ID = name
	return state, err
}

// maxImportName is the length of the longest name of an import, in bytes.
const maxImportName = 512

func (s *Service) importIndex(ctx context.Context, m MerchantID, name string) (Index, error) {
	if name == "" || len(name) > maxImportName {
		return Index{}, Errorf(CodeInvalidImport, "The name of an import has 1 to %d bytes.", maxImportName)
	}
	return s.sealer.Index(ctx, m, IndexImport, name)
}

// ImportCustomers does a chunk of an import: it makes and changes customers,
// writes their events, and notes how far the import has come, in one transaction.
// So after a failure, or a kill, nothing of the chunk is done or all of it, and
// [Service.ImportState] tells which. It returns the state after the chunk, and the
// faults of the rows that it rejected, which is no error.
//
// A chunk of which After is more than what is done is prepared and then waits for
// those before it, for half a minute at most. So callers that want speed have two or
// three calls under way at once, each with the next chunk. It is for the
// command line. Codes: [CodeInsufficientScope]; [CodeMerchantNotFound]; [CodeImportConflict] if
// the import has not come to After, because somebody else does the same import or a
// chunk before has failed, or if it is done and Restart is not set; and
// [CodeInvalidImport] for a chunk that breaks the rules of [ImportChunk].
func (s *Service) ImportCustomers(ctx context.Context, c Caller, chunk ImportChunk) (ImportState, []ImportFault, error) {
	if err := c.may(scopeOperator); err != nil {
		return ImportState{}, nil, err
	}
	if err := c.ofMerchant(); err != nil {
		return ImportState{}, nil, err
	}
	if err := chunk.check(); err != nil {
		return ImportState{}, nil, err
	}
	name, err := s.importIndex(ctx, c.Merchant, chunk.Import)
	if err != nil {
		return ImportState{}, nil, err
	}
	turn := s.imports.enter(importKey{c.Merchant, name})
	defer s.imports.leave(turn)
	p, err := s.planImport(ctx, c, chunk.OnDuplicate, chunk.Rows)
	if err != nil {
		return ImportState{}, nil, err
	}
	if err := p.seal(ctx); err != nil {
		return ImportState{}, nil, err
	}
	if err := p.lookUp(ctx); err != nil {
		return ImportState{}, nil, err
	}
	step := ImportStep{Import: name}
	if step.Before, err = s.awaitTurn(ctx, turn, chunk); err != nil {
		return ImportState{}, nil, err
	}
	if chunk.OnDuplicate == DuplicateUpdate && len(p.met.byReference) > 0 {
		// What a row leaves as it is must be as the chunks before have left it.
		p.met = nil
	}
	for range writeAttempts {
		done, err := s.tryImport(ctx, chunk, p, &step)
		if done || err != nil {
			step.State.ID = chunk.Import
			return step.State, p.faults, err
		}
	}
	return ImportState{}, nil, errTooManyWrites
}

// tryImport does a step, and sets its state. It reports false if a customer whom it
// is about was made or changed meanwhile, or the key was.
func (s *Service) tryImport(ctx context.Context, chunk ImportChunk, p *importPlan, step *ImportStep) (bool, error) {
	if err := p.decide(ctx); err != nil {
		if CodeOf(err) == CodeCustomerNotFound {
			// It was erased since it was found.
			return false, nil
		}
		return false, err
	}
	before := step.Before
	if chunk.Restart {
		before = ImportState{}
	}
	step.State = p.counts
	step.State.Rows += before.Rows
	step.State.Created += before.Created
	step.State.Updated += before.Updated
	step.State.Skipped += before.Skipped
	step.State.Rejected += before.Rejected
	step.State.LastFaults = unnotedFaults(before, chunk, p.faults)
	step.State.Done = chunk.Last
	// It tells the states of an import apart, whatever the clock does.
	step.State.UpdatedAt = s.now()
	if least := step.Before.UpdatedAt.Add(time.Microsecond); step.State.UpdatedAt.Before(least) {
		step.State.UpdatedAt = least
	}
	if step.State.StartedAt = before.StartedAt; before.StartedAt.IsZero() {
		step.State.StartedAt = step.State.UpdatedAt
	}
	step.Created, step.Updated = p.created, p.updated
	done, err := s.store.ImportCustomers(ctx, p.caller.Merchant, *step)
	if CodeOf(err) == CodeKeyRotated {
		s.sealer.Forget()
		return false, p.seal(ctx)
	}
	return done, err
}

// unnotedFaults returns the faults of a chunk behind those of the state before it
// that its caller has not noted.
func unnotedFaults(before ImportState, chunk ImportChunk, faults []ImportFault) []ImportFault {
	i := len(before.LastFaults)
	for chunk.Unnoted > 0 && i > 0 && before.LastFaults[i-1].Line >= chunk.Unnoted {
		i--
	}
	return append(slices.Clone(before.LastFaults[i:]), faults...)
}

// check returns what is wrong with the form of the chunk.
func (chunk ImportChunk) check() error {
	switch {
	case len(chunk.Rows) > MaxImportChunk:
		return Errorf(CodeInvalidImport, "A chunk of an import has at most %d rows.", MaxImportChunk)
	case len(chunk.Rows) == 0 && !chunk.Last:
		return Errorf(CodeInvalidImport, "Only the last chunk of an import may be empty.")
	case chunk.After < 0, chunk.After > 0 && chunk.Restart:
		return Errorf(CodeInvalidImport, "A chunk of an import begins behind a row, and behind none to begin anew.")
	}
	return chunk.OnDuplicate.check()
}

func (d OnDuplicate) check() error {
	switch d {
	case DuplicateSkip, DuplicateUpdate, DuplicateFail:
		return nil
	}
	return Errorf(CodeInvalidImport, "What becomes of duplicates is one of %s, %s and %s.", DuplicateSkip, DuplicateUpdate, DuplicateFail)
}

// importWait is how long a chunk waits for those before it. It is longer than the
// store takes to write or to refuse one, so that a slow disk or a busy machine ends
// no import.
const importWait = 30 * time.Second

// importKey names an import.
type importKey struct {
	merchant MerchantID
	name     Index
}

// importTurns lets the chunks of an import that are under way wait for each other.
type importTurns struct {
	mu    sync.Mutex
	turns map[importKey]*importTurn
}

// importTurn is the chunks of one import.
type importTurn struct {
	key   importKey
	users int
	// moved is closed, and made anew, when one of the chunks has ended.
	moved chan struct{}
}

func (t *importTurns) enter(key importKey) *importTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.turns[key]
	if turn == nil {
		turn = &importTurn{key: key, moved: make(chan struct{})}
		if t.turns == nil {
			t.turns = make(map[importKey]*importTurn)
		}
		t.turns[key] = turn
	}
	turn.users++
	return turn
}

func (t *importTurns) leave(turn *importTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if turn.users--; turn.users == 0 {
		delete(t.turns, turn.key)
	}
	close(turn.moved)
	turn.moved = make(chan struct{})
}

// next returns what is closed when the next chunk of the import ends.
func (t *importTurns) next(turn *importTurn) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return turn.moved
}

// awaitTurn returns the stored state of the import once that has come to the chunk.
func (s *Service) awaitTurn(ctx context.Context, turn *importTurn, chunk ImportChunk) (ImportState, error) {
	limit := time.NewTimer(importWait)
	defer limit.Stop()
	for {
		moved := s.imports.next(turn)
		state, err := s.store.Import(ctx, turn.key.merchant, turn.key.name)
		switch {
		case err != nil:
			return state, err
		case chunk.Restart, state.Rows == chunk.After && !state.Done:
			return state, nil
		case state.Rows >= chunk.After, state.Done:
			return state, Errorf(CodeImportConflict, "The import has come to row %d already, and the chunk begins behind row %d.", state.Rows, chunk.After)
		}
		select {
		case <-moved:
			limit.Reset(importWait)
		case <-limit.C:
			return state, Errorf(CodeImportConflict, "The import has come to row %d only, and the chunk begins behind row %d.", state.Rows, chunk.After)
		case <-ctx.Done():
			return state, Unavailable("the caller went away before the import came to the chunk", time.Second, ctx.Err())
		}
	}
}
