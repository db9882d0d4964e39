package sqlstore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestBoundCache holds what boundCache knows of SQLite: that to balance trees leaves
// the cache with the number of the page that is locked, and that nothing is missed
// when that is forgotten.
func TestBoundCache(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := newConn(writerDSN(SQLiteConfig{Path: path}))
	if err == nil {
		t.Cleanup(func() {
			if err := c.close(); err != nil {
				t.Error(err)
			}
		})
		_, err = c.exec(`CREATE TABLE t (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID`)
	}
	if err != nil {
		t.Fatal(err)
	}
	const pending = pendingByte/4096 + 1
	var balanced, keys int
	for range 50 {
		if _, err := c.exec("BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			keys++
			// All over the tree.
			if _, err := c.exec(`INSERT INTO t (k, v) VALUES ($1, $2)`, fmt.Appendf(nil, "%08x", uint32(keys)*2654435761), make([]byte, 200)); err != nil {
				t.Fatal(err)
			}
		}
		if greatestCached(c) == pending {
			balanced++
		}
		c.boundCache()
		if _, err := c.exec("COMMIT"); err != nil {
			t.Fatal(err)
		}
		var pages int
		if err := c.queryRow("PRAGMA page_count").Scan(&pages); err != nil {
			t.Fatal(err)
		}
		if greatest := int(greatestCached(c)); greatest > pages {
			t.Fatalf("after a commit the cache's greatest page is %d, but there are %d", greatest, pages)
		}
	}
	if balanced == 0 {
		t.Error("no transaction left the locked page's number in the cache: boundCache does nothing")
	}
	var count int
	if err := c.queryRow("SELECT count(*) FROM t").Scan(&count); err != nil || count != keys {
		t.Errorf("%d rows, want %d (%v)", count, keys, err)
	}
	var whole string
	if err := c.queryRow("PRAGMA integrity_check").Scan(&whole); err != nil || whole != "ok" {
		t.Errorf("the database is %s (%v)", whole, err)
	}
}

// greatestCached returns the number that the page cache has for its greatest.
func greatestCached(c *sqliteConn) uint32 {
	_, cache := c.cache()
	return cache.FiMaxKey
}
