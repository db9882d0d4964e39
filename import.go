package grahak

import (
	"time"
)

// MaxImportChunk is how many rows an [ImportChunk] has at most.
const MaxImportChunk = 1000

// ImportRow is one row of a file to import: a customer of another system, or of
// another Grahak.
type ImportRow struct {
	// Line is where the row begins in its file, from 1; it is for reports only.
	Line int64
	// Broken is set if the row does not have its format's form: a fixed sentence
	// that says what is wrong, with nothing of the row in it. Then nothing else of
	// it counts, and the row is rejected, with a fault of [FieldRow].
	Broken string
	// ID is kept as the customer's id if it is given: "cst_" or "cth_" and 1 to 59
	// characters of [A-Za-z0-9]. A blank one is as one that is not given, and then
	// an id is made.
	ID Input
	// Customer is validated as that of a create request.
	Customer CustomerInput
	// CreatedAt and UpdatedAt are in RFC 3339 and kept to the microsecond; blank
	// ones are as such that are not given. They default to now and CreatedAt. They
	// are between 2000 and a day ahead, and UpdatedAt is not before CreatedAt.
	CreatedAt, UpdatedAt Input
}

// OnDuplicate says what becomes of a row whose reference belongs to a customer
// already, whether one of an earlier row or not.
type OnDuplicate string

// What may become of a duplicate.
const (
	// DuplicateSkip leaves the customer as it is, and counts the row as skipped.
	DuplicateSkip OnDuplicate = "skip"
	// DuplicateUpdate puts the row's given fields over the customer, as an update
	// request does. The row is rejected if it brings another id than the customer's;
	// its times do not count. It counts as updated, or as skipped if no value
	// changes.
	DuplicateUpdate OnDuplicate = "update"
	// DuplicateFail rejects the row.
	DuplicateFail OnDuplicate = "fail"
)

// ImportFault says why a row is rejected. A row with several bad fields has as many
// faults.
type ImportFault struct {
	Line  int64 // the row's
	Field Field // [FieldRow] if it is the row as a whole
	// Reason is one of few fixed sentences; there is nothing of the row in it.
	Reason string
}

// ImportState is how far an import has come. Its zero value but for ID is that of
// one that has not begun. Rows is the sum of the four counts below it.
type ImportState struct {
	ID   string // as it was asked for
	Rows int64  // that are done with
	// Created, Updated, Skipped and Rejected are what became of them.
	Created, Updated, Skipped, Rejected int64
	// LastFaults are the faults of the last chunk that was done, and of those before
	// it from its Unnoted on, in the order of the rows.
	LastFaults []ImportFault
	// StartedAt is when the first chunk was done, and UpdatedAt the last.
	StartedAt, UpdatedAt time.Time
	// Done is set once the chunk was done that was the last.
	Done bool
}

// ImportChunk is rows of an import that are done together: all of them or none.
type ImportChunk struct {
	// Import names the import within its merchant: 1 to 512 bytes that the caller
	// makes from what is imported. Only its blind index is stored.
	Import string
	// After is how many rows of the import come before the chunk's first.
	After int64
	// Rows is at most MaxImportChunk rows; it may be empty if Last is set.
	Rows        []ImportRow
	OnDuplicate OnDuplicate
	// Last is set if there is no row after the chunk.
	Last bool
	// Restart begins the import anew, whatever is stored of it. After must be 0.
	Restart bool
	// Unnoted is the line of the first row before the chunk whose faults the caller
	// was not told when it asked for the chunk, or has not noted; 0 if there is none.
	// Those faults stay in the state, so that the next run of a caller that is cut
	// off finds them there.
	Unnoted int64
}
