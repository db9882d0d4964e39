package sqlstore

import (
	"bytes"
	"context"
	"time"

	"grahak"
)

// requestEngine is what [requestLog] is written on.
type requestEngine interface {
	// readRequests runs fn with a connection for reads, and writeRequests in a
	// transaction that need not be on disk when it returns. fn must not keep state
	// between runs.
	readRequests(ctx context.Context, fn func(conn) error) error
	writeRequests(ctx context.Context, fn func(conn) error) error
	// putRequests runs statements in such a transaction, or in several if they are many.
	putRequests(ctx context.Context, statements []write) error
}

// requestLog implements [grahak.RequestStore] on both engines.
type requestLog struct{ requestEngine }

var _ grahak.RequestStore = requestLog{}

// blockOverhead is about how many bytes a block occupies besides what it holds.
const blockOverhead = 128

const insertRequests = `INSERT INTO request_blocks (merchant_id, id, from_at, to_at, requests, bytes, filter, content)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (merchant_id, id) DO NOTHING`

func blockArgs(b grahak.RequestBlock) []any {
	return []any{string(b.Merchant), b.ID[:], b.From.UnixMicro(), b.To.UnixMicro(), b.Count, int64(len(b.Filter) + len(b.Rows) + blockOverhead), b.Filter, b.Rows}
}

// PutRequests implements [grahak.RequestStore].
func (l requestLog) PutRequests(ctx context.Context, blocks []grahak.RequestBlock, stats []grahak.RequestStats) error {
	statements := make([]write, 0, len(blocks)+len(stats))
	for _, b := range blocks {
		statements = append(statements, write{query: insertRequests, args: blockArgs(b)})
	}
	for _, s := range stats {
		statements = append(statements, write{
			query: `INSERT INTO request_stats (merchant_id, at, node, data) VALUES ($1, $2, $3, $4)
				ON CONFLICT (merchant_id, at, node) DO UPDATE SET data = excluded.data`,
			args: []any{string(s.Merchant), s.At.UnixMicro(), s.Node, s.Data},
		})
	}
	return l.putRequests(ctx, statements)
}

// lastBlock is above all ids of blocks.
var lastBlock = bytes.Repeat([]byte{0xff}, len(grahak.RequestBlockID{})+1)

// RequestBlocks implements [grahak.RequestStore].
func (l requestLog) RequestBlocks(ctx context.Context, m grahak.MerchantID, from time.Time, behind grahak.RequestBlockID, limit int) (list []grahak.RequestBlock, err error) {
	below := lastBlock
	if behind != (grahak.RequestBlockID{}) {
		below = behind[:]
	}
	err = l.readRequests(ctx, func(c conn) error {
		list, err = queryAll(c, func(r row) (b grahak.RequestBlock, err error) {
			var id []byte
			err = r.Scan(&id, &b.From, &b.To, &b.Count, &b.Filter)
			b.Merchant = m
			copy(b.ID[:], id)
			return b, err
		}, `SELECT id, from_at, to_at, requests, filter FROM request_blocks WHERE merchant_id = $1 AND id < $2 AND from_at <= $3 ORDER BY id DESC LIMIT $4`,
			string(m), below, from.UnixMicro(), limit)
		return err
	})
	return list, err
}

// blocksAtOnce is how many blocks are read by one statement.
const blocksAtOnce = 16

// rowsOfBlocks calls each with the rows of blocks.
func rowsOfBlocks(c conn, m grahak.MerchantID, ids []grahak.RequestBlockID, each func(grahak.RequestBlockID, []byte)) error {
	for len(ids) > 0 {
		n := min(len(ids), blocksAtOnce)
		args := []any{string(m)}
		for i := range blocksAtOnce {
			// The last one stands for those that are missing.
			args = append(args, ids[min(i, n-1)][:])
		}
		ids = ids[n:]
		err := c.query(func(r row) error {
			var id, rows []byte
			err := r.Scan(&id, &rows)
			if err == nil && len(id) == len(grahak.RequestBlockID{}) {
				each(grahak.RequestBlockID(id), rows)
			}
			return err
		}, `SELECT id, content FROM request_blocks WHERE merchant_id = $1 AND id IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// RequestRows implements [grahak.RequestStore].
func (l requestLog) RequestRows(ctx context.Context, m grahak.MerchantID, ids []grahak.RequestBlockID) (rows map[grahak.RequestBlockID][]byte, err error) {
	err = l.readRequests(ctx, func(c conn) error {
		rows = make(map[grahak.RequestBlockID][]byte, len(ids))
		return rowsOfBlocks(c, m, ids, func(id grahak.RequestBlockID, content []byte) { rows[id] = content })
	})
	return rows, err
}

// requestStatsQuery hides the time from the planner: of a merchant's rows, which are
// few, most are asked for, but PostgreSQL would rather read those of all merchants by
// the index of times.
const requestStatsQuery = `SELECT at, node, data FROM request_stats WHERE merchant_id = $1 AND at + 0 >= $2 ORDER BY merchant_id, at, node`

// RequestStats implements [grahak.RequestStore].
func (l requestLog) RequestStats(ctx context.Context, m grahak.MerchantID, from time.Time) (list []grahak.RequestStats, err error) {
	err = l.readRequests(ctx, func(c conn) error {
		list, err = queryAll(c, func(r row) (s grahak.RequestStats, err error) {
			s.Merchant = m
			err = r.Scan(&s.At, &s.Node, &s.Data)
			return s, err
		}, requestStatsQuery, string(m), from.UnixMicro())
		return err
	})
	return list, err
}

// MergeRequests implements [grahak.RequestStore].
func (l requestLog) MergeRequests(ctx context.Context, block grahak.RequestBlock, merged []grahak.RequestBlockID) error {
	return l.writeRequests(ctx, func(c conn) error {
		there := 0
		if err := rowsOfBlocks(c, block.Merchant, merged, func(grahak.RequestBlockID, []byte) { there++ }); err != nil || there < len(merged) {
			return err
		}
		for _, id := range merged {
			if err := deleteRequests(c, string(block.Merchant), id[:]); err != nil {
				return err
			}
		}
		_, err := c.exec(insertRequests, blockArgs(block)...)
		return err
	})
}

func deleteRequests(c conn, merchant string, id []byte) error {
	return c.later(`DELETE FROM request_blocks WHERE merchant_id = $1 AND id = $2`, merchant, id)
}

// PruneRequests implements [grahak.RequestStore].
func (l requestLog) PruneRequests(ctx context.Context, before time.Time, size int64, limit int) (more bool, err error) {
	type oldBlock struct {
		merchant string
		id       []byte
		to       time.Time
		bytes    int64
	}
	type oldStats struct {
		merchant, node string
		at             time.Time
	}
	var blocks []oldBlock
	var stats []oldStats
	var total int64
	err = l.readRequests(ctx, func(c conn) error {
		if err := c.queryRow(`SELECT CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM request_blocks`).Scan(&total); err != nil {
			return err
		}
		blocks, err = queryAll(c, func(r row) (b oldBlock, err error) {
			err = r.Scan(&b.merchant, &b.id, &b.to, &b.bytes)
			return b, err
		}, `SELECT merchant_id, id, to_at, bytes FROM request_blocks ORDER BY to_at LIMIT $1`, limit)
		if err != nil {
			return err
		}
		stats, err = queryAll(c, func(r row) (s oldStats, err error) {
			err = r.Scan(&s.merchant, &s.node, &s.at)
			return s, err
		}, `SELECT merchant_id, node, at FROM request_stats WHERE at < $1 ORDER BY at LIMIT $2`, before.UnixMicro(), limit)
		return err
	})
	if err != nil {
		return false, err
	}
	n := 0
	for n < len(blocks) && (total > size || blocks[n].to.Before(before)) {
		total -= blocks[n].bytes
		n++
	}
	if n+len(stats) == 0 {
		return false, nil
	}
	err = l.writeRequests(ctx, func(c conn) error {
		for _, b := range blocks[:n] {
			if err := deleteRequests(c, b.merchant, b.id); err != nil {
				return err
			}
		}
		for _, s := range stats {
			if err := c.later(`DELETE FROM request_stats WHERE merchant_id = $1 AND at = $2 AND node = $3`, s.merchant, s.at.UnixMicro(), s.node); err != nil {
				return err
			}
		}
		return nil
	})
	return n == limit || len(stats) == limit, err
}
