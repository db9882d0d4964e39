package sqlstore

import sqlite3 "modernc.org/sqlite/lib"

// pendingByte is the byte of a database that SQLite locks: the page with it has
// nothing in it (SQLite's file format, 1.4).
const pendingByte = 0x40000000

// boundCache tells the page cache that it has no page behind the end of the database.
// A transaction that writes calls it before it is committed.
//
// SQLite numbers pages anew when it balances a tree, by way of the number of the page
// that it locks. That leaves the cache with this number, a gigabyte behind
// the start, for its greatest, so at the end of the transaction it would look at each of its
// pages for those that are behind the end. Of which there are none: a transaction here
// takes no page back, and one with a statement that failed is not committed.
func (c *sqliteConn) boundCache() {
	pager, cache := c.cache()
	if pending := uint32(pendingByte/pager.FpageSize + 1); cache.FiMaxKey == pending && pager.FdbSize < pending {
		cache.FiMaxKey = pager.FdbSize
	}
}

// cache returns SQLite's pager of the database and its page cache.
func (c *sqliteConn) cache() (*sqlite3.TPager, *sqlite3.TPCache1) {
	tree := at[sqlite3.TBtree](at[sqlite3.TDb](at[sqlite3.Tsqlite3](c.db).FaDb).FpBt)
	pager := at[sqlite3.TPager](at[sqlite3.TBtShared](tree.FpBt).FpPager)
	return pager, at[sqlite3.TPCache1](at[sqlite3.TPCache](pager.FpPCache).FpCache)
}
