package grahak

import (
	"context"
	"time"
)

// UnknownMerchant is whose requests are with a key that is none. No merchant can have
// this id (see [ParseMerchantID]).
const UnknownMerchant MerchantID = "@unknown"

// RequestStore keeps the request log: blocks of requests, and statistics. What it was
// given in the last moments before a crash may be lost. All methods are safe for
// concurrent use, and return a [CodeUnavailable] error when the storage cannot be
// reached.
type RequestStore interface {
	// PutRequests writes new blocks, and statistics over what is there of the same
	// merchant, time and node.
	PutRequests(ctx context.Context, blocks []RequestBlock, stats []RequestStats) error
	// RequestBlocks returns at most limit blocks of the merchant without their Rows,
	// of which the first request came in at a time or before, in descending order of
	// id, those below behind unless that is zero.
	RequestBlocks(ctx context.Context, m MerchantID, from time.Time, behind RequestBlockID, limit int) ([]RequestBlock, error)
	// RequestRows returns the Rows of blocks by id; those that are no longer there are
	// missing.
	RequestRows(ctx context.Context, m MerchantID, ids []RequestBlockID) (map[RequestBlockID][]byte, error)
	// RequestStats returns the merchant's statistics of the quarters of an hour that
	// begin at from or later, of all nodes, in order of time.
	RequestStats(ctx context.Context, m MerchantID, from time.Time) ([]RequestStats, error)
	// MergeRequests puts a block in the place of others of the merchant, if all of them
	// are there; else it does nothing.
	MergeRequests(ctx context.Context, block RequestBlock, merged []RequestBlockID) error
	// PruneRequests deletes at most limit blocks and as many statistics: those whose
	// last request is from before a time and, as long as the rows of all merchants have
	// more than size bytes, the oldest. It reports whether there may be more.
	PruneRequests(ctx context.Context, before time.Time, size int64, limit int) (more bool, err error)
}

// RequestBlockID names a block. Ids sort by when the last request of their block came
// in: 8 bytes of microseconds since 1970, big-endian, and 8 random ones.
type RequestBlockID [16]byte

// RequestBlock is requests of a merchant that are kept together, in no order.
type RequestBlock struct {
	Merchant MerchantID
	ID       RequestBlockID
	// From and To are when the first and the last of them came in.
	From, To time.Time
	Count    int64
	// Filter tells which ids of requests and customers are certainly not among them.
	Filter []byte
	// Rows is the requests, encoded.
	Rows []byte
}

// RequestStats is how a node answered a merchant's requests in a quarter of an hour.
type RequestStats struct {
	Merchant MerchantID
	At       time.Time // when the quarter began
	Node     string    // the process that counted
	Data     []byte    // the counts, encoded
}
