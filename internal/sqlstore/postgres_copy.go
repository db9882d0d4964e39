package sqlstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// The table that a database has as long as the copy in it is not finished. It
// notes of each table how many rows it has and the key of the last, in the same
// transaction as these; and what is copied.
const (
	makeCopyProgress = `CREATE TABLE copy_progress (name TEXT NOT NULL PRIMARY KEY, row_count BIGINT NOT NULL, mark BYTEA NOT NULL)`
	noteCopyProgress = `INSERT INTO copy_progress (name, row_count, mark) VALUES ($1, $2, $3)`
	// findCopyProgress counts the tables of that name.
	findCopyProgress = `SELECT count(*) FROM information_schema.tables WHERE table_name = 'copy_progress' AND table_schema = current_schema()`

	// What is copied, among the names.
	copiedIdentity = "the store"
	copiedContent  = "its content"
)

var errUnfinishedCopy = errors.New("the database holds a copy that is not finished: run the same `grahak copy` again, which goes on where it has ended")

// refuseUnfinishedCopy returns an error if the database holds an unfinished copy.
func refuseUnfinishedCopy(ctx context.Context, db *sql.DB) error {
	var unfinished int
	err := db.QueryRowContext(ctx, findCopyProgress).Scan(&unfinished)
	if err == nil && unfinished > 0 {
		err = errUnfinishedCopy
	}
	return err
}

// copyMark is how far the copy of a table has come.
type copyMark struct {
	rows int64
	last []byte // the key of the last row, empty for none
}

// copyTarget is the database that a copy is made in. It is used by one goroutine at
// a time.
type copyTarget struct {
	config *pgx.ConnConfig
	raw    *pgx.Conn
	conn   *postgresConn
	marks  map[string]copyMark // by the table's name
}

// openCopyTarget connects to the database, and makes the schema in an empty one.
func openCopyTarget(ctx context.Context, cfg CopyConfig) (*copyTarget, error) {
	config, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, explainURL(err)
	}
	configureConn(config)
	// A chunk takes as long as it takes, and so does reading a table.
	config.RuntimeParams["statement_timeout"] = "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	if err := prepareCopyTarget(ctx, config, cfg); err != nil {
		return nil, explainPostgres(config, err)
	}
	raw, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, explainPostgres(config, err)
	}
	return &copyTarget{config: config, raw: raw, conn: newPostgresConn(ctx, raw.PgConn()), marks: make(map[string]copyMark)}, nil
}

// prepareCopyTarget makes sure that the schema is the one this program knows. An
// older one is refused: there may be anything in it.
func prepareCopyTarget(ctx context.Context, config *pgx.ConnConfig, cfg CopyConfig) error {
	db := openForMigration(config)
	defer func() { _ = db.Close() }()
	provider, err := newPostgresProvider(db, MigrateOptions{Logger: cfg.Logger})
	if err != nil {
		return err
	}
	newest := newestOf(provider)
	switch current, err := postgresSchema(ctx, db); {
	case err != nil:
		return err
	case current > newest:
		return tooNew(current, newest)
	case current == 0:
		_, err = migratePostgres(ctx, db, MigrateOptions{Logger: cfg.Logger})
		return err
	case current < newest:
		return tooOld(current, newest)
	}
	return nil
}

func (t *copyTarget) close() {
	ctx, cancel := context.WithTimeout(context.Background(), connectLimit)
	defer cancel()
	_ = t.raw.Close(ctx)
}

// on returns the target as it is used until ctx ends.
func (t *copyTarget) on(ctx context.Context) *postgresConn {
	return newPostgresConn(ctx, t.raw.PgConn())
}

// explain turns an error of the database into a sentence.
func (t *copyTarget) explain(err error) error {
	if explained := explainPostgres(t.config, err); explained != err { //nolint:errorlint // It was explained unless it is the very same.
		return explained
	}
	return postgresError(err, t.raw.IsClosed())
}

// claim makes sure that the database may be copied into, and notes that it is. It
// reports whether it has thrown away what was copied before.
func (t *copyTarget) claim(s copyState) (restarted bool, err error) {
	err = t.conn.transact(func(tx tx) error {
		var begun int
		if err := tx.queryRow(findCopyProgress).Scan(&begun); err != nil {
			return err
		}
		if begun == 0 {
			if err := refuseStore(tx, s); err != nil {
				return err
			}
			if _, err := tx.exec(makeCopyProgress); err != nil {
				return err
			}
			return t.note(tx, s)
		}
		if err := t.readMarks(tx); err != nil {
			return err
		}
		if !bytes.Equal(t.marks[copiedIdentity].last, s.identity[:]) {
			return errors.New("the database holds an unfinished copy of another data folder: run grahak copy from that one again, or copy into an empty database")
		}
		if bytes.Equal(t.marks[copiedContent].last, s.content[:]) {
			return nil
		}
		restarted = true
		clear(t.marks)
		if _, err := tx.exec(`TRUNCATE copy_progress, ` + copyTableNames()); err != nil {
			return err
		}
		return t.note(tx, s)
	})
	return restarted, err
}

// refuseStore returns an error unless there is nothing in the database's tables.
func refuseStore(tx tx, s copyState) error {
	var environment string
	var createdAt int64
	err := tx.queryRow(`SELECT environment, created_at FROM instance WHERE id = 1`).Scan(&environment, &createdAt)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case environment != string(s.environment):
		return fmt.Errorf("the database was made for the %s environment, and the data folder for %s: copy into an empty database", environment, s.environment)
	case createdAt == s.createdAt:
		return errors.New("the database holds a finished copy of this data folder already: start grahak serve on it, or copy into an empty database")
	default:
		return errors.New("the database holds data of its own: copy into an empty one")
	}
	for _, table := range copyTables {
		var rows int
		if err := tx.queryRow(`SELECT count(*) FROM (SELECT 1 FROM ` + table.name + ` LIMIT 1) AS found`).Scan(&rows); err != nil {
			return err
		}
		if rows > 0 {
			return fmt.Errorf("there are rows in the table %s of the database that no unfinished copy has left there: copy into an empty database", table.name)
		}
	}
	return nil
}

// note notes that nothing of the store is copied yet.
func (t *copyTarget) note(tx tx, s copyState) error {
	t.marks[copiedIdentity], t.marks[copiedContent] = copyMark{last: s.identity[:]}, copyMark{last: s.content[:]}
	for _, table := range copyTables {
		t.marks[table.name] = copyMark{}
	}
	for name, mark := range t.marks {
		if _, err := tx.exec(noteCopyProgress, name, mark.rows, mark.last); err != nil {
			return err
		}
	}
	return nil
}

func (t *copyTarget) readMarks(tx tx) error {
	return tx.query(func(r row) error {
		var name string
		var mark copyMark
		err := r.Scan(&name, &mark.rows, &mark.last)
		t.marks[name] = mark
		return err
	}, `SELECT name, row_count, mark FROM copy_progress`)
}

func copyTableNames() string {
	names := make([]string, len(copyTables))
	for i, t := range copyTables {
		names[i] = t.name
	}
	return strings.Join(names, ", ")
}

// write writes a chunk and notes it, in one transaction.
func (t *copyTarget) write(table copyTable, chunk copyChunk) error {
	before := t.marks[table.name]
	after := copyMark{rows: before.rows + chunk.rows, last: chunk.last}
	err := t.conn.transact(func(tx tx) error {
		noted, err := tx.exec(`UPDATE copy_progress SET row_count = $1, mark = $2 WHERE name = $3 AND row_count = $4`, after.rows, after.last, table.name, before.rows)
		if sqlState(err) == stateUndefinedTable || err == nil && noted != 1 {
			err = errors.New("another grahak copy works on the same database: let it end")
		}
		if err != nil {
			return err
		}
		return t.conn.copyIn(table, chunk)
	})
	if err == nil {
		t.marks[table.name] = after
	}
	return err
}

// What stands before and behind the rows in the binary form of COPY: a signature
// and two empty fields, and the number of values of no row.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// copyIn adds rows to a table.
func (c *postgresConn) copyIn(t copyTable, chunk copyChunk) error {
	rows := io.MultiReader(strings.NewReader(copyHeader), bytes.NewReader(chunk.tuples), strings.NewReader(copyTrailer))
	tag, err := c.raw.CopyFrom(c.ctx, rows, `COPY `+t.name+` (`+t.columns+`) FROM STDIN (FORMAT binary)`)
	if err == nil && tag.RowsAffected() != chunk.rows {
		err = fmt.Errorf("the database took %d rows of %d", tag.RowsAffected(), chunk.rows)
	}
	return err
}

// sum reads a table to its end. It adds to seen as it goes.
func (c *postgresConn) sum(t copyTable, seen *atomic.Int64) (sum TableSum, err error) {
	order := t.order
	if order == "" {
		order = t.key
	}
	hash := sha256.New()
	var tuple []byte
	err = c.query(func(r row) error {
		values, ok := r.(postgresRow)
		if !ok {
			return fmt.Errorf("a row of PostgreSQL is a %T", r)
		}
		tuple = values.appendTuple(tuple[:0])
		hash.Write(tuple)
		sum.Rows++
		seen.Add(1)
		return nil
	}, `SELECT `+t.columns+` FROM `+t.name+` ORDER BY `+order)
	hash.Sum(sum.SHA256[:0])
	return sum, err
}

// appendTuple appends the row as it came, in the form of [statement.appendTuple].
func (r postgresRow) appendTuple(buf []byte) []byte {
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(r)))
	for _, value := range r {
		if value == nil {
			buf = binary.BigEndian.AppendUint32(buf, null)
			continue
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(value)))
		buf = append(buf, value...)
	}
	return buf
}

// analyze has the database look at what its tables hold now, so that the first
// requests are not planned for empty ones.
func (t *copyTarget) analyze() error { return t.conn.simple(`ANALYZE ` + copyTableNames()) }

// spoil has the next copy into the database start over.
func (t *copyTarget) spoil() error {
	_, err := t.conn.exec(`UPDATE copy_progress SET mark = $1 WHERE name = $2`, []byte{}, copiedContent)
	return t.explain(err)
}

// finish makes the database a store.
func (t *copyTarget) finish(source *sqliteConn) (instance CopiedTable, err error) {
	instance.Name = instanceTable.name
	uncounted := new(atomic.Int64)
	if instance.Source, err = source.sum(instanceTable, uncounted); err != nil {
		return instance, storageError(err)
	}
	err = t.conn.transact(func(tx tx) error {
		err := source.chunks(instanceTable, nil, 1, func(chunk copyChunk) error { return t.conn.copyIn(instanceTable, chunk) })
		if err != nil {
			return err
		}
		if instance.Target, err = t.conn.sum(instanceTable, uncounted); err != nil {
			return err
		}
		if !instance.Same() {
			return ErrCopyDiffers
		}
		_, err = tx.exec(`DROP TABLE copy_progress`)
		return err
	})
	return instance, err
}
